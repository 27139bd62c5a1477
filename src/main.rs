//! The `icosfs` command: parse, run one command, print an error for a person.

use std::process::ExitCode;

/// Buffers of all sizes come and go in many threads. GNU's allocator keeps holes
/// between them, more and more of them, which a soak's memory showed; jemalloc's
/// stay few (docs/performance.md). Here rather than in the library, whose users
/// and fuzzers have their own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    icosfs::cli::main()
}
