//! The `icosfs` command. All of it is in [`icosfs::cli`].

use std::process::ExitCode;

/// Many threads allocate and free buffers of all sizes. The C library's
/// allocator fragments more and more under this load, jemalloc little
/// (docs/performance.md). Here rather than in the library, since the library's
/// users and the fuzz targets choose their own allocator.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    icosfs::cli::main()
}
