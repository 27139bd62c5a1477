//! A chart: one panel for each column, over the same times.

use std::ops::Range;

use super::picture::{Anchor, Colour, Picture};
use super::scale::{padded, time_ticks, value_ticks};
use super::series::Series;
use super::terminal;

/// The width of a picture in pixels.
const WIDTH: f64 = 1600.0;
/// The width of a picture for a narrow screen, which shows it at about half its size.
const NARROW: f64 = 640.0;
/// The part of the room that long texts may take: a browser's fonts may be wider than the
/// one that the picture is measured with.
const FONT_ROOM: f64 = 0.8;
/// The room for the name of the clock.
const CLOCK: f64 = 110.0;
/// The room for a date below a panel.
const DATE: f64 = 144.0;
const PANEL: f64 = 420.0;
/// Left, right, top and bottom margin of a panel.
const MARGINS: [f64; 4] = [120.0, 40.0, 60.0, 50.0];
/// The height above the first panel, and below the last.
const TOP: f64 = 50.0;
const BOTTOM: f64 = 40.0;
/// The size of labels.
const LABEL: f64 = 20.0;
const COLOURS: [Colour; 6] = [
    Colour([0x1f, 0x77, 0xb4]),
    Colour([0xd6, 0x27, 0x28]),
    Colour([0x2c, 0xa0, 0x2c]),
    Colour([0x94, 0x67, 0xbd]),
    Colour([0x8c, 0x56, 0x4b]),
    Colour([0x17, 0xbe, 0xcf]),
];

/// A column to draw.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(super) label: String,
    pub(super) unit: Option<String>,
    /// What the values are, such as `CO2 mixing ratio (dry mole fraction)`.
    pub(super) description: Option<String>,
    pub(super) series: Series,
}

impl Curve {
    /// The label of its axis, with the unit.
    pub(super) fn title(&self) -> String {
        match &self.unit {
            Some(unit) => format!("{} [{unit}]", self.label),
            None => self.label.clone(),
        }
    }

    /// The same with what the values are.
    fn long_title(&self) -> String {
        match &self.description {
            Some(description) => format!("{}, {description}", self.title()),
            None => self.title(),
        }
    }
}

/// Columns of a table over time.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// Station and period.
    pub(super) heading: String,
    /// Which values, such as `daily means of good values`.
    pub(super) values: String,
    /// The object that they are from.
    pub(super) source: String,
    /// The clock of the times, such as `UTC`.
    pub(super) clock: &'static str,
    /// The times from the left to the right edge, in milliseconds since 1970.
    pub(super) times: Range<f64>,
    pub(super) curves: Vec<Curve>,
}

impl Chart {
    /// The chart as text of `width` columns.
    pub(crate) fn text(&self, width: usize, colours: bool) -> String {
        let charts: Vec<String> = (self.curves.iter())
            .map(|curve| terminal::chart(curve, &self.heading, &self.times, width, colours))
            .collect();
        let clock = match self.clock {
            "" => String::new(),
            clock => format!("; times in {clock}"),
        };
        format!("{}\n{}{clock}\n", charts.join("\n"), self.values)
    }

    /// The chart as a picture of 1600 pixels' width.
    pub(crate) fn picture(&self) -> Picture {
        self.picture_of(WIDTH)
    }

    /// The chart as a picture of 640 pixels' width, whose texts are legible on a phone.
    pub(crate) fn narrow_picture(&self) -> Picture {
        self.picture_of(NARROW)
    }

    fn picture_of(&self, width: f64) -> Picture {
        let height = TOP + PANEL * self.curves.len() as f64 + BOTTOM;
        let titles: Vec<String> = self.curves.iter().map(Curve::title).collect();
        let description = format!("{} of {} over time", titles.join(", "), self.heading);
        let mut picture = Picture::new(width, height, description);
        let room = width - MARGINS[0] - MARGINS[1];
        picture.heading((MARGINS[0], 38.0), &self.heading, 24.0, room * FONT_ROOM);
        for (number, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            self.panel(&mut picture, curve, TOP + PANEL * number as f64, colour);
        }
        let at = (MARGINS[0], height - 18.0);
        picture.text(
            at,
            &format!("{}. {}", self.values, self.source),
            (16.0, Anchor::Start),
            Colour::GREY,
            (room - CLOCK) * FONT_ROOM,
        );
        let at = (width - MARGINS[1], height - 18.0);
        picture.text(at, self.clock, (16.0, Anchor::End), Colour::GREY, CLOCK);
        picture
    }

