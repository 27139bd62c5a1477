//! Journals of cached files: valid records, and trailing bytes as after a crash.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    len: u64,
    /// Small offsets and lengths, which overlap more often.
    near: Vec<(u8, u8)>,
    far: Vec<(u64, u32, u64)>,
    trailing: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let near = input.near.iter().map(|&(offset, len)| (u64::from(offset), u32::from(len), 0));
    let records: Vec<_> = near.chain(input.far.iter().copied()).collect();
    icosfs::fuzzing::block_map(input.len, &records, &input.trailing);
});
