//! Translates a request into a node and a method, and dispatches it.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONNECTION, HeaderMap, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use tracing::Instrument as _;

use super::ServerState;
use super::guard::{self, ConnectionInfo};
use super::reply::{self, ErrorForm, Reply};
use super::status_code;
use super::{entry, file_reply, html, listing, pages, webdav};
use crate::daemon::Operation;
use crate::tree::{Directory, Node, TreeError};

/// The greatest number of components of a path. The tree has fewer, except in archives
/// and collections.
const MAX_DEPTH: usize = 64;

/// Replies to a request.
pub(super) async fn respond(
    state: Arc<ServerState>,
    request: Request<Incoming>,
    connection: ConnectionInfo,
) -> Result<Reply, Infallible> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let span = tracing::debug_span!("http", method = %parts.method, path = parts.uri.path());
    if let Some(refused) = span.in_scope(|| refused(&state, &parts, &connection)) {
        return Ok(reply::finish(refused));
    }
    // Requests that are not the user's own do not keep the server from ending.
    let in_progress = state.activity.begin();
    let reply = respond_to(&state, &parts, body).instrument(span.clone());
    let mut reply = reply::finish(reply.await);
    let _entered = span.enter();
    tracing::debug!(status = reply.status().as_u16(), elapsed = ?started.elapsed(), "replied");
    reply.body_mut().request = Some(in_progress);
    Ok(reply)
}

/// The reply to a request that is not the user's own.
fn refused(state: &ServerState, request: &Parts, connection: &ConnectionInfo) -> Option<Reply> {
    let options = &state.options;
    let checked = guard::check(request, connection, &options.host_names, &options.secret);
    let refusal = checked.err()?;
    state.report.count_request(Operation::HttpRefused);
    tracing::debug!(%refusal, "refused");
    let form = error_form(&request.headers, Query::of(request).format);
    let mut reply = reply::refused(refusal, form);
    // Clients that are not the user's own hold no connections.
    let close = HeaderValue::from_static("close");
    reply.headers_mut().insert(CONNECTION, close);
    Some(reply)
}

async fn respond_to(state: &Arc<ServerState>, request: &Parts, body: Incoming) -> Reply {
    let form = error_form(&request.headers, Query::of(request).format);
    let operation = match request.method.as_str() {
        "GET" => Operation::HttpGet,
        "HEAD" => Operation::HttpHead,
        "OPTIONS" => Operation::HttpOptions,
        "PROPFIND" => Operation::HttpPropfind,
        _ => Operation::HttpOther,
    };
    state.report.count_request(operation);
    match operation {
        Operation::HttpOptions => webdav::options(),
        Operation::HttpPropfind => match find(state, request.uri.path()).await {
            Ok((path, node)) => webdav::propfind(state, request, body, path, node).await,
            Err(error) => failed(state, "propfind", request.uri.path(), &error, form),
        },
        Operation::HttpGet | Operation::HttpHead => get(state, request, form).await,
        _ => reply::method_not_allowed(&request.method, form),
    }
}

/// Replies to GET and HEAD.
async fn get(state: &Arc<ServerState>, request: &Parts, form: ErrorForm) -> Reply {
    if let Some(page) = html::built_in(request.uri.path()) {
        return page;
    }
    if let Some(page) = pages::reply(state, request.uri.path(), request.uri.query(), form).await {
        return page;
    }
    let (path, node) = match find(state, request.uri.path()).await {
        Ok(found) => found,
        Err(error) => return failed(state, "get", request.uri.path(), &error, form),
    };
    let query = Query::of(request);
    if query.format == Some(Format::Stat) {
        return entry::reply(state, &path, &node, query.wants_exact_size, form).await;
    }
    if !node.is_directory() {
        // A file is not a folder, as on other file systems.
        if path.ends_with_slash {
            let error = TreeError::NotADirectory;
            return failed(state, "get", request.uri.path(), &error, form);
        }
        return file_reply::reply(state, request, &path, node, form).await;
    }
    if query.format == Some(Format::File) {
        return reply::error(
            StatusCode::CONFLICT,
            &"expected a file, found a folder",
            form,
        );
    }
    let json = form == ErrorForm::Json || query.format == Some(Format::Json);
    if !json && !path.ends_with_slash {
        // So that relative links work.
        let mut reply = reply::empty(StatusCode::PERMANENT_REDIRECT);
        if let Ok(location) = HeaderValue::from_str(&format!("{}/", path.encoded())) {
            reply.headers_mut().insert(LOCATION, location);
        }
        return reply;
    }
    let view = if json {
        listing::View::Json
    } else if accepts(&request.headers, "text/html") {
        listing::View::Page {
            from: query.from.unwrap_or(0),
        }
    } else {
        listing::View::PlainHtml
    };
    let is_head = request.method == Method::HEAD;
    match listing::reply(state, &path, &node, view, is_head).await {
        Ok(reply) => reply,
        Err(error) => failed(state, "list", request.uri.path(), &error, form),
    }
}

