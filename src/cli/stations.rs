//! `icosfs stations`: lists the repository's stations.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::catalog_access;
use super::exit::EndedEarly;
use super::output::{self, print_text};
use super::plot::{picture_file, write_picture};
use super::settings::GlobalArgs;
use super::terminal;
use super::text_table::{TextTable, print_json_lines};
use crate::plot::{MapStation, StationMap};

/// Arguments of `icosfs stations`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs stations sweden
  icosfs stations --map
  icosfs stations --json | jq -r 'select(.lat > 65) | .id'")]
pub(super) struct StationsArgs {
    /// Show only the stations with this id, name or country (its code or English
    /// name); if there are none, those with this text in one of these
    text: Option<String>,
    /// Print JSON, one station per line
    #[arg(long)]
    json: bool,
    /// Draw the stations on a map of Europe
    #[arg(long, conflicts_with = "json")]
    map: bool,
    /// Write the map as a picture to this file, as its name says
    #[arg(short, long, value_name = "FILE.svg|.png", requires = "map")]
    output: Option<PathBuf>,
}

pub(super) fn run(global: &GlobalArgs, args: &StationsArgs) -> anyhow::Result<()> {
    let vocabulary = catalog_access::vocabulary(global)?;
    let shown = match &args.text {
        Some(text) => vocabulary.stations_like(text),
        None => vocabulary.stations().collect(),
    };
    if shown.is_empty() {
        let text = args.text.as_deref().unwrap_or_default();
        let similar = vocabulary.stations_similar_to(text);
        return Err(EndedEarly::no_match("stations", similar));
    }
    if args.map {
        let stations = shown.iter().filter_map(|station| {
            let row = station.row();
            Some(MapStation {
                id: row.code.clone(),
                position: row.position?,
            })
        });
        let stations: Vec<MapStation> = stations.collect();
        let map = StationMap {
            without_position: shown.len() - stations.len(),
            stations,
        };
        if let Some(file) = &args.output {
            let (file, format) = picture_file(file.clone())?;
            return write_picture(&map.picture(), &file, format);
        }
        let text = map.text(terminal::width(), output::has_colours());
        return Ok(print_text!("{text}")?);
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
