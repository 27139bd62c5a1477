//! The data service (protocol page, section 3): its routes.

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

use super::http::{DemoReply, DemoRequest, no_route, reply, text};
use super::state::PortalState;
use icos_portal::ObjectId;

pub(crate) fn answer(state: &Arc<PortalState>, request: &DemoRequest) -> DemoReply {
    let id = request
        .path
        .get(1)
        .and_then(|id| id.parse::<ObjectId>().ok());
    match (&request.method, &request.segments()[..], id) {
        (&Method::GET, ["csv", _], Some(id)) => csv::answer(state, request, &id),
        (&Method::GET, ["csv" | "objects" | "collections", ""], _) => text(
            StatusCode::BAD_REQUEST,
            "Expected base64Url- or hex-encoded SHA-256 hash",
        ),
        (&Method::GET, ["objects", _], Some(id)) => original::answer(state, request, &id),
        (&Method::GET, ["collections", _], Some(id)) => batch::collection(state, request, &id),
        (&Method::GET | &Method::POST, ["objects"], _) => batch::objects(state, request),
        (&Method::GET, ["zip", ..], _) => zip::answer(state, request, id),
        (&Method::POST, ["cpb", ..], _) => cpb::answer(state, request),
        (&Method::GET, ["licence" | "licence_accept"], _) => licence::answer(state, request),
        (_, ["portal", "tabular"], _) => text(
            StatusCode::NOT_FOUND,
            "Legacy binary access has been discontinued. \
            Please uprade to the latest version of the Python library.",
        ),
        (&Method::GET, ["whoami"], _) => whoami(state, request),
        _ => no_route(),
    }
}

fn whoami(state: &PortalState, request: &DemoRequest) -> DemoReply {
    let json = json!({ "email": state.user(request) });
    reply(StatusCode::OK, "application/json", json.to_string())
}
