//! `icosfs find`: searches objects by type, place and time.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::catalog_access;
use super::exit::EndedEarly;
use super::mount_context::MountContext;
use super::object_argument;
use super::output::{self, print_line};
use super::period;
use super::selection::level;
use super::settings::{GlobalArgs, bytes};
use super::text_table::{self, TextTable, print_json_lines};
use super::waiting::block_on_while;
use crate::catalog::{
    CatalogList, Object, ObjectSelection, Order, Representation, Search, SearchWord, UnknownName,
};
use icos_portal::lists::Versions;

/// Arguments of `icosfs find`.
#[derive(Args, Debug)]
#[command(
    next_help_heading = "Search criteria",
    after_help = "\
Examples:
  icosfs find hyltemossa co2 2023
  icosfs find --station HTM --variable co2 --from 2020-01-01
  icosfs find --datatype atcCo2L2DataObject --order size --descending
  icosfs find --bbox 12,55,14,57 --json | jq -r .fileName
  icosfs find --station HTM --columns
  icosfs find --theme ocean --paths ~/icos | xargs head -n 2"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct FindArgs {
    /// Words that must all occur in the file name, the title, the keywords, a column,
    /// the station or its country, or the data type; a year or month also matches
    /// objects with data of that time
    #[arg(value_name = "TEXT", help_heading = None)]
    words: Vec<String>,
    /// Members of this collection: its id, DOI, landing page, or words of its title
    #[arg(long, value_name = "COLLECTION")]
    collection: Option<String>,
    /// Objects of these stations, by id, name or country, e.g. HTM or sweden
    #[arg(long, value_name = "STATION", value_delimiter = ',')]
    station: Vec<String>,
    /// Objects of these data types, given by folder name, label or IRI
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    datatype: Vec<String>,
    /// Objects of these levels: 0 is raw data, 3 elaborated products (or L0 to L3)
    #[arg(
        long,
        value_name = "LEVEL",
        value_delimiter = ',',
        default_value = "1,2,3",
        value_parser = level
    )]
    level: Vec<u8>,
    /// Objects of this theme, by label, name or IRI, e.g. ocean
    #[arg(long)]
    theme: Option<String>,
    /// Objects of this project, by label, name or IRI
    #[arg(long)]
    project: Option<String>,
    /// Tables with a column of this name, e.g. co2, or of this quantity
    #[arg(long)]
    variable: Option<String>,
    /// Objects with this text in the file name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Objects with data at this time or later, e.g. 2021 or 2021-03-31
    #[arg(long, value_name = "TIME", value_parser = period::start)]
    from: Option<Timestamp>,
    /// Objects with data at this time or earlier; a year, month or day counts
    /// to its end
    #[arg(long, value_name = "TIME", value_parser = period::end)]
    to: Option<Timestamp>,
    /// Objects within this box, in degrees
    #[arg(
        long,
        value_name = "WEST,SOUTH,EAST,NORTH",
        value_parser = bbox,
        allow_hyphen_values = true
    )]
    bbox: Option<[f64; 4]>,
    /// Objects sampled at this height above ground in metres, e.g. 50 or
    /// 10..100
    #[arg(long, value_name = "METRES", value_parser = heights)]
    height: Option<RangeInclusive<f64>>,
    /// Objects submitted at this time or later
    #[arg(long, value_name = "TIME", value_parser = period::start)]
    submitted_after: Option<Timestamp>,
    /// Objects submitted before this time
    #[arg(long, value_name = "TIME", value_parser = period::start)]
    submitted_before: Option<Timestamp>,
    /// Objects whose original has at least this size, e.g. 10M
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    larger: Option<u64>,
    /// Objects whose original has at most this size
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    smaller: Option<u64>,
    /// Include superseded versions
    #[arg(long)]
    include_deprecated: bool,
    /// Sort by this property
    #[arg(long, value_enum, help_heading = "Output")]
    order: Option<SortKey>,
    /// Sort in descending order
    #[arg(long, help_heading = "Output")]
    descending: bool,
    /// Show at most this many objects
    #[arg(long, value_name = "N", help_heading = "Output")]
    limit: Option<usize>,
    /// Skip this many objects
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Output")]
    offset: usize,
    /// Show the columns of each table
    #[arg(long, conflicts_with_all = ["json", "paths"], help_heading = "Output")]
    columns: bool,
    /// Print JSON, one object per line
    #[arg(long, conflicts_with = "paths", help_heading = "Output")]
    json: bool,
    /// Print paths in the mount at this folder, whose portal is searched
    #[arg(long, value_name = "MOUNT", help_heading = "Output")]
    paths: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortKey {
    /// Time of submission
    Submitted,
    /// Start of the data
    Start,
    /// End of the data
    End,
    /// Size of the original
    Size,
    /// File name
    Name,
}

