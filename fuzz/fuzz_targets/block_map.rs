//! Block maps of cached files: valid headers and any words, or any bytes.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    len: u64,
    is_valid: bool,
    bytes: Vec<u8>,
}

fuzz_target!(|input: Input| {
    icosfs::fuzzing::block_map(input.len, input.is_valid, &input.bytes);
});
