//! The header of a NetCDF file: dimensions, variables and attributes by the CF
//! conventions (version 1.8), from the columns and what is known of their file.
//!
//! - The first column of times is the coordinate variable: the dimension has its name.
//!   A table without one has a dimension `row`.
//! - The station's position and id are scalar coordinates. Their values are in the space
//!   that is reserved for the header.
//! - A column whose name CF does not allow has another one, and `column_name`.

use super::writer::{self, Attribute, AttributeValue, Variable};
use super::{NetCdfLayout, NetCdfType, budget, names::VariableNames, quantities, type_of, width};
use crate::{Column, StoredType, ValueFormat};

/// What is known of a file but for its columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileFacts {
    /// Attributes of the file, such as `title`.
    pub attributes: Vec<(String, String)>,
    /// The station.
    pub station: Option<StationFacts>,
    /// The quality flags that mean good values.
    pub good_flags: Vec<String>,
    /// How many hours the station's local time is ahead of UTC.
    pub utc_offset: Option<i32>,
}

/// A station.
#[derive(Clone, Debug, PartialEq)]
pub struct StationFacts {
    /// Its id, e.g. `HTM`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres above sea level.
    pub altitude: Option<f64>,
    /// Height of the sampling, in metres above ground.
    pub sampling_height: Option<f64>,
}

const EPOCH: &str = "since 1970-01-01 00:00:00";
const CALENDAR: &str = "proleptic_gregorian";

/// The first bytes of the file, [`NetCdfLayout::header_len`] of them. `columns` are those
/// that `layout` was made of.
#[must_use]
pub fn header(layout: &NetCdfLayout, columns: &[Column], facts: &FileFacts) -> Vec<u8> {
    let bytes = HeaderContent::new(layout, columns, facts).bytes(layout);
    if bytes.len() as u64 <= layout.header_len {
        return padded(bytes, layout);
    }
    // Not reached as long as the limits in `budget` are right: a readable file is better
    // than one with all attributes.
    let plain: Vec<Column> = columns
        .iter()
        .map(|column| Column::new(column.label.clone(), column.format))
        .collect();
    let content = HeaderContent::new(layout, &plain, &FileFacts::default());
    padded(content.bytes(layout), layout)
}

fn padded(mut bytes: Vec<u8>, layout: &NetCdfLayout) -> Vec<u8> {
    bytes.resize(usize::try_from(layout.header_len).unwrap_or(usize::MAX), 0);
    bytes
}

/// What a header says.
struct HeaderContent {
    dimensions: Vec<(String, u64)>,
    attributes: Vec<Attribute>,
    /// Variables of one value, and the value.
    scalars: Vec<(Variable, Vec<u8>)>,
    /// The columns, in the order of the layout.
    variables: Vec<Variable>,
}

impl HeaderContent {
    fn new(layout: &NetCdfLayout, columns: &[Column], facts: &FileFacts) -> Self {
        let mut names = VariableNames::default();
        let written: Vec<&Column> = layout.sources().map(|at| &columns[at]).collect();
        let variable_names: Vec<String> = written
            .iter()
            .map(|column| names.give(&column.label))
            .collect();
        let time = time_column(&written);
        let rows = match time {
            Some(at) => variable_names[at].clone(),
            None => names.give("row"),
        };
        let mut dimensions = vec![(rows, layout.rows)];
        let scalars = (facts.station.as_ref())
            .map(|station| station_variables(station, &mut names, &mut dimensions))
            .unwrap_or_default();
        let begins = begins(layout);
        let coordinates: Vec<&str> = scalars.iter().map(|(scalar, _)| &*scalar.name).collect();
        let coordinates = coordinates.join(" ");
        let describe = |at: usize| {
            let column = written[at];
            let flag = flag_among(&written, at).map(|flag| &*variable_names[flag]);
            let mut attributes = if time == Some(at) {
                time_attributes(column, facts)
            } else {
                column_attributes(column, facts, flag)
            };
            if variable_names[at] != column.label {
                let label = budget::cut(&column.label, budget::TEXT);
                attributes.push(Attribute::text("column_name", label));
            }
            if time != Some(at) && !coordinates.is_empty() {
                attributes.push(Attribute::text("coordinates", &*coordinates));
            }
            Variable {
                name: variable_names[at].clone(),
                dimensions: vec![0],
                attributes,
                kind: type_of(column.format),
                len: layout.rows.max(1) * width(column.format),
                begin: begins[at],
            }
        };
        let variables = (0..written.len()).map(describe).collect();
        let is_time_series = time.is_some() && !scalars.is_empty();
        Self {
            attributes: file_attributes(facts, is_time_series),
            dimensions,
            scalars,
            variables,
        }
    }

