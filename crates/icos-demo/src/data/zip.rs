//! `GET /zip/<id>/...`: the entries of an object that is a ZIP file.

use std::io::{Cursor, Read as _};

use axum::http::StatusCode;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zip::ZipArchive;
use zip::result::ZipError;

use super::{file, licence};
use crate::content::OriginalContent;
use crate::http::{DemoReply, DemoRequest, exception, json, pieces, reply, text};
use crate::landing;
use crate::state::PortalState;
use icos_portal::ObjectId;

/// The characters that Akka escapes in a path segment.
const SEGMENT: AsciiSet = {
    let plain = b"-._~!$&'()*+,;=:@";
    let mut escaped = NON_ALPHANUMERIC.remove(plain[0]);
    let mut at = 1;
    while at < plain.len() {
        escaped = escaped.remove(plain[at]);
        at += 1;
    }
    escaped
};

pub(super) fn answer(
    state: &PortalState,
    request: &DemoRequest,
    id: Option<ObjectId>,
) -> DemoReply {
    let Some(id) = id else {
        return text(
            StatusCode::BAD_REQUEST,
            "Expected base64Url- or hex-encoded SHA-256 hash",
        );
    };
    match &request.segments()[2..] {
        ["listContents"] => list(state, &id),
        ["extractFile", path @ ..] if !path.is_empty() => extract(state, request, &id, path),
        _ => text(
            StatusCode::NOT_FOUND,
            "Only 'listContents' and 'extractFile' services are available for zipped objects",
        ),
    }
}

type Archive = ZipArchive<Cursor<Bytes>>;

/// Opens an object's file as a ZIP archive.
fn open(state: &PortalState, id: &ObjectId) -> Result<Archive, Box<DemoReply>> {
    let failed = |class: &str, why: &str| Box::new(exception(class, why));
    let archive = match state.repository.content(id) {
        Some(OriginalContent::Bytes(bytes)) => ZipArchive::new(Cursor::new(bytes)).ok(),
        // Computed content is random and so is not an archive.
        Some(OriginalContent::Blocks { .. }) => None,
        None => return Err(failed("java.nio.file.NoSuchFileException", &id.to_string())),
    };
    archive.ok_or_else(|| failed("java.util.zip.ZipException", "zip END header not found"))
}

/// Lists the entries. Needs no login.
fn list(state: &PortalState, id: &ObjectId) -> DemoReply {
    if state.repository.object(id).is_none() {
        let why = format!("Object {id} not found on the metadata server");
        return exception("se.lu.nateko.cp.data.api.MetadataObjectNotFound", &why);
    }
    let mut archive = match open(state, id) {
        Ok(archive) => archive,
        Err(failed) => return *failed,
    };
    let entries: Vec<_> = (0..archive.len())
        .filter_map(|index| {
            let entry = archive.by_index(index).ok()?;
            let name = entry.name();
            (!entry.is_dir()).then(|| {
                serde_json::json!({
                    "name": name,
                    "path": format!("/zip/{id}/extractFile/{name}"),
                    "size": entry.size(),
                })
            })
        })
        .collect();
    json(&entries.into())
}

fn extract(state: &PortalState, request: &DemoRequest, id: &ObjectId, path: &[&str]) -> DemoReply {
    let envri = state.repository.envri();
    let Some(object) = state.repository.object(id) else {
        return super::original::answer(state, request, id);
    };
    if let Err(why) = state.repository.available(id, object) {
        return text(StatusCode::NOT_FOUND, why);
    }
    if licence::must_be_accepted(state, request, object) {
        return if state.user(request).is_none() {
            licence::login_required(state, "zip entry")
        } else {
            let licence = landing::licence(envri, object).url;
            text(
                StatusCode::FORBIDDEN,
                format!("Accepting the following licence(s) is required for download: {licence}"),
            )
        };
    }
    match open(state, id) {
        Ok(archive) => entry(archive, path),
        Err(failed) => *failed,
    }
}

/// Returns an entry. The service escapes the path again, which leaves a plus as
/// it is, and then decodes it as a form field, in which a plus is a space. So
/// an entry with a plus in its name is unavailable in any spelling.
fn entry(mut archive: Archive, path: &[&str]) -> DemoReply {
    let name = path.join("/").replace('+', " ");
    let content = match archive.by_name(&name) {
        Ok(mut entry) => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map(|_| content)
        }
        Err(ZipError::FileNotFound) => {
            return text(StatusCode::NOT_FOUND, "Unknown zip entry");
        }
        Err(e) => Err(e.into()),
    };
    let content = match content {
        Ok(content) => content,
        Err(e) => return exception("java.util.zip.ZipException", &e.to_string()),
    };
    let last = path.last().copied().unwrap_or_default();
    let file_name = utf8_percent_encode(last, &SEGMENT).to_string();
    let (content_type, _) = file::content_type(&file_name);
    // A stream, so that the reply has no `Content-Length`.
    let body = pieces(std::iter::once(Ok(content.into())));
    let mut reply = reply(StatusCode::OK, content_type, body);
    file::attachment(&mut reply, &file_name);
    reply
}
