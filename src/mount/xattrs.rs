//! Extended attributes: what is worth knowing of an object beside its bytes.
//!
//! Their names, and what the catalog knows, are told at once; the rest is on
//! the object's landing page.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::catalog::Object;
use crate::content::FileSize;
use icos_portal::Envri;

/// What the names begin with.
const PREFIX: &str = "user.icos.";

/// Whether the length that `stat` tells is `exact`, or an `estimate` that is
/// replaced by the exact one once the file has been read or measured.
pub(super) const SIZE: &str = "user.icosfs.size";

/// What [`SIZE`] says.
pub(super) fn size(size: FileSize) -> &'static str {
    match size {
        FileSize::Exact(_) => "exact",
        FileSize::Estimate(_) => "estimate",
    }
}

/// An extended attribute of an object's files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ObjectAttribute {
    Citation,
    Doi,
    LandingPage,
    Level,
    Licence,
    NextVersion,
    Pid,
    Sha256,
    Station,
    Units,
}

const ALL: [ObjectAttribute; 10] = [
    ObjectAttribute::Citation,
    ObjectAttribute::Doi,
    ObjectAttribute::LandingPage,
    ObjectAttribute::Level,
    ObjectAttribute::Licence,
    ObjectAttribute::NextVersion,
    ObjectAttribute::Pid,
    ObjectAttribute::Sha256,
    ObjectAttribute::Station,
    ObjectAttribute::Units,
];

/// Where a value is found.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum XattrValue {
    /// Here it is; or there is none.
    Known(Option<String>),
    /// On the landing page.
    OnLandingPage,
}

impl ObjectAttribute {
    /// The attribute called `name`.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let name = name.strip_prefix(PREFIX.as_bytes())?;
        (ALL.into_iter()).find(|attribute| attribute.suffix().as_bytes() == name)
    }

    fn suffix(self) -> &'static str {
        match self {
            ObjectAttribute::Citation => "citation",
            ObjectAttribute::Doi => "doi",
            ObjectAttribute::LandingPage => "landing_page",
            ObjectAttribute::Level => "level",
            ObjectAttribute::Licence => "licence",
            ObjectAttribute::NextVersion => "next_version",
            ObjectAttribute::Pid => "pid",
            ObjectAttribute::Sha256 => "sha256",
            ObjectAttribute::Station => "station",
            ObjectAttribute::Units => "units",
        }
    }

    /// What the catalog says.
    pub(super) fn look_up(self, object: &Arc<Object>, envri: Envri) -> XattrValue {
        let landing = |id| format!("{}{id}", envri.landing_prefix());
        XattrValue::Known(match self {
            ObjectAttribute::Doi => object.doi().map(str::to_owned),
            ObjectAttribute::LandingPage => Some(landing(object.id())),
            ObjectAttribute::Level => object.spec().map(|spec| spec.level().to_string()),
            ObjectAttribute::NextVersion => object.next_version().map(landing),
            ObjectAttribute::Station => object.station().map(|station| station.row().code.clone()),
            ObjectAttribute::Units if object.as_table().is_none() => None,
            ObjectAttribute::Citation
            | ObjectAttribute::Licence
            | ObjectAttribute::Pid
            | ObjectAttribute::Sha256
            | ObjectAttribute::Units => return XattrValue::OnLandingPage,
        })
    }

    /// What an object's landing page says.
    pub(super) fn on_page(self, page: &Value) -> Option<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match self {
            ObjectAttribute::Citation => text(&page["references"]["citationString"]),
            ObjectAttribute::Licence => {
                let licence = &page["references"]["licence"];
                text(&licence["url"]).or_else(|| text(&licence["webpage"]))
            }
            ObjectAttribute::Pid => text(&page["pid"]),
            ObjectAttribute::Sha256 => text(&page["hash"]),
            ObjectAttribute::Units => {
                let columns = page["specificInfo"]["columns"].as_array()?;
                let units: Map<String, Value> = (columns.iter())
                    .filter_map(|column| {
                        let unit = column["valueType"]["unit"].as_str()?;
                        Some((text(&column["label"])?, unit.into()))
                    })
                    .collect();
                (!units.is_empty()).then(|| Value::Object(units).to_string())
            }
            ObjectAttribute::Doi
            | ObjectAttribute::LandingPage
            | ObjectAttribute::Level
            | ObjectAttribute::NextVersion
            | ObjectAttribute::Station => None,
        }
    }
}

/// The names of all that `object` has, each with a NUL behind it.
pub(super) fn names(object: &Arc<Object>, envri: Envri) -> Vec<u8> {
    let mut names = SIZE.as_bytes().to_vec();
    names.push(0);
    for attribute in ALL {
        if attribute.look_up(object, envri) != XattrValue::Known(None) {
            names.extend_from_slice(PREFIX.as_bytes());
            names.extend_from_slice(attribute.suffix().as_bytes());
            names.push(0);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_landing_page_tells_citation_licence_and_units() {
        let page = serde_json::json!({
            "hash": "UNhY", "pid": "11676/UNhY",
            "references": {"citationString": "Somebody (2024)", "licence": {"url": "http://l"}},
            "specificInfo": {"columns": [
                {"label": "TIMESTAMP", "valueType": {}},
                {"label": "co2", "valueType": {"unit": "\u{b5}mol mol-1"}},
            ]},
        });
        for (attribute, value) in [
            (ObjectAttribute::Citation, "Somebody (2024)"),
            (ObjectAttribute::Licence, "http://l"),
            (ObjectAttribute::Pid, "11676/UNhY"),
            (ObjectAttribute::Sha256, "UNhY"),
            (ObjectAttribute::Units, "{\"co2\":\"\u{b5}mol mol-1\"}"),
        ] {
            assert_eq!(attribute.on_page(&page).as_deref(), Some(value));
        }
        assert_eq!(
            ObjectAttribute::named(b"user.icos.doi"),
            Some(ObjectAttribute::Doi)
        );
        assert_eq!(ObjectAttribute::named(b"security.capability"), None);
    }
}