pub(super) fn run(global: &GlobalArgs, args: FindArgs) -> anyhow::Result<()> {
    let (json, paths, columns) = (args.json, args.paths.clone(), args.columns);
    let collection = args.collection.as_deref().map(object_argument::parse);
    let collection = collection.transpose()?;
    let (selection, mut search) = search_criteria(args)?;
    let settings = match (&paths, &collection) {
        (Some(folder), _) => Some(MountContext::required(folder)?.apply(global)),
        (None, Some(collection)) => Some(collection.settings(global)),
        (None, None) => None,
    };
    let global = &settings.transpose()?.unwrap_or_else(|| global.clone());
    let clients = global.clients(None)?;
    let cache_dir = global.cache_dir()?;
    let ttl = catalog_access::TTL;
    let catalog = catalog_access::open(&clients, &cache_dir, ttl, selection.clone())?;
    let found = block_on_while("requesting the portal's lists", async {
        if let Some(collection) = &collection {
            search.collection = Some(collection.collection(&catalog, &clients.meta).await?);
        }
        // Otherwise a misspelled name would look like one without data.
        catalog.ensure(CatalogList::Vocabulary).await?;
        let vocabulary = catalog.vocabulary();
        let checked = vocabulary.check(&selection);
        checked
            .and_then(|()| vocabulary.check_search(&search))
            .map_err(|name| unknown(&name))?;
        let found = catalog.search(&search).await?;
        if !found.is_empty() {
            return Ok(found);
        }
        if let Some(variable) = &search.variable
            && !vocabulary.has_variable(variable)
        {
            return Err(unknown(&vocabulary.unknown_variable(variable)));
        }
        let words = search.words.iter().filter(|word| word.period.is_none());
        let similar = words
            .map(|word| vocabulary.words_similar_to(&word.text))
            .find(|similar| !similar.is_empty());
        Err(EndedEarly::no_match("objects", similar.unwrap_or_default()))
    })?;
    if let Some(mount) = paths {
        for object in &found {
            print_line!("{}", path(&mount, object).display())?;
        }
        return Ok(());
    }
    if json {
        let landing = clients.services.envri().landing_prefix();
        return print_json_lines(found.iter().map(|object| json_line(object, &landing)));
    }
    if columns {
        let rows = found.iter().filter(|object| object.as_table().is_some());
        let rows = rows.map(|object| {
            let (rows, _) = object.as_table().unzip();
            vec![
                object.id().to_string(),
                rows.unwrap_or(0).to_string(),
                object.file_name().to_owned(),
                column_labels(object).join(" "),
            ]
        });
        return TextTable::new(&["ID", "ROWS", "NAME", "COLUMNS"], rows).print();
    }
    let columns: &[Column] = if output::is_terminal() {
        shown_columns(search.order)
    } else {
        &[
            Column::Id,
            Column::Name,
            Column::Station,
            Column::From,
            Column::To,
            Column::Size,
            Column::Submitted,
        ]
    };
    let header: Vec<&'static str> = columns.iter().map(|column| column.heading()).collect();
    let rows = found.iter().map(|object| {
        let cells = columns.iter().map(|column| column.of(object));
        cells.collect()
    });
    TextTable::new(&header, rows).print()
}

