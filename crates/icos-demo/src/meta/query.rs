//! `/sparql` as HTTP: where the query stands, what is kept, who may ask.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, PRAGMA,
};
use axum::http::{HeaderName, Method, StatusCode};
use bytes::Bytes;

use crate::http::{Ask, Reply, put, reply, text};
use crate::sparql::{self, Key, Shape, SparqlError};
use crate::state::Shared;

const CACHE_STATUS: HeaderName = HeaderName::from_static("x-cache-status");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Output that has left the service when a query is stopped, and to which the
/// error is then appended.
const SENT_ALREADY: usize = 32 << 10;

pub(super) async fn answer(shared: &Arc<Shared>, ask: &Ask) -> Reply {
    let mut reply = match ask.method {
        Method::OPTIONS => {
            let mut reply = text(StatusCode::OK, "OK");
            put(&mut reply, ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
            put(
                &mut reply,
                ACCESS_CONTROL_ALLOW_HEADERS,
                "Content-Type, Cache-Control",
            );
            reply
        }
        Method::GET | Method::POST => cached(shared, ask).await,
        _ => text(
            StatusCode::METHOD_NOT_ALLOWED,
            "HTTP method not allowed, supported methods: OPTIONS, GET, POST",
        ),
    };
    put(&mut reply, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    reply
}

async fn cached(shared: &Arc<Shared>, ask: &Ask) -> Reply {
    let mut accepted: Vec<_> = ask.header(ACCEPT).unwrap_or_default().split(',').collect();
    accepted.sort_unstable();
    let query = ask.target.split_once('?').map_or("", |(_, query)| query);
    let key = Key(accepted.join(","), query.to_owned(), ask.body.clone());
    let status = if may_be_cached(ask) {
        if let Some((shape, results)) = shared.cache.get(&key) {
            let mut reply = reply(StatusCode::OK, shape.content_type(), results);
            put(&mut reply, CACHE_STATUS, "HIT");
            return reply;
        }
        "MISS"
    } else {
        "BYPASS"
    };
    let mut reply = fresh(shared, ask, key).await;
    put(&mut reply, CACHE_STATUS, status);
    reply
}

fn may_be_cached(ask: &Ask) -> bool {
    let control = ask.header(CACHE_CONTROL).unwrap_or_default();
    let forbidden = control.contains("no-cache") || control.contains("max-age=0");
    !forbidden && ask.header(PRAGMA) != Some("no-cache")
}

async fn fresh(shared: &Arc<Shared>, ask: &Ask, key: Key) -> Reply {
    let Some(query) = query_text(ask) else {
        return text(
            StatusCode::BAD_REQUEST,
            "Expected a SPARQL query provided as 'query' URL parameter.\n\
            Alternatively, the query can be HTTP POSTed as 'query' Form field or as a plain text payload\n\
            See the specification at https://www.w3.org/TR/sparql11-protocol/#query-operation\n\
            Human users may want to use the Web app at https://meta.icos-cp.eu/sparqlclient/",
        );
    };
    let client = ask.header(FORWARDED_FOR).unwrap_or("127.0.0.1");
    let slot = match shared.quota.admit(client).await {
        Ok(slot) => slot,
        Err(why) => return text(StatusCode::SERVICE_UNAVAILABLE, why),
    };
    let Some(shape) = Shape::accepted(ask.header(ACCEPT).unwrap_or_default()) else {
        return text(
            StatusCode::NOT_ACCEPTABLE,
            "The resource identified by the request is only capable of generating response \
            entities which have content characteristics not acceptable according to the accept \
            headers sent in the request.",
        );
    };
    let results = run(shared, query, shape, ask.slowness).await;
    drop(slot);
    match results {
        Ok(results) => {
            let results = Bytes::from(results);
            shared.cache.put(key, shape, &results);
            reply(StatusCode::OK, shape.content_type(), results)
        }
        Err(e) => failure(e, shape),
    }
}

fn query_text(ask: &Ask) -> Option<String> {
    if ask.method == Method::GET {
        return ask.parameter("query").map(str::to_owned);
    }
    let form = ask.form();
    let field = form.into_iter().find(|(key, _)| key == "query");
    field
        .map(|(_, value)| value)
        .or_else(|| String::from_utf8(ask.body.to_vec()).ok())
}

async fn run(
    shared: &Arc<Shared>,
    query: String,
    shape: Shape,
    slowness: Duration,
) -> Result<Vec<u8>, SparqlError> {
    let limit = shared.limits.longest_query;
    tokio::time::sleep(slowness.min(limit)).await;
    let rest = limit.saturating_sub(slowness);
    if rest.is_zero() {
        return Err(SparqlError::Timeout(Vec::new()));
    }
    let shared = Arc::clone(shared);
    let work = move || sparql::answer(&shared.repository, &query, shape, rest);
    (tokio::task::spawn_blocking(work).await)
        .unwrap_or_else(|e| Err(SparqlError::Failed(e.to_string())))
}

fn failure(error: SparqlError, shape: Shape) -> Reply {
    let why = error.to_string();
    let status = match error {
        SparqlError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        SparqlError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        SparqlError::Timeout(sent) if sent.len() > SENT_ALREADY => {
            let mut body = sent;
            body.extend_from_slice(b"\nnull\njava.util.concurrent.CancellationException\n");
            return reply(StatusCode::OK, shape.content_type(), body);
        }
        SparqlError::Malformed(_) | SparqlError::Timeout(_) => StatusCode::BAD_REQUEST,
    };
    text(status, why)
}
