//! Why a table cannot be exported.

use std::io;

use icos_table::TableError;
use icos_table::parquet::ParquetError;

use crate::catalog::{did_you_mean, similar};
use crate::content::ContentError;

/// The number of column names in an error message.
const MAX_NAMES: usize = 20;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The bytes could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The table has no column of this name.
    #[error(
        "the table has no column {found:?}{}; its columns are {}",
        did_you_mean(&similar_columns(found, has)),
        list_names(has)
    )]
    NoSuchColumn {
        /// The requested name.
        found: String,
        /// The columns of the table.
        has: Vec<String>,
    },
    /// Only the portal can write this table, and only completely.
    #[error("cannot select columns or rows of this table: {0}")]
    NotSelectable(TableError),
    /// The output failed.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

impl From<TableError> for ExportError {
    fn from(error: TableError) -> Self {
        Self::Content(error.into())
    }
}

impl From<ParquetError> for ExportError {
    fn from(error: ParquetError) -> Self {
        match error.into_io() {
            Ok(error) => Self::Output(error),
            Err(ParquetError::Window(error)) => error.into(),
            Err(error) => Self::Content(ContentError::ParquetNotWritten(error.to_string())),
        }
    }
}

/// The columns whose names are similar to `found`; all that differ in case only, if several
/// do.
fn similar_columns(found: &str, has: &[String]) -> Vec<String> {
    let names = has.iter().map(|name| (name.clone(), name.clone()));
    similar(found, names)
}

fn list_names(names: &[String]) -> String {
    let more = names.len().saturating_sub(MAX_NAMES);
    let shown = names[..names.len() - more].join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_column_is_told_the_similar_ones() {
        let has = ["TIMESTAMP", "co2", "Stdev", "T", "t"].map(str::to_owned);
        for (found, message) in [
            (
                "c02",
                "the table has no column \"c02\"; did you mean co2?; its",
            ),
            (
                "stddev",
                "the table has no column \"stddev\"; did you mean Stdev?; its",
            ),
            (
                "pressure",
                "the table has no column \"pressure\"; its columns are",
            ),
        ] {
            let error = ExportError::NoSuchColumn {
                found: found.to_owned(),
                has: has.to_vec(),
            };
            let said = error.to_string();
            assert!(said.starts_with(message), "{said}");
        }
    }

    #[test]
    fn list_names_shows_some_names_and_counts_the_others() {
        let names = |n: usize| (0..n).map(|at| at.to_string()).collect::<Vec<_>>();
        assert_eq!(list_names(&names(2)), "0, 1");
        assert!(list_names(&names(25)).ends_with("18, 19 and 5 more"));
    }
}
