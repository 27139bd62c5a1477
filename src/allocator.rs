//! What the allocator is told: see `main.rs` for which one, and why.

use std::ffi::CStr;
use std::ptr::null_mut;

/// Gives back to the system what has been free for ten seconds. jemalloc does so
/// by itself, but each part of its memory only while threads allocate there.
pub(crate) fn decay() {
    tell(c"arena.4096.decay");
}

/// Gives back all that is free. Takes milliseconds.
pub(crate) fn purge() {
    tell(c"arena.4096.purge");
    // SQLite's and zstd's share, which is still the C library's. Other libraries
    // than GNU's give it back by themselves.
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: it takes a number, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// `command` is for arena 4096, which stands for all (`MALLCTL_ARENAS_ALL`), and
/// takes and returns nothing.
fn tell(command: &CStr) {
    #[allow(unsafe_code)]
    // SAFETY: the name ends with a zero, nothing else is read or written, and any
    // thread may call it at any time, be jemalloc used otherwise or not.
    let refused = unsafe {
        tikv_jemalloc_sys::mallctl(command.as_ptr(), null_mut(), null_mut(), null_mut(), 0)
    };
    debug_assert_eq!(refused, 0, "jemalloc does not know {command:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// Bytes of this process that are in memory and in no file.
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
    fn what_another_thread_freed_goes_back_to_the_system_at_once() {
        let given_back = || {
            let blocks: Vec<Vec<u8>> = (0..1024).map(|_| vec![1; 256 << 10]).collect();
            let most = resident();
            std::thread::spawn(move || drop(blocks)).join().unwrap();
            purge();
            // Three quarters, for other tests run beside; by itself, about half
            // would have gone by now.
            resident() + (192 << 20) < most
        };
        assert!((0..3).any(|_| given_back()));
    }

    #[test]
    fn jemalloc_knows_what_it_is_told() {
        decay();
        purge();
    }
}
