//! SPARQL queries, evaluated by Oxigraph's engine over the repository's graph.

mod cache;
mod dataset;
mod quota;
mod rewrite;

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

pub(crate) use sparesults::QueryResultsFormat;
use sparesults::QueryResultsSerializer;
use spareval::{CancellationToken, QueryEvaluationError, QueryEvaluator, QueryResults};
use spargebra::{Query, SparqlParser};

pub(crate) use self::cache::{QueryCache, QueryKey};
use self::dataset::RepositoryDataset;
pub(crate) use self::quota::QueryQuota;
pub use self::quota::SparqlLimits;
use super::repository::DemoRepository;
use super::vocabulary::CPMETA;

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SparqlError {
    /// The text is not a SPARQL query.
    #[error("{0}")]
    Malformed(String),
    /// A kind of query that the portal does not support.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The query took too long. Holds the results written by then.
    #[error("SPARQL execution timeout")]
    Timeout(Vec<u8>),
    /// The evaluation failed.
    #[error("{0}")]
    Failed(String),
}

/// Runs a query for at most `limit`.
///
/// Blocks the calling thread.
pub(crate) fn answer(
    repository: &DemoRepository,
    text: &str,
    format: QueryResultsFormat,
    limit: Duration,
) -> Result<Vec<u8>, SparqlError> {
    let mut query = parse(text)?;
    rewrite::find_places(&mut query, repository)?;
    let with_virtual = rewrite::binds_virtual_subjects(&mut query);
    let token = CancellationToken::new();
    let alarm = alarm(limit, &token);
    let evaluator = QueryEvaluator::new().with_cancellation_token(token);
    let results = evaluator.prepare(&query).execute(RepositoryDataset {
        repository,
        with_virtual,
    });
    let mut out = Vec::new();
    let outcome = results.and_then(|results| write(results, format, &mut out));
    drop(alarm);
    match outcome {
        Ok(()) => Ok(out),
        Err(QueryEvaluationError::Cancelled) => Err(SparqlError::Timeout(out)),
        Err(e) => Err(SparqlError::Failed(e.to_string())),
    }
}

fn parse(text: &str) -> Result<Query, SparqlError> {
    // RDF4J predefines these prefixes.
    let prefixes = ["rdf", "rdfs", "xsd", "owl"];
    let parser = SparqlParser::new().with_base_iri(CPMETA);
    let parser = parser.and_then(|parser| {
        (prefixes.into_iter()).try_fold(parser, |parser, prefix| {
            parser.with_prefix(prefix, super::vocabulary::iri(&format!("{prefix}:")))
        })
    });
    let query = (parser.expect("the namespaces are valid IRIs"))
        .parse_query(text)
        .map_err(|e| SparqlError::Malformed(e.to_string()))?;
    match &query {
        Query::Ask { .. } => Err(SparqlError::Unsupported(
            "Boolean queries are not supported yet",
        )),
        Query::Construct { .. } | Query::Describe { .. } => {
            Err(SparqlError::Unsupported("Unsupported query"))
        }
        Query::Select { .. } => Ok(query),
    }
}

fn write(
    results: QueryResults<'_>,
    format: QueryResultsFormat,
    out: &mut Vec<u8>,
) -> Result<(), QueryEvaluationError> {
    let QueryResults::Solutions(solutions) = results else {
        return Ok(());
    };
    let memory = "a vector takes what is written";
    let variables = solutions.variables().to_vec();
    let mut writer = QueryResultsSerializer::from_format(format)
        .serialize_solutions_to_writer(&mut *out, variables)
        .expect(memory);
    for solution in solutions {
        writer.serialize(&solution?).expect(memory);
    }
    writer.finish().expect(memory);
    Ok(())
}

/// Cancels a query after `limit`, unless the returned sender is dropped first.
fn alarm(limit: Duration, token: &CancellationToken) -> Sender<()> {
    let (alarm, dropped) = mpsc::channel();
    let waiting = token.clone();
    let started = std::thread::Builder::new().spawn(move || {
        if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            waiting.cancel();
        }
    });
    if started.is_err() {
        // No query may run without a limit.
        token.cancel();
    }
    alarm
}
