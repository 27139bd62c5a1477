//! The page with the map of the stations.
//!
//! The map is SVG in degrees: x is east, shortened as it is in the middle of the map, and
//! y is south. Its texts and dots are sized in `em`, so that the style sheet can enlarge
//! them on narrow screens.

use std::fmt::Write as _;
use std::sync::Arc;

use super::ServerState;
use super::html::{self, Crumbs, encode_component, escape};
use crate::catalog::Station;
use crate::plot::coasts;
use crate::tree::TreeError;

/// The path of the page.
pub(super) const MAP_PATH: &str = "/.icosfs/map";

/// The greatest number of stations whose names are written on the map.
const MAX_LABELS: usize = 40;
/// Degrees around the outermost stations.
const MARGIN: f64 = 3.0;
/// The least width and height, in degrees.
const LEAST: f64 = 8.0;
/// The width of the map in heights of its text. The style sheet shows it at most 48rem wide,
/// so that the text has 13 pixels.
const TEXTS_ACROSS: f64 = 59.0;
/// How much larger the text is on narrow screens: as in `style.css`.
const NARROW_SCALE: f64 = 1.9;
/// The greatest width of a character, in heights of the text.
const CHARACTER: f64 = 0.65;

/// The page: the map, and a table of all stations.
pub(super) async fn page(state: &ServerState) -> Result<String, TreeError> {
    let stations = state.tree.stations().await?;
    let placed: Vec<PlacedStation> = stations.iter().filter_map(PlacedStation::of).collect();
    let mut body = svg(&placed);
    body.push_str(
        "<h2>Stations</h2>\n<table class=\"stacked\">\n<thead><tr><th scope=\"col\">Station</th>\
         <th scope=\"col\">Country</th><th scope=\"col\" class=\"number\">Latitude</th>\
         <th scope=\"col\" class=\"number\">Longitude</th></tr></thead>\n<tbody>\n",
    );
    for station in &stations {
        let row = station.row();
        let link = encode_component(station.name());
        let (latitude, longitude) = row.position.map_or_else(Default::default, |(north, east)| {
            (format!("{north:.3}"), format!("{east:.3}"))
        });
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\"><a href=\"/stations/{link}/\">{}</a></th><td>{}</td>\
             <td class=\"number\" data-label=\"Latitude\">{latitude}</td>\
             <td class=\"number\" data-label=\"Longitude\">{longitude}</td></tr>",
            escape(&shown(station)),
            escape(&row.country),
        );
    }
    body.push_str("</tbody>\n</table>\n");
    let crumbs = Crumbs::to("stations", "/stations/", "map");
    let heading = Some("Map of the stations");
    let repository = state.options.envri.name();
    Ok(html::page(&crumbs, heading, repository, &body))
}

/// The name of a station and its id: several stations may have one name.
fn shown(station: &Station) -> String {
    let (name, id) = (&station.row().name, station.name());
    if name == id {
        id.to_owned()
    } else {
        format!("{name} ({id})")
    }
}

/// A station with a place on the map, in degrees.
struct PlacedStation {
    name: String,
    /// The name and the id.
    shown: String,
    link: String,
    east: f64,
    north: f64,
}

impl PlacedStation {
    fn of(station: &Arc<Station>) -> Option<Self> {
        let (north, east) = station.row().position?;
        let is_on_earth = north.abs() <= 90.0 && east.abs() <= 180.0;
        is_on_earth.then(|| Self {
            name: station.row().name.clone(),
            shown: shown(station),
            link: format!("/stations/{}/", encode_component(station.name())),
            east,
            north,
        })
    }
}

/// The part of the earth that the map shows.
struct Frame {
    /// The degrees at the west and east edge.
    longitudes: (f64, f64),
    /// The degrees at the south and north edge.
    latitudes: (f64, f64),
    /// How much shorter a degree of longitude is than one of latitude.
    shortening: f64,
}

