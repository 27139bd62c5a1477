//! Points, boxes, tracks and areas, as the portal's JSON and as `GeoJSON`.

use serde_json::{Map, Value, json};

use crate::graph::RdfNode;

/// A geographic feature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GeoFeature {
    pub(crate) geometry: Geometry,
    pub(crate) label: Option<String>,
    pub(crate) uri: Option<String>,
}

/// The geometry of a feature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Geometry {
    Position(Position),
    LatLonBox { min: Position, max: Position },
    GeoTrack(Vec<Position>),
    Polygon(Vec<Position>),
    Circle { center: Position, radius: f64 },
    Pin { position: Position, kind: String },
    FeatureCollection(Vec<GeoFeature>),
}

/// Degrees north and east (WGS 84), and metres above the sea.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Position {
    pub(crate) lat: f64,
    pub(crate) lon: f64,
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
    /// Reads the resource that `hasSpatialCoverage` refers to.
    pub(crate) fn of(coverage: RdfNode<'_>) -> Option<Self> {
        let number = |property| coverage.number(property);
        let geometry = if coverage.is_a("cpmeta:LatLonBox") {
            let corner = |lat, lon| {
                Some(Position {
                    lat: number(lat)?,
                    lon: number(lon)?,
                    alt: None,
                })
            };
            Geometry::LatLonBox {
                min: corner("cpmeta:hasSouthernBound", "cpmeta:hasWesternBound")?,
                max: corner("cpmeta:hasNorthernBound", "cpmeta:hasEasternBound")?,
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
            "LineString" => Geometry::GeoTrack(points(&json["coordinates"])?),
            "Polygon" => {
                let mut ring = points(&json["coordinates"][0])?;
                ring.pop();
                Geometry::Polygon(ring)
            }
            "GeometryCollection" => Geometry::FeatureCollection(places("geometries")?),
            "FeatureCollection" => Geometry::FeatureCollection(places("features")?),
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

    /// The portal's JSON: with `_type`, and with `geo` at the top level.
    pub(crate) fn json(&self) -> Value {
        let mut json = self.plain_json();
        json["geo"] = self.geo_json();
        json
    }

    fn plain_json(&self) -> Value {
        let (kind, mut json) = match &self.geometry {
            Geometry::Position(position) => ("Position", position.json()),
            Geometry::LatLonBox { min, max } => {
                ("LatLonBox", json!({"min": min.json(), "max": max.json()}))
            }
            Geometry::GeoTrack(points) => {
                ("GeoTrack", json!({"points": all(points, Position::json)}))
            }
            Geometry::Polygon(points) => {
                ("Polygon", json!({"vertices": all(points, Position::json)}))
            }
            Geometry::Circle { center, radius } => {
                ("Circle", json!({"center": center.json(), "radius": radius}))
            }
            Geometry::Pin { position, kind } => {
                ("Pin", json!({"position": position.json(), "kind": kind}))
            }
            Geometry::FeatureCollection(places) => (
                "FeatureCollection",
                json!({"features": all(places, GeoFeature::plain_json)}),
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

    /// The `GeoJSON`, in which a labelled geometry is a feature.
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
        match &self.geometry {
            Geometry::Position(position) => geometry("Point", position.coordinates()),
            Geometry::LatLonBox { min, max } => {
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
            Geometry::GeoTrack(points) => {
                geometry("LineString", all(points, Position::coordinates).into())
            }
            Geometry::Polygon(points) => {
                let mut ring = all(points, Position::coordinates);
                ring.extend(ring.first().cloned());
                geometry("Polygon", json!([ring]))
            }
            Geometry::Circle { center, radius } => {
                let point = json!({"type": "Point", "coordinates": center.coordinates()});
                let radius = Some(("radius", json!(radius)));
                feature(point, radius.into_iter().chain(label).collect())
            }
            Geometry::Pin { position, kind } => {
                let point = json!({"type": "Point", "coordinates": position.coordinates()});
                let kind = Some(("pinkind", json!(kind)));
                feature(point, kind.into_iter().chain(label).collect())
            }
            Geometry::FeatureCollection(places) => {
                let parts = all(places, GeoFeature::geo_json);
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