/// A column of the list of objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Column {
    Id,
    Station,
    Height,
    Period,
    Type,
    Name,
    From,
    To,
    Size,
    Submitted,
}

/// The columns on a terminal, the most useful first: narrow ones leave out the last. The
/// one that the objects are sorted by stays.
fn shown_columns(order: Option<Order>) -> &'static [Column] {
    use Column::{Height, Id, Name, Period, Size, Station, Submitted, Type};
    match order {
        Some(Order::Size) => &[Id, Station, Height, Size, Period, Type, Name, Submitted],
        Some(Order::Submitted) => &[Id, Station, Height, Submitted, Period, Type, Name, Size],
        Some(Order::Name) => &[Id, Name, Station, Height, Period, Type, Size, Submitted],
        Some(Order::Start | Order::End) | None => {
            &[Id, Station, Height, Period, Type, Name, Size, Submitted]
        }
    }
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Self::Id => "ID",
            Self::Station => "STATION",
            Self::Height => "HEIGHT",
            Self::Period => "PERIOD",
            Self::Type => "TYPE",
            Self::Name => "NAME",
            Self::From => "FROM",
            Self::To => "TO",
            Self::Size => "SIZE",
            Self::Submitted => "SUBMITTED",
        }
    }

    fn of(self, object: &Object) -> String {
        let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
        let (start, end) = object.span().unzip();
        match self {
            Self::Id => object.id().to_string(),
            Self::Station => {
                let station = object.station();
                station.map_or_else(String::new, |station| station.row().code.clone())
            }
            Self::Height => object
                .height()
                .map_or_else(String::new, |height| format!("{height} m")),
            Self::Period => object.span().map_or_else(String::new, months),
            Self::Type => object
                .spec()
                .map_or_else(String::new, |spec| spec.label().to_owned()),
            Self::Name => object.file_name().to_owned(),
            Self::From => start.map_or_else(String::new, day),
            Self::To => end.map_or_else(String::new, day),
            Self::Size => text_table::bytes(object.size()),
            Self::Submitted => day(object.submitted()),
        }
    }
}

/// A period by its first and last month, or by its years if it consists of complete ones.
fn months((start, end): (Timestamp, Timestamp)) -> String {
    let text = |time: Timestamp, format: &str| time.strftime(format).to_string();
    // The end may be the first moment after the period.
    let last = end - jiff::SignedDuration::from_secs(1);
    let last = if last < start { end } else { last };
    let is_complete = text(start, "%m-%d") == "01-01" && text(last, "%m-%d") == "12-31";
    let format = if is_complete { "%Y" } else { "%Y-%m" };
    let (first, last) = (text(start, format), text(last, format));
    if first == last {
        first
    } else {
        format!("{first}..{last}")
    }
}

/// The error for a name that nothing in the repository has.
pub(super) fn unknown(name: &UnknownName) -> anyhow::Error {
    let list = match name.what {
        "station" => "`icosfs stations` lists the stations",
        "collection" => "`icosfs collections` lists the collections",
        _ => "`icosfs datatypes` lists the data types with theme and columns",
    };
    EndedEarly::not_found(format!("{name}; {list}"))
}

