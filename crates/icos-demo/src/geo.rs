//! Geographic features: points, boxes, tracks and areas, as the portal's JSON and
//! as `GeoJSON`, and whether they intersect a polygon.

mod intersect;

use serde::Serialize;
use serde_json::{Map, Value, json};

pub(crate) use self::intersect::{intersects, read_polygon};
use super::graph::RdfNode;

/// A geographic feature; serializes as the portal's JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GeoFeature {
    #[serde(flatten)]
    pub(crate) geometry: Geometry,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uri: Option<String>,
}

/// The geometry of a feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "_type")]
pub(crate) enum Geometry {
    Position(Position),
    LatLonBox { min: Position, max: Position },
    GeoTrack { points: Vec<Position> },
    Polygon { vertices: Vec<Position> },
    Circle { center: Position, radius: f64 },
    Pin { position: Position, kind: String },
    FeatureCollection { features: Vec<GeoFeature> },
}

/// Degrees north and east (WGS 84), and metres above the sea.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Position {
    pub(crate) lat: f64,
    pub(crate) lon: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alt: Option<f64>,
}

impl Geometry {
    /// A feature with this geometry.
    pub(crate) fn labelled(self, label: Option<&str>) -> GeoFeature {
        GeoFeature {
            geometry: self,
            label: label.map(str::to_owned),
            uri: None,
        }
    }
}

impl GeoFeature {
    /// The same feature, with this label if it has none.
    pub(crate) fn or_labelled(mut self, label: Option<&str>) -> Self {
        self.label = self.label.or_else(|| label.map(str::to_owned));
        self
    }

    /// Reads the resource that `hasSpatialCoverage` refers to.
    pub(crate) fn of(coverage: RdfNode<'_>) -> Option<Self> {
        let number = |property| coverage.number(property);
        let geometry = if coverage.is_a("cpmeta:LatLonBox") {
            let (south, west) = ("cpmeta:hasSouthernBound", "cpmeta:hasWesternBound");
            let (north, east) = ("cpmeta:hasNorthernBound", "cpmeta:hasEasternBound");
            Geometry::LatLonBox {
                min: Position::new(number(south)?, number(west)?),
                max: Position::new(number(north)?, number(east)?),
            }
        } else if coverage.is_a("cpmeta:Position") {
            Geometry::Position(Position::of(coverage)?)
        } else {
            let text = coverage.text("cpmeta:asGeoJSON")?;
            GeoFeature::read(&serde_json::from_str(text).ok()?)?.geometry
        };
        Some(GeoFeature {
            geometry,
            label: coverage.text("rdfs:label").map(str::to_owned),
            uri: Some(coverage.iri().to_owned()),
        })
    }

    /// Reads `GeoJSON`.
    pub(crate) fn read(json: &Value) -> Option<Self> {
        let points =
            |v: &Value| -> Option<Vec<_>> { v.as_array()?.iter().map(Position::read).collect() };
        let places = |key: &str| -> Option<Vec<_>> {
            json[key].as_array()?.iter().map(GeoFeature::read).collect()
        };
        let geometry = match json["type"].as_str()? {
            "Point" => Geometry::Position(Position::read(&json["coordinates"])?),
            "LineString" => Geometry::GeoTrack {
                points: points(&json["coordinates"])?,
            },
            "Polygon" => {
                let mut ring = points(&json["coordinates"][0])?;
                ring.pop();
                Geometry::Polygon { vertices: ring }
            }
            "GeometryCollection" => Geometry::FeatureCollection {
                features: places("geometries")?,
            },
            "FeatureCollection" => Geometry::FeatureCollection {
                features: places("features")?,
            },
            "Feature" => {
                let properties = &json["properties"];
                let place = GeoFeature::read(&json["geometry"])?;
                let geometry = match (
                    place.geometry,
                    &properties["radius"],
                    &properties["pinkind"],
                ) {
                    (Geometry::Position(center), Value::Number(radius), _) => Geometry::Circle {
                        center,
                        radius: radius.as_f64()?,
                    },
                    (Geometry::Position(position), _, Value::String(kind)) => Geometry::Pin {
                        position,
                        kind: kind.clone(),
                    },
                    (geometry, ..) => geometry,
                };
                let label = properties["label"].as_str().map(str::to_owned);
                return Some(GeoFeature {
                    geometry,
                    label: label.or(place.label),
                    uri: None,
                });
            }
            _ => return None,
        };
        Some(geometry.labelled(None))
    }

