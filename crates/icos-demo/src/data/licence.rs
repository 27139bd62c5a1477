//! The data licence: who has to accept it, and the pages that ask for it.
//!
//! A user accepts it in the profile, for good. A stranger may accept it on the
//! licence page, which a cookie remembers until the next download.

use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use url::form_urlencoded::Serializer;

use crate::graph::Node;
use crate::http::{Ask, Reply, found, put, reply};
use crate::landing;
use crate::state::Shared;
use icos_portal::ObjectId;

const COOKIE: &str = "CpLicenseAcceptedFor";

/// Whether the asker may have an object only after accepting its licence.
pub(super) fn must_be_accepted(shared: &Shared, ask: &Ask, object: Node<'_>) -> bool {
    let user = || shared.user(ask);
    !landing::licence(shared.repository.envri(), object).is_public_domain()
        && !user().is_some_and(|user| shared.has_accepted_licence(&user))
}

/// Whether the licence page's cookie covers these items.
pub(super) fn accepted_for(ask: &Ask, items: &[ObjectId]) -> bool {
    let Some(cookie) = ask.cookie(COOKIE) else {
        return false;
    };
    let accepted: Vec<ObjectId> = cookie.split('|').filter_map(|id| id.parse().ok()).collect();
    items.iter().all(|item| accepted.contains(item))
}

/// Takes the cookie back: it is good for one download.
pub(super) fn forget(reply: &mut Reply) {
    let gone = format!("{COOKIE}=deleted; Expires=Wed, 01 Jan 1800 00:00:00 GMT");
    put(reply, SET_COOKIE, &gone);
}

/// The page that asks for acceptance before these items are handed out.
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

/// The items named by the parameter `ids`.
pub(super) fn items(ids: &str) -> Option<Vec<ObjectId>> {
    let ids: Vec<String> = serde_json::from_str(ids).ok()?;
    ids.iter().map(|id| id.parse().ok()).collect()
}

pub(super) fn answer(shared: &Shared, ask: &Ask) -> Reply {
    let items = ask.parameter("ids").and_then(items);
    let file_name = ask.parameter("fileName");
    let collection = ask.parameter("isColl") == Some("true");
    match (ask.path[0].as_str(), items) {
        ("licence_accept", None) => super::no_service(),
        ("licence_accept", Some(items)) => accept(&items, file_name, collection),
        (_, items) => page(
            shared,
            ask,
            &items.unwrap_or_default(),
            file_name,
            collection,
        ),
    }
}

fn accept(items: &[ObjectId], file_name: Option<&str>, collection: bool) -> Reply {
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
    let mut reply = found(&target);
    let cookie = format!("{COOKIE}={}; Path={path}", accepted.join("|"));
    put(&mut reply, SET_COOKIE, &cookie);
    reply
}

fn page(
    shared: &Shared,
    ask: &Ask,
    items: &[ObjectId],
    file_name: Option<&str>,
    collection: bool,
) -> Reply {
    let envri = shared.repository.envri();
    let login = match shared.user(ask) {
        Some(_) => String::new(),
        None => format!(
            "<p><a href=\"{}\">Log in</a> to accept the licence for good.</p>",
            envri.auth_url()
        ),
    };
    let accept = if items.is_empty() {
        String::new()
    } else {
        let query = query(items, file_name, collection).replace('&', "&amp;");
        format!("<p><a href=\"/licence_accept?{query}\">I accept the licence</a></p>")
    };
    let page = format!(
        "<!DOCTYPE html><html><head><title>{envri} data licence</title></head><body>\
        <h1>{envri} data licence</h1>\
        <p>{envri} data are licensed under Creative Commons Attribution 4.0 International.</p>\
        {login}{accept}</body></html>"
    );
    reply(StatusCode::OK, "text/html; charset=UTF-8", page)
}