/// Converts the flags to the catalog's selection and search.
fn search_criteria(args: FindArgs) -> anyhow::Result<(ObjectSelection, Search)> {
    let FindArgs {
        collection: _,
        words,
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
        columns: _,
        json: _,
        paths: _,
    } = args;
    let sizes = larger.unwrap_or(0)..=smaller.unwrap_or(u64::MAX);
    let exchanged = |first: &str, second: &str| {
        let text = format!("{first} exceeds {second}, so no object can match; exchange them");
        Err(EndedEarly::usage(text))
    };
    if sizes.start() > sizes.end() {
        return exchanged("--larger", "--smaller");
    }
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return exchanged("--from", "--to");
    }
    if submitted_after
        .zip(submitted_before)
        .is_some_and(|(after, before)| after > before)
    {
        return exchanged("--submitted-after", "--submitted-before");
    }
    let selection = ObjectSelection {
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
    let words = words.iter().flat_map(|words| words.split_whitespace());
    let search = Search {
        collection: None,
        words: words
            .map(|word| SearchWord {
                text: word.to_owned(),
                period: period::of_word(word),
            })
            .collect(),
        theme,
        project,
        variable,
        name,
        from,
        to,
        submitted_before,
        size: Some(sizes),
        height,
        bbox,
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

/// The object's path in a mount: a table's CSV, or any other object's original.
fn path(mount: &std::path::Path, object: &Object) -> PathBuf {
    let shown = if object.as_table().is_some() {
        Representation::Csv
    } else {
        Representation::Original
    };
    let name = format!("{}{}", object.id(), object.ending(shown));
    mount.join("objects").join(name)
}

/// The columns of a table: its own, or those that all tables of its type have.
fn column_labels(object: &Object) -> Vec<String> {
    if let Some(names) = object.column_names() {
        return names.to_vec();
    }
    let columns = object.spec().map_or(&[][..], |spec| spec.columns());
    let mandatory = columns
        .iter()
        .filter(|column| !column.optional && !column.regex);
    mandatory.map(|column| column.title.clone()).collect()
}

fn json_line(object: &Object, landing: &str) -> serde_json::Value {
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

/// Parses west, south, east and north in degrees.
fn bbox(text: &str) -> Result<[f64; 4], String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| <[f64; 4]>::try_from(numbers).ok());
    numbers
        .filter(|&[west, south, east, north]| {
            let longitudes = -180.0 <= west && west < east && east <= 180.0;
            longitudes && -90.0 <= south && south < north && north <= 90.0
        })
        .ok_or_else(|| "expected west, south, east and north, such as 12,55,14,57".to_owned())
}

/// Parses sampling heights in metres above ground.
fn heights(text: &str) -> Result<RangeInclusive<f64>, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let from = from.trim().parse().ok();
    let to = to.trim().parse().ok();
    from.zip(to)
        .filter(|(from, to): &(f64, f64)| from <= to)
        .map(|(from, to)| from..=to)
        .ok_or_else(|| "expected metres such as 50 or 10..100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_is_shown_by_years_or_months() {
        for (start, end, shown) in [
            ("2023-01-01T00:00:00Z", "2023-12-31T23:00:00Z", "2023"),
            ("2023-01-01T00:00:00Z", "2024-01-01T00:00:00Z", "2023"),
            ("2019-01-01T00:00:00Z", "2023-12-31T23:30:00Z", "2019..2023"),
            (
                "2017-09-03T00:00:00Z",
                "2023-12-31T23:00:00Z",
                "2017-09..2023-12",
            ),
            ("2023-05-01T00:00:00Z", "2023-05-01T00:00:00Z", "2023-05"),
        ] {
            let (start, end) = (start.parse().unwrap(), end.parse().unwrap());
            assert_eq!(months((start, end)), shown);
        }
    }

    #[test]
    fn bounding_boxes_and_heights_are_parsed() {
        assert!(bbox("12,55,14,57").is_ok());
        for bad in ["", "1,2,3", "14,55,12,57", "12,55,14,95", "a,b,c,d"] {
            assert!(bbox(bad).is_err(), "{bad}");
        }
        assert_eq!(heights("50").unwrap(), 50.0..=50.0);
        assert_eq!(heights("10..100").unwrap(), 10.0..=100.0);
        assert!(heights("100..10").is_err());
    }
}
