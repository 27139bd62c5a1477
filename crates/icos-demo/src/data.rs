//! The data service (protocol page, section 3): who may have what, and which
//! route answers.

mod batch;
mod cpb;
mod csv;
mod file;
mod licence;
mod original;
mod zip;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde_json::json;

use super::http::{Ask, Reply, reply, text};
use super::state::Shared;
use icos_portal::ObjectId;

pub(crate) fn answer(shared: &Arc<Shared>, ask: &Ask) -> Reply {
    let id = ask.path.get(1).and_then(|id| id.parse::<ObjectId>().ok());
    match (&ask.method, &ask.segments()[..], id) {
        (&Method::GET, ["csv", _], Some(id)) => csv::answer(shared, ask, &id),
        (&Method::GET, ["csv" | "objects" | "collections", ""], _) => text(
            StatusCode::BAD_REQUEST,
            "Expected base64Url- or hex-encoded SHA-256 hash",
        ),
        (&Method::GET, ["objects", _], Some(id)) => original::answer(shared, ask, &id),
        (&Method::GET, ["collections", _], Some(id)) => batch::collection(shared, ask, &id),
        (&Method::GET | &Method::POST, ["objects"], _) => batch::objects(shared, ask),
        (&Method::GET, ["zip", ..], _) => zip::answer(shared, ask, id),
        (&Method::POST, ["cpb", ..], _) => cpb::answer(shared, ask),
        (&Method::GET, ["licence" | "licence_accept"], _) => licence::answer(shared, ask),
        (_, ["portal", "tabular"], _) => text(
            StatusCode::NOT_FOUND,
            "Legacy binary access has been discontinued. \
            Please uprade to the latest version of the Python library.",
        ),
        (&Method::GET, ["whoami"], _) => whoami(shared, ask),
        _ => no_service(),
    }
}

/// What any request gets that no route takes.
fn no_service() -> Reply {
    text(
        StatusCode::NOT_FOUND,
        "Your request did not match any service",
    )
}

fn whoami(shared: &Shared, ask: &Ask) -> Reply {
    let json = json!({ "email": shared.user(ask) });
    reply(StatusCode::OK, "application/json", json.to_string())
}
