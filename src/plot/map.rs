//! Stations on a map of Europe, in the terminal or as SVG.
//!
//! `outline.txt` has the coasts and borders, a line each, in tenths of degrees: the 1:110
//! million countries of Natural Earth (naturalearthdata.com), which are in the public
//! domain.

use std::fmt::Write as _;

use super::canvas::DotCanvas;
use super::glyphs;
use super::picture::{Anchor, Colour, Picture, Shape};

const OUTLINE: &str = include_str!("outline.txt");
/// The edges of the map in degrees.
const WEST: f64 = -25.0;
const EAST: f64 = 45.0;
const SOUTH: f64 = 34.0;
const NORTH: f64 = 72.0;
/// The cosine of the latitude in the middle: degrees of longitude are that much shorter.
const SHORTER: f64 = 0.602;
/// Width of the picture in pixels.
const WIDTH: f64 = 1600.0;
/// The size of labels.
const LABEL: f64 = 13.0;
const COAST: Colour = Colour([0x99; 3]);
const STATION: Colour = Colour([0xd6, 0x27, 0x28]);

/// A station on the map.
#[derive(Clone, Debug)]
pub(crate) struct MapStation {
    pub(crate) id: String,
    /// Degrees north and east.
    pub(crate) position: (f64, f64),
}

impl MapStation {
    fn is_on_map(&self) -> bool {
        let (lat, lon) = self.position;
        (SOUTH..=NORTH).contains(&lat) && (WEST..=EAST).contains(&lon)
    }
}

/// Where a position is, from 0 at the west and north edge to 1.
fn place(longitude: f64, latitude: f64) -> (f64, f64) {
    (
        (longitude - WEST) / (EAST - WEST),
        (NORTH - latitude) / (NORTH - SOUTH),
    )
}

/// The height of the map for a width, in the same unit.
fn height(width: f64) -> f64 {
    width * (NORTH - SOUTH) / ((EAST - WEST) * SHORTER)
}

/// The coasts and borders of Europe: lines of points in degrees east and north.
pub(crate) fn coasts() -> impl Iterator<Item = Vec<(f64, f64)>> {
    OUTLINE.lines().map(|line| {
        let point = |text: &str| {
            let (x, y) = text.split_once(',')?;
            let degrees = |text: &str| Some(f64::from(text.parse::<i16>().ok()?) / 10.0);
            Some((degrees(x)?, degrees(y)?))
        };
        line.split(' ').filter_map(point).collect()
    })
}

/// The lines of the outline, in places.
fn outline() -> impl Iterator<Item = Vec<(f64, f64)>> {
    coasts().map(|line| line.into_iter().map(|(x, y)| place(x, y)).collect())
}

fn within(place: (f64, f64)) -> bool {
    (0.0..=1.0).contains(&place.0) && (0.0..=1.0).contains(&place.1)
}

/// Writes `text` to the right of a dot in `row`, else to its left; nowhere if there are
/// other dots or texts.
fn write_beside(row: &mut [char], dot: usize, text: &str) {
    let length = text.chars().count();
    let right = dot + 1..dot + 1 + length;
    let left = dot.checked_sub(length).map(|start| start..dot);
    // The cells next to it separate it from other texts.
    let is_free = |cell: Option<&char>| cell.is_none_or(|cell| is_outline(*cell));
    let fits = |range: &std::ops::Range<usize>| {
        let before = range.start.checked_sub(1).filter(|before| *before != dot);
        row.get(range.clone())
            .is_some_and(|cells| cells.iter().all(|cell| is_outline(*cell)))
            && is_free(before.and_then(|before| row.get(before)))
            && (range.end == dot || is_free(row.get(range.end)))
    };
    let free = std::iter::once(right).chain(left).find(fits);
    for (cell, character) in free.into_iter().flatten().zip(text.chars()) {
        row[cell] = character;
    }
}

/// Whether a cell has no dot and no text of a station.
fn is_outline(cell: char) -> bool {
    cell == ' ' || ('\u{2800}'..='\u{28ff}').contains(&cell)
}

/// `line`, which is dim, with dots in red and ids in normal letters.
fn coloured(line: &str) -> String {
    let mut text = String::new();
    let mut is_dim = true;
    for symbol in line.chars() {
        if symbol == DOT {
            let _ = write!(text, "\x1b[0;1;31m{DOT}\x1b[0m");
            is_dim = false;
            continue;
        }
        if is_outline(symbol) != is_dim {
            is_dim = !is_dim;
            text.push_str(if is_dim { "\x1b[2m" } else { "\x1b[0m" });
        }
        text.push(symbol);
    }
    text
}

/// Stations on a map of Europe.
#[derive(Clone, Debug)]
pub(crate) struct StationMap {
    /// Those with a position.
    pub(crate) stations: Vec<MapStation>,
    /// How many have none.
    pub(crate) without_position: usize,
}

