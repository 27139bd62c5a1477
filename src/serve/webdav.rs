//! Read-only WebDAV, class 1: OPTIONS and PROPFIND of RFC 4918. Properties that would
//! take a download are left out.

use std::fmt::Write as _;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::poll_fn;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use jiff::Timestamp;
use tokio::time::timeout;

use super::body::{BodySender, ClientGone, ReplyBody};
use super::entry::EntryInfo;
use super::html::{encode_component, escape};
use super::listing::EntryBatches;
use super::reply::{self, ErrorForm, Reply};
use super::router::{RequestPath, failed};
use super::status_code;
use super::{ServerState, SizeReplies};
use crate::content::FileSize;
use crate::tree::{DirEntry, Node, TreeError};

/// The greatest length of the body of a request, in bytes. Names of properties that this
/// server does not know are repeated for each entry of a folder.
const MAX_BODY: usize = 8 << 10;
/// The length of the text that is sent at once, in bytes; an entry may exceed it.
const PIECE: usize = 64 << 10;
/// How long a client has to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of entries that are read at once.
const BATCH: usize = 200;
/// The media type of replies.
const XML: &str = "application/xml; charset=utf-8";
/// The namespace of the properties of RFC 4918.
const DAV: &str = "DAV:";
/// The greatest number of properties that a request may name.
const MAX_NAMED: usize = 100;

/// The properties that this server knows.
const KNOWN: [&str; 8] = [
    "creationdate",
    "displayname",
    "getcontentlength",
    "getcontenttype",
    "getetag",
    "getlastmodified",
    "resourcetype",
    "supportedlock",
];

/// Replies to OPTIONS.
pub(super) fn options() -> Reply {
    let mut reply = reply::empty(StatusCode::OK);
    let headers = reply.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(reply::ALLOW));
    let dav = HeaderName::from_static("dav");
    headers.insert(dav, HeaderValue::from_static("1"));
    // Windows' own client looks for it.
    let via = HeaderName::from_static("ms-author-via");
    headers.insert(via, HeaderValue::from_static("DAV"));
    reply
}

/// What a PROPFIND asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
enum PropertyRequest {
    /// All properties with their values.
    All,
    /// The names of all properties.
    Names,
    /// These properties: namespaces and names.
    Named(Vec<(String, String)>),
}

/// Why the body of a PROPFIND cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
enum BadBody {
    /// It is too long, or did not come in time.
    #[error("expected a body of at most {MAX_BODY} bytes within {} s", BODY_TIMEOUT.as_secs())]
    NotReceived,
    /// It is not XML.
    #[error("expected XML with namespaces, without a DTD: {0}")]
    NotXml(String),
    /// It is not a `propfind` element.
    #[error("expected a `propfind` element with `allprop`, `propname` or `prop`")]
    NotPropfind,
    /// It names too many properties.
    #[error("expected at most {MAX_NAMED} properties")]
    TooMany,
}

