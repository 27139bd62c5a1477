//! What a landing page says of a table, for the head of its NetCDF file.

use serde_json::Value;

use super::NetCdfValues;
use crate::catalog::Object;
use icos_table::netcdf::{FileFacts, StationFacts};

/// What `page` and the catalog say of `object`. A page that cannot be parsed says
/// nothing.
pub(in crate::content) fn file_facts(
    page: &[u8],
    object: &Object,
    values: NetCdfValues,
) -> FileFacts {
    let page: Value = serde_json::from_slice(page).unwrap_or_default();
    let mut attributes = attributes(&page, object);
    if values == NetCdfValues::Good {
        let comment = "values whose quality flag is not good are missing";
        attributes.push(("comment".to_owned(), comment.to_owned()));
    }
    let good = page.pointer("/specification/format/goodFlagValues");
    let good = good.and_then(Value::as_array).into_iter().flatten();
    FileFacts {
        attributes,
        station: station(&page, object),
        good_flags: good
            .filter_map(|flag| Some(flag.as_str()?.to_owned()))
            .collect(),
        utc_offset: page
            .pointer("/specificInfo/acquisition/station/specificInfo/timeZoneOffset")
            .and_then(Value::as_i64)
            .and_then(|hours| i32::try_from(hours).ok()),
    }
}

fn attributes(page: &Value, object: &Object) -> Vec<(String, String)> {
    let text = |pointer: &str| Some(page.pointer(pointer)?.as_str()?.to_owned());
    let first = |pointers: &[&str]| pointers.iter().find_map(|pointer| text(pointer));
    let pid = text("/pid").map(|pid| format!("https://hdl.handle.net/{pid}"));
    let doi = text("/doi").map(|doi| format!("https://doi.org/{doi}"));
    let level = page
        .pointer("/specification/dataLevel")
        .and_then(Value::as_i64);
    let known = [
        (
            "title",
            text("/references/title").or_else(|| Some(object.file_name().to_owned())),
        ),
        (
            "institution",
            first(&[
                "/specificInfo/acquisition/station/responsibleOrganization/name",
                "/specificInfo/acquisition/station/org/name",
                "/specificInfo/productionInfo/creator/name",
            ]),
        ),
        ("source", source(page)),
        ("references", joined([pid, doi.clone()])),
        (
            "license",
            joined([
                text("/references/licence/name"),
                first(&["/references/licence/webpage", "/references/licence/url"]),
            ]),
        ),
        ("citation", text("/references/citationString")),
        ("history", history(page)),
        ("id", Some(object.id().to_string())),
        ("pid", text("/pid")),
        ("doi", text("/doi")),
        ("sha256", text("/hash")),
        ("file_name", Some(object.file_name().to_owned())),
        ("data_level", level.map(|level| level.to_string())),
        ("project", text("/specification/project/self/label")),
        (
            "time_coverage_start",
            first(&[
                "/specificInfo/acquisition/interval/start",
                "/specificInfo/temporal/interval/start",
            ]),
        ),
        (
            "time_coverage_end",
            first(&[
                "/specificInfo/acquisition/interval/stop",
                "/specificInfo/temporal/interval/stop",
            ]),
        ),
        (
            "time_coverage_resolution",
            text("/specification/datasetSpec/resolution"),
        ),
    ];
    (known.into_iter())
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// How the data were made: data type and instruments.
fn source(page: &Value) -> Option<String> {
    let label = |value: &Value| Some(value.get("label")?.as_str()?.to_owned());
    let kind = page.pointer("/specification/self").and_then(label)?;
    let instruments = page.pointer("/specificInfo/acquisition/instrument");
    // One instrument is an object, several are an array.
    let instruments: Vec<String> = match instruments {
        Some(Value::Array(all)) => all.iter().filter_map(label).collect(),
        Some(one) => label(one).into_iter().collect(),
        None => Vec::new(),
    };
    Some(if instruments.is_empty() {
        kind
    } else {
        format!("{kind}; {}", instruments.join(", "))
    })
}

fn history(page: &Value) -> Option<String> {
    let time = page.pointer("/submission/stop")?.as_str()?;
    let submitter = page
        .pointer("/submission/submitter/name")
        .and_then(Value::as_str);
    let by = submitter
        .map(|name| format!(" by {name}"))
        .unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    Some(format!(
        "{time} submitted to the Carbon Portal{by}\nwritten from the portal's columns by icosfs {version}"
    ))
}

fn joined(parts: [Option<String>; 2]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn station(page: &Value, object: &Object) -> Option<StationFacts> {
    let acquisition = page.pointer("/specificInfo/acquisition");
    let station = acquisition.and_then(|acquisition| acquisition.get("station"))?;
    let text = |pointer| Some(station.pointer(pointer)?.as_str()?.to_owned());
    let number = |pointer| station.pointer(pointer)?.as_f64();
    let listed = object.station().map(|station| station.row());
    let position = (number("/location/lat").zip(number("/location/lon")))
        .or_else(|| listed.and_then(|row| row.position));
    let (latitude, longitude) = position?;
    Some(StationFacts {
        id: text("/id")
            .or_else(|| listed.map(|row| row.code.clone()))
            .unwrap_or_default(),
        name: text("/org/name")
            .or_else(|| listed.map(|row| row.name.clone()))
            .unwrap_or_default(),
        latitude,
        longitude,
        altitude: number("/location/alt").or_else(|| listed.and_then(|row| row.elevation)),
        sampling_height: object.height(),
    })
}
