//! Extended attributes: what is worth knowing of an object beside its bytes.
//!
//! Their names, and what the catalog knows, are told at once; the rest is on
//! the object's landing page.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::catalog::Object;
use crate::content::Size;
use icos_portal::Envri;

/// What the names begin with.
const PREFIX: &str = "user.icos.";

/// Whether the length that `stat` tells is `exact`, or an `estimate` that is
/// replaced by the exact one once the file has been read or measured.
pub(super) const SIZE: &str = "user.icosfs.size";

/// What [`SIZE`] says.
pub(super) fn size(size: Size) -> &'static str {
    match size {
        Size::Exact(_) => "exact",
        Size::Estimate(_) => "estimate",
    }
}

/// An extended attribute of an object's files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Attribute {
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

const ALL: [Attribute; 10] = [
    Attribute::Citation,
    Attribute::Doi,
    Attribute::LandingPage,
    Attribute::Level,
    Attribute::Licence,
    Attribute::NextVersion,
    Attribute::Pid,
    Attribute::Sha256,
    Attribute::Station,
    Attribute::Units,
];

/// Where a value is found.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Lookup {
    /// Here it is; or there is none.
    Known(Option<String>),
    /// On the landing page.
    OnPage,
}

impl Attribute {
    /// The attribute called `name`.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let name = name.strip_prefix(PREFIX.as_bytes())?;
        (ALL.into_iter()).find(|attribute| attribute.suffix().as_bytes() == name)
    }

    fn suffix(self) -> &'static str {
        match self {
            Attribute::Citation => "citation",
            Attribute::Doi => "doi",
            Attribute::LandingPage => "landing_page",
            Attribute::Level => "level",
            Attribute::Licence => "licence",
            Attribute::NextVersion => "next_version",
            Attribute::Pid => "pid",
            Attribute::Sha256 => "sha256",
            Attribute::Station => "station",
            Attribute::Units => "units",
        }
    }

    /// What the catalog says.
    pub(super) fn look_up(self, object: &Arc<Object>, envri: Envri) -> Lookup {
        let landing = |id| format!("{}{id}", envri.landing_prefix());
        Lookup::Known(match self {
            Attribute::Doi => object.doi().map(str::to_owned),
            Attribute::LandingPage => Some(landing(object.id())),
            Attribute::Level => object.spec().map(|spec| spec.level().to_string()),
            Attribute::NextVersion => object.next_version().map(landing),
            Attribute::Station => object.station().map(|station| station.row().code.clone()),
            Attribute::Units if object.as_table().is_none() => None,
            Attribute::Citation
            | Attribute::Licence
            | Attribute::Pid
            | Attribute::Sha256
            | Attribute::Units => return Lookup::OnPage,
        })
    }

    /// What an object's landing page says.
    pub(super) fn on_page(self, page: &Value) -> Option<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match self {
            Attribute::Citation => text(&page["references"]["citationString"]),
            Attribute::Licence => {
                let licence = &page["references"]["licence"];
                text(&licence["url"]).or_else(|| text(&licence["webpage"]))
            }
            Attribute::Pid => text(&page["pid"]),
            Attribute::Sha256 => text(&page["hash"]),
            Attribute::Units => {
                let columns = page["specificInfo"]["columns"].as_array()?;
                let units: Map<String, Value> = (columns.iter())
                    .filter_map(|column| {
                        let unit = column["valueType"]["unit"].as_str()?;
                        Some((text(&column["label"])?, unit.into()))
                    })
                    .collect();
                (!units.is_empty()).then(|| Value::Object(units).to_string())
            }
            Attribute::Doi
            | Attribute::LandingPage
            | Attribute::Level
            | Attribute::NextVersion
            | Attribute::Station => None,
        }
    }
}

/// The names of all that `object` has, each with a NUL behind it.
pub(super) fn names(object: &Arc<Object>, envri: Envri) -> Vec<u8> {
    let mut names = SIZE.as_bytes().to_vec();
    names.push(0);
    for attribute in ALL {
        if attribute.look_up(object, envri) != Lookup::Known(None) {
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
            (Attribute::Citation, "Somebody (2024)"),
            (Attribute::Licence, "http://l"),
            (Attribute::Pid, "11676/UNhY"),
            (Attribute::Sha256, "UNhY"),
            (Attribute::Units, "{\"co2\":\"\u{b5}mol mol-1\"}"),
        ] {
            assert_eq!(attribute.on_page(&page).as_deref(), Some(value));
        }
        assert_eq!(Attribute::named(b"user.icos.doi"), Some(Attribute::Doi));
        assert_eq!(Attribute::named(b"security.capability"), None);
    }
}
