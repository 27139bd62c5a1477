//! Objects that are ZIP archives: lists their entries and downloads one.

use serde::{Deserialize, Serialize};

use super::data::expect_ok;
use super::error::parse_json;
use super::http::Response;
use super::{DataClient, MetadataClient, ObjectId, PortalError, Service};

/// Maximum length of a list of entries, in bytes: enough for some 40 000 entries.
const MAX_LIST: usize = 4 << 20;

/// An entry of an archive.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ArchiveEntry {
    /// Its path in the archive. Untrusted: it may be any text.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

impl MetadataClient {
    /// Lists the entries of the archive `id`. The list comes from the data
    /// service but needs no login.
    pub async fn archive_entries(&self, id: ObjectId) -> Result<Vec<ArchiveEntry>, PortalError> {
        let path = ["zip", &id.to_string(), "listContents"];
        let request = self.http().get(self.services().url(Service::Data, &path));
        let response = self.http().fetch(Service::Data, request, MAX_LIST).await?;
        let what = format!("list of entries of object {id}");
        let json = expect_ok(response, &what).await?.bytes(MAX_LIST).await?;
        parse_list(&json)
    }
}

/// Parses the portal's list of archive entries.
pub fn parse_list(json: &[u8]) -> Result<Vec<ArchiveEntry>, PortalError> {
    parse_json(Service::Data, "a list of entries", json)
}

impl DataClient {
    /// Requests the content of the entry `name` of the archive `id`.
    pub async fn archive_entry(&self, id: ObjectId, name: &str) -> Result<Response, PortalError> {
        let id_text = id.to_string();
        let mut path = vec!["zip", &id_text, "extractFile"];
        path.extend(name.split('/'));
        let url = self.services().url(Service::Data, &path);
        let what = format!("entry {name:?} of object {id}");
        self.get(&what, url, &mut self.retries(id)).await
    }
}
