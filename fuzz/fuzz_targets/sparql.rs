//! SPARQL results as strangers may send them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| icosfs::fuzzing::sparql_results(json));
