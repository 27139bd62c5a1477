//! Requests that reads of originals cause.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, Fault, FaultPlan, FaultRule};
use icos_portal::ObjectId;

use crate::support::TestMount;

const MIB: u64 = 1 << 20;

/// A portal with one large original.
struct Large {
    portal: DemoPortal,
    id: ObjectId,
    size: u64,
}

impl Large {
    fn of(size: u64) -> Self {
        let mut repository = DemoRepository::builtin(1);
        let id = repository.add_original("large.bin", size);
        let portal = DemoPortal::start(repository, DemoOptions::default()).expect("it starts");
        Self { portal, id, size }
    }

    fn mount(&self, options: &[&str]) -> TestMount {
        TestMount::with(
            &self.portal,
            options,
            &[("ICOSFS_TOKEN", &self.portal.token())],
        )
    }

    fn path(&self) -> String {
        format!("objects/{}.bin", self.id)
    }

    /// Returns the ranges requested so far.
    fn ranges(&self) -> Vec<Option<String>> {
        let path = format!("/objects/{}", self.id);
        let requests = self.portal.requests();
        let of_it = requests.into_iter().filter(|r| r.path == path && r.cookie);
        of_it.map(|request| request.range).collect()
    }

    /// Delays each response by half a second.
    fn is_far(&self, faults: &[Fault]) {
        let latency = Fault::Latency {
            ms: 500,
            jitter_ms: 0,
        };
        let faults = faults.iter().copied().chain([latency]);
        self.portal.set_faults(FaultPlan {
            seed: 1,
            rules: faults.map(FaultRule::always).collect(),
        });
    }

    /// Reads `count` ranges of 64 KiB at random and compares them.
    fn read_scattered(&self, mount: &TestMount, count: u64) {
        let right = self.portal.repository().original(&self.id).unwrap();
        let file = File::open(mount.path(&self.path())).unwrap();
        let mut found = vec![0; 64 << 10];
        for n in 1..=count {
            // A multiplicative hash: spread over the file, in no order.
            let at =
                (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % (self.size - found.len() as u64);
            file.read_exact_at(&mut found, at).unwrap();
            let at = usize::try_from(at).unwrap();
            assert!(found == right[at..at + found.len()], "bytes from {at}");
        }
    }
}

#[test]
fn sequential_read_is_one_download() {
    let large = Large::of(40 * MIB);
    let mount = large.mount(&[]);

    let bytes = mount.read(&large.path());

    assert_eq!(ObjectId::of_content(&bytes), large.id);
    assert_eq!(large.ranges(), [None]);
}

#[test]
fn many_random_reads_lead_to_one_download_of_the_rest() {
    let large = Large::of(96 * MIB);
    let mount = large.mount(&[]);

    large.read_scattered(&mount, 200);

    let ranges = large.ranges();
    assert!(ranges.len() <= 17, "{ranges:?}");
}

/// A request of its own would take a round trip and count as a download.
#[test]
fn read_shortly_ahead_of_a_download_waits_for_it() {
    let large = Large::of(48 * MIB);
    let mount = large.mount(&[]);
    let right = large.portal.repository().original(&large.id).unwrap();
    let file = File::open(mount.path(&large.path())).unwrap();
    let mut found = vec![0; 1 << 20];
    large.is_far(&[]);
    // By then the download rate is known.
    for at in [0, MIB, 2 * MIB, 30 * MIB] {
        file.read_exact_at(&mut found, at).unwrap();
        let at = usize::try_from(at).unwrap();
        assert!(found == right[at..at + found.len()], "bytes from {at}");
    }
    assert_eq!(large.ranges(), [None]);
}

#[test]
fn read_far_ahead_of_a_slow_download_makes_its_own_request() {
    let large = Large::of(48 * MIB);
    let mount = large.mount(&[]);
    let file = File::open(mount.path(&large.path())).unwrap();
    // The complete file takes half a minute.
    large.is_far(&[Fault::Bandwidth {
        bytes_per_second: 1_500_000,
    }]);
    for at in [0, 40 * MIB] {
        file.read_exact_at(&mut [0; 4096], at).unwrap();
    }
    assert_eq!(large.ranges().len(), 2);
}

#[test]
fn random_reads_of_a_file_above_the_limit_never_download_all_of_it() {
    let large = Large::of(96 * MIB);
    let mount = large.mount(&["--whole-file-limit=90M"]);

    large.read_scattered(&mount, 20);

    let ranges = large.ranges();
    let whole = |range: &Option<String>| range.as_ref().is_none_or(|text| text.ends_with('-'));
    assert!(!ranges.iter().any(whole), "{ranges:?}");
}

#[test]
fn several_connections_download_one_part_each() {
    let large = Large::of(80 * MIB);
    let mount = large.mount(&["--connections=4"]);

    let bytes = mount.read(&large.path());

    assert_eq!(ObjectId::of_content(&bytes), large.id);
    let mut ranges = large.ranges();
    ranges.sort();
    let part = |n: u64| Some(format!("bytes={}-{}", n * 20 * MIB, (n + 1) * 20 * MIB - 1));
    let last = Some(format!("bytes={}-", 60 * MIB));
    assert_eq!(ranges, [part(0), part(1), part(2), last]);
}