impl Frame {
    /// The frame around `stations`, of which there is at least one.
    fn around(stations: &[PlacedStation]) -> Self {
        let range = |value: fn(&PlacedStation) -> f64| {
            let values = stations.iter().map(value);
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
                (low.min(value), high.max(value))
            });
            let more = (LEAST - (high - low) - 2.0 * MARGIN).max(0.0) / 2.0 + MARGIN;
            (low - more, high + more)
        };
        let latitudes = range(|one| one.north);
        let middle = f64::midpoint(latitudes.0, latitudes.1);
        let mut frame = Self {
            longitudes: range(|one| one.east),
            latitudes,
            // Near the poles, a map of this kind has no sensible shape.
            shortening: middle.to_radians().cos().max(0.3),
        };
        // At least as wide as high, so that it has room on a screen.
        let more = ((frame.height() - frame.width()) / frame.shortening).max(0.0) / 2.0;
        frame.longitudes.0 -= more;
        frame.longitudes.1 += more;
        frame
    }

    fn x(&self, east: f64) -> f64 {
        east * self.shortening
    }

    fn width(&self) -> f64 {
        self.x(self.longitudes.1 - self.longitudes.0)
    }

    fn height(&self) -> f64 {
        self.latitudes.1 - self.latitudes.0
    }

    /// The height of the text.
    fn text(&self) -> f64 {
        self.width() / TEXTS_ACROSS
    }

    fn contains(&self, (east, north): (f64, f64)) -> bool {
        (self.longitudes.0..=self.longitudes.1).contains(&east)
            && (self.latitudes.0..=self.latitudes.1).contains(&north)
    }

    /// The distance of the lines of the grid, in degrees.
    fn step(&self) -> u16 {
        let degrees = (self.longitudes.1 - self.longitudes.0).max(self.height());
        let steps = [1, 2, 5, 10, 20];
        let fine = |step: &u16| degrees / f64::from(*step) <= 9.0;
        steps.into_iter().find(fine).unwrap_or(30)
    }
}

