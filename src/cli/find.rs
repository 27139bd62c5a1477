//! `icosfs find`: objects by what they are, where and when.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::catalog_access::CatalogAccess;
use super::selection::time;
use super::settings::{GlobalArgs, bytes};
use super::text_table::{self, TextTable};
use super::waiting::block_on_while;
use crate::catalog::{Object, Order, Representation, Search, Selection};
use icos_portal::lists::Versions;

/// What `icosfs find` takes.
#[derive(Args, Debug)]
#[command(
    next_help_heading = "What to look for",
    after_help = "\
Examples:
  icosfs find --station HTM --variable co2 --from 2020-01-01
  icosfs find --datatype atcCo2L2DataObject --order size --descending --limit 10
  icosfs find --bbox 12,55,14,57 --json | jq -r .fileName
  icosfs find --theme ocean --paths ~/icos | xargs head -n 2"
)]
pub(super) struct FindArgs {
    /// Of these stations, e.g. HTM
    #[arg(long, value_name = "STATION", value_delimiter = ',')]
    station: Vec<String>,
    /// Of these data types: their folders' names, labels or IRIs
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    datatype: Vec<String>,
    /// Of these levels: 0 is raw, 3 elaborated
    #[arg(
        long,
        value_name = "LEVEL",
        value_delimiter = ',',
        default_value = "1,2,3",
        value_parser = clap::value_parser!(u8).range(0..=3)
    )]
    level: Vec<u8>,
    /// With such a theme, e.g. ocean
    #[arg(long)]
    theme: Option<String>,
    /// Of such a project
    #[arg(long)]
    project: Option<String>,
    /// Tables with such a column, e.g. co2, or of such a quantity
    #[arg(long)]
    variable: Option<String>,
    /// With this in the file name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// With data from this time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// With data until this time or earlier
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,
    /// Within these degrees
    #[arg(
        long,
        value_name = "WEST,SOUTH,EAST,NORTH",
        value_parser = bbox,
        allow_hyphen_values = true
    )]
    bbox: Option<BoundingBox>,
    /// Sampled at so many metres above ground, e.g. 50 or 10..100
    #[arg(long, value_name = "METRES", value_parser = heights)]
    height: Option<HeightRange>,
    /// Submitted at this time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    submitted_after: Option<Timestamp>,
    /// Submitted before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    submitted_before: Option<Timestamp>,
    /// With originals of at least so many bytes, e.g. 10M
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    larger: Option<u64>,
    /// With originals of at most so many bytes
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    smaller: Option<u64>,
    /// Superseded versions, too
    #[arg(long)]
    include_deprecated: bool,
    /// In which order
    #[arg(long, value_enum, help_heading = "How to show it")]
    order: Option<SortKey>,
    /// The last ones first
    #[arg(long, help_heading = "How to show it")]
    descending: bool,
    /// At most so many
    #[arg(long, value_name = "N", help_heading = "How to show it")]
    limit: Option<usize>,
    /// But for the first ones, so many
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        help_heading = "How to show it"
    )]
    offset: usize,
    /// As JSON, one object a line
    #[arg(long, conflicts_with = "paths", help_heading = "How to show it")]
    json: bool,
    /// As paths in the mount at this folder
    #[arg(long, value_name = "MOUNT", help_heading = "How to show it")]
    paths: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortKey {
    /// When it was submitted
    Submitted,
    /// When its data begin
    Start,
    /// When its data end
    End,
    /// Size of the original
    Size,
    /// File name
    Name,
}

/// West, south, east and north.
#[derive(Clone, Copy, Debug)]
struct BoundingBox([f64; 4]);

#[derive(Clone, Debug)]
struct HeightRange(RangeInclusive<f64>);

pub(super) fn run(global: &GlobalArgs, args: FindArgs) -> anyhow::Result<()> {
    let (json, paths) = (args.json, args.paths.clone());
    let (selection, search) = questions(args)?;
    let named = selection.stations.clone();
    let browse = CatalogAccess::new(global, selection)?;
    let found = block_on_while("asking the portal for its lists", async {
        Ok(browse.catalog.search(&search).await?)
    })?;
    // A typing error would look as if there were no data.
    for station in named {
        let known = browse.catalog.shown_stations();
        let is = |row: &icos_portal::lists::StationRow| {
            row.code.eq_ignore_ascii_case(&station) || row.iri.eq_ignore_ascii_case(&station)
        };
        if !known.iter().any(|known| is(known.row())) {
            bail!("there is no station {station}; `icosfs stations` lists them");
        }
    }
    ensure!(
        !browse.catalog.shown_specs().is_empty(),
        "there is no such data type; `icosfs datatypes` lists them"
    );
    if let Some(mount) = paths {
        for object in &found {
            println!("{}", path(&mount, object).display());
        }
        return Ok(());
    }
    let mut table = TextTable::new(&["ID", "SIZE", "SUBMITTED", "STATION", "FROM", "TO", "NAME"]);
    for object in &found {
        if json {
            let landing = browse.services.envri().landing_prefix();
            println!("{}", line(object, &landing));
        } else {
            table.push(row(object));
        }
    }
    if !json {
        table.print()?;
    }
    Ok(())
}