    /// The header and the values of the scalars.
    fn bytes(mut self, layout: &NetCdfLayout) -> Vec<u8> {
        let write = |content: &Self| {
            let scalars = content.scalars.iter().map(|(variable, _)| variable);
            let variables: Vec<Variable> = scalars.chain(&content.variables).cloned().collect();
            writer::header(
                layout.version(),
                &content.dimensions,
                &content.attributes,
                &variables,
            )
        };
        // Its length does not depend on where the scalars begin.
        let mut end = write(&self).len() as u64;
        for (variable, value) in &mut self.scalars {
            variable.begin = end;
            end += (value.len() as u64).next_multiple_of(4);
        }
        let mut bytes = write(&self);
        for (_, value) in &self.scalars {
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }
}

/// Where the variables begin. Without rows they are record variables, the first records
/// of which would follow each other.
fn begins(layout: &NetCdfLayout) -> Vec<u64> {
    let mut end = layout.header_len;
    let begin = |column: &super::PlacedColumn| {
        if layout.rows > 0 {
            return column.begin;
        }
        let begin = end;
        end += width(column.format).next_multiple_of(4);
        begin
    };
    layout.columns.iter().map(begin).collect()
}

/// The column that says to which time a row belongs. A date is not enough if there is a
/// time of day as well.
fn time_column(columns: &[&Column]) -> Option<usize> {
    use ValueFormat::{
        EtcDate, EtcLocalDateTime, Iso8601Date, Iso8601DateTime, Iso8601Month, Iso8601TimeOfDay,
        IsoLikeLocalDateTime,
    };
    let first = |formats: &[ValueFormat]| {
        let mut columns = columns.iter();
        columns.position(|column| formats.contains(&column.format))
    };
    let date = || match first(&[Iso8601TimeOfDay]) {
        Some(_) => None,
        None => first(&[Iso8601Date, EtcDate]).or_else(|| first(&[Iso8601Month])),
    };
    first(&[Iso8601DateTime])
        .or_else(|| first(&[IsoLikeLocalDateTime, EtcLocalDateTime]))
        .or_else(date)
}

/// The position of the column with the quality flags of the column at `at`.
fn flag_among(columns: &[&Column], at: usize) -> Option<usize> {
    let model = columns[at].metadata.model.as_ref()?;
    let is_flag = |column: &&Column| column.metadata.is_flag_for.contains(model);
    columns.iter().position(is_flag)
}

fn time_attributes(column: &Column, facts: &FileFacts) -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::text("standard_name", "time"),
        long_name(column),
        Attribute::text("axis", "T"),
    ];
    attributes.extend(units_of_time(column.format, facts));
    attributes
}

/// `units`, `calendar` and what is to say about a time; empty for other formats.
fn units_of_time(format: ValueFormat, facts: &FileFacts) -> Vec<Attribute> {
    let unit = match format.stored() {
        StoredType::Double => "milliseconds",
        _ => "days",
    };
    let mut attributes = vec![
        Attribute::text("units", format!("{unit} {EPOCH}")),
        Attribute::text("calendar", CALENDAR),
    ];
    match format {
        ValueFormat::Iso8601DateTime | ValueFormat::Iso8601Date | ValueFormat::EtcDate => {}
        ValueFormat::Iso8601Month => {
            attributes.push(Attribute::text("comment", "the first day of the month"));
        }
        ValueFormat::IsoLikeLocalDateTime | ValueFormat::EtcLocalDateTime => {
            let zone = match facts.utc_offset {
                Some(hours) => {
                    format!("local time of the station, UTC{hours:+}, without daylight saving time")
                }
                None => "local time; the metadata do not tell its offset from UTC".to_owned(),
            };
            attributes.push(Attribute::text("comment", zone));
        }
        _ => return Vec::new(),
    }
    attributes
}