    fn panel(&self, picture: &mut Picture, curve: &Curve, top: f64, colour: Colour) {
        let times = &self.times;
        let [left, right, above, below] = MARGINS;
        let (x0, x1) = (left, picture.width - right);
        let (y0, y1) = (top + above, top + PANEL - below);
        let label = (LABEL, Anchor::Start);
        picture.text((x0, y0 - 16.0), &curve.long_title(), label, colour, x1 - x0);
        let frame = vec![(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)];
        let span = (times.end - times.start).max(1.0);
        let x = |time: f64| x0 + (time - times.start) / span * (x1 - x0);
        for tick in time_ticks(times, ((x1 - x0) / DATE) as usize) {
            let at = x(tick.at);
            picture.line(vec![(at, y0), (at, y1)], Colour::PALE, 1.0);
            // Labels at the edge stay within the picture.
            let anchor = if at > x1 - 30.0 {
                Anchor::End
            } else {
                Anchor::Middle
            };
            let label = (LABEL, anchor);
            picture.text((at, y1 + 28.0), &tick.label, label, Colour::BLACK, 140.0);
        }
        let Some(values) = curve.series.values() else {
            let at = (x0 + 20.0, y0 + 40.0);
            picture.text(at, "no values", (LABEL, Anchor::Start), Colour::GREY, 400.0);
            picture.line(frame, Colour::BLACK, 1.0);
            return;
        };
        let values = padded(&values);
        let y = |value: f64| y1 - (value - values.start) / (values.end - values.start) * (y1 - y0);
        for tick in value_ticks(&values, 6) {
            let at = y(tick.at);
            picture.line(vec![(x0, at), (x1, at)], Colour::PALE, 1.0);
            let label = (LABEL, Anchor::End);
            picture.text(
                (x0 - 12.0, at + 7.0),
                &tick.label,
                label,
                Colour::BLACK,
                left - 20.0,
            );
        }
        let mut line = Vec::new();
        let bins = curve.series.bins(times, (x1 - x0) as usize);
        for (bin, column) in bins.iter().zip(0_u32..) {
            let Some(bin) = bin else {
                if !line.is_empty() {
                    picture.line(std::mem::take(&mut line), colour, 1.5);
                }
                continue;
            };
            let at = x0 + f64::from(column) + 0.5;
            line.push((at, y(bin.first)));
            if bin.least < bin.greatest {
                line.extend([bin.least, bin.greatest, bin.last].map(|value| (at, y(value))));
            }
        }
        if !line.is_empty() {
            picture.line(line, colour, 1.5);
        }
        picture.line(frame, Colour::BLACK, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::Shape;
    use super::*;

    fn curve(label: &str, values: impl Iterator<Item = f64>) -> Curve {
        let times = (0_u32..).map(|day| f64::from(day) * 86_400_000.0);
        Curve {
            label: label.to_owned(),
            unit: Some("m<s".to_owned()),
            description: Some("speed".to_owned()),
            series: Series::new(times.zip(values)),
        }
    }

    fn chart(curves: Vec<Curve>) -> Chart {
        Chart {
            heading: "Title <1>".to_owned(),
            values: "good values".to_owned(),
            source: "a.csv".to_owned(),
            clock: "UTC",
            times: 0.0..500.0 * 86_400_000.0,
            curves,
        }
    }

    #[test]
    fn everything_in_the_picture_is_within_it_and_labelled() {
        let wave = |n: u32| f64::from(n % 7);
        let curves = vec![
            curve("a", (0..500).map(wave)),
            curve("b & c", (0..500).map(|n| wave(n) - 1e7)),
            curve("huge", (0..500).map(|n| wave(n) * 1e200)),
        ];
        let chart = chart(curves);
        for picture in [chart.picture(), chart.narrow_picture()] {
            assert_is_complete(&picture);
        }
    }

    /// Asserts that all shapes of the picture above are within it, and that it has all texts.
    fn assert_is_complete(picture: &Picture) {
        let mut texts = Vec::new();
        for shape in &picture.shapes {
            let inside = |(x, y): (f64, f64)| {
                (0.0..=picture.width).contains(&x) && (0.0..=picture.height).contains(&y)
            };
            match shape {
                Shape::Line { points, .. } => {
                    assert!(points.iter().all(|p| inside(*p)), "{shape:?}");
                }
                Shape::Dot { at, .. } => assert!(inside(*at)),
                Shape::Text {
                    at,
                    text,
                    size,
                    anchor,
                    ..
                } => {
                    let width = super::super::glyphs::width(text, *size);
                    let start = match anchor {
                        Anchor::Start => at.0,
                        Anchor::Middle => at.0 - width / 2.0,
                        Anchor::End => at.0 - width,
                    };
                    assert!(
                        inside((start, at.1)) && inside((start + width, at.1)),
                        "{shape:?}"
                    );
                    texts.push(text.as_str());
                }
            }
        }
        for part in [
            "Title <1>",
            "a [m<s], speed",
            "b & c [m<s], speed",
            "1970-07",
            "UTC",
            "good values. a.csv",
        ] {
            assert!(texts.contains(&part), "no {part} in {texts:?}");
        }
    }

    #[test]
    fn gaps_interrupt_the_line_and_columns_without_values_say_so() {
        let with_gap = (0..500).map(|n| {
            if (200..300).contains(&n) {
                f64::NAN
            } else {
                1.0
            }
        });
        let empty = curve("none", std::iter::empty());
        let picture = chart(vec![curve("a", with_gap), empty]).picture();
        let of_curve = |shape: &&Shape| matches!(shape, Shape::Line { width, .. } if (*width - 1.5).abs() < 0.01);
        assert_eq!(picture.shapes.iter().filter(of_curve).count(), 2);
        let says = |shape: &Shape| matches!(shape, Shape::Text { text, .. } if text == "no values");
        assert!(picture.shapes.iter().any(says));
    }
}
