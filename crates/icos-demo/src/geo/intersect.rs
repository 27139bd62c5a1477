//! Tests features against a polygon in the plane of longitude and latitude, as
//! the portal's geo index does.

use super::{GeoFeature, Geometry, Position, corners};

/// Reads `POLYGON((lon lat, lon lat, ...))`, the only form that clients send.
pub(crate) fn read_polygon(wkt: &str) -> Option<Vec<Position>> {
    let inner = wkt
        .trim()
        .strip_prefix("POLYGON")?
        .trim()
        .strip_prefix("((")?
        .strip_suffix("))")?;
    let corners: Option<Vec<_>> = inner
        .split(',')
        .map(|corner| {
            let (lon, lat) = corner.trim().split_once(char::is_whitespace)?;
            let number = |text: &str| text.trim().parse().ok();
            Some(Position::new(number(lat)?, number(lon)?))
        })
        .collect();
    corners.filter(|corners| corners.len() >= 3)
}

/// Whether any point of `feature` lies in the polygon.
pub(crate) fn intersects(feature: &GeoFeature, polygon: &[Position]) -> bool {
    match &feature.geometry {
        Geometry::Position(point)
        | Geometry::Pin {
            position: point, ..
        }
        | Geometry::Circle { center: point, .. } => contains(polygon, point),
        Geometry::GeoTrack { points } => line_meets(points, polygon),
        Geometry::Polygon { vertices } => area_meets(vertices, polygon),
        Geometry::LatLonBox { min, max } => area_meets(&corners(min, max), polygon),
        Geometry::FeatureCollection { features } => {
            features.iter().any(|part| intersects(part, polygon))
        }
    }
}

fn area_meets(ring: &[Position], polygon: &[Position]) -> bool {
    let closed: Vec<_> = ring.iter().chain(ring.first()).copied().collect();
    line_meets(&closed, polygon) || polygon.first().is_some_and(|corner| contains(ring, corner))
}

fn line_meets(line: &[Position], polygon: &[Position]) -> bool {
    line.iter().any(|point| contains(polygon, point))
        || line
            .windows(2)
            .any(|edge| edges(polygon).any(|other| cross([edge[0], edge[1]], other)))
}

/// The edges of a polygon, whether its last corner repeats the first or not.
fn edges(polygon: &[Position]) -> impl Iterator<Item = [Position; 2]> + '_ {
    let next = polygon.iter().cycle().skip(1);
    polygon.iter().zip(next).map(|(a, b)| [*a, *b])
}

/// Whether a point lies in a polygon or on its edge.
fn contains(polygon: &[Position], point: &Position) -> bool {
    let mut inside = false;
    for [a, b] in edges(polygon) {
        if side(a, b, *point) == 0.0 && between(a, b, *point) {
            return true;
        }
        // A ray to the east from inside crosses an odd number of edges.
        if (a.lat > point.lat) != (b.lat > point.lat) {
            let lon = a.lon + (point.lat - a.lat) / (b.lat - a.lat) * (b.lon - a.lon);
            if point.lon < lon {
                inside = !inside;
            }
        }
    }
    inside
}

/// Positive on the left of the line from `a` to `b`, 0 on it.
fn side(a: Position, b: Position, point: Position) -> f64 {
    (b.lon - a.lon) * (point.lat - a.lat) - (b.lat - a.lat) * (point.lon - a.lon)
}

/// Whether a point of the line through `a` and `b` lies between them.
fn between(a: Position, b: Position, point: Position) -> bool {
    (a.lon.min(b.lon)..=a.lon.max(b.lon)).contains(&point.lon)
        && (a.lat.min(b.lat)..=a.lat.max(b.lat)).contains(&point.lat)
}

/// Whether two edges share a point.
fn cross([a, b]: [Position; 2], [c, d]: [Position; 2]) -> bool {
    let apart = |x: f64, y: f64| (x > 0.0 && y < 0.0) || (x < 0.0 && y > 0.0);
    let (ac, ad) = (side(a, b, c), side(a, b, d));
    let (ca, cb) = (side(c, d, a), side(c, d, b));
    (apart(ac, ad) && apart(ca, cb))
        || (ac == 0.0 && between(a, b, c))
        || (ad == 0.0 && between(a, b, d))
        || (ca == 0.0 && between(c, d, a))
        || (cb == 0.0 && between(c, d, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lon: f64, lat: f64) -> Position {
        Position::new(lat, lon)
    }

    #[test]
    fn features_intersect_square_only_if_they_share_a_point() {
        let square = read_polygon("POLYGON((0.0 0.0, 0 10, 10 10, 10 0, 0 0))").unwrap();
        let boxed = |min, max| Geometry::LatLonBox { min, max };
        let track = |from, to| Geometry::GeoTrack {
            points: vec![from, to],
        };
        let triangle = |a, b, c| Geometry::Polygon {
            vertices: vec![a, b, c],
        };
        for (shape, meets) in [
            (Geometry::Position(at(5.0, 5.0)), true),
            (Geometry::Position(at(10.0, 5.0)), true),
            (Geometry::Position(at(10.1, 5.0)), false),
            (track(at(-5.0, 5.0), at(15.0, 6.0)), true),
            (track(at(-5.0, 5.0), at(-1.0, 6.0)), false),
            (track(at(-1.0, 9.5), at(0.5, 11.1)), false),
            (boxed(at(-90.0, -90.0), at(90.0, 90.0)), true),
            (boxed(at(2.0, 2.0), at(3.0, 3.0)), true),
            (boxed(at(11.0, 2.0), at(13.0, 3.0)), false),
            (triangle(at(9.0, 9.0), at(20.0, 9.0), at(20.0, 20.0)), true),
        ] {
            let place = shape.clone().labelled(None);
            assert_eq!(intersects(&place, &square), meets, "{shape:?}");
        }
    }

    #[test]
    fn read_polygon_rejects_other_wkt() {
        for wkt in [
            "",
            "POINT(1 2)",
            "POLYGON((1 2, 3 4))",
            "POLYGON((a b, c d, e f))",
        ] {
            assert_eq!(read_polygon(wkt), None, "{wkt}");
        }
    }
}