fn long_name(column: &Column) -> Attribute {
    let name = column
        .metadata
        .description
        .as_ref()
        .unwrap_or(&column.label);
    Attribute::text("long_name", budget::cut(name, budget::TEXT))
}

/// The attributes of a column that is not the coordinate; `flag` is the variable with its
/// quality flags.
fn column_attributes(column: &Column, facts: &FileFacts, flag: Option<&str>) -> Vec<Attribute> {
    let mut attributes = vec![long_name(column)];
    let is_flag = !column.metadata.is_flag_for.is_empty();
    let times = units_of_time(column.format, facts);
    if is_flag {
        attributes.push(Attribute::text("standard_name", "quality_flag"));
        attributes.extend(flag_attributes(column.format, &facts.good_flags));
    } else if column.format == ValueFormat::Iso8601TimeOfDay {
        // Not `seconds`, which programs take for a duration.
        attributes.push(Attribute::text("units", "s"));
        attributes.push(Attribute::text("comment", "time of day, since midnight"));
    } else if !times.is_empty() {
        attributes.extend(times);
    } else {
        attributes.extend(quantity_attributes(column));
    }
    if let Some(flag) = flag {
        attributes.push(Attribute::text("ancillary_variables", flag));
    }
    let fill = match type_of(column.format) {
        NetCdfType::Byte => Some(AttributeValue::Bytes(vec![i8::MIN])),
        NetCdfType::Int => Some(AttributeValue::Ints(vec![i32::MIN])),
        NetCdfType::Float => Some(AttributeValue::Float(f32::NAN)),
        NetCdfType::Double => Some(AttributeValue::Double(f64::NAN)),
        // NUL is what programs expect.
        NetCdfType::Char => None,
    };
    attributes.extend(fill.map(|fill| Attribute::new("_FillValue", fill)));
    attributes
}

fn quantity_attributes(column: &Column) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    if column.format == ValueFormat::Boolean {
        attributes.push(Attribute::new(
            "flag_values",
            AttributeValue::Bytes(vec![0, 1]),
        ));
        attributes.push(Attribute::text("flag_meanings", "false true"));
        return attributes;
    }
    let portal_unit = column.metadata.unit.as_deref();
    let unit = portal_unit.and_then(quantities::udunits);
    let description = column.metadata.description.as_deref().unwrap_or_default();
    let standard_name = quantities::standard_name(description, unit.as_deref());
    if let Some(name) = standard_name {
        attributes.push(Attribute::text("standard_name", name));
    }
    let unit = match standard_name {
        Some("latitude") => Some("degrees_north".to_owned()),
        Some("longitude") => Some("degrees_east".to_owned()),
        _ => unit,
    };
    if let Some(unit) = unit {
        attributes.push(Attribute::text("units", budget::cut(&unit, budget::UNIT)));
    }
    if let Some(unit) = portal_unit {
        let unit = budget::cut(unit, budget::UNIT);
        attributes.push(Attribute::text("units_portal", unit));
    }
    attributes
}

