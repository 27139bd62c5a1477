//! Extended attributes: metadata of an object on its files.
//!
//! Values in the catalog are known at once. Other values are on the object's landing
//! page: a request for such an attribute downloads the page. A list of names causes no
//! request; it has the attributes whose values are known without one. So a program
//! that reads all attributes of a listing (`rsync -X`, Samba) costs the portal nothing,
//! and each name in a list has a value.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use fuser::{Errno, ReplyXattr, Request};
use serde_json::{Map, Value};

use super::mount_state::MountState;
use super::request_trace::PendingReply;
use crate::catalog::Object;
use crate::citation::Citation;
use crate::content::FileSize;
use crate::tree::Node;
use icos_portal::ObjectId;
use icos_portal::meta::Subject;

/// Name of the attribute that says whether the size in `stat` is `exact` or an
/// `estimate`. An estimate is an upper bound until the file is rendered.
const SIZE: &str = "user.icosfs.size";

/// An extended attribute of the files of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ObjectAttribute {
    Bibtex,
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

const ALL: [(ObjectAttribute, &str); 11] = [
    (ObjectAttribute::Bibtex, "user.icos.bibtex"),
    (ObjectAttribute::Citation, "user.icos.citation"),
    (ObjectAttribute::Doi, "user.icos.doi"),
    (ObjectAttribute::LandingPage, "user.icos.landing_page"),
    (ObjectAttribute::Level, "user.icos.level"),
    (ObjectAttribute::Licence, "user.icos.licence"),
    (ObjectAttribute::NextVersion, "user.icos.next_version"),
    (ObjectAttribute::Pid, "user.icos.pid"),
    (ObjectAttribute::Sha256, "user.icos.sha256"),
    (ObjectAttribute::Station, "user.icos.station"),
    (ObjectAttribute::Units, "user.icos.units"),
];

/// The value of an attribute, as far as it is known without a request.
#[derive(Debug, Eq, PartialEq)]
enum XattrValue {
    /// The value; `None` if the object lacks the attribute.
    Known(Option<String>),
    /// The value is on the landing page, which is not cached.
    OnLandingPage,
}

impl MountState {
    /// Replies to a GETXATTR with a buffer of `size` bytes.
    pub(super) fn get_xattr(
        self: &Arc<Self>,
        req: &Request,
        number: u64,
        name: &OsStr,
        size: u32,
        reply: PendingReply<ReplyXattr>,
    ) {
        if !self.options.xattr {
            // After ENOSYS the kernel sends no more of these requests.
            return reply.error(Errno::ENOSYS);
        }
        // Security labels and ACLs: `ls -l` requests them of every file, unless
        // the file system does not support them.
        if !name.as_bytes().starts_with(b"user.") {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let attribute = ObjectAttribute::from_name(name);
        if attribute.is_none() && name != SIZE {
            return reply.error(Errno::NO_XATTR);
        }
        let Some(Node::File(object, representation)) = self.node(number) else {
            return reply.error(Errno::NO_XATTR);
        };
        let node = Node::File(Arc::clone(&object), representation);
        let send = move |reply, value: Option<String>| match value {
            Some(value) => send_bytes(value.as_bytes(), size, reply),
            None => reply.error(Errno::NO_XATTR),
        };
        let Some(attribute) = attribute else {
            let kind = match self.size(&node) {
                FileSize::Exact(_) => "exact",
                FileSize::Estimate(_) => "estimate",
            };
            return send_bytes(kind.as_bytes(), size, reply);
        };
        match self.catalog_attribute(attribute, &object) {
            XattrValue::Known(value) => send(reply, value),
            XattrValue::OnLandingPage => {
                let id = object.id();
                let work = move |state: Arc<Self>| async move {
                    let page = state.reader.landing_page(id).await;
                    let page =
                        page.map_err(|error| state.fail_content("getxattr", &node, &error))?;
                    Ok(attribute.on_page(&page))
                };
                self.respond(req, reply, work, send);
            }
        }
    }

    /// Replies to a LISTXATTR with the names of the attributes whose values are known,
    /// each terminated by NUL.
    pub(super) fn list_xattrs(&self, number: u64, size: u32, reply: PendingReply<ReplyXattr>) {
        if !self.options.xattr {
            return reply.error(Errno::ENOSYS);
        }
        let mut names = String::new();
        if let Some(Node::File(object, _)) = self.node(number) {
            names = format!("{SIZE}\0");
            let page = (self.contents).cached_landing_page(&Subject::Object(object.id()));
            let page = page.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
            for (attribute, name) in ALL {
                let value = match self.catalog_attribute(attribute, &object) {
                    XattrValue::Known(value) => value,
                    XattrValue::OnLandingPage => {
                        page.as_ref().and_then(|page| attribute.on_page(page))
                    }
                };
                if value.is_some() {
                    names.push_str(name);
                    names.push('\0');
                }
            }
        }
        send_bytes(names.as_bytes(), size, reply);
    }

    /// Returns the value that the catalog has.
    fn catalog_attribute(&self, attribute: ObjectAttribute, object: &Object) -> XattrValue {
        let landing = |id| format!("{}{id}", self.options.envri.landing_prefix());
        XattrValue::Known(match attribute {
            ObjectAttribute::Doi => object.doi().map(str::to_owned),
            ObjectAttribute::LandingPage => Some(landing(object.id())),
            ObjectAttribute::Level => object.spec().map(|spec| spec.level().to_string()),
            ObjectAttribute::NextVersion => object.next_version().map(landing),
            ObjectAttribute::Station => object.station().map(|station| station.row().code.clone()),
            ObjectAttribute::Units if object.as_table().is_none() => None,
            ObjectAttribute::Bibtex
            | ObjectAttribute::Citation
            | ObjectAttribute::Licence
            | ObjectAttribute::Pid
            | ObjectAttribute::Sha256
            | ObjectAttribute::Units => return XattrValue::OnLandingPage,
        })
    }
}

impl ObjectAttribute {
    fn from_name(name: &OsStr) -> Option<Self> {
        let (attribute, _) = ALL.into_iter().find(|&(_, known)| name == known)?;
        Some(attribute)
    }

    /// Returns the value on the landing page `page`.
    fn on_page(self, page: &Value) -> Option<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match self {
            ObjectAttribute::Bibtex => {
                let hash = page["hash"].as_str()?;
                let id = hash.get(..ObjectId::SYMBOLS).unwrap_or(hash);
                Some(Citation::of_page(id, page)?.bibtex)
            }
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

/// Replies with `bytes`, or with their length if the caller's buffer has `size`
/// 0, which is a query for the length.
fn send_bytes(bytes: &[u8], size: u32, reply: PendingReply<ReplyXattr>) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.reply.size(len);
    } else if len <= size {
        reply.reply.data(bytes);
    } else {
        reply.error(Errno::ERANGE);
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
        let doi = Some(ObjectAttribute::Doi);
        assert_eq!(ObjectAttribute::from_name(OsStr::new("user.icos.doi")), doi);
        let other = OsStr::new("security.capability");
        assert_eq!(ObjectAttribute::from_name(other), None);
    }
}