/// The reply to a request whose lookup or listing failed; records what is no ordinary
/// result.
pub(super) fn failed(
    state: &ServerState,
    operation: &str,
    path: &str,
    error: &TreeError,
    form: ErrorForm,
) -> Reply {
    let status = status_code::of_tree(error);
    if matches!(error, TreeError::Catalog(_)) {
        state.record_failure(operation, path, status, error);
    }
    reply::error(status, error, form)
}

/// How the client wants to read reasons.
fn error_form(headers: &HeaderMap, format: Option<Format>) -> ErrorForm {
    if format.is_some() || accepts(headers, "application/json") {
        ErrorForm::Json
    } else {
        ErrorForm::Text
    }
}

/// Whether the header `Accept` names this media type.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    (headers.get_all(ACCEPT).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|item| item.split(';').next())
        .any(|item| item.trim().eq_ignore_ascii_case(media_type))
}

/// What a query asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Query {
    format: Option<Format>,
    /// The size must be exact, even if that takes a download.
    wants_exact_size: bool,
    /// The position in a folder to begin at.
    from: Option<u64>,
}

/// The form of a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    /// The entries of a folder as JSON.
    Json,
    /// One file or folder as JSON.
    Stat,
    /// The bytes of a file; a folder has none.
    File,
}

impl Query {
    /// Parses the query of the request. What is unknown is ignored.
    fn of(request: &Parts) -> Self {
        let mut query = Self::default();
        for (name, value) in
            url::form_urlencoded::parse(request.uri.query().unwrap_or("").as_bytes())
        {
            match (&*name, &*value) {
                ("format", "json") => query.format = Some(Format::Json),
                ("format", "stat") => query.format = Some(Format::Stat),
                ("format", "file") => query.format = Some(Format::File),
                ("size", "exact") => query.wants_exact_size = true,
                ("from", position) => query.from = position.parse().ok(),
                _ => {}
            }
        }
        query
    }
}

/// The path of a request: its decoded components.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RequestPath {
    pub(super) components: Vec<String>,
    pub(super) ends_with_slash: bool,
}

impl RequestPath {
    /// Parses the path of a URL. `None` if it is none of a file: with components that are
    /// empty, `.` or `..`, or not UTF-8.
    fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let is_root = path.is_empty();
        let ends_with_slash = is_root || path.ends_with('/');
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut components = Vec::new();
        for encoded in path.split('/').filter(|_| !is_root) {
            let component = percent_decode_str(encoded).decode_utf8().ok()?;
            let is_name =
                !matches!(&*component, "" | "." | "..") && !component.contains(['/', '\0']);
            if !is_name || components.len() == MAX_DEPTH {
                return None;
            }
            components.push(component.into_owned());
        }
        Some(Self {
            components,
            ends_with_slash,
        })
    }

    /// The last component; empty for the root.
    pub(super) fn name(&self) -> &str {
        self.components.last().map_or("", String::as_str)
    }

    /// The path of a URL, without a slash at its end.
    pub(super) fn encoded(&self) -> String {
        let components = self.components.iter();
        components.fold(String::new(), |path, component| {
            path + "/" + &html::encode_component(component)
        })
    }
}

/// Looks up the node at the path of a URL, with requests to the portal if necessary.
async fn find(state: &ServerState, path: &str) -> Result<(RequestPath, Node), TreeError> {
    let path = RequestPath::parse(path).ok_or(TreeError::NoSuchName)?;
    let mut node = Node::Directory(Directory::Root);
    for component in &path.components {
        // Links lead to their targets: no client follows them itself.
        node = (state.tree.lookup(&node, OsStr::new(component)).await?).followed();
    }
    Ok((path, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_split_before_it_is_decoded() {
        let parsed = |path: &str| {
            RequestPath::parse(path).map(|path| (path.components, path.ends_with_slash))
        };
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(parsed("/"), Some((vec![], true)));
        assert_eq!(parsed("/a/b%20c"), Some((names(&["a", "b c"]), false)));
        assert_eq!(parsed("/a/"), Some((names(&["a"]), true)));
        for bad in [
            "",
            "a",
            "//",
            "/a//b",
            "/./a",
            "/a/..",
            "/%2e%2e/a",
            "/a%2fb",
            "/a%00",
            "/%ff",
            "*",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert_eq!(parsed(&"/a".repeat(100)), None);
    }

    #[test]
    fn encoded_path_is_parsed_to_the_same_components() {
        let path = RequestPath {
            components: vec![
                "a b".to_owned(),
                "\u{e5}?#%<\">".to_owned(),
                "c;d&e".to_owned(),
            ],
            ends_with_slash: false,
        };
        assert_eq!(RequestPath::parse(&path.encoded()), Some(path));
    }
}
