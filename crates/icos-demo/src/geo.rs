//! Places: points, boxes, tracks, areas; as the portal's JSON and as `GeoJSON`.

mod intersect;

use serde_json::{Map, Value, json};

pub(crate) use self::intersect::read_polygon;
use super::graph::Node;

/// A place on the globe.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) shape: Shape,
    pub(crate) label: Option<String>,
    pub(crate) uri: Option<String>,
}

/// What kind of place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Position(Position),
    LatLonBox { min: Position, max: Position },
    GeoTrack(Vec<Position>),
    Polygon(Vec<Position>),
    Circle { center: Position, radius: f64 },
    Pin { position: Position, kind: String },
    FeatureCollection(Vec<Place>),
}

/// Degrees north and east (WGS 84), and metres above the sea.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Position {
    pub(crate) lat: f64,
    pub(crate) lon: f64,
    pub(crate) alt: Option<f64>,
}

impl Shape {
    /// The same place with a label of its own or, failing that, with `label`.
    pub(crate) fn labelled(self, label: Option<&str>) -> Place {
        Place {
            shape: self,
            label: label.map(str::to_owned),
            uri: None,
        }
    }
}

impl Place {
    /// The place a `hasSpatialCoverage` leads to.
    pub(crate) fn of(coverage: Node<'_>) -> Option<Self> {
        let number = |property| coverage.number(property);
        let shape = if coverage.is_a("cpmeta:LatLonBox") {
            let corner = |lat, lon| {
                Some(Position {
                    lat: number(lat)?,
                    lon: number(lon)?,
                    alt: None,
                })
            };
            Shape::LatLonBox {
                min: corner("cpmeta:hasSouthernBound", "cpmeta:hasWesternBound")?,
                max: corner("cpmeta:hasNorthernBound", "cpmeta:hasEasternBound")?,
            }
        } else if coverage.is_a("cpmeta:Position") {
            Shape::Position(Position::of(coverage)?)
        } else {
            let text = coverage.text("cpmeta:asGeoJSON")?;
            Place::read(&serde_json::from_str(text).ok()?)?.shape
        };
        Some(Place {
            shape,
            label: coverage.text("rdfs:label").map(str::to_owned),
            uri: Some(coverage.iri().to_owned()),
        })
    }

    /// Reads `GeoJSON`.
    pub(crate) fn read(json: &Value) -> Option<Self> {
        let points =
            |v: &Value| -> Option<Vec<_>> { v.as_array()?.iter().map(Position::read).collect() };
        let places = |key: &str| -> Option<Vec<_>> {
            json[key].as_array()?.iter().map(Place::read).collect()
        };
        let shape = match json["type"].as_str()? {
            "Point" => Shape::Position(Position::read(&json["coordinates"])?),
            "LineString" => Shape::GeoTrack(points(&json["coordinates"])?),
            "Polygon" => {
                let mut ring = points(&json["coordinates"][0])?;
                ring.pop();
                Shape::Polygon(ring)
            }
            "GeometryCollection" => Shape::FeatureCollection(places("geometries")?),
            "FeatureCollection" => Shape::FeatureCollection(places("features")?),
            "Feature" => {
                let properties = &json["properties"];
                let place = Place::read(&json["geometry"])?;
                let shape = match (place.shape, &properties["radius"], &properties["pinkind"]) {
                    (Shape::Position(center), Value::Number(radius), _) => Shape::Circle {
                        center,
                        radius: radius.as_f64()?,
                    },
                    (Shape::Position(position), _, Value::String(kind)) => Shape::Pin {
                        position,
                        kind: kind.clone(),
                    },
                    (shape, ..) => shape,
                };
                let label = properties["label"].as_str().map(str::to_owned);
                return Some(Place {
                    shape,
                    label: label.or(place.label),
                    uri: None,
                });
            }
            _ => return None,
        };
        Some(shape.labelled(None))
    }

    /// As the portal's JSON has it: with `_type`, and `geo` if it stands alone.
    pub(crate) fn json(&self) -> Value {
        let mut json = self.plain_json();
        json["geo"] = self.geo_json();
        json
    }

