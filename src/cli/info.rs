//! `icosfs info`: shows one object's metadata as text.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::catalog_access;
use super::object_argument;
use super::output::{print_line, print_text};
use super::settings::GlobalArgs;
use super::text_table::{self, blank_control};
use super::waiting::block_on_while;
use crate::catalog::{Object, ObjectSelection};
use icos_portal::meta::Subject;

/// Arguments of `icosfs info`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs info wutiYS2ccUslON67rA30gK0z
  icosfs info https://meta.icos-cp.eu/objects/wutiYS2ccUslON67rA30gK0z
  icosfs info ~/icos/objects/wutiYS2ccUslON67rA30gK0z.csv
  icosfs info --json 11676/wutiYS2ccUslON67rA30gK0z | jq .references")]
pub(super) struct InfoArgs {
    /// The object: its id, PID or landing page, or a file in a mount
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
    let (object, json) = block_on_while("requesting the object's metadata", async {
        let id = target.id(&catalog)?;
        let object = catalog.object(id).await?;
        let object = object.with_context(|| format!("the repository has no object {id}"))?;
        let json = clients.meta.landing_json(&Subject::Object(id)).await?;
        Ok((object, json))
    })?;
    if args.json {
        return Ok(print_line!("{}", String::from_utf8_lossy(&json))?);
    }
    let page: Value =
        serde_json::from_slice(&json).context("the portal's landing page is not valid JSON")?;
    Ok(print_text!("{}", format_metadata(&object, &page))?)
}

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
    let columns = (page.pointer("/specificInfo/columns")).and_then(Value::as_array);
    let headings = ["variables"].into_iter().chain(std::iter::repeat(""));
    for (column, heading) in columns.into_iter().flatten().zip(headings) {
        let label = part(column, "/label").unwrap_or_default();
        let what = part(column, "/valueType/self/label").unwrap_or_default();
        let unit = part(column, "/valueType/unit").map(|unit| format!(" [{unit}]"));
        let line = format!("{label:<20} {what}{}", unit.unwrap_or_default());
        lines.push((heading, Some(line)));
    }
    let mut text = String::new();
    for (label, value) in lines {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "{label:<10} {}", blank_control(&value));
        }
    }
    text
}
