//! Credentials files with any content, as after crashes of other programs.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| icos_portal::fuzzing::credentials(content));
