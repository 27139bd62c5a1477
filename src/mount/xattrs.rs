//! Extended attributes: metadata of an object on its files.
//!
//! The names and the values in the catalog are known at once. Other values are
//! on the object's landing page.

use std::sync::Arc;

use fuser::{Errno, ReplyXattr};
use serde_json::{Map, Value};

use super::request_trace::RequestTrace;
use crate::catalog::Object;
use crate::content::FileSize;
use icos_portal::Envri;

/// Prefix of all names but [`SIZE`].
const PREFIX: &str = "user.icos.";

/// Name of the attribute that says whether the size in `stat` is `exact` or an
/// `estimate`. The estimate of a CSV that is rendered here is an upper bound.
pub(super) const SIZE: &str = "user.icosfs.size";

/// Returns the value of [`SIZE`].
pub(super) fn size_kind(size: FileSize) -> &'static str {
    match size {
        FileSize::Exact(_) => "exact",
        FileSize::Estimate(_) => "estimate",
    }
}

/// An extended attribute of the files of an object.
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

/// The value of an attribute, or where to get it.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum XattrValue {
    /// The value; `None` if the object lacks the attribute.
    Known(Option<String>),
    /// The value is on the landing page, which has to be downloaded.
    OnLandingPage,
}

impl ObjectAttribute {
    /// Returns the attribute with the complete name `name`.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
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

    /// Returns the value that the catalog has.
    pub(super) fn in_catalog(self, object: &Arc<Object>, envri: Envri) -> XattrValue {
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

    /// Returns the value on the landing page `page`.
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

/// Returns the names of all attributes of `object`, each terminated by NUL.
pub(super) fn names(object: &Arc<Object>, envri: Envri) -> Vec<u8> {
    let mut names = SIZE.as_bytes().to_vec();
    names.push(0);
    for attribute in ALL {
        if attribute.in_catalog(object, envri) != XattrValue::Known(None) {
            names.extend_from_slice(PREFIX.as_bytes());
            names.extend_from_slice(attribute.suffix().as_bytes());
            names.push(0);
        }
    }
    names
}

/// Replies with a value, or with the error for a missing attribute.
pub(super) fn reply(value: Option<&str>, size: u32, trace: &RequestTrace, reply: ReplyXattr) {
    match value {
        Some(value) => reply_bytes(value.as_bytes(), size, trace, reply),
        None => reply.error(trace.failed(Errno::NO_XATTR)),
    }
}

/// Replies with `bytes`, or with their length if the caller's buffer has `size`
/// 0, which is a query for the length.
pub(super) fn reply_bytes(bytes: &[u8], size: u32, trace: &RequestTrace, reply: ReplyXattr) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(len);
    } else if len <= size {
        reply.data(bytes);
    } else {
        reply.error(trace.failed(Errno::ERANGE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn landing_page_contains_citation_licence_and_units() {
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
            ObjectAttribute::from_name(b"user.icos.doi"),
            Some(ObjectAttribute::Doi)
        );
        assert_eq!(ObjectAttribute::from_name(b"security.capability"), None);
    }
}
