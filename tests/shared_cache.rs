//! Mounts on one machine that share a cache folder.

use std::path::Path;
use std::time::Duration;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService, Fault, FaultRule};
use nix::sys::signal::Signal;

use crate::support::{TestMount, eventually, get};

fn mount_in(portal: &DemoPortal, cache: &Path) -> TestMount {
    let cache_dir = format!("--cache-dir={}", cache.display());
    let mount = TestMount::with(portal, &[&cache_dir], &[("ICOSFS_TOKEN", &portal.token())]);
    mount.list("objects");
    mount
}

/// Returns the requests for data that the portal got.
fn downloads(portal: &DemoPortal) -> Vec<String> {
    let requests = portal.requests().into_iter();
    let of_data = requests.filter(|r| r.service == DemoService::Data && r.route != "whoami");
    of_data
        .map(|r| format!("{} ({} bytes)", r.path, r.bytes))
        .collect()
}

/// Makes each download take seconds.
fn slow_down(portal: &DemoPortal, bytes_per_second: u64) {
    portal.add_fault(FaultRule::always(Fault::Bandwidth { bytes_per_second }));
}

/// Regression: each mount requested the file.
#[test]
fn file_read_by_two_mounts_at_once_is_downloaded_once() {
    let mut repository = DemoRepository::builtin(1);
    let original = repository.add_original("x.bin", 3 << 20);
    let table = repository.add_table("table.csv", 7, 40_000);
    // Its CSV can be written by the portal only.
    let strange = repository.add_hostile_table("strange.csv", 30_000, false);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let text = |id| portal.repository().csv(id).unwrap().into_bytes();
    let files = [
        (
            format!("objects/{original}.bin"),
            get(&portal, &format!("/objects/{original}")),
        ),
        (format!("objects/{table}.csv"), text(&table)),
        (format!("objects/{strange}.csv"), text(&strange)),
    ];
    let cache = tempfile::tempdir().unwrap();
    let mounts = [(); 2].map(|()| mount_in(&portal, cache.path()));
    slow_down(&portal, 2_000_000);
    for (path, right) in files {
        portal.clear_requests();
        std::thread::scope(|scope| {
            for mount in &mounts {
                let (path, right) = (&path, &right);
                scope.spawn(move || assert!(mount.read(path) == *right, "{path} is wrong"));
            }
        });
        let downloads = downloads(&portal);
        assert_eq!(downloads.len(), 1, "{path}: {downloads:?}");
    }
}

/// The kernel releases the lock of a process that has ended; a process that does not
/// go on is waited for only a while.
#[test]
fn reader_does_not_depend_on_the_other_mount_that_downloads_its_file() {
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let mut repository = DemoRepository::builtin(1);
        let id = repository.add_original("x.bin", 4 << 20);
        let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
        let (path, right) = (
            format!("objects/{id}.bin"),
            get(&portal, &format!("/objects/{id}")),
        );
        let cache = tempfile::tempdir().unwrap();
        let mounts = [(); 2].map(|()| mount_in(&portal, cache.path()));
        portal.clear_requests();
        slow_down(&portal, 1_000_000);
        std::thread::scope(|scope| {
            let [first, second] = &mounts;
            let (path, right, portal) = (&path, &right, &portal);
            scope.spawn(move || first.try_read(path));
            let begun = eventually(Duration::from_secs(10), || downloads(portal).len() == 1);
            assert!(begun);
            let other = scope.spawn(move || assert!(second.read(path) == *right, "{signal}"));
            std::thread::sleep(Duration::from_millis(500));
            let downloads = downloads(portal);
            assert_eq!(downloads.len(), 1, "the second mount waits: {downloads:?}");
            first.signal(signal);
            let read = other.join();
            if signal == Signal::SIGKILL {
                first.clear_away();
            } else {
                first.signal(Signal::SIGCONT);
            }
            read.unwrap();
        });
    }
}
