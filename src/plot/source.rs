//! Reads the columns of a table that a chart shows: the times, the columns and their
//! quality flags, and nothing else.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::chart::{Chart, Curve};
use super::series::{Period, Series};
use crate::catalog::Object;
use crate::content::{ContentError, Contents, ExportError, ExportFormat, RowSelection};
use icos_portal::ObjectId;
use icos_table::flags::flag_of;
use icos_table::{Column, ValueFormat};

/// What to draw of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChartRequest {
    /// Names of columns; the first with measured values if there are none.
    pub(crate) columns: Vec<String>,
    /// The first and the last time.
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    /// The period over which to take means.
    pub(crate) means: Option<Period>,
    /// Whether to draw values whose quality flag is not good, too.
    pub(crate) all_values: bool,
}

/// Why a table cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChartError {
    #[error("object {0} ({1}) is not a table; only tables have columns to draw")]
    NotATable(ObjectId, String),
    #[error("the table has no column of times or dates, so it cannot be drawn over time")]
    NoTimes,
    #[error("the table has no column of measured values; name the columns to draw")]
    NothingMeasured,
    #[error("expected numbers to draw, found {found:?} in column {column:?}; choose other columns")]
    NotNumbers { column: String, found: String },
    #[error(
        "the columns have no values to draw; --all-values draws those whose quality flag is not good, too"
    )]
    NoValues,
    #[error("--from is after --to, or after the last value; choose other times")]
    NoTimesBetween,
    #[error("there are no values between these times; the table has values from {0} to {1}")]
    NoValuesBetween(String, String),
    #[error("expected a table as text: {0}")]
    NotText(#[from] std::string::FromUtf8Error),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// The columns of measured values of a table, those with quality flags first.
pub(crate) async fn measured_columns(
    contents: &Contents,
    object: &Object,
) -> Result<Vec<Column>, ContentError> {
    Ok(measured(&contents.described_columns(object).await?))
}

fn measured(columns: &[Column]) -> Vec<Column> {
    let is_measured = |at: &usize| {
        let column = &columns[*at];
        let is_number = matches!(column.format, ValueFormat::Float32 | ValueFormat::Float64);
        is_number && column.metadata.is_flag_for.is_empty()
    };
    let (mut flagged, others): (Vec<usize>, Vec<usize>) = (0..columns.len())
        .filter(is_measured)
        .partition(|at| flag_of(columns, *at).is_some());
    flagged.extend(others);
    flagged.into_iter().map(|at| columns[at].clone()).collect()
}

/// The chart of a table.
///
/// # Errors
///
/// [`ChartError`].
pub(crate) async fn table_chart(
    contents: &Contents,
    object: &Arc<Object>,
    request: &ChartRequest,
) -> Result<Chart, ChartError> {
    if object.as_table().is_none() {
        let name = object.file_name().to_owned();
        return Err(ChartError::NotATable(object.id(), name));
    }
    let all = contents.described_columns(object).await?;
    let times = time_column(&all).ok_or(ChartError::NoTimes)?;
    let wanted = wanted_columns(&all, &request.columns)?;
    let labels: Vec<String> = wanted.iter().map(|column| column.label.clone()).collect();
    let points = if request.from.is_none() && request.to.is_none() {
        let columns = [std::slice::from_ref(&times.label), &labels].concat();
        let text = csv(contents, object, &columns, None, request).await?;
        points(&labels, &text, None)?
    } else {
        let columns = [times.label.clone()];
        let text = csv(contents, object, &columns, None, request).await?;
        let times: Vec<f64> = text.lines().skip(1).map(time_of).collect();
        let rows = rows_between(&times, request);
        if rows.is_empty() {
            return Err(no_rows(&times, request));
        }
        let text = csv(contents, object, &labels, Some(&rows), request).await?;
        points(&labels, &text, Some(&times[rows.start..rows.end]))?
    };
    let series: Vec<Series> = points.into_iter().map(Series::new).collect();
    let known = series.iter().filter_map(Series::times);
    let known = known.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
    let known = known.ok_or(ChartError::NoValues)?;
    let shown =
        request.from.map_or(known.start, milliseconds)..request.to.map_or(known.end, milliseconds);
    let is_flagged = |column: &Column| {
        let at = all.iter().position(|one| one.label == column.label);
        at.is_some_and(|at| flag_of(&all, at).is_some())
    };
    let which = match (request.all_values, wanted.iter().any(is_flagged)) {
        (true, true) => "all values, of any quality flag",
        (false, true) => "values with a good quality flag",
        (_, false) => "all values",
    };
    let means = match request.means {
        Some(Period::Day) => "daily means of ",
        Some(Period::Month) => "monthly means of ",
        None => "",
    };
    let mut curves = Vec::new();
    for (column, series) in wanted.iter().zip(series) {
        let series = series.within(&shown);
        curves.push(Curve {
            label: column.label.clone(),
            unit: column.metadata.unit.clone(),
            series: match request.means {
                Some(period) => series.means(period),
                None => series,
            },
        });
    }
    if curves.iter().all(|curve| curve.series.is_empty()) {
        let [first, last] = [known.start, known.end].map(time_text);
        return Err(ChartError::NoValuesBetween(first, last));
    }
    Ok(Chart {
        heading: object.file_name().to_owned(),
        note: format!("{means}{which}. {}", object.id()),
        clock: clock_of(times.format),
        times: shown,
        curves,
    })
}

/// Some columns and rows of a table as CSV.
async fn csv(
    contents: &Contents,
    object: &Arc<Object>,
    columns: &[String],
    rows: Option<&Range<usize>>,
    request: &ChartRequest,
) -> Result<String, ChartError> {
    let selection = RowSelection {
        columns: Some(columns.to_vec()),
        rows: rows.map(|rows| rows.start as u64..rows.end as u64),
        good_only: !request.all_values,
    };
    let format = ExportFormat::Csv;
    let text = (contents.export(object, &selection, format, Vec::new(), |_| ())).await?;
    Ok(String::from_utf8(text)?)
}

/// The column of times: a time in UTC rather than a local one, a date, or a month.
fn time_column(columns: &[Column]) -> Option<&Column> {
    use ValueFormat::{
        EtcDate, EtcLocalDateTime, Iso8601Date, Iso8601DateTime, Iso8601Month, IsoLikeLocalDateTime,
    };
    let first = |formats: &[ValueFormat]| {
        let mut columns = columns.iter();
        columns.find(|column| formats.contains(&column.format))
    };
    first(&[Iso8601DateTime])
        .or_else(|| first(&[IsoLikeLocalDateTime, EtcLocalDateTime]))
        .or_else(|| first(&[Iso8601Date, EtcDate]))
        .or_else(|| first(&[Iso8601Month]))
}

fn clock_of(format: ValueFormat) -> &'static str {
    match format {
        ValueFormat::IsoLikeLocalDateTime | ValueFormat::EtcLocalDateTime => "local time",
        ValueFormat::Iso8601DateTime => "UTC",
        _ => "",
    }
}

