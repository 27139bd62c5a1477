//! The times of a table's rows, to select rows and to draw them.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Contents, ExportError, ExportFormat, RowSelection};
use crate::catalog::Object;
use icos_table::{Column, ValueFormat};

/// Why rows cannot be selected by time.
#[derive(Debug, thiserror::Error)]
pub enum TimesError {
    /// The table has no times.
    #[error("the table has no column of times or dates, so its rows have no times")]
    NoTimes,
    /// No row is of the requested period.
    #[error("no row is of the requested period; the table has rows from {0} to {1}")]
    NoRows(String, String),
    /// The times could not be read.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// The times of a table's rows.
#[derive(Clone, Debug)]
pub struct RowTimes {
    /// Milliseconds since 1970 by row; NaN where there is no time. Local times count as
    /// if they were in UTC.
    milliseconds: Vec<f64>,
}

impl Contents {
    /// Downloads the times of the rows of `object`, one of whose `columns` has them.
    ///
    /// # Errors
    ///
    /// [`TimesError::NoTimes`] or [`TimesError::Export`].
    pub async fn row_times(
        &self,
        object: &Arc<Object>,
        columns: &[Column],
    ) -> Result<RowTimes, TimesError> {
        let column = time_column(columns).ok_or(TimesError::NoTimes)?;
        let selection = RowSelection {
            columns: Some(vec![column.label.clone()]),
            ..RowSelection::default()
        };
        let text = self.export(object, &selection, ExportFormat::Csv, Vec::new(), |_| ());
        // A CSV of times is ASCII; anything else is no time.
        let text = String::from_utf8_lossy(&text.await?).into_owned();
        Ok(RowTimes {
            milliseconds: text.lines().skip(1).map(time_of).collect(),
        })
    }
}

impl RowTimes {
    /// The times of `rows`, in milliseconds since 1970.
    #[must_use]
    pub fn of_rows(&self, rows: Range<usize>) -> &[f64] {
        &self.milliseconds[rows]
    }

    /// The rows from the first to the last that is between `from` and `to`, both included.
    ///
    /// # Errors
    ///
    /// [`TimesError::NoRows`] if there is none.
    pub fn rows_between(
        &self,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Range<usize>, TimesError> {
        let inside = |time: &f64| contains(from, to, *time);
        let first = self.milliseconds.iter().position(inside);
        let last = self.milliseconds.iter().rposition(inside);
        match first.zip(last) {
            Some((first, last)) => Ok(first..last + 1),
            None => Err(match self.period() {
                Some((first, last)) => TimesError::NoRows(time_text(first), time_text(last)),
                None => TimesError::NoTimes,
            }),
        }
    }

    /// How many of `rows` are not between `from` and `to`: none in a table in the order of
    /// time.
    #[must_use]
    pub fn outside(
        &self,
        rows: &Range<usize>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> usize {
        let times = &self.milliseconds[rows.clone()];
        times
            .iter()
            .filter(|time| !contains(from, to, **time))
            .count()
    }

    /// The first and the last time.
    fn period(&self) -> Option<(f64, f64)> {
        let known = || self.milliseconds.iter().copied().filter(|t| t.is_finite());
        let first = known().min_by(f64::total_cmp);
        first.zip(known().max_by(f64::total_cmp))
    }
}

fn contains(from: Option<Timestamp>, to: Option<Timestamp>, time: f64) -> bool {
    let from = from.map_or(f64::NEG_INFINITY, milliseconds);
    let to = to.map_or(f64::INFINITY, milliseconds);
    (from..=to).contains(&time)
}

/// The column of times: a time in UTC rather than a local one, a date, or a month.
pub(crate) fn time_column(columns: &[Column]) -> Option<&Column> {
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

#[allow(clippy::cast_precision_loss, reason = "exact for 285 000 years")]
pub(crate) fn milliseconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64
}

/// A time in milliseconds since 1970 as text.
#[allow(
    clippy::cast_possible_truncation,
    reason = "saturates, and is then no time"
)]
pub(crate) fn time_text(time: f64) -> String {
    let time = Timestamp::from_millisecond(time as i64);
    time.map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

/// Milliseconds since 1970 of a time, a date or a month in a CSV; NaN of other text.
pub(crate) fn time_of(text: &str) -> f64 {
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
    fn rows_are_those_between_the_times() {
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let times = |texts: &[&str]| RowTimes {
            milliseconds: texts.iter().map(|text| time_of(text)).collect(),
        };
        let table = times(&["", "2020-01-01", "2020-01-02", "2020-01-03"]);
        let second = time("2020-01-02T00:00:00Z");
        assert_eq!(table.rows_between(second, None).unwrap(), 2..4);
        assert_eq!(table.rows_between(None, second).unwrap(), 1..3);
        assert_eq!(table.outside(&(1..3), None, second), 0);
        for (from, to) in [
            (time("2030-01-01T00:00:00Z"), None),
            (None, time("1990-01-01T00:00:00Z")),
        ] {
            let text = table.rows_between(from, to).unwrap_err().to_string();
            assert_eq!(
                text,
                "no row is of the requested period; the table has rows from \
                 2020-01-01T00:00:00Z to 2020-01-03T00:00:00Z"
            );
        }
        assert!(matches!(
            times(&["", "x"]).rows_between(None, second),
            Err(TimesError::NoTimes)
        ));
        // Not in the order of time.
        let mixed = times(&["2020-01-01", "2021-01-01", "2020-01-02"]);
        let rows = mixed.rows_between(None, second).unwrap();
        assert_eq!(
            (rows.clone(), mixed.outside(&rows, None, second)),
            (0..3, 1)
        );
    }
}
