//! `icosfs info`: shows one object's metadata as text.

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::catalog_access::CatalogAccess;
use super::object_argument;
use super::settings::GlobalArgs;
use super::text_table::{self, blank_control};
use super::waiting::block_on_while;
use crate::catalog::{Object, ObjectSelection};
use icos_portal::meta::Subject;

/// Arguments of `icosfs info`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs info UNhY4JhezH9gQYqvDMWrWH9C
  icosfs info https://meta.icos-cp.eu/objects/UNhY4JhezH9gQYqvDMWrWH9C
  icosfs info ~/icos/objects/UNhY4JhezH9gQYqvDMWrWH9C.csv
  icosfs info --json 11676/UNhY4JhezH9gQYqvDMWrWH9C | jq .references")]
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
    let browse = CatalogAccess::new(global, ObjectSelection::default())?;
    let (object, json) = block_on_while("requesting the object's metadata", async {
        let id = target.id(&browse.catalog)?;
        let object = browse.catalog.object(id).await?;
        let object = object.with_context(|| format!("the repository has no object {id}"))?;
        Ok((
            object,
            browse.meta.landing_json(&Subject::Object(id)).await?,
        ))
    })?;
    if args.json {
        println!("{}", String::from_utf8_lossy(&json));
        return Ok(());
    }
    let page: Value =
        serde_json::from_slice(&json).context("the portal's landing page is not valid JSON")?;
    print!("{}", format_metadata(&object, &page));
    Ok(())
}

/// Formats the metadata, one labelled line per value.
fn format_metadata(object: &Object, page: &Value) -> String {
    let text = |pointer: &str| {
        page.pointer(pointer)
            .and_then(Value::as_str)
            .map(blank_control)
    };
    let mut lines = Vec::new();
    let mut add = |label: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push(format!("{label:<10} {value}"));
        }
    };
    let title = text("/references/title").unwrap_or_else(|| blank_control(object.file_name()));
    add("title", Some(title));
    add(
        "type",
        object.spec().map(|spec| {
            format!(
                "{} (level {}, {})",
                blank_control(spec.label()),
                spec.level(),
                spec.format()
            )
        }),
    );
    add("file", Some(blank_control(object.file_name())));
    let rows = object.as_table().map(|(rows, _)| format!(", {rows} rows"));
    let size = text_table::bytes(object.size());
    add("size", Some(format!("{size}{}", rows.unwrap_or_default())));
    add(
        "station",
        object.station().map(|station| {
            let row = station.row();
            let height = object
                .height()
                .map(|height| format!(", {height} m above ground"));
            let name = [&*row.name, &*row.country].join(" ");
            format!(
                "{} {}{}",
                row.code,
                blank_control(name.trim()),
                height.unwrap_or_default()
            )
        }),
    );
    add(
        "period",
        object
            .span()
            .map(|(start, end)| format!("{start} to {end}")),
    );
    add("submitted", Some(object.submitted().to_string()));
    add(
        "pid",
        text("/pid").map(|pid| format!("https://hdl.handle.net/{pid}")),
    );
    add(
        "doi",
        object
            .doi()
            .map(|doi| format!("https://doi.org/{}", blank_control(doi))),
    );
    add(
        "newer",
        object
            .next_version()
            .map(|id| format!("superseded by {id}")),
    );
    add(
        "licence",
        text("/references/licence/name").or_else(|| text("/references/licence/url")),
    );
    add("cite", text("/references/citationString"));
    let columns = page
        .pointer("/specificInfo/columns")
        .and_then(Value::as_array);
    for (number, column) in columns.into_iter().flatten().enumerate() {
        let part = |pointer: &str| {
            column
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(blank_control)
        };
        let label = part("/label").unwrap_or_default();
        let what = part("/valueType/self/label").unwrap_or_default();
        let unit = part("/valueType/unit").map(|unit| format!(" [{unit}]"));
        let heading = if number == 0 { "variables" } else { "" };
        add(
            heading,
            Some(format!("{label:<20} {what}{}", unit.unwrap_or_default())),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}