/// The greatest number of stations whose ids are written on a map in a terminal.
const MAX_IDS: usize = 40;
const DOT: char = '\u{25cf}';

impl StationMap {
    /// The map as text of `width` columns.
    pub(crate) fn text(&self, width: usize, colours: bool) -> String {
        let width = width.clamp(40, 160);
        let rows = (height(width as f64 * 2.0) / 4.0).ceil() as usize;
        let mut canvas = DotCanvas::new(width, rows);
        let (across, down) = canvas.dots();
        let dot = |(x, y): (f64, f64)| (x * (across - 1) as f64, y * (down - 1) as f64);
        for line in outline() {
            for pair in line.windows(2) {
                if within(pair[0]) && within(pair[1]) {
                    canvas.line(dot(pair[0]), dot(pair[1]));
                }
            }
        }
        let mut cells: Vec<Vec<char>> = canvas.rows().map(|row| row.chars().collect()).collect();
        let mut dots = Vec::new();
        for station in self.on_map() {
            let (lat, lon) = station.position;
            let (x, y) = dot(place(lon, lat));
            let (column, row) = ((x / 2.0) as usize, (y / 4.0) as usize);
            if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = DOT;
                dots.push((row, column, &*station.id));
            }
        }
        if dots.len() <= MAX_IDS {
            for (row, column, id) in dots {
                write_beside(&mut cells[row], column, id);
            }
        }
        let mut text = String::new();
        for row in cells {
            let line: String = row.into_iter().collect();
            let line = line.trim_end();
            if colours {
                let _ = writeln!(text, "\x1b[2m{}\x1b[0m", coloured(line));
            } else {
                let _ = writeln!(text, "{line}");
            }
        }
        let _ = writeln!(text, "{}", self.summary());
        text
    }

    fn on_map(&self) -> impl Iterator<Item = &MapStation> {
        self.stations.iter().filter(|one| one.is_on_map())
    }

    fn summary(&self) -> String {
        let shown = self.on_map().count();
        let outside = self.stations.len() - shown;
        let all = self.stations.len() + self.without_position;
        let reasons = [
            (outside, "outside of the map"),
            (self.without_position, "without a position"),
        ];
        let reasons: Vec<String> = (reasons.iter())
            .filter(|(count, _)| *count > 0)
            .map(|(count, reason)| format!("{count} {reason}"))
            .collect();
        match (&reasons[..], shown) {
            ([], 1) => "1 station".to_owned(),
            ([], shown) => format!("{shown} stations"),
            (reasons, shown) => {
                format!("{shown} of {all} stations; {}", reasons.join(", "))
            }
        }
    }

    /// The map as a picture of 1600 pixels' width.
    pub(crate) fn picture(&self) -> Picture {
        let map = height(WIDTH);
        let description = format!("Map of Europe with {}", self.summary());
        let mut picture = Picture::new(WIDTH, (map + 50.0).ceil(), description);
        let at = |(x, y): (f64, f64)| (x * WIDTH, y * map);
        for line in outline() {
            for part in line.split(|point| !within(*point)) {
                if part.len() > 1 {
                    picture.line(part.iter().map(|point| at(*point)).collect(), COAST, 1.0);
                }
            }
        }
        let frame = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)];
        picture.line(frame.map(at).to_vec(), Colour::PALE, 1.0);
        for station in self.on_map() {
            let (lat, lon) = station.position;
            picture.shapes.push(Shape::Dot {
                at: at(place(lon, lat)),
                radius: 4.0,
                colour: STATION,
                title: station.id.clone(),
            });
        }
        self.add_labels(&mut picture, map);
        let text = format!("{}. Outline: Natural Earth, public domain.", self.summary());
        let size = (18.0, Anchor::Start);
        picture.text((20.0, map + 32.0), &text, size, Colour::BLACK, WIDTH - 40.0);
        picture
    }

    /// Labels the stations. Labels that would cover others, or other stations, are left
    /// out; each point has its id as a title.
    fn add_labels(&self, picture: &mut Picture, map: f64) {
        let points: Vec<(f64, f64)> = (self.on_map())
            .map(|station| place(station.position.1, station.position.0))
            .map(|(x, y)| (x * WIDTH, y * map))
            .collect();
        let mut taken: Vec<(f64, f64, f64)> = Vec::new();
        for (station, &(x, y)) in self.on_map().zip(&points) {
            let length = glyphs::width(&station.id, LABEL);
            let starts = [x + 8.0, x - 8.0 - length];
            let is_free = |start: &f64| {
                let end = start + length;
                let others = points.iter().filter(|point| **point != (x, y));
                *start >= 0.0
                    && end <= WIDTH
                    && (taken.iter()).all(|&(other, other_end, line)| {
                        (line - y).abs() > LABEL || *start > other_end || end < other
                    })
                    && others.clone().all(|&(dot, line)| {
                        (line - y).abs() > LABEL / 2.0 + 3.0
                            || dot + 4.0 < *start
                            || dot - 4.0 > end
                    })
            };
            if let Some(start) = starts.into_iter().find(is_free) {
                taken.push((start, start + length, y));
                // Fonts differ in width: the end at the point stays where it is.
                let (anchor, at) = if start > x {
                    (Anchor::Start, start)
                } else {
                    (Anchor::End, start + length)
                };
                let at = (at, y + LABEL * 0.35);
                picture.text(
                    at,
                    &station.id,
                    (LABEL, anchor),
                    Colour::BLACK,
                    length + 1.0,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stations() -> StationMap {
        let stations = [
            ("HTM", 56.1, 13.4),
            ("JFJ", 46.5, 8.0),
            ("A&B", 46.6, 8.1),
            ("TRN", -25.0, 130.0),
        ]
        .into_iter()
        .map(|(id, lat, lon)| MapStation {
            id: id.to_owned(),
            position: (lat, lon),
        });
        StationMap {
            stations: stations.collect(),
            without_position: 2,
        }
    }

    #[test]
    fn map_has_the_outline_and_the_stations_within_the_width() {
        let text = stations().text(80, false);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        assert!(text.matches('\u{25cf}').count() >= 2, "{text}");
        assert!(
            text.ends_with("3 of 6 stations; 1 outside of the map, 2 without a position\n"),
            "{text}"
        );
        assert!(text.contains("\u{25cf}HTM"), "{text}");
        let coloured = stations().text(80, true);
        assert!(
            coloured.contains("\x1b[0;1;31m\u{25cf}\x1b[0mHTM\x1b[2m"),
            "{coloured}"
        );
        let drawn = text
            .chars()
            .filter(|c| ('\u{2800}'..'\u{2900}').contains(c))
            .count();
        assert!(drawn > 300, "{drawn}");
    }

    #[test]
    fn ids_are_beside_their_dots_where_there_is_room() {
        for (row, expected) in [
            ("\u{28ff}*     ", "\u{28ff}*HTM  "),
            ("    *  ", " HTM*  "),
            ("    * *", " HTM* *"),
            ("A   * *", "A   * *"),
            ("*HT", "*HT"),
            ("*  X", "*  X"),
        ] {
            let mut cells: Vec<char> = row.replace('*', "\u{25cf}").chars().collect();
            let dot = cells.iter().position(|cell| *cell == DOT).unwrap();
            write_beside(&mut cells, dot, "HTM");
            let written: String = cells.iter().collect();
            assert_eq!(written.replace(DOT, "*"), expected, "{row:?}");
        }
    }

    #[test]
    fn picture_has_a_point_for_each_station_and_labels_do_not_overlap() {
        let picture = stations().picture();
        let dots = picture.shapes.iter().filter_map(|shape| match shape {
            Shape::Dot { title, .. } => Some(&**title),
            _ => None,
        });
        assert_eq!(dots.collect::<Vec<_>>(), ["HTM", "JFJ", "A&B"]);
        let texts = picture.shapes.iter().filter_map(|shape| match shape {
            Shape::Text { text, .. } => Some(&**text),
            _ => None,
        });
        let texts: Vec<_> = texts.collect();
        assert!(texts.contains(&"HTM"), "{texts:?}");
        assert!(
            texts
                .iter()
                .any(|text| text.contains("Natural Earth, public domain"))
        );
        let many = (0..3000_u32).map(|n| MapStation {
            id: format!("S{n}"),
            position: (
                50.0 + f64::from(n % 55) / 50.0,
                10.0 + f64::from(n / 55) / 30.0,
            ),
        });
        let picture = StationMap {
            stations: many.collect(),
            without_position: 0,
        }
        .picture();
        let labels = picture.shapes.iter().filter_map(|shape| match shape {
            Shape::Text {
                at: (x, y),
                text,
                size,
                anchor,
                ..
            } => {
                let width = glyphs::width(text, *size);
                let start = if *anchor == Anchor::End {
                    x - width
                } else {
                    *x
                };
                Some(((start, *y), width))
            }
            _ => None,
        });
        let labels: Vec<_> = labels.collect();
        assert!(labels.len() < 300, "{}", labels.len());
        for (number, ((x, y), length)) in labels.iter().enumerate() {
            for ((other, line), other_length) in &labels[..number] {
                let apart = (y - line).abs() > LABEL
                    || x > &(other + other_length)
                    || &(x + length) < other;
                assert!(apart, "({x}, {y}) and ({other}, {line})");
            }
        }
    }
}
