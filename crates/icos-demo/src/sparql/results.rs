//! Formats of query results, and errors of queries.

use sparesults::QueryResultsFormat;

/// The format of query results.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ResultFormat {
    Json,
    Xml,
    Csv,
    Tsv,
}

impl ResultFormat {
    /// The format a client asks for; the portal's first choice is JSON.
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

    /// The content type of the reply.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/sparql-results+json; charset=UTF-8",
            Self::Xml => "application/sparql-results+xml; charset=UTF-8",
            Self::Csv => "text/csv; charset=UTF-8",
            Self::Tsv => "text/tab-separated-values; charset=UTF-8",
        }
    }

    pub(super) fn library_format(self) -> QueryResultsFormat {
        match self {
            Self::Json => QueryResultsFormat::Json,
            Self::Xml => QueryResultsFormat::Xml,
            Self::Csv => QueryResultsFormat::Csv,
            Self::Tsv => QueryResultsFormat::Tsv,
        }
    }
}

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
