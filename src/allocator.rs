//! Returns free memory to the system. `main.rs` chooses the allocator and says
//! why.

/// Returns memory that has been free for ten seconds. jemalloc does so by itself
/// too, but in each arena only while a thread allocates there. The C library's
/// allocator has no such operation.
pub(crate) fn decay() {
    #[cfg(feature = "jemalloc")]
    jemalloc(c"arena.4096.decay");
}

/// Returns all free memory. Takes milliseconds.
pub(crate) fn purge() {
    #[cfg(feature = "jemalloc")]
    jemalloc(c"arena.4096.purge");
    // Without jemalloc, all memory is the C library's; with it, that of SQLite
    // and zstd. C libraries other than GNU's return it by themselves.
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: malloc_trim takes a number and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Runs a command of jemalloc for arena 4096, which stands for all arenas
/// (`MALLCTL_ARENAS_ALL`). The command takes and returns nothing.
#[cfg(feature = "jemalloc")]
fn jemalloc(command: &std::ffi::CStr) {
    use std::ptr::null_mut;
    #[allow(unsafe_code)]
    // SAFETY: the name is NUL-terminated, nothing else is read or written, and
    // any thread may call it at any time, whichever allocator the program uses.
    let status = unsafe {
        tikv_jemalloc_sys::mallctl(command.as_ptr(), null_mut(), null_mut(), null_mut(), 0)
    };
    debug_assert_eq!(status, 0, "jemalloc rejected {command:?}");
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests may fail if no thread starts"
)]
mod tests {
    use super::*;

    #[cfg(feature = "jemalloc")]
    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// Returns the resident anonymous memory of this process in bytes.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib: usize = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib << 10
    }

    #[test]
    fn purge_returns_memory_that_another_thread_freed() {
        let returned = || {
            let blocks: Vec<Vec<u8>> = (0..1024).map(|_| vec![1; 256 << 10]).collect();
            let most = resident();
            std::thread::spawn(move || drop(blocks)).join().unwrap();
            purge();
            // Three quarters, since other tests run beside this one; without
            // purge, about half would have been returned by now.
            resident() + (192 << 20) < most
        };
        assert!((0..3).any(|_| returned()));
    }

    #[test]
    fn allocator_accepts_both_commands() {
        decay();
        purge();
    }
}