/// The columns to draw. Those that do not exist are named by the export.
fn wanted_columns(all: &[Column], wanted: &[String]) -> Result<Vec<Column>, ChartError> {
    if wanted.is_empty() {
        let first = measured(all).into_iter().next();
        return Ok(vec![first.ok_or(ChartError::NothingMeasured)?]);
    }
    let column = |label: &String| {
        let known = all.iter().find(|column| column.label == *label);
        known.map_or_else(|| Column::new(label, ValueFormat::Float64), Column::clone)
    };
    Ok(wanted.iter().map(column).collect())
}

/// The points of each column in `text`, whose first column has the times unless they are
/// given.
fn points(
    labels: &[String],
    text: &str,
    times: Option<&[f64]>,
) -> Result<Vec<Vec<(f64, f64)>>, ChartError> {
    let mut points: Vec<Vec<(f64, f64)>> = vec![Vec::new(); labels.len()];
    for (number, line) in text.lines().skip(1).enumerate() {
        let mut cells = line.split(',');
        let time = match times {
            Some(times) => times.get(number).copied().unwrap_or(f64::NAN),
            None => cells.next().map_or(f64::NAN, time_of),
        };
        for ((points, cell), label) in points.iter_mut().zip(cells).zip(labels) {
            match cell.parse::<f64>() {
                Ok(value) => points.push((time, value)),
                Err(_) if cell.is_empty() => {}
                Err(_) => {
                    return Err(ChartError::NotNumbers {
                        column: label.clone(),
                        found: cell.to_owned(),
                    });
                }
            }
        }
    }
    Ok(points)
}

