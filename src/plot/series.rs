//! Values over time: means, gaps, and how they are reduced to the resolution of a chart.

use std::ops::Range;

/// Values of one column over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    /// Milliseconds since 1970, increasing, with the values.
    points: Vec<(f64, f64)>,
}

/// What is shown in one column of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bin {
    pub(super) least: f64,
    pub(super) greatest: f64,
    pub(super) first: f64,
    pub(super) last: f64,
}

/// A period over which means are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Period {
    Day,
    Month,
}

impl Series {
    /// Points in any order; those without a finite time or value are gaps.
    pub(super) fn new(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut points: Vec<(f64, f64)> = points
            .into_iter()
            .filter(|(time, value)| time.is_finite() && value.is_finite())
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { points }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The first and the last time.
    pub(super) fn times(&self) -> Option<Range<f64>> {
        Some(self.points.first()?.0..self.points.last()?.0)
    }

    /// The least and the greatest value.
    pub(super) fn values(&self) -> Option<Range<f64>> {
        let values = self.points.iter().map(|(_, value)| *value);
        let least = values.clone().min_by(f64::total_cmp)?;
        Some(least..values.max_by(f64::total_cmp)?)
    }

    /// The points from one time to another.
    pub(super) fn within(&self, times: &Range<f64>) -> Self {
        let inside = |(time, _): &&(f64, f64)| times.start <= *time && *time <= times.end;
        Self {
            points: self.points.iter().filter(inside).copied().collect(),
        }
    }

    /// The mean of each period, at its middle.
    pub(super) fn means(&self, period: Period) -> Self {
        let mut means: Vec<(f64, f64)> = Vec::new();
        let mut current: Option<(i64, f64, f64, u32)> = None;
        let close = |(_, time, sum, count): (i64, f64, f64, u32)| {
            (time / f64::from(count), sum / f64::from(count))
        };
        for &(time, value) in &self.points {
            let key = period_of(time, period);
            current = match current {
                Some((open, times, sum, count)) if open == key => {
                    Some((open, times + time, sum + value, count + 1))
                }
                other => {
                    means.extend(other.map(close));
                    Some((key, time, value, 1))
                }
            };
        }
        means.extend(current.map(close));
        Self { points: means }
    }

    /// The step that most points have between each other; longer ones are gaps.
    fn usual_step(&self) -> f64 {
        let mut steps: Vec<f64> = (self.points.windows(2))
            .map(|pair| pair[1].0 - pair[0].0)
            .collect();
        if steps.is_empty() {
            return f64::INFINITY;
        }
        let middle = steps.len() / 2;
        *steps.select_nth_unstable_by(middle, f64::total_cmp).1
    }

    /// The values in each of `count` equal parts of `times`. A part without values is
    /// `None` if it is in a gap; else, as when there are fewer points than pixels, it has
    /// the value between its neighbours.
    pub(super) fn bins(&self, times: &Range<f64>, count: usize) -> Vec<Option<Bin>> {
        let mut bins: Vec<Option<Bin>> = vec![None; count];
        let span = (times.end - times.start).max(1.0);
        let scale = count as f64 / span;
        let at = |time: f64| ((time - times.start) * scale).clamp(0.0, (count - 1) as f64) as usize;
        for &(time, value) in &self.points {
            let bin = &mut bins[at(time)];
            *bin = Some(match *bin {
                None => Bin {
                    least: value,
                    greatest: value,
                    first: value,
                    last: value,
                },
                Some(known) => Bin {
                    least: known.least.min(value),
                    greatest: known.greatest.max(value),
                    last: value,
                    ..known
                },
            });
        }
        let gap = self.usual_step() * 2.5;
        for pair in self.points.windows(2) {
            let ((start, from), (end, to)) = (pair[0], pair[1]);
            if end - start > gap {
                continue;
            }
            for (bin, position) in bins.iter_mut().zip(0..).take(at(end)).skip(at(start) + 1) {
                if bin.is_none() {
                    let time = times.start + (f64::from(position) + 0.5) / scale;
                    let value =
                        from + (to - from) * ((time - start) / (end - start)).clamp(0.0, 1.0);
                    *bin = Some(Bin {
                        least: value,
                        greatest: value,
                        first: value,
                        last: value,
                    });
                }
            }
        }
        bins
    }
}

/// The number of the period that has a time.
fn period_of(time: f64, period: Period) -> i64 {
    let days = (time / 86_400_000.0).floor() as i64;
    match period {
        Period::Day => days,
        Period::Month => {
            let (year, month, _) = super::scale::date_of(days);
            year * 12 + i64::from(month)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: f64 = 86_400_000.0;

    #[test]
    fn means_are_of_days_and_months() {
        let series = Series::new([
            (0.0, 1.0),
            (3_600_000.0, 3.0),
            (DAY, 7.0),
            (40.0 * DAY, 9.0),
            (f64::NAN, 1.0),
            (5.0, f64::NAN),
        ]);
        assert_eq!(series.points.len(), 4);
        let days = series.means(Period::Day);
        assert_eq!(
            days.points,
            [(1_800_000.0, 2.0), (DAY, 7.0), (40.0 * DAY, 9.0)]
        );
        assert_eq!(series.means(Period::Month).points.len(), 2);
    }

    #[test]
    fn bins_have_the_envelope_and_gaps_stay_gaps() {
        let hours = (0..100).filter(|hour| !(40..60).contains(hour));
        let series =
            Series::new(hours.map(|hour| (f64::from(hour) * 3_600_000.0, f64::from(hour % 2))));
        let times = series.times().unwrap();
        let few = series.bins(&times, 10);
        assert!(few[0].unwrap().least < 0.1);
        assert!(few[0].unwrap().greatest > 0.9);
        assert!(few[4].is_none() && few[5].is_none(), "{few:?}");
        // More pixels than points: the line goes on, but not across the gap.
        let many = series.bins(&times, 1000);
        assert!(many[..390].iter().all(Option::is_some));
        assert!(many[420..590].iter().all(Option::is_none));
    }

    #[test]
    fn series_without_points_or_with_one_are_drawn() {
        assert!(
            Series::new([])
                .bins(&(0.0..1.0), 5)
                .iter()
                .all(Option::is_none)
        );
        let one = Series::new([(5.0, 1.0)]);
        assert_eq!(one.bins(&(5.0..5.0), 3).iter().flatten().count(), 1);
        assert_eq!(one.values(), Some(1.0..1.0));
    }
}
