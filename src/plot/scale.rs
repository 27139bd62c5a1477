//! Ticks of axes: round values, and dates.

use std::ops::Range;

use jiff::Span;
use jiff::civil::Date;

const DAY: f64 = 86_400_000.0;

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// `values` with a margin, so that no curve touches the frame; never empty.
pub(super) fn padded(values: &Range<f64>) -> Range<f64> {
    let span = values.end - values.start;
    let margin = if span > 0.0 {
        span * 0.04
    } else {
        values.start.abs().max(1.0) * 0.05
    };
    values.start - margin..values.end + margin
}

/// At most `most` round values in a range.
pub(super) fn value_ticks(values: &Range<f64>, most: usize) -> Vec<Tick> {
    let rough = (values.end - values.start) / most.max(1) as f64;
    if !rough.is_finite() || rough <= 0.0 {
        return Vec::new();
    }
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let first = (values.start / step).ceil();
    (0..=most)
        .map(|n| (first + n as f64) * step)
        .take_while(|at| *at <= values.end)
        .map(|at| Tick {
            at,
            label: value_label(at, step),
        })
        .collect()
}

/// `value`, a multiple of `step`, with as many digits as that has.
fn value_label(value: f64, step: f64) -> String {
    let magnitude = step.log10().floor();
    if (1e-9..1e6).contains(&step) {
        let decimals = (-magnitude).max(0.0) as usize;
        // Not -0.
        return format!("{:.decimals$}", value + 0.0);
    }
    if value.abs() < step / 2.0 {
        return "0".to_owned();
    }
    let digits = (value.abs().log10().floor() - magnitude).clamp(0.0, 12.0) as usize;
    format!("{value:.digits$e}")
}

/// At most `most` dates in a range of milliseconds since 1970: years, months, days or
/// hours.
pub(super) fn time_ticks(times: &Range<f64>, most: usize) -> Vec<Tick> {
    let span = times.end - times.start;
    let most = most.max(1) as f64;
    let hours = [1.0, 3.0, 6.0, 12.0]
        .into_iter()
        .map(|hours| hours * DAY / 24.0);
    if let Some(step) = hours.into_iter().find(|step| span / step <= most) {
        let first = (times.start / step).ceil();
        return (0_u32..1000)
            .map(|n| (first + f64::from(n)) * step)
            .take_while(|at| *at <= times.end)
            .map(|at| Tick {
                at,
                label: hour_label(at),
            })
            .collect();
    }
    let days = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|days| span / (days * DAY) <= most);
    if let Some(days) = days {
        let first = (times.start / (days * DAY)).ceil();
        return (0_u32..1000)
            .map(|n| (first + f64::from(n)) * days * DAY)
            .take_while(|at| *at <= times.end)
            .map(|at| Tick {
                at,
                label: day_label(at),
            })
            .collect();
    }
    let months = [1_i64, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200];
    let step = months
        .into_iter()
        .find(|months| span / (*months as f64 * 30.44 * DAY) <= most)
        .unwrap_or(12_000);
    let (year, month, _) = date_of(day_of(times.start));
    let first = (year * 12 + i64::from(month) - 1).div_euclid(step) * step;
    (0..1000)
        .map(|n| first + n * step)
        .map(|month| (month, days_of_month(month) as f64 * DAY))
        .skip_while(|(_, at)| *at < times.start)
        .take_while(|(_, at)| *at <= times.end)
        .map(|(month, at)| {
            let (year, number) = (month.div_euclid(12), month.rem_euclid(12) + 1);
            let label = if step % 12 == 0 {
                year.to_string()
            } else {
                format!("{year}-{number:02}")
            };
            Tick { at, label }
        })
        .collect()
}

fn day_of(time: f64) -> i64 {
    (time / DAY).floor() as i64
}

fn day_label(time: f64) -> String {
    let (year, month, day) = date_of(day_of(time));
    format!("{year}-{month:02}-{day:02}")
}

fn hour_label(time: f64) -> String {
    let hour = (time.rem_euclid(DAY) / 3_600_000.0).round() as u8;
    let (_, month, day) = date_of(day_of(time));
    format!("{month:02}-{day:02} {hour:02}h")
}

const EPOCH: Date = Date::constant(1970, 1, 1);

/// Year, month and day of a number of days since 1970.
pub(super) fn date_of(days: i64) -> (i64, i8, i8) {
    let days = Span::new().try_days(days.clamp(-4_000_000, 2_900_000));
    let date = EPOCH.saturating_add(days.unwrap_or_default());
    (date.year().into(), date.month(), date.day())
}

/// The first day, in days since 1970, of a month counted from year 0.
fn days_of_month(months: i64) -> i64 {
    let year = i16::try_from(months.div_euclid(12)).unwrap_or(i16::MAX);
    let first = Date::new(year.clamp(-9999, 9999), months.rem_euclid(12) as i8 + 1, 1);
    first.map_or(0, |first| (first - EPOCH).get_days().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| &*tick.label).collect()
    }

    #[test]
    fn values_are_round() {
        assert_eq!(
            labels(&value_ticks(&(398.2..431.7), 5)),
            ["400", "410", "420", "430"]
        );
        assert_eq!(
            labels(&value_ticks(&(-0.04..0.05), 5)),
            ["-0.04", "-0.02", "0.00", "0.02", "0.04"]
        );
        // Regression: sums of steps were shown with all their digits.
        assert_eq!(
            labels(&value_ticks(&(-2.4e37..1e36), 6)),
            ["-2.0e37", "-1.5e37", "-1.0e37", "-5e36", "0"]
        );
        assert_eq!(
            labels(&value_ticks(&(3e-12..9e-12), 3)),
            ["4e-12", "6e-12", "8e-12"]
        );
        assert!(value_ticks(&(1.0..1.0), 5).is_empty());
        assert!(value_ticks(&(0.0..f64::INFINITY), 5).is_empty());
        let padded = padded(&(5.0..5.0));
        assert!(padded.start < 5.0 && padded.end > 5.0);
    }

    #[test]
    fn times_are_hours_days_months_or_years() {
        let from = 1_672_531_200_000.0; // 2023-01-01
        let ticks = |days: f64, most| time_ticks(&(from..from + days * DAY), most);
        assert_eq!(
            labels(&ticks(1.0, 4)),
            [
                "01-01 00h",
                "01-01 06h",
                "01-01 12h",
                "01-01 18h",
                "01-02 00h"
            ]
        );
        assert_eq!(labels(&ticks(3.0, 4))[1], "2023-01-02");
        assert_eq!(
            labels(&ticks(365.0, 6)),
            [
                "2023-01", "2023-03", "2023-05", "2023-07", "2023-09", "2023-11", "2024-01"
            ]
        );
        assert_eq!(
            labels(&ticks(3650.0, 5)),
            ["2024", "2026", "2028", "2030", "2032"]
        );
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (19_358, (2023, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
        ] {
            assert_eq!(date_of(days), date);
        }
        for months in [0, 1969 * 12 + 11, 2023 * 12, 2024 * 12 + 2] {
            let (year, month, day) = date_of(days_of_month(months));
            assert_eq!((year * 12 + i64::from(month) - 1, day), (months, 1));
        }
    }
}
