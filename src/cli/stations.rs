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
    /// Show only the stations with this id, name or country (its code or English
    /// name); if there are none, those with this text in one of these
    text: Option<String>,
    /// Print JSON, one station per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(global: &GlobalArgs, args: &StationsArgs) -> anyhow::Result<()> {
    let vocabulary = catalog_access::vocabulary(global)?;
    let shown = match &args.text {
        Some(text) => vocabulary.stations_like(text),
        None => vocabulary.stations().collect(),
    };
    if shown.is_empty() {
        return Err(EndedEarly::NoMatch("stations").into());
    }
    let shown = shown.into_iter();
    if args.json {
        return print_json_lines(shown.map(|station| {
            let row = station.row();
            json!({
                "id": row.code, "name": row.name, "country": row.country,
                "countryName": station.country(), "class": row.class,
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
            row.name.clone(),
            row.country.clone(),
            row.class.clone(),
            position.unwrap_or_default(),
        ]
    });
    TextTable::new(&["ID", "NAME", "COUNTRY", "CLASS", "POSITION"], rows).print()
}
