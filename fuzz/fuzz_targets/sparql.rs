//! Untrusted SPARQL results.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| icos_portal::fuzzing::sparql_results(json));
