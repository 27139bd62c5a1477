//! `/sparql` over HTTP: query parameters, caching and quotas.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, PRAGMA};
use axum::http::{HeaderName, Method, StatusCode};
use bytes::Bytes;

use crate::http::{DemoReply, DemoRequest, append_header, field, reply, text};
use crate::sparql::{self, QueryKey, QueryResultsFormat, SparqlError};
use crate::state::PortalState;

const CACHE_STATUS: HeaderName = HeaderName::from_static("x-cache-status");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// If more output than this has been sent when a query is stopped, the service
/// appends the error to it.
const SENT_ALREADY: usize = 32 << 10;

pub(super) async fn answer(state: &Arc<PortalState>, request: &DemoRequest) -> DemoReply {
    if !matches!(request.method, Method::GET | Method::POST) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "HTTP method not allowed, supported methods: OPTIONS, GET, POST",
        );
    }
    let accept = request.header(ACCEPT).unwrap_or_default();
    let mut accepted: Vec<_> = accept.split(',').collect();
    accepted.sort_unstable();
    let query = request.target.split_once('?');
    let query = query.map_or("", |(_, query)| query).to_owned();
    let key = QueryKey(accepted.join(","), query, request.body.clone());
    let (mut reply, status) = match state.cache.get(&key) {
        _ if !may_be_cached(request) => (fresh(state, request, key).await, "BYPASS"),
        Some((format, results)) => (found(format, results), "HIT"),
        None => (fresh(state, request, key).await, "MISS"),
    };
    append_header(&mut reply, CACHE_STATUS, status);
    reply
}

fn may_be_cached(request: &DemoRequest) -> bool {
    let control = request.header(CACHE_CONTROL).unwrap_or_default();
    let forbidden = control.contains("no-cache") || control.contains("max-age=0");
    !forbidden && request.header(PRAGMA) != Some("no-cache")
}

async fn fresh(state: &Arc<PortalState>, request: &DemoRequest, key: QueryKey) -> DemoReply {
    let Some(query) = query_text(request) else {
        return text(
            StatusCode::BAD_REQUEST,
            "Expected a SPARQL query provided as 'query' URL parameter.\n\
            Alternatively, the query can be HTTP POSTed as 'query' Form field or as a plain text payload\n\
            See the specification at https://www.w3.org/TR/sparql11-protocol/#query-operation\n\
            Human users may want to use the Web app at https://meta.icos-cp.eu/sparqlclient/",
        );
    };
    let client = request.header(FORWARDED_FOR).unwrap_or("127.0.0.1");
    let slot = match state.quota.admit(client).await {
        Ok(slot) => slot,
        Err(why) => return text(StatusCode::SERVICE_UNAVAILABLE, why),
    };
    let Some(format) = accepted(request.header(ACCEPT).unwrap_or_default()) else {
        return text(
            StatusCode::NOT_ACCEPTABLE,
            "The resource identified by the request is only capable of generating response \
            entities which have content characteristics not acceptable according to the accept \
            headers sent in the request.",
        );
    };
    let results = run(state, query, format, request.query_delay).await;
    drop(slot);
    match results {
        Ok(results) => {
            let results = Bytes::from(results);
            state.cache.put(key, format, &results);
            found(format, results)
        }
        Err(e) => failure(e, format),
    }
}

/// The format a client asks for; the portal's first choice is JSON.
fn accepted(accept: &str) -> Option<QueryResultsFormat> {
    let ranges = accept
        .split(',')
        .map(|range| range.split(';').next().unwrap_or_default().trim());
    ranges.into_iter().find_map(|range| match range {
        "" | "*/*" | "application/*" | "application/json" | "application/sparql-results+json" => {
            Some(QueryResultsFormat::Json)
        }
        "application/xml" | "application/sparql-results+xml" => Some(QueryResultsFormat::Xml),
        "text/csv" | "text/*" => Some(QueryResultsFormat::Csv),
        "text/plain" | "text/tab-separated-values" => Some(QueryResultsFormat::Tsv),
        _ => None,
    })
}

fn found(format: QueryResultsFormat, results: impl Into<Body>) -> DemoReply {
    let media_type = format.media_type().split(';').next().unwrap_or_default();
    let content_type = format!("{media_type}; charset=UTF-8");
    reply(StatusCode::OK, &content_type, results)
}

fn query_text(request: &DemoRequest) -> Option<String> {
    if request.method == Method::GET {
        return request.parameter("query").map(str::to_owned);
    }
    let form = request.form();
    let query = field(&form, "query").map(str::to_owned);
    query.or_else(|| String::from_utf8(request.body.to_vec()).ok())
}

async fn run(
    state: &Arc<PortalState>,
    query: String,
    format: QueryResultsFormat,
    slowness: Duration,
) -> Result<Vec<u8>, SparqlError> {
    let limit = state.limits.longest_query;
    tokio::time::sleep(slowness.min(limit)).await;
    let rest = limit.saturating_sub(slowness);
    if rest.is_zero() {
        return Err(SparqlError::Timeout(Vec::new()));
    }
    let state = Arc::clone(state);
    let work = move || sparql::answer(&state.repository, &query, format, rest);
    (tokio::task::spawn_blocking(work).await)
        .unwrap_or_else(|e| Err(SparqlError::Failed(e.to_string())))
}

fn failure(error: SparqlError, format: QueryResultsFormat) -> DemoReply {
    let why = error.to_string();
    let status = match error {
        SparqlError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        SparqlError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        SparqlError::Timeout(sent) if sent.len() > SENT_ALREADY => {
            let mut body = sent;
            body.extend_from_slice(b"\nnull\njava.util.concurrent.CancellationException\n");
            return found(format, body);
        }
        SparqlError::Malformed(_) | SparqlError::Timeout(_) => StatusCode::BAD_REQUEST,
    };
    text(status, why)
}
