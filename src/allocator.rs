//! The allocator of the whole program.
//!
//! GNU's keeps what was freed where it lies, each thread in its own part: of a
//! mount that 32 readers had used for ten minutes, 60 MiB of 170 were holes, and
//! they grew by a tenth in a quarter of an hour, though all that is free was given
//! back every 20 s. jemalloc's holes stay few, and one call finds them all.

use std::ptr::null_mut;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Gives memory that is free back to the system, at once: jemalloc does so by
/// itself ten seconds later, but only while others are allocating. Takes
/// milliseconds.
pub(crate) fn trim() {
    // "All arenas" is `MALLCTL_ARENAS_ALL` in jemalloc's manual.
    const PURGE: &std::ffi::CStr = c"arena.4096.purge";
    #[allow(unsafe_code)]
    // SAFETY: the name ends with a zero, and this call reads and writes nothing
    // else; any thread may make it at any time.
    let refused = unsafe {
        tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), null_mut(), null_mut(), null_mut(), 0)
    };
    debug_assert_eq!(refused, 0, "jemalloc knows no {PURGE:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of this process that are in memory and in no file.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib: usize = line.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        kib << 10
    }

    #[test]
    fn what_another_thread_freed_goes_back_to_the_system_at_once() {
        let blocks: Vec<Vec<u8>> = (0..1024).map(|_| vec![1; 256 << 10]).collect();
        let most = resident();
        std::thread::spawn(move || drop(blocks)).join().unwrap();
        trim();
        // Three quarters, for other tests run beside; by itself, about half
        // would have gone by now.
        let now = resident();
        assert!(now + (192 << 20) < most, "of {most} bytes, {now} are left");
    }
}
