//! The meta service: landing pages and SPARQL (protocol page, section 4).

mod query;

use std::sync::Arc;

use axum::http::header::ACCEPT;
use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::http::{DemoReply, DemoRequest, json, reply, text};
use super::landing::{self, MetadataError};
use super::state::PortalState;
use icos_portal::ObjectId;

pub(crate) async fn answer(state: &Arc<PortalState>, request: &DemoRequest) -> DemoReply {
    match (&request.method, &request.segments()[..]) {
        (_, ["sparql"]) => query::answer(state, request).await,
        (&Method::GET, ["objects" | "collections", id]) => match id.parse::<ObjectId>() {
            Ok(id) => landing_page(request, &item(state, &request.path[0], &id)),
            Err(_) => not_found(),
        },
        (&Method::GET, ["resources", "stations", id]) => landing_page(request, &station(state, id)),
        (&Method::GET, ["resources" | "ontologies", ..]) => resource(state, request),
        _ => not_found(),
    }
}

fn not_found() -> DemoReply {
    let page = "<html><body><h1>Page not found</h1>\
        <p>The requested page could not be found.</p></body></html>";
    reply(StatusCode::NOT_FOUND, "text/html; charset=UTF-8", page)
}

fn item(state: &PortalState, kind: &str, id: &ObjectId) -> Result<Value, MetadataError> {
    let repository = &state.repository;
    let (graph, envri) = (repository.graph(), repository.envri());
    let iri = format!("{}/{kind}/{id}", envri.meta_url());
    if kind == "collections" {
        landing::collection(graph, &iri)
    } else {
        landing::object(graph, envri, &iri)
    }
}

fn station(state: &PortalState, id: &str) -> Result<Value, MetadataError> {
    let graph = state.repository.graph();
    let prefix = state.repository.envri().instance_prefix();
    let iri = format!("{prefix}resources/stations/{id}");
    let unknown = || landing::expected_one(&iri, "cpmeta:hasName", 0);
    landing::station_page(graph.node(&iri).ok_or_else(unknown)?)
}

/// The page of a data type, an organisation, or any other resource with a
/// label.
fn resource(state: &PortalState, request: &DemoRequest) -> DemoReply {
    let graph = state.repository.graph();
    let prefix = state.repository.envri().instance_prefix();
    let iri = format!("{prefix}{}", request.path.join("/"));
    match graph.node(&iri).and_then(landing::resource_page) {
        Some(page) => landing_page(request, &page),
        None => not_found(),
    }
}

fn landing_page(request: &DemoRequest, page: &Result<Value, MetadataError>) -> DemoReply {
    match page {
        page if !wants_json(request) => html(page),
        Ok(page) => json(page),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

/// An HTML page that shows the JSON.
fn html(page: &Result<Value, MetadataError>) -> DemoReply {
    let (status, body) = match page {
        Ok(page) => (StatusCode::OK, format!("{page:#}")),
        Err(e) => (StatusCode::NOT_FOUND, e.to_string()),
    };
    let escaped = body.replace('&', "&amp;").replace('<', "&lt;");
    let page = format!("<html><body><pre>{escaped}</pre></body></html>");
    reply(status, "text/html; charset=UTF-8", page)
}

/// Landing pages are HTML unless the client requests JSON.
fn wants_json(request: &DemoRequest) -> bool {
    let accept = request.header(ACCEPT).unwrap_or_default();
    accept.contains("application/json") && !accept.contains("text/html")
}