impl PropertyRequest {
    /// Parses the body of a request. An empty one asks for all properties.
    fn parse(body: &[u8]) -> Result<Self, BadBody> {
        if body.is_empty() {
            return Ok(Self::All);
        }
        let text = std::str::from_utf8(body).map_err(|error| BadBody::NotXml(error.to_string()))?;
        // Entities of a DTD could expand without end; it is refused by default.
        let document = roxmltree::Document::parse(text);
        let document = document.map_err(|error| BadBody::NotXml(error.to_string()))?;
        // XML in general allows it, namespaces in XML 1.0 do not (section 2.2).
        let mut elements = document.descendants();
        let is_unbound = |namespace: &roxmltree::Namespace<'_>| {
            namespace.name().is_some() && namespace.uri().is_empty()
        };
        if elements.any(|node| node.is_element() && node.namespaces().any(is_unbound)) {
            let reason = "a prefix is bound to no namespace";
            return Err(BadBody::NotXml(reason.to_owned()));
        }
        let root = document.root_element();
        if !root.has_tag_name((DAV, "propfind")) {
            return Err(BadBody::NotPropfind);
        }
        let is_dav = |node: &roxmltree::Node<'_, '_>| node.tag_name().namespace() == Some(DAV);
        let mut requests = (root.children()).filter(|node| node.is_element() && is_dav(node));
        let (Some(request), None) = (
            requests.find(|node| node.tag_name().name() != "include"),
            requests.find(|node| node.tag_name().name() != "include"),
        ) else {
            return Err(BadBody::NotPropfind);
        };
        match request.tag_name().name() {
            "allprop" => Ok(Self::All),
            "propname" => Ok(Self::Names),
            "prop" => {
                let names: Vec<_> = (request.children())
                    .filter(roxmltree::Node::is_element)
                    .take(MAX_NAMED + 1)
                    .map(|node| {
                        let name = node.tag_name();
                        let namespace = name.namespace().unwrap_or_default();
                        (namespace.to_owned(), name.name().to_owned())
                    })
                    .collect();
                if names.len() > MAX_NAMED {
                    return Err(BadBody::TooMany);
                }
                Ok(Self::Named(names))
            }
            _ => Err(BadBody::NotPropfind),
        }
    }
}

/// Receives the body of a request.
async fn receive(body: Incoming) -> Result<Vec<u8>, BadBody> {
    let receive = async {
        let mut body = pin!(body);
        let mut received = Vec::new();
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            let frame = frame.map_err(|_| BadBody::NotReceived)?;
            if let Ok(data) = frame.into_data() {
                received.extend_from_slice(&data);
            }
            if received.len() > MAX_BODY {
                return Err(BadBody::NotReceived);
            }
        }
        Ok(received)
    };
    let received = timeout(BODY_TIMEOUT, receive).await;
    received.unwrap_or(Err(BadBody::NotReceived))
}

/// Replies to PROPFIND of `node` at `path`.
pub(super) async fn propfind(
    state: &Arc<ServerState>,
    request: &Parts,
    body: Incoming,
    path: RequestPath,
    node: Node,
) -> Reply {
    let form = ErrorForm::Text;
    let depth = request.headers.get("depth").map(HeaderValue::as_bytes);
    let lists_entries = match depth {
        Some(b"0") => false,
        Some(b"1") => true,
        // All of a repository has millions of files.
        None | Some(_) => {
            let error = format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:error xmlns:D=\"{DAV}\"><D:propfind-finite-depth/></D:error>\n"
            );
            return reply::with_bytes(StatusCode::FORBIDDEN, XML, error);
        }
    };
    let wanted = match receive(body)
        .await
        .and_then(|body| PropertyRequest::parse(&body))
    {
        Ok(wanted) => wanted,
        Err(error) => return reply::error(StatusCode::BAD_REQUEST, &error, form),
    };
    let prepared = async {
        let mut writer = PropertyWriter {
            state: Arc::clone(state),
            wanted,
            folder: path.encoded(),
            text: format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"{DAV}\">\n"
            ),
        };
        writer.add_self(&path, &node).await;
        let entries = if lists_entries && node.is_directory() {
            let mut batches = EntryBatches::of(state, &node, 0).await?;
            Some((batches.next(BATCH).await?, batches))
        } else {
            None
        };
        Ok::<_, TreeError>((writer, entries))
    };
    let (writer, entries) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => return failed(state, "propfind", request.uri.path(), &error, form),
    };
    let mut reply = reply::empty(StatusCode::MULTI_STATUS);
    let media_type = HeaderValue::from_static(XML);
    reply.headers_mut().insert(CONTENT_TYPE, media_type);
    let (sender, body) = ReplyBody::stream(None);
    *reply.body_mut() = body;
    let state = Arc::clone(state);
    icos_sync::spawn_task(async move {
        let sending = async {
            tokio::select! {
                // The client is gone: what only it waits for is abandoned.
                () = sender.closed() => Ok(()),
                sent = send(writer, entries, &sender) => sent,
            }
        };
        match sending.await {
            Ok(()) => sender.end().await,
            Err(error) => {
                let status = status_code::of_tree(&error);
                state.record_failure("propfind", &path.encoded(), status, &error);
                sender.fail(io::Error::other(error)).await;
            }
        }
    });
    reply
}

