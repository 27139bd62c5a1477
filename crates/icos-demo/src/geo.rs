//! Geographic features: their JSON forms, and whether they intersect a polygon.

mod feature;
mod intersect;

pub(crate) use self::feature::{GeoFeature, Geometry, Position};
pub(crate) use self::intersect::{intersects, read_polygon};
