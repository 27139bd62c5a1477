//! Lists of files in ZIP archives.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| icosfs::fuzzing::archive_list(json));
