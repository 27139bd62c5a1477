//! `icosfs info`: shows one object's metadata as text.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::catalog_access;
use super::object_argument;
use super::output::{self, print_line, print_text};
use super::settings::GlobalArgs;
use super::subject::no_such;
use super::terminal::wrapped;
use super::text_table::{self, blank_control};
use super::waiting::block_on_while;
use crate::catalog::{Object, ObjectSelection};
use icos_portal::meta::Subject;
use icos_table::ValueFormat;

/// Arguments of `icosfs info`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs info wutiYS2ccUslON67rA30gK0z
  icosfs info https://meta.icos-cp.eu/objects/wutiYS2ccUslON67rA30gK0z
  icosfs info https://meta.icos-cp.eu/resources/stations/AS_HTM
  icosfs info ~/icos/objects/wutiYS2ccUslON67rA30gK0z.csv
  icosfs info --json 11676/wutiYS2ccUslON67rA30gK0z | jq .references")]
pub(super) struct InfoArgs {
    /// An object, a collection or a station: its id, PID, DOI, landing page, data URL or
    /// file name, or a file in a mount
    #[arg(value_name = "OBJECT")]
    object: String,
    /// Print the landing page's JSON as the portal sends it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(global: &GlobalArgs, args: &InfoArgs) -> anyhow::Result<()> {
    let target = object_argument::parse(&args.object)?;
    let global = target.settings(global)?;
    let clients = global.clients(None)?;
    let (cache_dir, selection) = (global.cache_dir()?, ObjectSelection::default());
    let catalog = catalog_access::open(&clients, &cache_dir, catalog_access::TTL, selection)?;
    let (subject, object, json) = block_on_while("requesting the metadata", async {
        let subject = target.resolve(&catalog, &clients.meta).await?;
        let object = match &subject {
            Subject::Object(id) => {
                let object = catalog.object(*id).await?;
                Some(object.ok_or_else(|| no_such("object", id))?)
            }
            Subject::Collection(_) | Subject::Station(_) => None,
        };
        let json = clients.meta.landing_json(&subject).await?;
        Ok((subject, object, json))
    })?;
    if args.json {
        return Ok(print_line!("{}", String::from_utf8_lossy(&json))?);
    }
    let page: Value =
        serde_json::from_slice(&json).context("the portal's landing page is not valid JSON")?;
    let text = match object {
        Some(object) => format_metadata(&object, &page),
        None => format_other(&subject, &page),
    };
    Ok(print_text!("{text}")?)
}

/// Formats the metadata of a collection or a station.
fn format_other(subject: &Subject, page: &Value) -> String {
    let text = |pointer: &str| Some(blank_control(page.pointer(pointer)?.as_str()?));
    let number = |pointer: &str| Some(page.pointer(pointer)?.as_f64()?.to_string());
    let mut lines: Vec<(&str, Option<String>)> = Vec::new();
    match subject {
        Subject::Station(name) => lines.extend([
            ("station", text("/id").or_else(|| Some(blank_control(name)))),
            ("name", text("/org/name")),
            ("country", text("/countryCode")),
            ("class", text("/specificInfo/stationClass")),
            (
                "position",
                (number("/location/lat").zip(number("/location/lon")))
                    .map(|(lat, lon)| format!("{lat} {lon}")),
            ),
            (
                "elevation",
                number("/location/alt").map(|alt| format!("{alt} m")),
            ),
            ("run by", text("/responsibleOrganization/name")),
            ("page", text("/org/self/uri")),
        ]),
        Subject::Object(id) | Subject::Collection(id) => {
            let members = page.get("members").and_then(Value::as_array);
            let count = members.map(Vec::len);
            lines.extend([
                ("collection", Some(id.to_string())),
                ("title", text("/title")),
                ("about", text("/description")),
                (
                    "doi",
                    text("/doi").map(|doi| format!("https://doi.org/{doi}")),
                ),
                ("cite", text("/references/citationString")),
                ("members", count.map(|count| count.to_string())),
            ]);
            for member in members.into_iter().flatten() {
                let uri = member
                    .get("res")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let id = uri.trim_end_matches('/').rsplit('/').next().unwrap_or(uri);
                let name = ["name", "title"]
                    .iter()
                    .find_map(|key| member.get(*key)?.as_str());
                let line = format!("{id} {}", name.unwrap_or_default());
                lines.push(("", Some(blank_control(line.trim_end()))));
            }
        }
    }
    lines_text(lines)
}

fn lines_text(lines: Vec<(&str, Option<String>)>) -> String {
    // In a file or a pipe, each value stays on one line.
    let width = output::width_of_text();
    let mut text = String::new();
    for (label, value) in lines {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let line = format!("{label:<VALUES$}{}", blank_control(&value));
            let _ = writeln!(text, "{}", wrapped(&line, width, VALUES));
        }
    }
    text
}

/// The column at which values begin.
const VALUES: usize = 11;

