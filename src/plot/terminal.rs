//! A chart in a terminal.

use std::fmt::Write as _;
use std::ops::Range;

use icos_portal::is_terminal_command;

use super::canvas::DotCanvas;
use super::chart::Curve;
use super::scale::{Tick, padded, time_ticks, value_ticks};

/// The lines of a chart without its title.
const HEIGHT: usize = 12;
/// The fewest characters that a chart needs.
const MIN_WIDTH: usize = 40;
/// The characters of the shortest label of a time, with the space before it.
const MIN_LABEL: usize = 6;

/// `curve` as text of `width` columns, over `times`, below its title and `heading`.
pub(super) fn chart(
    curve: &Curve,
    heading: &str,
    times: &Range<f64>,
    width: usize,
    colours: bool,
) -> String {
    let width = width.max(MIN_WIDTH);
    let mut text = String::new();
    let bold = |text: &str| {
        if colours {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let clean = |text: &str| text.replace(is_terminal_command, " ");
    let title: String = clean(&curve.title()).chars().take(width).collect();
    let room = width.saturating_sub(title.chars().count() + 2);
    let heading: String = clean(heading).chars().take(room).collect();
    let _ = writeln!(
        text,
        "{}",
        format!("{}  {heading}", bold(&title)).trim_end()
    );
    let Some(values) = curve.series.values() else {
        let _ = writeln!(text, "  no values");
        return text;
    };
    let values = padded(&values);
    let ticks = value_ticks(&values, HEIGHT / 3);
    let margin = ticks
        .iter()
        .map(|tick| tick.label.chars().count())
        .max()
        .unwrap_or(0);
    let mut canvas = DotCanvas::new(width.saturating_sub(margin + 2), HEIGHT);
    let (across, down) = canvas.dots();
    let height = (down - 1) as f64;
    let y = |value: f64| (values.end - value) / (values.end - values.start) * height;
    let bins = curve.series.bins(times, across);
    let mut before: Option<(f64, f64)> = None;
    for (bin, x) in bins.iter().zip(0_u32..) {
        let x = f64::from(x);
        if let Some(bin) = bin {
            if let Some(before) = before {
                canvas.line(before, (x, y(bin.first)));
            }
            canvas.line((x, y(bin.greatest)), (x, y(bin.least)));
            before = Some((x, y(bin.last)));
        } else {
            before = None;
        }
    }
    for (row, line) in canvas.rows().enumerate() {
        let label = ticks.iter().find(|tick| {
            let at = (y(tick.at) / 4.0).max(0.0) as usize;
            at == row
        });
        let (label, mark) = label.map_or(("", '\u{2502}'), |tick| (&*tick.label, '\u{2524}'));
        let curve = if colours {
            format!("\x1b[36m{line}\x1b[0m")
        } else {
            line
        };
        let _ = writeln!(text, "{label:>margin$} {mark}{}", curve.trim_end());
    }
    text.push_str(&time_axis(times, margin, width - margin - 2));
    text
}

/// The axis below a chart: marks with labels, as many as have room.
fn time_axis(times: &Range<f64>, margin: usize, width: usize) -> String {
    let span = (times.end - times.start).max(1.0);
    let column = |tick: &Tick| ((tick.at - times.start) / span * (width - 1) as f64) as usize;
    // Labels are centred, but within the chart.
    let placed = |ticks: &[Tick]| -> Vec<(usize, usize)> {
        let place = |tick: &Tick| {
            let length = tick.label.chars().count();
            let start = column(tick).saturating_sub(length / 2);
            (start.min(width.saturating_sub(length)), length)
        };
        ticks.iter().map(place).collect()
    };
    let have_room = |ticks: &Vec<Tick>| {
        let all = placed(ticks);
        all.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0)
    };
    let most = (width / MIN_LABEL).max(1);
    let ticks = (1..=most).rev().map(|most| time_ticks(times, most));
    let ticks = ticks.into_iter().find(have_room).unwrap_or_default();
    let mut marks = vec!['\u{2500}'; width];
    let mut labels = vec![' '; width];
    for (tick, (start, _)) in ticks.iter().zip(placed(&ticks)) {
        marks[column(tick).min(width - 1)] = '\u{252c}';
        for (place, character) in labels[start..].iter_mut().zip(tick.label.chars()) {
            *place = character;
        }
    }
    let marks: String = marks.into_iter().collect();
    let labels: String = labels.into_iter().collect();
    let space = " ".repeat(margin + 1);
    format!("{space}\u{2514}{marks}\n{space} {}\n", labels.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::series::Series;
    use super::*;

    const HOUR: f64 = 3_600_000.0;

    #[test]
    fn chart_has_title_axes_and_curve_within_the_width() {
        let points = (0..8760).map(|hour| {
            let hour = f64::from(hour);
            (
                1_672_531_200_000.0 + hour * HOUR,
                420.0 + 10.0 * (hour / 1400.0).sin(),
            )
        });
        let curve = Curve {
            label: "co2".to_owned(),
            unit: Some("\u{b5}mol mol-1".to_owned()),
            description: None,
            series: Series::new(points),
        };
        let times = curve.series.times().unwrap();
        let text = chart(&curve, "x.zip", &times, 80, false);
        assert!(text.starts_with("co2 [\u{b5}mol mol-1]  x.zip\n"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let dates = "2023-01  2023-03  2023-05  2023-07  2023-09  2023-11";
        let labels: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(
            labels,
            dates.split_whitespace().collect::<Vec<_>>(),
            "{text}"
        );
        assert!(text.contains("420 \u{2524}"), "{text}");
        let drawn = text
            .chars()
            .filter(|c| ('\u{2800}'..'\u{2900}').contains(c))
            .count();
        assert!(drawn > 60, "{text}");
        assert!(chart(&curve, "x.zip", &times, 10, true).contains("\x1b[36m"));
    }

    #[test]
    fn chart_without_values_says_so() {
        let curve = Curve {
            label: "x".to_owned(),
            unit: None,
            description: None,
            series: Series::default(),
        };
        assert_eq!(
            chart(&curve, "", &(0.0..1.0), 80, false),
            "x\n  no values\n"
        );
    }
}