/// Sends what `writer` has, then `entries`: the first ones, and where the others are.
async fn send(
    mut writer: PropertyWriter,
    entries: Option<(Vec<DirEntry>, EntryBatches)>,
    sender: &BodySender,
) -> Result<(), TreeError> {
    if let Some((mut entries, mut batches)) = entries {
        while !entries.is_empty() {
            for entry in entries {
                writer.add_entry(entry).await;
                if writer.text.len() >= PIECE
                    && let Err(ClientGone) = sender.send(std::mem::take(&mut writer.text)).await
                {
                    return Ok(());
                }
            }
            entries = batches.next(BATCH).await?;
        }
    }
    writer.text.push_str("</D:multistatus>\n");
    let _ = sender.send(writer.text).await;
    Ok(())
}

/// Writes the elements `response` of a multistatus.
struct PropertyWriter {
    state: Arc<ServerState>,
    wanted: PropertyRequest,
    /// The path of the folder whose entries are written, without a slash at its end.
    folder: String,
    text: String,
}

impl PropertyWriter {
    async fn add_self(&mut self, path: &RequestPath, node: &Node) {
        let slash = if node.is_directory() { "/" } else { "" };
        let href = format!("{}{slash}", self.folder);
        self.add(&href, path.name().to_owned(), node).await;
    }

    async fn add_entry(&mut self, DirEntry { name, node, .. }: DirEntry) {
        let slash = if node.is_directory() { "/" } else { "" };
        let href = format!("{}/{}{slash}", self.folder, encode_component(&name));
        self.add(&href, name, &node).await;
    }

    async fn add(&mut self, href: &str, name: String, node: &Node) {
        let mut entry = EntryInfo::of(&self.state, name, node);
        if self.state.options.size_replies == SizeReplies::Exact
            && matches!(entry.size, Some(FileSize::Estimate(_)))
        {
            match self.state.reader.exact_size(node).await {
                Ok(size) => entry.size = Some(FileSize::Exact(size)),
                Err(error) => {
                    let status = status_code::of_content(&error);
                    self.state.record_failure("propfind", href, status, &error);
                }
            }
        }
        let values = properties(&entry, node, self.state.since);
        let _ = write!(self.text, "<D:response><D:href>{}</D:href>", escape(href));
        let (found, missing) = match &self.wanted {
            PropertyRequest::All => (values.iter().map(element).collect(), String::new()),
            PropertyRequest::Names => {
                let names = values.iter().map(|(name, _)| format!("<D:{name}/>"));
                (names.collect(), String::new())
            }
            PropertyRequest::Named(names) => named(names, &values),
        };
        for (properties, status) in [(found, "200 OK"), (missing, "404 Not Found")] {
            let (properties, status): (String, &str) = (properties, status);
            if !properties.is_empty() || (status == "200 OK" && self.names_nothing()) {
                let _ = write!(
                    self.text,
                    "<D:propstat><D:prop>{properties}</D:prop><D:status>HTTP/1.1 {status}</D:status></D:propstat>"
                );
            }
        }
        self.text.push_str("</D:response>\n");
    }

    /// Whether the request names no property: each response needs a `propstat`.
    fn names_nothing(&self) -> bool {
        matches!(&self.wanted, PropertyRequest::Named(names) if names.is_empty())
    }
}

