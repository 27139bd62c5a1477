//! Parsed requests, and the common forms of replies.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// A reply of a service.
pub(crate) type DemoReply = Response<Body>;

/// The longest request body a service reads, in bytes.
const LONGEST_BODY: usize = 8 << 20;

/// A request with its body, parsed.
pub(crate) struct DemoRequest {
    pub(crate) method: Method,
    /// The path's segments, decoded: `/a/b%20c` is `["a", "b c"]`, `/a/` is
    /// `["a", ""]`.
    pub(crate) path: Vec<String>,
    /// Path and query as sent.
    pub(crate) target: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Why the body could not be read completely.
    pub(crate) body_error: Option<String>,
    /// The delay that a fault adds to a query.
    pub(crate) query_delay: Duration,
}

impl DemoRequest {
    /// Reads a request with its body.
    pub(crate) async fn read(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let (body, body_error) = match axum::body::to_bytes(body, LONGEST_BODY).await {
            Ok(body) => (body, None),
            Err(error) => (Bytes::new(), Some(error.to_string())),
        };
        let path = (head.uri.path())
            .split('/')
            .skip(1)
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect();
        let query = head.uri.query().unwrap_or_default().as_bytes();
        let target = head.uri.path_and_query();
        let target = target.map_or_else(String::new, ToString::to_string);
        Self {
            method: head.method,
            path,
            target,
            query: url::form_urlencoded::parse(query).into_owned().collect(),
            headers: head.headers,
            body,
            body_error,
            query_delay: Duration::ZERO,
        }
    }

    /// The path's segments, to match on.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: impl axum::http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers, a line each.
    pub(crate) fn header_lines(&self) -> String {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
        };
        self.headers.iter().map(line).collect()
    }

    /// The first value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        field(&self.query, name)
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.headers
            .get_all(axum::http::header::COOKIE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The fields of a form in the body.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        let kind = self.header(CONTENT_TYPE).unwrap_or_default();
        if kind.starts_with("application/x-www-form-urlencoded") {
            url::form_urlencoded::parse(&self.body)
                .into_owned()
                .collect()
        } else {
            Vec::new()
        }
    }
}

/// The first value of a field of a form or query.
pub(crate) fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

/// A reply with this content type.
pub(crate) fn reply(status: StatusCode, content_type: &str, body: impl Into<Body>) -> DemoReply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    append_header(&mut reply, CONTENT_TYPE, content_type);
    reply
}

/// A body that is sent piece by piece.
pub(crate) fn pieces(pieces: impl Iterator<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    Body::from_stream(futures_util::stream::iter(pieces))
}

/// A plain text reply.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> DemoReply {
    reply(status, "text/plain; charset=UTF-8", text.into())
}

/// A JSON reply, indented as the portal indents it.
pub(crate) fn json(value: &Value) -> DemoReply {
    let text = serde_json::to_string_pretty(value).expect("a JSON value prints");
    reply(StatusCode::OK, "application/json", text)
}

/// A redirection as Akka HTTP sends it.
pub(crate) fn redirect(location: &str) -> DemoReply {
    let page = format!(
        "The requested resource temporarily resides under <a href=\"{location}\">this URI</a>."
    );
    let mut reply = reply(StatusCode::FOUND, "text/html; charset=UTF-8", page);
    append_header(&mut reply, axum::http::header::LOCATION, location);
    reply
}

/// The reply to a request that made a service throw an exception: the message
/// and a stack trace.
pub(crate) fn exception(class: &str, message: &str) -> DemoReply {
    let trace = format!(
        "{message}\n{class}: {message}\n\tat se.lu.nateko.cp.demo.Portal.answer(Portal.scala:1)\n"
    );
    text(StatusCode::INTERNAL_SERVER_ERROR, trace)
}

/// The data service's reply to a request that matches no route.
pub(crate) fn no_route() -> DemoReply {
    text(
        StatusCode::NOT_FOUND,
        "Your request did not match any service",
    )
}

/// The length of a body by its `Content-Length`.
pub(crate) fn body_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A time as HTTP headers write it.
pub(crate) fn http_date(time: jiff::Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Adds a header; does nothing if `value` is no valid header value.
pub(crate) fn append_header(reply: &mut DemoReply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        reply.headers_mut().append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn request_to(path: &str, cookie: &str) -> DemoRequest {
        let request = Request::get(format!("http://h{path}"))
            .header("cookie", cookie)
            .body(Body::empty())
            .unwrap();
        DemoRequest::read(request).await
    }

    #[tokio::test]
    async fn request_path_query_and_cookies_are_decoded() {
        let request = request_to("/csv/a%20b/?col=x+y&col=z%26", "a=1; cpauthToken=QQ==;").await;
        assert_eq!(request.segments(), ["csv", "a b", ""]);
        let columns: Vec<_> = request.query.iter().map(|(_, v)| v.as_str()).collect();
        assert_eq!(columns, ["x y", "z&"]);
        assert_eq!(request.cookie("cpauthToken"), Some("QQ=="));
        assert_eq!(request.cookie("other"), None);
    }
}
