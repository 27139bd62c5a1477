//! `icosfs datatypes`: lists the repository's data types.

use clap::Args;
use serde_json::{Value, json};

use super::catalog_access;
use super::exit::EndedEarly;
use super::settings::GlobalArgs;
use super::text_table::{TextTable, print_json_lines};

/// Arguments of `icosfs datatypes`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs datatypes ocean
  icosfs datatypes --columns atcCo2L2DataObject
  icosfs datatypes --json co2 | jq -r .folder")]
pub(super) struct DatatypesArgs {
    /// Show only data types with this text in the name, label, theme, project
    /// or variables
    text: Option<String>,
    /// Show the columns of their tables instead: name, format, unit and meaning
    #[arg(long, conflicts_with = "json")]
    columns: bool,
    /// Print JSON, one data type per line, with its columns
    #[arg(long)]
    json: bool,
}

pub(super) fn run(global: &GlobalArgs, args: &DatatypesArgs) -> anyhow::Result<()> {
    let vocabulary = catalog_access::vocabulary(global)?;
    let shown = match &args.text {
        Some(text) => vocabulary.specs_like(text),
        None => vocabulary.specs().collect(),
    };
    if shown.is_empty() {
        let text = args.text.as_deref().unwrap_or_default();
        let similar = vocabulary.specs_similar_to(text);
        return Err(EndedEarly::no_match("data types", similar));
    }
    let shown = shown.into_iter();
    if args.json {
        let lines = shown.map(|spec| {
            let mut line: Value = serde_json::from_slice(&spec.json())?;
            line["folder"] = json!(format!("datatypes/{}", spec.name()));
            Ok(line)
        });
        return print_json_lines(lines.collect::<anyhow::Result<Vec<_>>>()?);
    }
    if args.columns {
        let rows = shown.flat_map(|spec| {
            spec.columns().iter().map(|column| {
                let presence = if column.optional { "optional" } else { "" };
                // A pattern stands for many columns.
                let title = if column.regex {
                    format!("/{}/", column.title)
                } else {
                    column.title.clone()
                };
                let format = column.format.rsplit('/').next().unwrap_or_default();
                vec![
                    spec.name().to_owned(),
                    title,
                    format.to_owned(),
                    column.unit.clone().unwrap_or_default(),
                    presence.to_owned(),
                    column.value.clone().unwrap_or_default(),
                ]
            })
        });
        let header = ["TYPE", "COLUMN", "FORMAT", "UNIT", "PRESENCE", "MEANING"];
        return TextTable::new(&header, rows).print();
    }
    let rows = shown.map(|spec| {
        vec![
            spec.name().to_owned(),
            spec.label().to_owned(),
            spec.level().to_string(),
            spec.theme().unwrap_or_default().to_owned(),
            spec.format().to_owned(),
        ]
    });
    TextTable::new(&["NAME", "LABEL", "LEVEL", "THEME", "FORMAT"], rows).print()
}
