//! `icosfs stations`: lists the repository's stations.

use clap::Args;
use serde_json::json;

use super::catalog_access;
use super::exit::EndedEarly;
use super::settings::GlobalArgs;
use super::text_table::{TextTable, print_json_lines};

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
    let vocabulary = catalog_access::vocabulary(global)?;
    let wanted = args.text.as_deref().unwrap_or_default().to_lowercase();
    let shown = vocabulary.stations().filter(|station| {
        let row = station.row();
        let searched = format!("{}\n{}\n{}", row.code, row.name, row.country);
        searched.to_lowercase().contains(&wanted)
    });
    let mut shown = shown.peekable();
    if shown.peek().is_none() {
        return Err(EndedEarly::NoMatch("stations").into());
    }
    if args.json {
        return print_json_lines(shown.map(|station| {
            let row = station.row();
            json!({
                "id": row.code, "name": row.name, "country": row.country, "class": row.class,
                "uri": row.iri, "lat": row.position.map(|p| p.0), "lon": row.position.map(|p| p.1),
                "elevation": row.elevation, "folder": format!("stations/{}", station.name()),
            })
        }));
    }
    let rows = shown.map(|station| {
        let row = station.row();
        let position = (row.position).map(|(lat, lon)| format!("{lat:.4} {lon:.4}"));
        vec![
            row.code.clone(),
            row.country.clone(),
            row.class.clone(),
            position.unwrap_or_default(),
            row.name.clone(),
        ]
    });
    TextTable::new(&["ID", "COUNTRY", "CLASS", "POSITION", "NAME"], rows).print()
}