    fn plain_json(&self) -> Value {
        let (kind, mut json) = match &self.shape {
            Shape::Position(position) => ("Position", position.json()),
            Shape::LatLonBox { min, max } => {
                ("LatLonBox", json!({"min": min.json(), "max": max.json()}))
            }
            Shape::GeoTrack(points) => ("GeoTrack", json!({"points": all(points, Position::json)})),
            Shape::Polygon(points) => ("Polygon", json!({"vertices": all(points, Position::json)})),
            Shape::Circle { center, radius } => {
                ("Circle", json!({"center": center.json(), "radius": radius}))
            }
            Shape::Pin { position, kind } => {
                ("Pin", json!({"position": position.json(), "kind": kind}))
            }
            Shape::FeatureCollection(places) => (
                "FeatureCollection",
                json!({"features": all(places, Place::plain_json)}),
            ),
        };
        json["_type"] = kind.into();
        if let Some(label) = &self.label {
            json["label"] = label.clone().into();
        }
        if let Some(uri) = &self.uri {
            json["uri"] = uri.clone().into();
        }
        json
    }

    /// As `GeoJSON`; a labelled place is a feature.
    pub(crate) fn geo_json(&self) -> Value {
        let label = self.label.as_ref().map(|label| ("label", json!(label)));
        let geometry = |kind: &str, coordinates: Value| {
            let geometry = json!({"type": kind, "coordinates": coordinates});
            if self.label.is_some() {
                feature(geometry, label.clone().into_iter().collect())
            } else {
                geometry
            }
        };
        match &self.shape {
            Shape::Position(position) => geometry("Point", position.coordinates()),
            Shape::LatLonBox { min, max } => {
                let corner = |lat, lon| json!([lon, lat]);
                geometry(
                    "Polygon",
                    json!([[
                        corner(min.lat, min.lon),
                        corner(max.lat, min.lon),
                        corner(max.lat, max.lon),
                        corner(min.lat, max.lon),
                        corner(min.lat, min.lon),
                    ]]),
                )
            }
            Shape::GeoTrack(points) => {
                geometry("LineString", all(points, Position::coordinates).into())
            }
            Shape::Polygon(points) => {
                let mut ring = all(points, Position::coordinates);
                ring.extend(ring.first().cloned());
                geometry("Polygon", json!([ring]))
            }
            Shape::Circle { center, radius } => {
                let point = json!({"type": "Point", "coordinates": center.coordinates()});
                let radius = Some(("radius", json!(radius)));
                feature(point, radius.into_iter().chain(label).collect())
            }
            Shape::Pin { position, kind } => {
                let point = json!({"type": "Point", "coordinates": position.coordinates()});
                let kind = Some(("pinkind", json!(kind)));
                feature(point, kind.into_iter().chain(label).collect())
            }
            Shape::FeatureCollection(places) => {
                let parts = all(places, Place::geo_json);
                if parts.iter().all(|part| part["type"] != "Feature") {
                    json!({"type": "GeometryCollection", "geometries": parts})
                } else {
                    let features: Vec<_> = (parts.into_iter())
                        .map(|part| {
                            if part["type"] == "Feature" {
                                part
                            } else {
                                feature(part, Vec::new())
                            }
                        })
                        .collect();
                    json!({"type": "FeatureCollection", "features": features})
                }
            }
        }
    }
}

impl Position {
    /// The latitude, longitude and elevation of a resource.
    pub(crate) fn of(place: Node<'_>) -> Option<Self> {
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

    fn json(&self) -> Value {
        let mut json = json!({"lat": self.lat, "lon": self.lon});
        if let Some(alt) = self.alt {
            json["alt"] = alt.into();
        }
        json
    }

    fn coordinates(&self) -> Value {
        let round = |degrees: f64| (degrees * 1e6).round() / 1e6;
        let mut json = vec![round(self.lon), round(self.lat)];
        json.extend(self.alt);
        json.into()
    }
}

fn all<T>(items: &[T], json: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(json).collect()
}

fn feature(geometry: impl Into<Value>, properties: Vec<(&str, Value)>) -> Value {
    let geometry = geometry.into();
    let properties: Map<_, _> = (properties.into_iter())
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    json!({"type": "Feature", "geometry": geometry, "properties": properties})
}
