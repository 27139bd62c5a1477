//! `icosfs stations`: lists the repository's stations.

use clap::Args;
use serde_json::json;

use super::catalog_access::CatalogAccess;
use super::settings::GlobalArgs;
use super::text_table::TextTable;
use super::waiting::block_on_while;
use crate::catalog::{CatalogList, ObjectSelection};

/// Arguments of `icosfs stations`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs stations sweden
  icosfs stations --json | jq -r 'select(.lat > 65) | .id'")]
pub(super) struct StationsArgs {
    /// Show only stations with this text in the id, name or country
    text: Option<String>,
    /// Print JSON, one station per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(global: &GlobalArgs, args: &StationsArgs) -> anyhow::Result<()> {
    let browse = CatalogAccess::new(global, ObjectSelection::default())?;
    block_on_while("requesting the portal's lists", async {
        Ok(browse.catalog.ensure(CatalogList::Vocabulary).await?)
    })?;
    let vocabulary = browse.catalog.vocabulary();
    let mut table = TextTable::new(&["ID", "COUNTRY", "CLASS", "POSITION", "NAME"]);
    let wanted = args.text.as_deref().unwrap_or_default().to_lowercase();
    for station in vocabulary.stations() {
        let row = station.row();
        let searched = format!("{}\n{}\n{}", row.code, row.name, row.country);
        if !searched.to_lowercase().contains(&wanted) {
            continue;
        }
        if args.json {
            let line = json!({
                "id": row.code, "name": row.name, "country": row.country, "class": row.class,
                "uri": row.iri, "lat": row.position.map(|p| p.0), "lon": row.position.map(|p| p.1),
                "elevation": row.elevation, "folder": format!("stations/{}", station.name()),
            });
            println!("{line}");
            continue;
        }
        let position = row
            .position
            .map_or_else(String::new, |(lat, lon)| format!("{lat:.4} {lon:.4}"));
        table.push(vec![
            row.code.clone(),
            row.country.clone(),
            row.class.clone(),
            position,
            row.name.clone(),
        ]);
    }
    if !args.json {
        table.print()?;
    }
    Ok(())
}