/// The rows from the first to the last within the requested times.
fn rows_between(times: &[f64], request: &ChartRequest) -> Range<usize> {
    let from = request.from.map_or(f64::NEG_INFINITY, milliseconds);
    let to = request.to.map_or(f64::INFINITY, milliseconds);
    let inside = |time: &f64| (from..=to).contains(time);
    let first = times.iter().position(inside);
    let last = times.iter().rposition(inside);
    first
        .zip(last)
        .map_or(0..0, |(first, last)| first..last + 1)
}

/// The error for times that no row has.
fn no_rows(times: &[f64], request: &ChartRequest) -> ChartError {
    let known = times.iter().copied().filter(|time| time.is_finite());
    let first = known.clone().min_by(f64::total_cmp);
    let Some((first, last)) = first.zip(known.max_by(f64::total_cmp)) else {
        return ChartError::NoValues;
    };
    let is_after = request.from.is_some_and(|from| match request.to {
        Some(to) => from > to,
        None => milliseconds(from) > last,
    });
    if is_after {
        return ChartError::NoTimesBetween;
    }
    ChartError::NoValuesBetween(time_text(first), time_text(last))
}

fn milliseconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64
}

fn time_text(time: f64) -> String {
    let time = Timestamp::from_millisecond(time as i64);
    time.map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

/// Milliseconds since 1970 of a time, a date or a month in a CSV; NaN of other text.
fn time_of(text: &str) -> f64 {
    if let Ok(time) = text.parse::<Timestamp>() {
        return milliseconds(time);
    }
    let month = (text.len() == 7).then(|| format!("{text}-01"));
    let local = month.as_deref().unwrap_or(text).parse::<DateTime>();
    let time = local.and_then(|local| TimeZone::UTC.to_timestamp(local));
    time.map_or(f64::NAN, milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_months_are_read() {
        let day = 86_400_000.0;
        for (text, time) in [
            ("1970-01-01T00:00:01Z", 1000.0),
            ("1970-01-02T12:00:00", 1.5 * day),
            ("1970-01-02 12:00", 1.5 * day),
            ("1970-01-02", day),
            ("1970-02", 31.0 * day),
        ] {
            assert!(
                (time_of(text) - time).abs() < 0.5,
                "{text}: {}",
                time_of(text)
            );
        }
        for text in ["", "12:30", "NaN"] {
            assert!(time_of(text).is_nan(), "{text}");
        }
    }

    #[test]
    fn measured_columns_with_flags_come_first() {
        let column = |label: &str, format, model: Option<&str>, flags: &[&str]| {
            let mut column = Column::new(label, format);
            column.metadata.model = model.map(str::to_owned);
            column.metadata.is_flag_for = flags.iter().map(|&flag| flag.to_owned()).collect();
            column
        };
        let all = [
            column("TIMESTAMP", ValueFormat::Iso8601DateTime, None, &[]),
            column("height", ValueFormat::Float32, Some("h"), &[]),
            column("co2", ValueFormat::Float64, Some("c"), &[]),
            column("Flag", ValueFormat::BmpChar, None, &["c"]),
            column("QC", ValueFormat::Float32, None, &["h2"]),
        ];
        let labels: Vec<_> = measured(&all).into_iter().map(|one| one.label).collect();
        assert_eq!(labels, ["co2", "height"]);
        assert_eq!(time_column(&all).unwrap().label, "TIMESTAMP");
        assert!(matches!(
            wanted_columns(&all[3..], &[]),
            Err(ChartError::NothingMeasured)
        ));
    }

    #[test]
    fn rows_are_those_between_the_times() {
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let times = ["", "2020-01-01", "2020-01-02", "2020-01-03"].map(time_of);
        let request = |from, to| ChartRequest {
            from,
            to,
            ..ChartRequest::default()
        };
        let second = time("2020-01-02T00:00:00Z");
        assert_eq!(rows_between(&times, &request(second, None)), 2..4);
        assert_eq!(rows_between(&times, &request(None, second)), 1..3);
        let later = time("2030-01-01T00:00:00Z");
        assert!(rows_between(&times, &request(later, None)).is_empty());
        let error = |from, to| no_rows(&times, &request(from, to));
        assert!(matches!(error(later, None), ChartError::NoTimesBetween));
        assert!(matches!(error(later, second), ChartError::NoTimesBetween));
        let text = error(None, time("1990-01-01T00:00:00Z")).to_string();
        assert!(
            text.ends_with("from 2020-01-01T00:00:00Z to 2020-01-03T00:00:00Z"),
            "{text}"
        );
    }
}
