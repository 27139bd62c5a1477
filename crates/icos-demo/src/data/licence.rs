//! The data licence: which requests need its acceptance, and the pages that ask
//! for it.
//!
//! A user accepts it permanently in the user profile. Without login, it can be
//! accepted on the licence page, which sets a cookie that is valid for one
//! download.

use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use url::form_urlencoded::Serializer;

use crate::graph::RdfNode;
use crate::http::{DemoReply, DemoRequest, append_header, redirect, reply, text};
use crate::landing;
use crate::state::PortalState;
use icos_portal::ObjectId;

const COOKIE: &str = "CpLicenseAcceptedFor";

/// Whether the licence must be accepted before this download.
pub(super) fn must_be_accepted(
    state: &PortalState,
    request: &DemoRequest,
    object: RdfNode<'_>,
) -> bool {
    let user = || state.user(request);
    !landing::licence(state.repository.envri(), object).is_public_domain()
        && !user().is_some_and(|user| state.has_accepted_licence(&user))
}

/// The refusal of a download of tables as `what`, unless the user is logged in and
/// has accepted the licence.
pub(super) fn refusal(state: &PortalState, request: &DemoRequest, what: &str) -> Option<DemoReply> {
    match state.user(request) {
        None => Some(login_required(state, what)),
        Some(user) if state.has_accepted_licence(&user) => None,
        Some(_) => Some(text(
            StatusCode::FORBIDDEN,
            format!("Accepting data licence in your user profile is required for {what} downloads"),
        )),
    }
}

pub(super) fn login_required(state: &PortalState, what: &str) -> DemoReply {
    let envri = state.repository.envri();
    text(
        StatusCode::UNAUTHORIZED,
        format!("{envri} data portal login is required for {what} downloads"),
    )
}

/// Whether the licence page's cookie covers these items.
pub(super) fn accepted_for(request: &DemoRequest, items: &[ObjectId]) -> bool {
    let Some(cookie) = request.cookie(COOKIE) else {
        return false;
    };
    let accepted: Vec<ObjectId> = cookie.split('|').filter_map(|id| id.parse().ok()).collect();
    items.iter().all(|item| accepted.contains(item))
}

/// Deletes the cookie, since it is valid for one download.
pub(super) fn forget(reply: &mut DemoReply) {
    let gone = format!("{COOKIE}=deleted; Expires=Wed, 01 Jan 1800 00:00:00 GMT");
    append_header(reply, SET_COOKIE, &gone);
}

/// The URL of the licence page for these items.
pub(super) fn location(items: &[ObjectId], file_name: Option<&str>, collection: bool) -> String {
    format!("/licence?{}", query(items, file_name, collection))
}

fn query(items: &[ObjectId], file_name: Option<&str>, collection: bool) -> String {
    let ids: Vec<_> = items.iter().map(ToString::to_string).collect();
    let mut query = Serializer::new(String::new());
    query.append_pair("ids", &serde_json::json!(ids).to_string());
    if let Some(name) = file_name.filter(|_| !collection) {
        query.append_pair("fileName", name);
    }
    if collection {
        query.append_pair("isColl", "true");
    }
    query.finish()
}

/// Reads the items in the parameter `ids`.
pub(super) fn items(ids: &str) -> Option<Vec<ObjectId>> {
    let ids: Vec<String> = serde_json::from_str(ids).ok()?;
    ids.iter().map(|id| id.parse().ok()).collect()
}

pub(super) fn answer(state: &PortalState, request: &DemoRequest) -> DemoReply {
    let items = request.parameter("ids").and_then(items);
    let file_name = request.parameter("fileName");
    let collection = request.parameter("isColl") == Some("true");
    match (request.path[0].as_str(), items) {
        ("licence_accept", None) => crate::http::no_route(),
        ("licence_accept", Some(items)) => accept(&items, file_name, collection),
        (_, items) => page(
            state,
            request,
            &items.unwrap_or_default(),
            file_name,
            collection,
        ),
    }
}

fn accept(items: &[ObjectId], file_name: Option<&str>, collection: bool) -> DemoReply {
    let kind = if collection { "collections" } else { "objects" };
    let (path, target) = match items {
        [item] if collection || file_name.is_none() => {
            let path = format!("/{kind}/{item}");
            (path.clone(), path)
        }
        _ => {
            let path = format!("/{kind}");
            let target = format!("{path}?{}", query(items, file_name, false));
            (path, target)
        }
    };
    let accepted: Vec<_> = items.iter().map(ToString::to_string).collect();
    let mut reply = redirect(&target);
    let cookie = format!("{COOKIE}={}; Path={path}", accepted.join("|"));
    append_header(&mut reply, SET_COOKIE, &cookie);
    reply
}

fn page(
    state: &PortalState,
    request: &DemoRequest,
    items: &[ObjectId],
    file_name: Option<&str>,
    collection: bool,
) -> DemoReply {
    let envri = state.repository.envri();
    let log_in = match state.user(request) {
        Some(_) => String::new(),
        None => format!(
            "<p><a href=\"{}\">Log in</a> to accept the licence for good.</p>",
            envri.auth_url()
        ),
    };
    let accept = match items {
        [] => String::new(),
        items => format!(
            "<p><a href=\"/licence_accept?{}\">I accept the licence</a></p>",
            query(items, file_name, collection).replace('&', "&amp;")
        ),
    };
    let page = format!(
        "<!DOCTYPE html><html><head><title>{envri} data licence</title></head><body>\
        <h1>{envri} data licence</h1>\
        <p>{envri} data are licensed under Creative Commons Attribution 4.0 International.</p>\
        {log_in}{accept}</body></html>"
    );
    reply(StatusCode::OK, "text/html; charset=UTF-8", page)
}
