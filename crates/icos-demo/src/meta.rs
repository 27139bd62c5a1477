//! The meta service: landing pages and SPARQL (protocol page, section 4).

mod query;

use std::sync::Arc;

use axum::http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN};
use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::http::{Ask, Reply, json, put, reply, text};
use super::landing::{self, BadMetadata};
use super::state::Shared;
use icos_portal::ObjectId;

pub(crate) async fn answer(shared: &Arc<Shared>, ask: &Ask) -> Reply {
    match (&ask.method, &ask.segments()[..]) {
        (_, ["sparql"]) => query::answer(shared, ask).await,
        (&Method::GET, ["objects" | "collections", id]) => match id.parse::<ObjectId>() {
            Ok(id) => landing_page(ask, &item(shared, &ask.path[0], &id)),
            Err(_) => not_found(),
        },
        (&Method::GET, ["resources", "stations", id]) => landing_page(ask, &station(shared, id)),
        (&Method::GET, ["resources" | "ontologies", ..]) => resource(shared, ask),
        _ => not_found(),
    }
}

fn not_found() -> Reply {
    let page = "<html><body><h1>Page not found</h1>\
        <p>The requested page could not be found.</p></body></html>";
    reply(StatusCode::NOT_FOUND, "text/html; charset=UTF-8", page)
}

fn item(shared: &Shared, kind: &str, id: &ObjectId) -> Result<Value, BadMetadata> {
    let repository = &shared.repository;
    let (graph, envri) = (repository.graph(), repository.envri());
    let iri = format!("{}/{kind}/{id}", envri.meta_url());
    if kind == "collections" {
        landing::collection(graph, &iri)
    } else {
        landing::object(graph, envri, &iri)
    }
}

fn station(shared: &Shared, id: &str) -> Result<Value, BadMetadata> {
    let graph = shared.repository.graph();
    let prefix = shared.repository.envri().instance_prefix();
    let iri = format!("{prefix}resources/stations/{id}");
    let unknown = || landing::expected_one(&iri, "cpmeta:hasName", 0);
    landing::station_page(graph, graph.node(&iri).ok_or_else(unknown)?)
}

/// Data types, organisations, and whatever else has a label.
fn resource(shared: &Shared, ask: &Ask) -> Reply {
    let graph = shared.repository.graph();
    let prefix = shared.repository.envri().instance_prefix();
    let iri = format!("{prefix}{}", ask.path.join("/"));
    match graph.node(&iri).and_then(landing::resource_page) {
        Some(page) => landing_page(ask, &page),
        None => not_found(),
    }
}

fn landing_page(ask: &Ask, page: &Result<Value, BadMetadata>) -> Reply {
    let mut reply = if wants_json(ask) {
        match page {
            Ok(page) => json(page),
            Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
        }
    } else {
        html(page)
    };
    put(&mut reply, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    reply
}

/// A page for people: what the JSON says.
fn html(page: &Result<Value, BadMetadata>) -> Reply {
    let (status, body) = match page {
        Ok(page) => (StatusCode::OK, format!("{page:#}")),
        Err(e) => (StatusCode::NOT_FOUND, e.to_string()),
    };
    let escaped = body.replace('&', "&amp;").replace('<', "&lt;");
    let page = format!("<html><body><pre>{escaped}</pre></body></html>");
    reply(status, "text/html; charset=UTF-8", page)
}

/// Landing pages come as HTML unless JSON is asked for.
fn wants_json(ask: &Ask) -> bool {
    let accept = ask.header(ACCEPT).unwrap_or_default();
    accept.contains("application/json") && !accept.contains("text/html")
}