/// The map: coasts, a grid, and a link for each station.
fn svg(stations: &[PlacedStation]) -> String {
    if stations.is_empty() {
        return "<p>No station has a known position.</p>\n".to_owned();
    }
    let frame = Frame::around(stations);
    let (west, north) = (frame.x(frame.longitudes.0), -frame.latitudes.1);
    let mut svg = format!(
        "<svg class=\"map\" viewBox=\"{west:.2} {north:.2} {:.2} {:.2}\" font-size=\"{:.3}\" role=\"group\" aria-labelledby=\"map-title\">\n<title id=\"map-title\">Map of {} stations; the table below lists them</title>\n",
        frame.width(),
        frame.height(),
        frame.text(),
        stations.len()
    );
    grid(&frame, &mut svg);
    let mut coast = String::new();
    for line in coasts().filter(|line| line.iter().any(|&point| frame.contains(point))) {
        for (number, (east, north)) in line.into_iter().enumerate() {
            let command = if number == 0 { 'M' } else { 'L' };
            let _ = write!(coast, "{command}{:.2} {:.2}", frame.x(east), -north);
        }
    }
    if !coast.is_empty() {
        let _ = writeln!(svg, "<path class=\"coast\" d=\"{coast}\"/>");
    }
    let mut labels = Labels::default();
    for station in stations {
        let label = if stations.len() > MAX_LABELS {
            String::new()
        } else {
            labels.add(&frame, station)
        };
        let (x, y) = (frame.x(station.east), -station.north);
        let _ = writeln!(
            svg,
            "<a href=\"{}\" aria-label=\"{shown}\">{label}<circle cx=\"{x:.4}\" cy=\"{y:.4}\" r=\"{:.3}\"><title>{shown}</title></circle></a>",
            station.link,
            frame.text() * 0.3,
            shown = escape(&station.shown),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The lines of latitude and longitude, with their degrees.
fn grid(frame: &Frame, svg: &mut String) {
    let step = frame.step();
    let ((west, east), (south, north)) = (frame.longitudes, frame.latitudes);
    let lines = |limit: i32| (-limit..=limit).step_by(usize::from(step));
    for degrees in lines(180).filter(|&at| (west..east).contains(&f64::from(at))) {
        let x = frame.x(f64::from(degrees));
        let letter = if degrees < 0 { "W" } else { "E" };
        let _ = writeln!(svg, "<path d=\"M{x:.2} {:.2}V{:.2}\"/>", -north, -south);
        let has_room = x + 5.0 * CHARACTER * NARROW_SCALE * frame.text() <= frame.x(east);
        if has_room {
            let _ = writeln!(
                svg,
                "<text x=\"{x:.2}\" y=\"{:.2}\" dx=\".2em\" dy=\"1em\">{}\u{b0}{letter}</text>",
                -north,
                degrees.abs()
            );
        }
    }
    // The uppermost line would be in the text at the top edge.
    let highest = north - 2.5 * NARROW_SCALE * frame.text();
    for degrees in lines(90).filter(|&at| (south..highest).contains(&f64::from(at))) {
        let letter = if degrees < 0 { "S" } else { "N" };
        let y = -f64::from(degrees);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.2} {y}H{:.2}\"/><text x=\"{:.2}\" y=\"{y}\" dx=\".2em\" dy=\"-.2em\">{}\u{b0}{letter}</text>",
            frame.x(west),
            frame.x(east),
            frame.x(west),
            degrees.abs()
        );
    }
}

/// The names on the map. Those that would cover another one are left out.
#[derive(Default)]
struct Labels(Vec<LabelBox>);

/// The place of a label on narrow screens, where it is largest.
struct LabelBox {
    x: (f64, f64),
    y: (f64, f64),
}

impl Labels {
    /// The label of a station, to the right of its dot if it has room there.
    fn add(&mut self, frame: &Frame, station: &PlacedStation) -> String {
        let text = frame.text() * NARROW_SCALE;
        let (x, y) = (frame.x(station.east), -station.north);
        let characters: f64 = station.name.chars().map(|_| CHARACTER).sum();
        let width = (characters + 0.6) * text;
        let is_right = x + width <= frame.x(frame.longitudes.1);
        let own = LabelBox {
            x: if is_right {
                (x, x + width)
            } else {
                (x - width, x)
            },
            y: (y - text / 2.0, y + text / 2.0),
        };
        let overlap = |a: (f64, f64), b: (f64, f64)| a.0 < b.1 && b.0 < a.1;
        let covers = |other: &LabelBox| overlap(own.x, other.x) && overlap(own.y, other.y);
        if own.x.0 < frame.x(frame.longitudes.0) || self.0.iter().any(covers) {
            return String::new();
        }
        self.0.push(own);
        let side = if is_right {
            "dx=\".6em\""
        } else {
            "dx=\"-.6em\" text-anchor=\"end\""
        };
        format!(
            "<text x=\"{x:.4}\" y=\"{y:.4}\" {side} dy=\".35em\">{}</text>",
            escape(&station.name)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(name: &str, east: f64, north: f64) -> PlacedStation {
        PlacedStation {
            name: name.to_owned(),
            shown: format!("{name} (id)"),
            link: format!("/stations/{name}/"),
            east,
            north,
        }
    }

    #[test]
    fn map_has_a_link_for_each_station_within_its_borders() {
        let svg = svg(&[station("A&B", -52.0, 4.8), station("N", 27.5, 67.9)]);
        assert!(
            svg.contains("viewBox=\"-44.42 -70.90 69.10 69.10\""),
            "{svg}"
        );
        assert!(
            svg.contains("aria-label=\"A&amp;B (id)\"") && svg.contains("href=\"/stations/N/\"")
        );
        assert!(svg.contains("<path class=\"coast\" d=\"M"), "{svg}");
        assert!(super::svg(&[]).starts_with("<p>"));
    }

    #[test]
    fn map_of_one_station_has_several_lines_of_the_grid() {
        for (east, north) in [(13.4, 56.1), (-70.0, -23.0), (0.0, 89.9)] {
            let svg = svg(&[station("A", east, north)]);
            assert!(svg.matches("<path d=").count() >= 5, "{svg}");
        }
    }

    #[test]
    fn names_do_not_cover_each_other_or_leave_the_map() {
        let svg = svg(&[
            station("first", 10.0, 50.0),
            station("same place", 10.0, 50.0),
            station("a long name at the edge", 20.0, 55.2),
            station("elsewhere", 0.0, 60.0),
        ]);
        assert!(svg.contains(">first</text>") && svg.contains(">elsewhere</text>"));
        assert!(!svg.contains(">same place</text>"), "{svg}");
        assert!(svg.contains("aria-label=\"same place (id)\""), "{svg}");
        let at_edge = (svg.lines()).find(|line| line.contains(">a long name at the edge</text>"));
        assert!(
            at_edge.is_some_and(|line| line.contains("text-anchor=\"end\"")),
            "{svg}"
        );
    }
}
