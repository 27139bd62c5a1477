//! Credentials files as other programs, or crashes, may leave them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| icos_portal::fuzzing::credentials(content));
