//! `icosfs datatypes`: lists the repository's data types.

use clap::Args;
use serde_json::{Value, json};

use super::catalog_access::CatalogAccess;
use super::settings::GlobalArgs;
use super::text_table::TextTable;
use super::waiting::block_on_while;
use crate::catalog::{CatalogList, ObjectSelection};

/// Arguments of `icosfs datatypes`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs datatypes ocean
  icosfs datatypes --json co2 | jq -r .folder")]
pub(super) struct DatatypesArgs {
    /// Show only data types with this text in the name, label, theme, project
    /// or variables
    text: Option<String>,
    /// Print JSON, one data type per line, with its columns
    #[arg(long)]
    json: bool,
}

pub(super) fn run(global: &GlobalArgs, args: &DatatypesArgs) -> anyhow::Result<()> {
    let browse = CatalogAccess::new(global, ObjectSelection::default())?;
    block_on_while("requesting the portal's lists", async {
        Ok(browse.catalog.ensure(CatalogList::Vocabulary).await?)
    })?;
    let vocabulary = browse.catalog.vocabulary();
    let mut table = TextTable::new(&["NAME", "LEVEL", "THEME", "FORMAT", "LABEL"]);
    let wanted = args.text.as_deref().unwrap_or_default().to_lowercase();
    for spec in vocabulary.specs() {
        let theme = spec.theme().unwrap_or_default();
        let mut searched = [
            spec.name(),
            spec.label(),
            theme,
            spec.project().unwrap_or_default(),
        ]
        .join("\n");
        for column in spec.columns() {
            searched.push('\n');
            searched.push_str(&column.title);
        }
        if !searched.to_lowercase().contains(&wanted) {
            continue;
        }
        if args.json {
            let mut line: Value = serde_json::from_slice(&spec.json())?;
            line["folder"] = json!(format!("datatypes/{}", spec.name()));
            println!("{line}");
            continue;
        }
        table.push(vec![
            spec.name().to_owned(),
            spec.level().to_string(),
            theme.to_owned(),
            spec.format().to_owned(),
            spec.label().to_owned(),
        ]);
    }
    if !args.json {
        table.print()?;
    }
    Ok(())
}
