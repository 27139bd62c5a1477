//! GET and HEAD of a file.
//!
//! The first piece is read before the reply begins, so that the usual reasons of failure
//! (no login, no network) become a status. A failure after that ends the connection: the
//! client has fewer bytes than announced, or no end of a chunked reply.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
    RANGE, RETRY_AFTER,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use tracing::Instrument as _;

use super::ServerState;
use super::body::{BodySender, ClientGone, ReplyBody};
use super::conditions::{Condition, Validators};
use super::entry::object_of;
use super::html::encode_component;
use super::media_type;
use super::range::RequestedRange;
use super::reply::{self, ErrorForm, Reply};
use super::router::{RequestPath, failed};
use super::served_file::{FileBytes, ServedFile};
use super::status_code;
use crate::catalog::Object;
use crate::content::ContentError;
use crate::tree::{ControlFile, Node};

/// The length of the pieces in which a file is read and sent, in bytes. While one is
/// sent, the next is read. Short enough to stay in the processor's cache until it is
/// copied to the client.
pub(super) const PIECE: usize = 128 << 10;
/// With many requests at once, their pieces are shorter: this many bytes for all of them
/// together, but no piece is shorter than [`LEAST_PIECE`]. A connection has up to three
/// pieces in memory, which a client that reads slowly holds for as long as it does.
const PIECES_OF_ALL: usize = 8 << 20;
const LEAST_PIECE: usize = 16 << 10;
/// While there are no more requests than this, their pieces keep the memory that is reserved
/// for replies until they are sent. Those of more requests are copied: clients that stop
/// reading would hold all of that memory, and further ones wait for it.
const MAX_RESERVED: usize = 8;

/// Bytes that never change may be cached for a year.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";

/// Replies with the file `node` at `path`.
pub(super) async fn reply(
    state: &Arc<ServerState>,
    request: &Parts,
    path: &RequestPath,
    node: Node,
    form: ErrorForm,
) -> Reply {
    if let Node::ControlFile(file) = node {
        return control_file(state, request, path, file, form).await;
    }
    let mut file = ServedFile {
        bytes: FileBytes::Changing,
        state: Arc::clone(state),
        shown: path.encoded(),
        node,
    };
    let replied = async {
        if request.method != Method::HEAD {
            file.open().await?;
        }
        file.reply(request, path.name(), form).await
    };
    match replied.await {
        Ok(reply) => reply,
        Err(error) => {
            let status = status_code::of_content(&error);
            state.record_failure("read", &file.shown, status, &error);
            let mut reply = reply::error(status, &error, form);
            if status == StatusCode::SERVICE_UNAVAILABLE {
                let seconds = HeaderValue::from_static("10");
                reply.headers_mut().insert(RETRY_AFTER, seconds);
            }
            reply
        }
    }
}

/// A part of a body.
#[derive(Clone, Debug)]
enum Segment {
    /// Text between the ranges.
    Text(Bytes),
    /// A range of the file.
    File(Range<u64>),
    /// All of the file, whose length is not known.
    WholeFile,
}

