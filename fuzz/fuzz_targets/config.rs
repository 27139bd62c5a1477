//! `config.toml`: settings that there are with any values, and any text.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(u8, &str)>, &str)| icosfs::fuzzing::config(&input.0, input.1));