/// `flag_values` and `flag_meanings`: the metadata say which flags are good, and nothing
/// of the others.
fn flag_attributes(format: ValueFormat, good: &[String]) -> Vec<Attribute> {
    let (values, flags) = match type_of(format) {
        NetCdfType::Char => {
            let flags = good.iter().filter_map(|flag| {
                let mut bytes = flag.bytes();
                let byte = bytes.next().filter(u8::is_ascii_graphic)?;
                bytes.next().is_none().then_some(char::from(byte))
            });
            let flags: Vec<String> = flags.take(budget::FLAGS).map(String::from).collect();
            // CF separates texts by blanks.
            (AttributeValue::Text(flags.join(" ")), flags)
        }
        NetCdfType::Int => {
            let flags = good.iter().filter_map(|flag| flag.parse::<i32>().ok());
            let flags: Vec<i32> = flags.take(budget::FLAGS).collect();
            let texts = flags.iter().map(i32::to_string).collect();
            (AttributeValue::Ints(flags), texts)
        }
        NetCdfType::Byte | NetCdfType::Float | NetCdfType::Double => return Vec::new(),
    };
    if flags.is_empty() {
        return Vec::new();
    }
    let meanings: Vec<String> = flags.iter().map(|flag| format!("good_{flag}")).collect();
    let comment = "values with one of these flags are good; what other flags mean is not in the portal's metadata";
    vec![
        Attribute::new("flag_values", values),
        Attribute::text("flag_meanings", meanings.join(" ")),
        Attribute::text("comment", comment),
    ]
}

/// The scalar coordinates of a station, with their values.
fn station_variables(
    station: &StationFacts,
    names: &mut VariableNames,
    dimensions: &mut Vec<(String, u64)>,
) -> Vec<(Variable, Vec<u8>)> {
    let mut scalars = Vec::new();
    let mut number = |name: &str, value: Option<f64>, attributes: &[(&str, &str)]| {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return;
        };
        let attributes = attributes.iter();
        let variable = Variable {
            name: names.give_or_prefix(name, "station_"),
            dimensions: Vec::new(),
            attributes: attributes
                .map(|(name, text)| Attribute::text(name, *text))
                .collect(),
            kind: NetCdfType::Double,
            len: 8,
            begin: 0,
        };
        scalars.push((variable, value.to_be_bytes().into()));
    };
    number(
        "latitude",
        Some(station.latitude),
        &[
            ("long_name", "latitude of the station"),
            ("standard_name", "latitude"),
            ("units", "degrees_north"),
        ],
    );
    number(
        "longitude",
        Some(station.longitude),
        &[
            ("long_name", "longitude of the station"),
            ("standard_name", "longitude"),
            ("units", "degrees_east"),
        ],
    );
    number(
        "altitude",
        station.altitude,
        &[
            ("long_name", "height of the ground above sea level"),
            ("standard_name", "surface_altitude"),
            ("units", "m"),
        ],
    );
    number(
        "sampling_height",
        station.sampling_height,
        &[
            ("long_name", "height of the sampling above ground"),
            ("standard_name", "height"),
            ("units", "m"),
            ("positive", "up"),
        ],
    );
    for (name, text, attributes) in [
        (
            "station_id",
            &station.id,
            [
                ("long_name", "id of the station"),
                ("cf_role", "timeseries_id"),
            ],
        ),
        (
            "station_name",
            &station.name,
            [
                ("long_name", "name of the station"),
                ("standard_name", "platform_name"),
            ],
        ),
    ] {
        let text = budget::cut(text, budget::TEXT);
        if text.is_empty() {
            continue;
        }
        let name = names.give(name);
        dimensions.push((names.give(&format!("{name}_length")), text.len() as u64));
        let variable = Variable {
            name,
            dimensions: vec![dimensions.len() - 1],
            attributes: (attributes.into_iter())
                .map(|(name, text)| Attribute::text(name, text))
                .chain([Attribute::text("_Encoding", "utf-8")])
                .collect(),
            kind: NetCdfType::Char,
            len: text.len() as u64,
            begin: 0,
        };
        scalars.push((variable, text.into_bytes()));
    }
    scalars
}

fn file_attributes(facts: &FileFacts, is_time_series: bool) -> Vec<Attribute> {
    let mut attributes = vec![Attribute::text("Conventions", "CF-1.8")];
    if is_time_series {
        attributes.push(Attribute::text("featureType", "timeSeries"));
    }
    let given = facts.attributes.iter().take(budget::FACTS - 2);
    attributes.extend(given.map(|(name, text)| {
        let limit = match &**name {
            "citation" => budget::LONG_FACT,
            _ => budget::FACT,
        };
        let name = budget::cut(name, budget::UNIT);
        Attribute::text(&name, budget::cut(text, limit))
    }));
    attributes
}
