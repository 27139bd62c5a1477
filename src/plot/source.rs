//! Reads the columns of a table that a chart shows: the times, the columns and their
//! quality flags, and nothing else.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use super::chart::{Chart, Curve};
use super::series::{Period, Series};
use crate::catalog::Object;
use crate::content::times::{milliseconds, time_column, time_of, time_text};
use crate::content::{ContentError, Contents, ExportError, ExportFormat, RowSelection, TimesError};
use icos_portal::ObjectId;
use icos_table::flags::flag_of;
use icos_table::{Column, ValueFormat, find_column};

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
    #[error(transparent)]
    Times(#[from] TimesError),
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
        let times = contents.row_times(object, &all).await?;
        let rows = times.rows_between(request.from, request.to)?;
        let text = csv(contents, object, &labels, Some(&rows), request).await?;
        points(&labels, &text, Some(times.of_rows(rows)))?
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
    let flagged = wanted.iter().filter(|column| is_flagged(column)).count();
    let which = match (request.all_values, flagged) {
        (_, 0) => "all values, which have no quality flags",
        (true, _) => "all values, of any quality flag",
        (false, _) if flagged < wanted.len() => "good values, where they have a quality flag",
        (false, _) => "good values, by their quality flag",
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
            description: column.metadata.description.clone(),
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
        heading: heading(object, &shown),
        values: format!("{means}{which}"),
        source: format!("{}, {}", object.file_name(), object.id()),
        clock: clock_of(times.format),
        times: shown,
        curves,
    })
}

/// Station, height and period: `Hyltemossa (HTM), 150 m, 2023-01-01 to 2023-12-31`. The
/// name of the file stands in for a station that is not known.
fn heading(object: &Object, times: &Range<f64>) -> String {
    let day = |time: f64| time_text(time).chars().take(10).collect::<String>();
    let period = format!("{} to {}", day(times.start), day(times.end));
    let Some(station) = object.station() else {
        return format!("{}, {period}", object.file_name());
    };
    let row = station.row();
    let name = match &*row.name {
        "" => row.code.clone(),
        name => format!("{name} ({})", row.code),
    };
    match object.height() {
        Some(height) => format!("{name}, {height} m, {period}"),
        None => format!("{name}, {period}"),
    }
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

fn clock_of(format: ValueFormat) -> &'static str {
    match format {
        format if format.is_local_time() => "local time",
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
        let known = find_column(all, label).map(|at| all[at].clone());
        known.unwrap_or_else(|| Column::new(label, ValueFormat::Float64))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