/// The properties of a file or folder, with their values as XML. `since` is the time of
/// what has none of its own.
fn properties(entry: &EntryInfo, node: &Node, since: Timestamp) -> Vec<(&'static str, String)> {
    let mut values = vec![
        ("displayname", escape(&entry.name)),
        (
            "resourcetype",
            if node.is_directory() {
                "<D:collection/>"
            } else {
                ""
            }
            .to_owned(),
        ),
        ("supportedlock", String::new()),
    ];
    if let Some(FileSize::Exact(size)) = entry.size {
        values.push(("getcontentlength", size.to_string()));
    }
    if let Some(media_type) = entry.media_type {
        values.push(("getcontenttype", media_type.to_owned()));
    }
    // Clients such as cadaver expect a time of everything.
    let modified = entry.modified.unwrap_or(since);
    let date = SystemTime::from(modified).max(SystemTime::UNIX_EPOCH);
    values.push(("getlastmodified", httpdate::fmt_http_date(date)));
    values.push(("creationdate", modified.to_string()));
    values
}

fn element((name, value): &(&'static str, String)) -> String {
    format!("<D:{name}>{value}</D:{name}>")
}

/// The named properties that exist, and those that do not, as XML.
fn named(names: &[(String, String)], values: &[(&'static str, String)]) -> (String, String) {
    let (mut found, mut missing) = (String::new(), String::new());
    for (namespace, name) in names {
        let known = (namespace == DAV && KNOWN.contains(&name.as_str()))
            .then(|| values.iter().find(|(known, _)| known == name))
            .flatten();
        match known {
            Some(value) => found.push_str(&element(value)),
            // Names in XML need no escaping, namespaces do.
            None => {
                let _ = write!(missing, "<{name} xmlns=\"{}\"/>", escape(namespace));
            }
        }
    }
    (found, missing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn body_selects_properties() {
        let named = |list: &[(&str, &str)]| {
            let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
            Ok(PropertyRequest::Named(list.iter().map(owned).collect()))
        };
        for (body, expected) in [
            ("", Ok(PropertyRequest::All)),
            (
                "<propfind xmlns='DAV:'><allprop/></propfind>",
                Ok(PropertyRequest::All),
            ),
            (
                "<D:propfind xmlns:D='DAV:'>\n <D:propname/></D:propfind>",
                Ok(PropertyRequest::Names),
            ),
            (
                "<propfind xmlns='DAV:'><prop><getetag/><x xmlns='urn:y'/><z xmlns=''/></prop></propfind>",
                named(&[("DAV:", "getetag"), ("urn:y", "x"), ("", "z")]),
            ),
            (
                "<propfind xmlns='DAV:'><allprop/><include><x/></include></propfind>",
                Ok(PropertyRequest::All),
            ),
            ("<propfind><allprop/></propfind>", Err(BadBody::NotPropfind)),
            ("<propfind xmlns='DAV:'/>", Err(BadBody::NotPropfind)),
            (
                "<propfind xmlns='DAV:'><prop/><allprop/></propfind>",
                Err(BadBody::NotPropfind),
            ),
        ] {
            assert_eq!(PropertyRequest::parse(body.as_bytes()), expected, "{body}");
        }
        for bad in [
            "<propfind",
            "<D:propfind/>",
            // As litmus' propfind_invalid2.
            "<D:propfind xmlns:D='DAV:'><D:prop><a:b xmlns:a=''/></D:prop></D:propfind>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><propfind xmlns='DAV:'><allprop/></propfind>",
        ] {
            let found = PropertyRequest::parse(bad.as_bytes());
            assert!(matches!(found, Err(BadBody::NotXml(_))), "{bad}: {found:?}");
        }
        let many = "<a/>".repeat(MAX_NAMED + 1);
        let body = format!("<propfind xmlns='DAV:'><prop>{many}</prop></propfind>");
        assert_eq!(
            PropertyRequest::parse(body.as_bytes()),
            Err(BadBody::TooMany)
        );
    }

    proptest! {
        #[test]
        fn any_body_is_parsed_or_refused(body in "[<>/a-zD:='\" !&;\\[\\]]{0,200}") {
            let _ = PropertyRequest::parse(body.as_bytes());
        }
    }
}
