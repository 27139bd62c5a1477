//! `icosfs cite`: how to cite objects and collections.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::catalog_access::{self, TTL};
use super::exit::EndedEarly;
use super::mount_context::MountContext;
use super::object_argument;
use super::output::{self, print_text};
use super::settings::GlobalArgs;
use super::target::Target;
use super::terminal::wrapped;
use super::waiting::block_on_while;
use crate::catalog::ObjectSelection;
use crate::citation::Citation;
use icos_portal::meta::Subject;
use icos_portal::{MetadataClient, ObjectId, Service};

/// Timeout for a server's list of the objects that were read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `icosfs cite`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs cite wutiYS2ccUslON67rA30gK0z
  icosfs cite --format bibtex ~/icos/stations/HTM/*/*.nc > data.bib
  icosfs cite --format csl-json --read ~/icos

Objects with the same citation are cited once. The keys of BibTeX entries are made of
ids, so that they stay the same.")]
pub(super) struct CiteArgs {
    /// Objects and collections: ids, PIDs, DOIs, addresses, file names, or files in a
    /// mount
    #[arg(value_name = "OBJECT", required_unless_present = "read")]
    objects: Vec<String>,
    /// All objects whose data were read in this mount, or by this server (its URL or
    /// socket), since it was started
    #[arg(long, value_name = "MOUNT|URL|SOCKET")]
    read: Option<PathBuf>,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t)]
    format: CitationFormat,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum CitationFormat {
    /// A line each
    #[default]
    Text,
    /// For LaTeX, Zotero and others
    Bibtex,
    /// For `EndNote`, Mendeley and others
    Ris,
    /// For Pandoc, citeproc and others
    CslJson,
}

pub(super) fn run(global: &GlobalArgs, args: &CiteArgs) -> anyhow::Result<()> {
    let given: anyhow::Result<Vec<_>> = args
        .objects
        .iter()
        .map(|text| object_argument::parse(text))
        .collect();
    let given = given?;
    let mut settings: Vec<GlobalArgs> = Vec::new();
    let read_in = args.read.as_ref();
    let read_in = read_in.map(|name| Target::named(global, name));
    let read_in = read_in.transpose()?;
    if let Some(target) = &read_in {
        settings.push(MountContext::of_target(target)?.apply(global)?);
    }
    for argument in &given {
        settings.push(argument.settings(global)?);
    }
    let global = one_repository(settings)?;
    let clients = global.clients(None)?;
    let (cache_dir, selection) = (global.cache_dir()?, ObjectSelection::default());
    let catalog = catalog_access::open(&clients, &cache_dir, TTL, selection)?;
    let read = match &read_in {
        Some(target) => {
            let read = objects_read(target)?;
            if read.is_empty() {
                return Err(EndedEarly::not_found(format!(
                    "no data were read in {} since it was started",
                    target.shown()
                )));
            }
            read
        }
        None => Vec::new(),
    };
    let citations = block_on_while("requesting the objects' metadata", async {
        let mut subjects = Vec::new();
        for argument in &given {
            subjects.push(argument.resolve(&catalog, &clients.meta).await?);
        }
        subjects.extend(read.into_iter().map(Subject::Object));
        let mut seen = HashSet::new();
        let mut citations = Vec::new();
        for subject in subjects {
            if seen.insert(subject.clone()) {
                citations.push(citation(&clients.meta, &subject).await?);
            }
        }
        Ok(citations)
    })?;
    let text = format_all(citations, args.format);
    // Other formats are for programs.
    let text = match args.format {
        CitationFormat::Text => wrapped(&text, output::width_of_text(), 2),
        _ => text,
    };
    Ok(print_text!("{text}")?)
}

/// The settings that all objects have: they must be of one repository.
fn one_repository(settings: Vec<GlobalArgs>) -> anyhow::Result<GlobalArgs> {
    let mut settings = settings.into_iter();
    let first = settings.next().context("expected an object")?;
    let of_metadata = |settings: &GlobalArgs| -> anyhow::Result<String> {
        Ok(settings.services()?.base(Service::Meta).to_string())
    };
    let expected = of_metadata(&first)?;
    for other in settings {
        let found = of_metadata(&other)?;
        ensure!(
            found == expected,
            "expected objects of one repository, found some of {expected} and some of {found}; cite those of each alone"
        );
    }
    Ok(first)
}

/// The objects whose data were read in a mount or by a server.
fn objects_read(target: &Target) -> anyhow::Result<Vec<ObjectId>> {
    let shown = target.shown();
    let text = (target.control_file("read", READ_TIMEOUT))
        .with_context(|| format!("cannot read .icosfs/read of {shown}"))?;
    let text = String::from_utf8_lossy(&text);
    let ids = text.lines().map(|line| {
        let id = line.split_whitespace().next().unwrap_or(line);
        (id.parse::<ObjectId>())
            .with_context(|| format!("expected an id in .icosfs/read of {shown}, found {line:?}"))
    });
    ids.collect()
}

/// The citation of an object, or of a collection.
async fn citation(meta: &MetadataClient, subject: &Subject) -> anyhow::Result<Citation> {
    let id = match subject {
        Subject::Object(id) | Subject::Collection(id) => id.to_string(),
        Subject::Station(name) => bail!("expected an object or a collection, found station {name}"),
    };
    let page = meta.landing_json(subject).await?;
    let page: Value =
        serde_json::from_slice(&page).context("the portal's landing page is not valid JSON")?;
    Citation::of_page(&id, &page)
        .with_context(|| match subject {
            Subject::Collection(_) => format!(
                "collection {id} has no citation of its own; cite the objects in it, which `icosfs find --collection {id}` lists"
            ),
            _ => format!("the landing page of {id} has no citation"),
        })
}

/// The citations as one text, without repeated ones.
fn format_all(citations: Vec<Citation>, format: CitationFormat) -> String {
    let mut seen = HashSet::new();
    let distinct: Vec<Citation> = citations
        .into_iter()
        .filter(|citation| seen.insert(citation.text.clone()))
        .collect();
    let each = |show: fn(&Citation) -> String, between: &str| {
        distinct.iter().map(show).collect::<Vec<_>>().join(between)
    };
    match format {
        CitationFormat::Text => each(|citation| format!("{}\n", citation.text), ""),
        CitationFormat::Bibtex => each(|citation| format!("{}\n", citation.bibtex), "\n"),
        CitationFormat::Ris => each(|citation| format!("{}\r\n", citation.ris), ""),
        CitationFormat::CslJson => {
            let items: Vec<&Value> = distinct.iter().map(|citation| &citation.csl).collect();
            serde_json::to_string_pretty(&items).unwrap_or_default() + "\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_citations_are_merged_and_formats_are_complete() {
        let citation = |text: &str| Citation {
            text: text.to_owned(),
            bibtex: format!("@misc{{{text}}}"),
            ris: "TY  - DATA\r\nER  -".to_owned(),
            csl: serde_json::json!({"id": text}),
        };
        let all = || vec![citation("a"), citation("b"), citation("a")];
        assert_eq!(format_all(all(), CitationFormat::Text), "a\nb\n");
        assert_eq!(
            format_all(all(), CitationFormat::Bibtex),
            "@misc{a}\n\n@misc{b}\n"
        );
        let ris = format_all(all(), CitationFormat::Ris);
        assert_eq!(ris, "TY  - DATA\r\nER  -\r\nTY  - DATA\r\nER  -\r\n");
        let json: Value =
            serde_json::from_str(&format_all(all(), CitationFormat::CslJson)).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 2);
    }
}