impl ServedFile {
    async fn reply(
        &self,
        request: &Parts,
        name: &str,
        form: ErrorForm,
    ) -> Result<Reply, ContentError> {
        let headers = &request.headers;
        let is_head = request.method == Method::HEAD;
        let range = (headers.get(RANGE)).and_then(|value| value.to_str().ok());
        // As the RFC demands, HEAD ignores it.
        let range = range.filter(|range| !is_head && RequestedRange::is_known(range));
        // A client of HTTP/1.0 knows no chunks: it would take a body that fails for complete.
        let needs_size = !is_head && (range.is_some() || request.version < Version::HTTP_11);
        let size = self.size(is_head, needs_size).await?;
        let validators = self.validators().await?;
        let boundary = boundary();
        let (status, segments) = match validators.check(headers) {
            Condition::Fails => {
                let reason = "the file has other bytes now than those of the tag or date in the request; open it again";
                return Ok(reply::error(StatusCode::PRECONDITION_FAILED, &reason, form));
            }
            Condition::NotModified => (StatusCode::NOT_MODIFIED, Vec::new()),
            Condition::Holds => match (size, range) {
                (Some(len), Some(range)) if validators.allow_range(headers) => {
                    Self::ranges(range, len, name, &boundary)
                }
                (Some(len), _) => (StatusCode::OK, vec![Segment::File(0..len)]),
                (None, _) => (StatusCode::OK, vec![Segment::WholeFile]),
            },
        };
        let body = match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT if !is_head => {
                self.body(segments.clone()).await?
            }
            StatusCode::OK if size.is_none() => ReplyBody::of_unknown_length(),
            _ => ReplyBody::empty(),
        };
        let mut reply = reply::empty(status);
        *reply.body_mut() = body;
        self.add_headers(reply.headers_mut(), &validators, name);
        let reply_headers = reply.headers_mut();
        match (status, segments.as_slice()) {
            (StatusCode::OK, [Segment::File(all)]) => {
                reply_headers.insert(CONTENT_LENGTH, all.end.into());
            }
            (StatusCode::PARTIAL_CONTENT, [Segment::File(part)]) => {
                insert(reply_headers, CONTENT_RANGE, &content_range(part, size));
                reply_headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
            }
            (StatusCode::PARTIAL_CONTENT, parts) => {
                let media_type = format!("multipart/byteranges; boundary={boundary}");
                insert(reply_headers, CONTENT_TYPE, &media_type);
                reply_headers.insert(CONTENT_LENGTH, length_of(parts).into());
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                let len = size.unwrap_or_default();
                insert(reply_headers, CONTENT_RANGE, &format!("bytes */{len}"));
            }
            _ => {}
        }
        Ok(reply)
    }

    /// The status and the parts of a reply to `range`.
    fn ranges(range: &str, len: u64, name: &str, boundary: &str) -> (StatusCode, Vec<Segment>) {
        let parts = match RequestedRange::of(range, len) {
            RequestedRange::Whole => return (StatusCode::OK, vec![Segment::File(0..len)]),
            RequestedRange::Unsatisfiable => {
                return (StatusCode::RANGE_NOT_SATISFIABLE, Vec::new());
            }
            RequestedRange::Parts(parts) => parts,
        };
        if let [part] = parts.as_slice() {
            return (
                StatusCode::PARTIAL_CONTENT,
                vec![Segment::File(part.clone())],
            );
        }
        let media_type = media_type::of(name);
        let mut segments = Vec::new();
        for (part, number) in parts.into_iter().zip(0..) {
            let line_break = if number == 0 { "" } else { "\r\n" };
            let range = content_range(&part, Some(len));
            let text = format!(
                "{line_break}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {range}\r\n\r\n"
            );
            segments.push(Segment::Text(text.into()));
            segments.push(Segment::File(part));
        }
        segments.push(Segment::Text(format!("\r\n--{boundary}--\r\n").into()));
        (StatusCode::PARTIAL_CONTENT, segments)
    }

    fn add_headers(&self, headers: &mut HeaderMap, validators: &Validators, name: &str) {
        let media_type = media_type::of(name);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let is_active = media_type::is_active(media_type);
        insert(headers, CONTENT_DISPOSITION, &disposition(name, is_active));
        if is_active {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        }
        if let Some(etag) = &validators.etag {
            insert(headers, ETAG, etag);
        }
        let modified = object_of(&self.node).map(Object::submitted);
        if let Some(modified) = modified {
            let date =
                httpdate::fmt_http_date(SystemTime::from(modified).max(SystemTime::UNIX_EPOCH));
            insert(headers, LAST_MODIFIED, &date);
        }
        if validators.immutable_since.is_some() {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
        }
    }

    /// The length of the next piece.
    fn piece_len(&self) -> u64 {
        piece_len(self.state.activity.in_progress()) as u64
    }

    /// The body of a reply, of which the first piece is read.
    async fn body(&self, segments: Vec<Segment>) -> Result<ReplyBody, ContentError> {
        let len = match segments.as_slice() {
            [Segment::WholeFile] => None,
            segments => Some(length_of(segments)),
        };
        let first = match segments
            .iter()
            .find(|segment| !matches!(segment, Segment::Text(_)))
        {
            Some(Segment::File(range)) => range.clone(),
            _ => 0..u64::MAX,
        };
        let end = first.end.min(first.start.saturating_add(self.piece_len()));
        let first = self.read(first.start..end).await?;
        let (sender, body) = ReplyBody::stream(len);
        let file = self.clone();
        let sending = async move {
            match file.send(segments, first, &sender).await {
                Ok(()) => sender.end().await,
                Err(error) => {
                    let status = status_code::of_content(&error);
                    (file.state).record_failure("read", &file.shown, status, &error);
                    sender.fail(io::Error::other(error)).await;
                }
            }
        };
        icos_sync::spawn_task(sending.in_current_span());
        Ok(body)
    }

    /// Sends the segments; `first` is the beginning of the first range.
    async fn send(
        &self,
        segments: Vec<Segment>,
        first: Bytes,
        sender: &BodySender,
    ) -> Result<(), ContentError> {
        let mut first = Some(first);
        for segment in segments {
            let range = match segment {
                Segment::Text(text) => {
                    if let Err(ClientGone) = sender.send(text).await {
                        return Ok(());
                    }
                    continue;
                }
                Segment::File(range) => range,
                Segment::WholeFile => 0..u64::MAX,
            };
            let mut offset = range.start;
            while offset < range.end {
                let piece = if let Some(piece) = first.take() {
                    piece
                } else {
                    let end = range.end.min(offset.saturating_add(self.piece_len()));
                    tokio::select! {
                        // The client is gone: what only it waits for is abandoned.
                        () = sender.closed() => return Ok(()),
                        piece = self.read(offset..end) => piece?,
                    }
                };
                if piece.is_empty() {
                    // The body ends early if there is less than was announced.
                    return Ok(());
                }
                offset += piece.len() as u64;
                let piece = if self.state.activity.in_progress() > MAX_RESERVED {
                    Bytes::copy_from_slice(&piece)
                } else {
                    piece
                };
                if let Err(ClientGone) = sender.send(piece).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The length of pieces while there are this many requests.
fn piece_len(requests: usize) -> usize {
    (PIECES_OF_ALL / requests.max(1)).clamp(LEAST_PIECE, PIECE)
}

/// A text that separates the parts of a reply with several ranges: a random one, which
/// occurs in no file by chance or intent.
fn boundary() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("icosfs-{:016x}{:016x}", random(), random())
}

/// The number of bytes of `segments`, of known lengths.
fn length_of(segments: &[Segment]) -> u64 {
    let length = |segment: &Segment| match segment {
        Segment::Text(text) => text.len() as u64,
        Segment::File(range) => range.end - range.start,
        Segment::WholeFile => 0,
    };
    segments.iter().map(length).sum()
}

fn content_range(part: &Range<u64>, len: Option<u64>) -> String {
    let len = len.map_or("*".to_owned(), |len| len.to_string());
    format!("bytes {}-{}/{len}", part.start, part.end - 1)
}

/// How a browser treats the file, and the name under which it saves it: RFC 6266.
fn disposition(name: &str, is_active: bool) -> String {
    let kind = if is_active { "attachment" } else { "inline" };
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ';
    let plain: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    let mut value = format!("{kind}; filename=\"{plain}\"");
    if plain != name {
        value.push_str("; filename*=UTF-8''");
        value.push_str(&encode_component(name));
    }
    value
}

/// Inserts a header whose value is visible ASCII.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Replies with a control file, which has the content of this moment.
async fn control_file(
    state: &Arc<ServerState>,
    request: &Parts,
    path: &RequestPath,
    file: ControlFile,
    form: ErrorForm,
) -> Reply {
    let (media_type, content) = match file {
        ControlFile::Status => (reply::JSON, state.report.status_json().await),
        ControlFile::Errors => ("text/plain; charset=utf-8", state.report.errors_text()),
        ControlFile::Read => (
            "text/plain; charset=utf-8",
            state.report.read_objects_text(),
        ),
        ControlFile::Metrics => (
            "text/plain; version=0.0.4; charset=utf-8",
            state.report.metrics_text().await,
        ),
        // A question about it refreshes nothing.
        ControlFile::Refresh if request.method == Method::HEAD => {
            ("text/plain; charset=utf-8", Vec::new())
        }
        ControlFile::Refresh => match state.refresher.refresh().await {
            Ok(text) => ("text/plain; charset=utf-8", text.into()),
            Err(error) => return failed(state, "refresh", &path.encoded(), &error, form),
        },
    };
    let mut reply = reply::with_bytes(StatusCode::OK, media_type, content);
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if request.method == Method::HEAD {
        *reply.body_mut() = ReplyBody::of_unknown_length();
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_many_requests_are_shorter() {
        for (requests, len) in [
            (0, PIECE),
            (64, PIECE),
            (128, PIECE / 2),
            (5000, LEAST_PIECE),
        ] {
            assert_eq!(piece_len(requests), len, "{requests}");
        }
    }

    #[test]
    fn name_of_any_characters_is_a_valid_header() {
        for (name, expected) in [
            ("a.csv", "inline; filename=\"a.csv\""),
            ("a b;c.csv", "inline; filename=\"a b;c.csv\""),
            (
                "a\"\\\r\n.csv",
                "inline; filename=\"a____.csv\"; filename*=UTF-8''a%22%5C%0D%0A.csv",
            ),
            ("\u{e5}", "inline; filename=\"_\"; filename*=UTF-8''%C3%A5"),
        ] {
            assert_eq!(disposition(name, false), expected);
            HeaderValue::from_str(&disposition(name, true)).unwrap();
        }
        assert!(disposition("a", true).starts_with("attachment"));
    }
}
