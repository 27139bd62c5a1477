//! Replies: headers that all of them have, and replies without a file.

use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::body::ReplyBody;
use super::guard::Refusal;

/// A reply.
pub(super) type Reply = Response<ReplyBody>;

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";
/// The media type of text for people.
const TEXT: &str = "text/plain; charset=utf-8";

/// No script runs, nothing is loaded from elsewhere, and no other page shows this one.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every reply.
const COMMON: [(HeaderName, &str); 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, PAGE_POLICY),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Adds the headers of every reply.
pub(super) fn finish(mut reply: Reply) -> Reply {
    for (name, value) in COMMON {
        let value = HeaderValue::from_static(value);
        reply.headers_mut().entry(name).or_insert(value);
    }
    let headers = reply.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
    reply
}

/// A reply with `bytes` of type `media_type`.
pub(super) fn with_bytes(
    status: StatusCode,
    media_type: &'static str,
    bytes: impl Into<bytes::Bytes>,
) -> Reply {
    let mut reply = Response::new(ReplyBody::of(bytes));
    *reply.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    reply.headers_mut().insert(CONTENT_TYPE, media_type);
    reply
}

/// A reply without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = status;
    reply
}

/// How a client reads the reason of an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ErrorForm {
    /// As text.
    Text,
    /// As JSON.
    Json,
}

/// A reply with an error and its reason.
pub(super) fn error(status: StatusCode, reason: &dyn ToString, form: ErrorForm) -> Reply {
    let reason = reason.to_string();
    match form {
        ErrorForm::Text => with_bytes(status, TEXT, format!("{reason}\n")),
        ErrorForm::Json => {
            let error = json!({"error": {"status": status.as_u16(), "reason": reason}});
            with_bytes(status, JSON, error.to_string())
        }
    }
}

/// The reply to a request that is not the user's own.
pub(super) fn refused(refusal: Refusal, form: ErrorForm) -> Reply {
    match refusal {
        Refusal::NoSecret => {
            let mut reply = error(StatusCode::UNAUTHORIZED, &refusal, form);
            let challenge = HeaderValue::from_static("Basic realm=\"icosfs\", charset=\"UTF-8\"");
            reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            reply
        }
        Refusal::WrongHost => error(StatusCode::MISDIRECTED_REQUEST, &refusal, form),
        Refusal::CrossOrigin | Refusal::UnknownOrigin => {
            error(StatusCode::FORBIDDEN, &refusal, form)
        }
    }
}

/// The methods of the server, in the header `Allow`.
pub(super) const ALLOW: &str = "GET, HEAD, OPTIONS, PROPFIND";

/// The reply to a request with a method that would change something, or is unknown.
pub(super) fn method_not_allowed(method: &Method, form: ErrorForm) -> Reply {
    let reason = format!("the repository is read-only: {method} is not allowed, only {ALLOW}");
    let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, &reason, form);
    let allow = HeaderValue::from_static(ALLOW);
    reply.headers_mut().insert(hyper::header::ALLOW, allow);
    reply
}