/// What is known of a table without reading it: its times, flags, and the files that its
/// original was made of.
fn table_lines(object: &Object, page: &Value) -> Vec<(&'static str, Option<String>)> {
    if object.as_table().is_none() {
        return Vec::new();
    }
    let text = |pointer: &str| Some(blank_control(page.pointer(pointer)?.as_str()?));
    let acquired = |key| text(&format!("/specificInfo/acquisition/interval/{key}"));
    let rows = acquired("start").zip(acquired("stop"));
    let good: Vec<String> = (page.pointer("/specification/format/goodFlagValues"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|flag| Some(blank_control(flag.as_str()?)))
        .collect();
    let contents = object.is_archive().then(|| {
        let id = object.id();
        format!("objects/{id}.contents/ has the files in it, such as the header metadata")
    });
    vec![
        ("time step", text("/specification/datasetSpec/resolution")),
        (
            "rows",
            rows.map(|(first, last)| format!("from {first} to {last}")),
        ),
        (
            "flags",
            (!good.is_empty()).then(|| format!("good values have {}", good.join(", "))),
        ),
        ("original", contents),
    ]
}

/// The columns whose quality flags a column has.
fn flagged(column: &Value, columns: &[Value]) -> Option<String> {
    let flagged = column.get("isFlagFor")?.as_array()?;
    let labels: Vec<String> = (columns.iter())
        .filter(|other| {
            let model = other.pointer("/model/uri");
            model.is_some_and(|model| flagged.contains(model))
        })
        .filter_map(|other| Some(blank_control(other.get("label")?.as_str()?)))
        .collect();
    (!labels.is_empty()).then(|| format!(" of {}", labels.join(", ")))
}

/// Whether a column has local times.
fn is_local_time(object: &Object, label: &str) -> bool {
    object.spec().is_some_and(|spec| {
        spec.columns().iter().any(|column| {
            let format = ValueFormat::from_iri(&column.format);
            column.title == label && format.is_ok_and(ValueFormat::is_local_time)
        })
    })
}

/// The widest column of the labels of variables.
const MAX_LABEL: usize = 20;

/// Formats the metadata, one labelled line per value.
fn format_metadata(object: &Object, page: &Value) -> String {
    let part = |value: &Value, pointer| Some(blank_control(value.pointer(pointer)?.as_str()?));
    let text = |pointer| part(page, pointer);
    let kind = object.spec().map(|spec| {
        let (label, level) = (blank_control(spec.label()), spec.level());
        format!("{label} (level {level}, {})", spec.format())
    });
    let file = blank_control(object.file_name());
    let rows = object.as_table().map(|(rows, _)| format!(", {rows} rows"));
    let size = text_table::bytes(object.size()) + &rows.unwrap_or_default();
    let station = object.station().map(|station| {
        let row = station.row();
        let height = (object.height()).map(|height| format!(", {height} m above ground"));
        let name = blank_control([&*row.name, &*row.country].join(" ").trim());
        format!("{} {name}{}", row.code, height.unwrap_or_default())
    });
    let period = (object.span()).map(|(start, end)| format!("{start} to {end}"));
    let doi = (object.doi()).map(|doi| format!("https://doi.org/{}", blank_control(doi)));
    let mut lines = vec![
        (
            "title",
            text("/references/title").or_else(|| Some(file.clone())),
        ),
        ("type", kind),
        ("file", Some(file)),
        ("size", Some(size)),
        ("station", station),
        ("period", period),
        ("submitted", Some(object.submitted().to_string())),
        (
            "pid",
            text("/pid").map(|pid| format!("https://hdl.handle.net/{pid}")),
        ),
        ("doi", doi),
        (
            "newer",
            (object.next_version()).map(|id| format!("superseded by {id}")),
        ),
        (
            "licence",
            text("/references/licence/name").or_else(|| text("/references/licence/url")),
        ),
        ("cite", text("/references/citationString")),
    ];
    lines.extend(table_lines(object, page));
    let columns = (page.pointer("/specificInfo/columns")).and_then(Value::as_array);
    let labels = columns
        .into_iter()
        .flatten()
        .filter_map(|column| part(column, "/label"));
    let width = labels.map(|label| label.chars().count()).max();
    let width = width.unwrap_or(0).min(MAX_LABEL);
    let headings = ["variables"].into_iter().chain(std::iter::repeat(""));
    for (column, heading) in columns.into_iter().flatten().zip(headings) {
        let label = part(column, "/label").unwrap_or_default();
        let what = part(column, "/valueType/self/label").unwrap_or_default();
        let unit = part(column, "/valueType/unit").map(|unit| format!(" [{unit}]"));
        let what = if is_local_time(object, &label) {
            // The label of the portal's metadata says UTC.
            ValueFormat::LOCAL_TIME.to_owned()
        } else {
            what
        };
        let of = columns.and_then(|columns| flagged(column, columns));
        let (of, unit) = (of.unwrap_or_default(), unit.unwrap_or_default());
        let line = format!("{label:<width$}  {what}{of}{unit}");
        lines.push((heading, Some(line)));
    }
    lines_text(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_wrapped_below_each_other() {
        let line = format!(
            "{:<VALUES$}{}",
            "cite", "Lindqvist, A. (2024). ICOS ATC CO2 Release"
        );
        assert_eq!(
            wrapped(&line, 35, VALUES),
            "cite       Lindqvist, A. (2024).\n           ICOS ATC CO2 Release"
        );
        assert_eq!(wrapped(&line, usize::MAX, VALUES), line);
        let url = format!("{:<VALUES$}https://example.org/{}", "pid", "x".repeat(40));
        assert_eq!(wrapped(&url, 35, VALUES), url);
        let table = format!("{:<VALUES$}{:<20} {}", "", "co2", "mixing ratio");
        assert_eq!(wrapped(&table, 80, VALUES), table);
    }
}