    /// The portal's JSON, with `GeoJSON` as the field `geo`.
    pub(crate) fn json(&self) -> Value {
        let mut json = json!(self);
        json["geo"] = self.geo_json();
        json
    }

    /// The JSON of a point as stations and sampling points have it: without
    /// `_type`.
    pub(crate) fn point_json(&self) -> Value {
        let mut json = json!(self);
        json.as_object_mut()
            .and_then(|fields| fields.remove("_type"));
        json
    }

    /// The `GeoJSON`, in which a geometry with a property is a feature.
    pub(crate) fn geo_json(&self) -> Value {
        let geometry =
            |kind: &str, coordinates: Value| json!({"type": kind, "coordinates": coordinates});
        let point = |position: &Position| geometry("Point", position.coordinates());
        let polygon = |corners: &[Position]| {
            let ring: Vec<_> = corners.iter().chain(corners.first()).collect();
            geometry("Polygon", json!([all(&ring, |p| p.coordinates())]))
        };
        let (geometry, property) = match &self.geometry {
            Geometry::Position(position) => (point(position), None),
            Geometry::LatLonBox { min, max } => (polygon(&corners(min, max)), None),
            Geometry::GeoTrack { points } => {
                let line = all(points, Position::coordinates);
                (geometry("LineString", line.into()), None)
            }
            Geometry::Polygon { vertices } => (polygon(vertices), None),
            Geometry::Circle { center, radius } => (point(center), Some(("radius", json!(radius)))),
            Geometry::Pin { position, kind } => (point(position), Some(("pinkind", json!(kind)))),
            Geometry::FeatureCollection { features } => return collection(features),
        };
        let label = self.label.as_ref().map(|label| ("label", json!(label)));
        let properties: Map<_, _> = (property.into_iter().chain(label))
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        if properties.is_empty() {
            geometry
        } else {
            feature(&geometry, &properties)
        }
    }
}

impl Position {
    pub(crate) fn new(lat: f64, lon: f64) -> Self {
        let alt = None;
        Self { lat, lon, alt }
    }

    /// The latitude, longitude and elevation of a resource.
    pub(crate) fn of(place: RdfNode<'_>) -> Option<Self> {
        Some(Self {
            lat: place.number("cpmeta:hasLatitude")?,
            lon: place.number("cpmeta:hasLongitude")?,
            alt: place.number("cpmeta:hasElevation"),
        })
    }

    fn read(json: &Value) -> Option<Self> {
        Some(Self {
            lon: json[0].as_f64()?,
            lat: json[1].as_f64()?,
            alt: json[2].as_f64(),
        })
    }

    fn coordinates(&self) -> Value {
        let round = |degrees: f64| (degrees * 1e6).round() / 1e6;
        let mut json = vec![round(self.lon), round(self.lat)];
        json.extend(self.alt);
        json.into()
    }
}

/// The corners of a box.
fn corners(min: &Position, max: &Position) -> [Position; 4] {
    [
        Position::new(min.lat, min.lon),
        Position::new(max.lat, min.lon),
        Position::new(max.lat, max.lon),
        Position::new(min.lat, max.lon),
    ]
}

/// Features as a collection of features or, if all are bare, of geometries.
fn collection(features: &[GeoFeature]) -> Value {
    let mut parts = all(features, GeoFeature::geo_json);
    if parts.iter().all(|part| part["type"] != "Feature") {
        return json!({"type": "GeometryCollection", "geometries": parts});
    }
    for part in &mut parts {
        if part["type"] != "Feature" {
            *part = feature(part, &Map::new());
        }
    }
    json!({"type": "FeatureCollection", "features": parts})
}

fn feature(geometry: &Value, properties: &Map<String, Value>) -> Value {
    json!({"type": "Feature", "geometry": geometry, "properties": properties})
}

fn all<T>(items: &[T], json: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(json).collect()
}