fn questions(args: FindArgs) -> anyhow::Result<(Selection, Search)> {
    let FindArgs {
        station,
        datatype,
        level,
        theme,
        project,
        variable,
        name,
        from,
        to,
        bbox,
        height,
        submitted_after,
        submitted_before,
        larger,
        smaller,
        include_deprecated,
        order,
        descending,
        limit,
        offset,
        json: _,
        paths: _,
    } = args;
    let sizes = larger.unwrap_or(0)..=smaller.unwrap_or(u64::MAX);
    ensure!(
        sizes.start() <= sizes.end(),
        "nothing is both larger and smaller; exchange --larger and --smaller"
    );
    let selection = Selection {
        levels: level,
        datatypes: datatype,
        stations: station,
        since: submitted_after,
        versions: if include_deprecated {
            Versions::All
        } else {
            Versions::Current
        },
    };
    let search = Search {
        theme,
        project,
        variable,
        name,
        from,
        to,
        submitted_before,
        size: Some(sizes),
        height: height.map(|HeightRange(heights)| heights),
        bbox: bbox.map(|BoundingBox(bbox)| bbox),
        order: order.map(|by| match by {
            SortKey::Submitted => Order::Submitted,
            SortKey::Start => Order::Start,
            SortKey::End => Order::End,
            SortKey::Size => Order::Size,
            SortKey::Name => Order::Name,
        }),
        descending,
        limit,
        offset,
    };
    Ok((selection, search))
}

/// Where the object is read in a mount: a table as text.
fn path(mount: &std::path::Path, object: &Object) -> PathBuf {
    let shown = if object.as_table().is_some() {
        Representation::Csv
    } else {
        Representation::Original
    };
    let name = format!("{}{}", object.id(), object.ending(shown));
    mount.join("objects").join(name)
}

fn row(object: &Object) -> Vec<String> {
    let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
    let (start, end) = object.span().unzip();
    vec![
        object.id().to_string(),
        text_table::bytes(object.size()),
        day(object.submitted()),
        object
            .station()
            .map_or_else(String::new, |station| station.row().code.clone()),
        start.map_or_else(String::new, day),
        end.map_or_else(String::new, day),
        object.file_name().to_owned(),
    ]
}

fn line(object: &Object, landing: &str) -> serde_json::Value {
    let (start, end) = object.span().unzip();
    json!({
        "id": object.id().to_string(),
        "uri": format!("{landing}{}", object.id()),
        "fileName": object.file_name(),
        "size": object.size(),
        "submitted": object.submitted().to_string(),
        "dataType": object.spec().map(|spec| spec.iri()),
        "level": object.spec().map(|spec| spec.level()),
        "station": object.station().map(|station| station.iri()),
        "samplingHeight": object.height(),
        "timeStart": start.map(|time| time.to_string()),
        "timeEnd": end.map(|time| time.to_string()),
        "rows": object.as_table().map(|(rows, _)| rows),
        "columns": object.column_names(),
        "doi": object.doi(),
        "nextVersion": object.next_version().map(|id| format!("{landing}{id}")),
    })
}

fn bbox(text: &str) -> Result<BoundingBox, String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| <[f64; 4]>::try_from(numbers).ok());
    numbers
        .filter(|[west, south, east, north]| {
            let lon = -180.0..=180.0;
            let lat = -90.0..=90.0;
            west < east
                && south < north
                && lon.contains(west)
                && lon.contains(east)
                && lat.contains(south)
                && lat.contains(north)
        })
        .map(BoundingBox)
        .ok_or_else(|| "expected west, south, east and north, such as 12,55,14,57".to_owned())
}

fn heights(text: &str) -> Result<HeightRange, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let from = from.trim().parse().ok();
    let to = to.trim().parse().ok();
    from.zip(to)
        .filter(|(from, to): &(f64, f64)| from <= to)
        .map(|(from, to)| HeightRange(from..=to))
        .ok_or_else(|| "expected metres such as 50 or 10..100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_and_heights_are_read() {
        assert!(bbox("12,55,14,57").is_ok());
        for bad in ["", "1,2,3", "14,55,12,57", "12,55,14,95", "a,b,c,d"] {
            assert!(bbox(bad).is_err(), "{bad}");
        }
        assert_eq!(heights("50").unwrap().0, 50.0..=50.0);
        assert_eq!(heights("10..100").unwrap().0, 10.0..=100.0);
        assert!(heights("100..10").is_err());
    }
}
