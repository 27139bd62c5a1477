//! The meta service: landing pages and SPARQL (protocol page, section 4).

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN};
use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::http::{Ask, Reply, json, put, reply, text};
use super::landing::{self, BadMetadata};
use super::sparql::{self, Shape, SparqlError};
use super::state::Shared;
use crate::portal::ObjectId;

/// How long a query may run.
const LONGEST_QUERY: Duration = Duration::from_secs(9);

pub(crate) async fn answer(shared: &Arc<Shared>, ask: &Ask) -> Reply {
    match (&ask.method, &ask.segments()[..]) {
        (_, ["sparql"]) => sparql(shared, ask).await,
        (&Method::GET, ["objects" | "collections", id]) => match id.parse::<ObjectId>() {
            Ok(id) => landing_page(ask, &item(shared, &ask.path[0], &id)),
            Err(_) => not_found(),
        },
        (&Method::GET, ["resources", "stations", id]) => landing_page(ask, &station(shared, id)),
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

async fn sparql(shared: &Arc<Shared>, ask: &Ask) -> Reply {
    let Some(query) = query_text(ask) else {
        return text(
            StatusCode::BAD_REQUEST,
            "Expected a SPARQL query provided as 'query' URL parameter.\n\
            Alternatively, the query can be HTTP POSTed as 'query' Form field or as a plain text payload\n\
            See the specification at https://www.w3.org/TR/sparql11-protocol/#query-operation\n\
            Human users may want to use the Web app at https://meta.icos-cp.eu/sparqlclient/",
        );
    };
    let Some(shape) = Shape::accepted(ask.header(ACCEPT).unwrap_or_default()) else {
        return text(
            StatusCode::NOT_ACCEPTABLE,
            "The resource identified by the request is only capable of generating response \
            entities which have content characteristics not acceptable according to the accept \
            headers sent in the request.",
        );
    };
    let mut reply = run(shared, query, shape).await;
    put(&mut reply, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    reply
}

fn query_text(ask: &Ask) -> Option<String> {
    match ask.method {
        Method::GET => ask.parameter("query").map(str::to_owned),
        Method::POST => {
            let form = ask.form();
            let field = form.into_iter().find(|(key, _)| key == "query");
            field
                .map(|(_, value)| value)
                .or_else(|| String::from_utf8(ask.body.to_vec()).ok())
        }
        _ => None,
    }
}

async fn run(shared: &Arc<Shared>, query: String, shape: Shape) -> Reply {
    let shared = Arc::clone(shared);
    let work = move || sparql::answer(&shared.repository, &query, shape, LONGEST_QUERY);
    let answer = tokio::task::spawn_blocking(work).await;
    match answer {
        Ok(Ok(results)) => reply(StatusCode::OK, shape.content_type(), results),
        Ok(Err(SparqlError::Malformed(why))) => text(StatusCode::BAD_REQUEST, why),
        Ok(Err(SparqlError::Unsupported(why))) => text(StatusCode::NOT_IMPLEMENTED, why),
        Ok(Err(e @ SparqlError::Timeout(_))) => text(StatusCode::BAD_REQUEST, e.to_string()),
        Ok(Err(SparqlError::Failed(why))) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}
