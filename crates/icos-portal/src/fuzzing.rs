//! Entry points for the fuzz targets in `fuzz/`: parsers without a public
//! caller, with the properties that must hold for any input. Not part of the
//! API.

use crate::Envri;
use crate::auth::Credentials;
use crate::lists;

/// Parses a credentials file. Writing and parsing again must give the same
/// credentials and the same bytes.
pub fn credentials(content: &[u8]) {
    if let Some((read, written)) = Credentials::parse(content, Envri::Icos) {
        let (again, twice) = Credentials::parse(&written, Envri::Icos).expect("we wrote it");
        assert!(again.same_as(&read) && twice == written);
    }
}

/// Parses SPARQL results as every kind of list.
pub fn sparql_results(json: &[u8]) {
    lists::parse_as_every_list(json);
}
