//! SPARQL, answered by Oxigraph's engine over the repository's graph.

mod cache;
mod dataset;
mod quota;
mod rewrite;

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use sparesults::{QueryResultsFormat, QueryResultsSerializer};
use spareval::{CancellationToken, QueryEvaluationError, QueryEvaluator, QueryResults};
use spargebra::{Query, SparqlParser};

pub(crate) use self::cache::{Cache, Key};
use self::dataset::Triples;
pub(crate) use self::quota::Quota;
pub use self::quota::SparqlLimits;
use super::repository::Repository;
use super::vocab::CPMETA;

/// The shapes results come in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    Json,
    Xml,
    Csv,
    Tsv,
}

impl Shape {
    /// The shape a client asks for; the portal's first choice is JSON.
    pub(crate) fn accepted(accept: &str) -> Option<Self> {
        let ranges = accept
            .split(',')
            .map(|range| range.split(';').next().unwrap_or_default().trim());
        for range in ranges {
            match range {
                ""
                | "*/*"
                | "application/*"
                | "application/json"
                | "application/sparql-results+json" => return Some(Self::Json),
                "application/xml" | "application/sparql-results+xml" => return Some(Self::Xml),
                "text/csv" | "text/*" => return Some(Self::Csv),
                "text/plain" | "text/tab-separated-values" => return Some(Self::Tsv),
                _ => {}
            }
        }
        None
    }

    /// The content type of the answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/sparql-results+json; charset=UTF-8",
            Self::Xml => "application/sparql-results+xml; charset=UTF-8",
            Self::Csv => "text/csv; charset=UTF-8",
            Self::Tsv => "text/tab-separated-values; charset=UTF-8",
        }
    }

    fn format(self) -> QueryResultsFormat {
        match self {
            Self::Json => QueryResultsFormat::Json,
            Self::Xml => QueryResultsFormat::Xml,
            Self::Csv => QueryResultsFormat::Csv,
            Self::Tsv => QueryResultsFormat::Tsv,
        }
    }
}

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SparqlError {
    /// The text is no query.
    #[error("{0}")]
    Malformed(String),
    /// A kind of query the portal does not answer.
    #[error("{0}")]
    Unsupported(&'static str),
    /// It took too long; what had been written by then.
    #[error("SPARQL execution timeout")]
    Timeout(Vec<u8>),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

/// Runs a query, for at most `limit`.
///
/// Blocks: not for an async task.
pub(crate) fn answer(
    repository: &Repository,
    text: &str,
    shape: Shape,
    limit: Duration,
) -> Result<Vec<u8>, SparqlError> {
    let mut query = parse(text)?;
    rewrite::find_places(&mut query, repository)?;
    let with_virtual = rewrite::binds_virtual_subjects(&mut query);
    let token = CancellationToken::new();
    let alarm = alarm(limit, token.clone());
    let evaluator = QueryEvaluator::new().with_cancellation_token(token);
    let results = evaluator.prepare(&query).execute(Triples {
        repository,
        with_virtual,
    });
    let mut out = Vec::new();
    let outcome = results.and_then(|results| write(results, shape, &mut out));
    drop(alarm);
    match outcome {
        Ok(()) => Ok(out),
        Err(QueryEvaluationError::Cancelled) => Err(SparqlError::Timeout(out)),
        Err(e) => Err(SparqlError::Failed(e.to_string())),
    }
}

fn parse(text: &str) -> Result<Query, SparqlError> {
    let malformed = |e: String| SparqlError::Malformed(e);
    let parser = SparqlParser::new()
        .with_base_iri(CPMETA)
        .map_err(|e| malformed(e.to_string()))?;
    // RDF4J knows these prefixes without being told.
    let known = ["rdf", "rdfs", "xsd", "owl"];
    let parser = known.into_iter().try_fold(parser, |parser, prefix| {
        parser
            .with_prefix(prefix, super::vocab::iri(&format!("{prefix}:")))
            .map_err(|e| malformed(e.to_string()))
    })?;
    let query = parser
        .parse_query(text)
        .map_err(|e| malformed(e.to_string()))?;
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
    shape: Shape,
    out: &mut Vec<u8>,
) -> Result<(), QueryEvaluationError> {
    let QueryResults::Solutions(solutions) = results else {
        return Ok(());
    };
    let memory = "a vector takes what is written";
    let variables = solutions.variables().to_vec();
    let mut writer = QueryResultsSerializer::from_format(shape.format())
        .serialize_solutions_to_writer(&mut *out, variables)
        .expect(memory);
    for solution in solutions {
        writer.serialize(&solution?).expect(memory);
    }
    writer.finish().expect(memory);
    Ok(())
}

/// Cancels a query unless the returned end is dropped in time.
fn alarm(limit: Duration, token: CancellationToken) -> Sender<()> {
    let (alarm, dropped) = mpsc::channel();
    std::thread::spawn(move || {
        if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            token.cancel();
        }
    });
    alarm
}
