//! A table of cases for the planner: one line each, with a name.

use super::*;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
const LEN: u64 = 100 * MIB;
const MS: Duration = Duration::from_millis(1);

/// Missing ranges, in order.
impl Gaps for Vec<Range<u64>> {
    fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        let within = |gap: &Range<u64>| gap.start.max(range.start)..gap.end.min(range.end);
        self.iter().map(within).find(|gap| !gap.is_empty())
    }
}

/// Reads have returned so much that nothing is withheld because of its cost.
const READ_MUCH: RequestCounts = RequestCounts {
    requests: 0,
    bytes: 0,
    received: 0,
    served: 1 << 30,
};

/// A file of which nothing was requested, in a large cache.
fn fresh() -> Snapshot {
    Snapshot {
        options: DownloadOptions::default(),
        len: LEN,
        capacity: 1 << 30,
        counts: READ_MUCH,
        split: false,
        last_end: 0,
        downloads: Vec::new(),
    }
}

fn short() -> Snapshot {
    Snapshot {
        len: 3 * MIB,
        ..fresh()
    }
}

fn after_requests(requests: u32) -> Snapshot {
    Snapshot {
        counts: RequestCounts {
            requests,
            ..READ_MUCH
        },
        ..fresh()
    }
}

fn after_bytes(bytes: u64) -> Snapshot {
    let requests = 1;
    Snapshot {
        counts: RequestCounts {
            requests,
            bytes,
            ..READ_MUCH
        },
        ..fresh()
    }
}

fn never_completed(requests: u32) -> Snapshot {
    let mut snapshot = after_requests(requests);
    snapshot.options.whole_file_limit = LEN - 1;
    snapshot
}

fn over_connections(connections: u32) -> Snapshot {
    let mut snapshot = fresh();
    snapshot.options.connections = NonZeroU32::new(connections).unwrap();
    snapshot
}

fn after_read_to(last_end: u64) -> Snapshot {
    Snapshot {
        last_end,
        ..fresh()
    }
}

impl Snapshot {
    /// With a download under way that has received nothing yet.
    fn downloading(mut self, range: Range<u64>, position: u64) -> Self {
        self.downloads.push(DownloadSnapshot {
            range,
            position,
            pace: None,
        });
        self
    }

    /// With the last download at this pace.
    fn at_pace(mut self, round_trip: Duration, receiving: Duration) -> Self {
        self.downloads.last_mut().unwrap().pace = Some(Pace {
            round_trip,
            receiving,
            is_paused: false,
        });
        self
    }

    fn with_capacity(self, capacity: u64) -> Self {
        Self { capacity, ..self }
    }

    fn split_up(self) -> Self {
        Self {
            split: true,
            ..self
        }
    }
}

fn start(range: Range<u64>, run_until: u64) -> Plan {
    Plan::Start(Start {
        range,
        run_until,
        counts_bytes: false,
    })
}

fn start_random(range: Range<u64>, run_until: u64) -> Plan {
    Plan::Start(Start {
        range,
        run_until,
        counts_bytes: true,
    })
}

fn wait(download: usize, run_until: u64, review_after: Duration) -> Plan {
    Plan::Wait {
        download,
        run_until: Some(run_until),
        review_after,
    }
}

/// A case: its name, the state, the missing ranges, the gap that a reader
/// found, the end of the read, and the plan.
type Case = (
    &'static str,
    Snapshot,
    Vec<Range<u64>>,
    Range<u64>,
    u64,
    Plan,
);

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let all = || vec![0..LEN];
    let k = 128 * KIB;
    let absent = |present: Range<u64>| vec![0..present.start, present.end..LEN];
    vec![
        // Nothing to do.
        ("the gap was filled meanwhile", fresh(), vec![0..MIB], 2 * MIB..3 * MIB, 3 * MIB, Plan::Nothing),

        // New downloads: short files.
        ("a short file is requested completely", short(), vec![0..3 * MIB], 2 * MIB..3 * MIB, 3 * MIB, start(0..3 * MIB, 19 * MIB)),
        ("a short file is requested from its first gap", short(), vec![MIB..3 * MIB], 2 * MIB..3 * MIB, 3 * MIB, start(MIB..3 * MIB, 19 * MIB)),

        // New downloads: sequential readers.
        ("the first read starts one long download", fresh(), all(), 0..k, k, start(0..LEN, 16 * MIB + k)),
        ("a first read near the start begins at the start", fresh(), all(), 2 * MIB..3 * MIB, 3 * MIB, start(0..LEN, 19 * MIB)),
        ("a read that continues the last one is sequential", after_read_to(40 * MIB), all(), 40 * MIB..41 * MIB, 41 * MIB, start(40 * MIB..LEN, 57 * MIB)),
        ("a read a little after the last one is sequential", after_read_to(40 * MIB), all(), 48 * MIB..49 * MIB, 49 * MIB, start(48 * MIB..LEN, 65 * MIB)),
        ("a sequential download begins on a block", after_read_to(40 * MIB), all(), 40 * MIB + 5..41 * MIB, 41 * MIB, start(40 * MIB..LEN, 57 * MIB)),
        ("it begins at the first gap", fresh(), vec![MIB..LEN], MIB..2 * MIB, 2 * MIB, start(MIB..LEN, 18 * MIB)),
        ("it stops where a long range is present", fresh(), absent(20 * MIB..24 * MIB), 0..k, k, start(0..20 * MIB, 16 * MIB + k)),
        ("it continues over a short present range", fresh(), absent(20 * MIB..24 * MIB - k), 0..k, k, start(0..LEN, 16 * MIB + k)),
        ("it stops where another download begins", fresh().downloading(50 * MIB..LEN, 50 * MIB), all(), 0..k, k, start(0..50 * MIB, 16 * MIB + k)),
        ("it ends with the segment of its connection", over_connections(4), all(), 0..k, k, start(0..25 * MIB, 16 * MIB + k)),
        ("once split, it ends where the next download begins", over_connections(4).split_up().downloading(25 * MIB..50 * MIB, 30 * MIB), all(), 0..k, k, start(0..25 * MIB, 16 * MIB + k)),
        ("a small cache bounds how far it runs ahead", fresh().with_capacity(8 * MIB), all(), 0..k, k, start(0..LEN, 4 * MIB + k)),
        ("the least that it runs ahead", fresh().with_capacity(0), all(), 0..k, k, start(0..LEN, k + k)),

        // New downloads: random readers.
        ("a random read requests an aligned MiB", fresh(), all(), 50 * MIB + 7..50 * MIB + 9, 50 * MIB + 9, start_random(50 * MIB..51 * MIB, 66 * MIB + 9)),
        ("a read backward is random", after_read_to(50 * MIB), all(), 49 * MIB..49 * MIB + k, 49 * MIB + k, start_random(49 * MIB..50 * MIB, 65 * MIB + k)),
        ("a read far after the last one is random", after_read_to(40 * MIB), all(), 48 * MIB + 1..49 * MIB, 49 * MIB, start_random(48 * MIB..49 * MIB, 65 * MIB)),
        ("a random read over two MiB requests both", fresh(), all(), 51 * MIB - 5..51 * MIB + 5, 51 * MIB + 5, start_random(50 * MIB..52 * MIB, 67 * MIB + 5)),
        ("a random read requests nothing that is present before the gap", fresh(), vec![50 * MIB + k..LEN], 50 * MIB + k..50 * MIB + 2 * k, 50 * MIB + 2 * k, start_random(50 * MIB + k..51 * MIB, 66 * MIB + 2 * k)),
        ("a random range ends with the file", Snapshot { len: LEN + 7, ..fresh() }, vec![0..LEN + 7], LEN..LEN + 7, LEN + 7, start_random(LEN..LEN + 7, 116 * MIB + 7)),

        // New downloads: the rest in one request.
        ("request 16 is still random", after_requests(15), all(), 50 * MIB..50 * MIB + k, 50 * MIB + k, start_random(50 * MIB..51 * MIB, 66 * MIB + k)),
        ("request 17 fetches the rest", after_requests(16), vec![5 * MIB..LEN], 50 * MIB..50 * MIB + k, 50 * MIB + k, start(5 * MIB..LEN, 66 * MIB + k)),
        ("a file that the cache cannot retain is never fetched completely", after_requests(16).with_capacity(10 * MIB), all(), 50 * MIB..50 * MIB + k, 50 * MIB + k, start_random(50 * MIB..52 * MIB, 55 * MIB + k)),
        ("a random read fetches no more than half of what the cache retains", never_completed(160).with_capacity(10 * MIB), all(), 50 * MIB..50 * MIB + k, 50 * MIB + k, start_random(50 * MIB..55 * MIB, 55 * MIB + k)),
        ("less than a quarter is not enough for the rest", after_bytes(25 * MIB - 1), all(), 50 * MIB..50 * MIB + k, 50 * MIB + k, start_random(50 * MIB..51 * MIB, 66 * MIB + k)),
        ("after a quarter of the bytes the rest follows", after_bytes(25 * MIB), all(), 50 * MIB..50 * MIB + k, 50 * MIB + k, start(0..LEN, 66 * MIB + k)),
        ("a file over the limit is never completed", never_completed(15), all(), 50 * MIB..50 * MIB + k, 50 * MIB + k, start_random(50 * MIB..51 * MIB, 66 * MIB + k)),
        ("its ranges double after 16 requests", never_completed(16), all(), 50 * MIB..50 * MIB + k, 50 * MIB + k, start_random(50 * MIB..52 * MIB, 66 * MIB + k)),
        ("and double again after 32", never_completed(32), all(), 50 * MIB..50 * MIB + k, 50 * MIB + k, start_random(50 * MIB..54 * MIB, 66 * MIB + k)),
        ("up to 64 MiB", never_completed(10_000), all(), 10 * MIB..10 * MIB + k, 10 * MIB + k, start_random(10 * MIB..74 * MIB, 26 * MIB + k)),

        // Downloads under way.
        ("a reader near a download waits for it", fresh().downloading(0..LEN, 10 * MIB), all(), 17 * MIB..18 * MIB, 18 * MIB, wait(0, 34 * MIB, IDLE)),
        ("a reader far from a download without response does not", fresh().downloading(0..LEN, 10 * MIB), all(), 18 * MIB..19 * MIB, 19 * MIB, start_random(18 * MIB..19 * MIB, 35 * MIB)),
        ("bytes that a download has passed do not arrive with it", fresh().downloading(0..LEN, 10 * MIB), all(), 9 * MIB..10 * MIB, 10 * MIB, start_random(9 * MIB..10 * MIB, 26 * MIB)),
        ("bytes after the end of a download do not either", fresh().downloading(0..20 * MIB, 19 * MIB), all(), 20 * MIB..21 * MIB, 21 * MIB, start_random(20 * MIB..21 * MIB, 37 * MIB)),
        ("of two downloads the nearer one is waited for", fresh().downloading(0..LEN, 14 * MIB).downloading(0..LEN, 10 * MIB), all(), 17 * MIB..18 * MIB, 18 * MIB, wait(0, 34 * MIB, IDLE)),
        ("after 16 requests every reader waits for the rest", after_requests(17).downloading(0..LEN, MIB), all(), 90 * MIB..91 * MIB, 91 * MIB, wait(0, 107 * MIB, IDLE)),
        ("once split every reader waits for its segment", over_connections(4).split_up().downloading(0..LEN, MIB), all(), 90 * MIB..91 * MIB, 91 * MIB, wait(0, 107 * MIB, IDLE)),
        ("a fast download is waited for from afar, as far as its pace tells", fresh().downloading(0..LEN, 10 * MIB).at_pace(10 * MS, 10 * MS), all(), 80 * MIB..81 * MIB, 81 * MIB, wait(0, 30 * MIB, 10 * MS)),
        ("but not over more than half of what the cache retains", fresh().downloading(0..LEN, 10 * MIB).at_pace(10 * MS, 10 * MS).with_capacity(140 * MIB), all(), 80 * MIB..81 * MIB, 81 * MIB, start_random(80 * MIB..81 * MIB, 97 * MIB)),
        ("a young download may become fast", fresh().downloading(0..LEN, k).at_pace(40 * MS, 4 * MS), all(), 80 * MIB..81 * MIB, 81 * MIB, Plan::Wait { download: 0, run_until: None, review_after: 6 * MS }),
        ("a slow one is not waited for", fresh().downloading(0..LEN, k).at_pace(40 * MS, 10 * MS), all(), 80 * MIB..81 * MIB, 81 * MIB, start_random(80 * MIB..81 * MIB, 97 * MIB)),
    ]
}

#[test]
fn plan_follows_the_table_of_cases() {
    for (case, snapshot, missing, gap, read_end, expected) in cases() {
        assert_eq!(snapshot.plan(&gap, read_end, &missing), expected, "{case}");
    }
}

#[test]
fn after_read_splits_a_long_file_once() {
    let segments = |parts: &[Range<u64>]| {
        let part = |range: &Range<u64>| Start {
            range: range.clone(),
            run_until: range.start + 64 * MIB,
            counts_bytes: false,
        };
        AfterRead::Split(parts.iter().map(part).collect())
    };
    let four = || over_connections(4).downloading(0..25 * MIB, 4 * MIB);
    let (all, some) = (vec![0..LEN], vec![30 * MIB..50 * MIB, 80 * MIB..LEN]);
    #[rustfmt::skip]
    let cases = [
        ("one connection", fresh().downloading(0..LEN, 4 * MIB), 2 * MIB, &all, AfterRead::Nothing),
        ("a look at the head", four(), 2 * MIB - 1, &all, AfterRead::Nothing),
        ("no download under way", over_connections(4), 2 * MIB, &all, AfterRead::Nothing),
        ("a file below the limit", Snapshot { len: 64 * MIB - 1, ..four() }, 2 * MIB, &all, AfterRead::Nothing),
        ("the first long read", four(), 2 * MIB, &all, segments(&[25 * MIB..50 * MIB, 50 * MIB..75 * MIB, 75 * MIB..LEN])),
        ("segments begin at their first gap", four(), 2 * MIB, &some, segments(&[30 * MIB..50 * MIB, 80 * MIB..LEN])),
        ("later reads", four().split_up(), 3 * MIB, &all, AfterRead::RunOn(64 * MIB)),
    ];
    for (case, snapshot, read_end, missing, expected) in cases {
        assert_eq!(snapshot.after_read(read_end, missing), expected, "{case}");
    }
}

#[test]
fn continues_up_to_run_until_unless_short() {
    let cases = [
        ("wanted", 0..LEN, 9, 10, true),
        ("not wanted", 0..LEN, 10, 10, false),
        ("not wanted, but short", MIB..5 * MIB, 2 * MIB, 0, true),
        (
            "not wanted, and not short",
            MIB..5 * MIB + 1,
            2 * MIB,
            0,
            false,
        ),
    ];
    for (case, range, position, run_until, expected) in cases {
        assert_eq!(continues(&range, position, run_until), expected, "{case}");
    }
}

const MB: u64 = 1_000_000;

/// The pace of a response that began after `round_trip`.
fn pace(round_trip: Duration, receiving: Duration) -> Pace {
    Pace {
        round_trip,
        receiving,
        is_paused: false,
    }
}

#[test]
fn a_reader_waits_for_bytes_that_arrive_within_a_few_round_trips() {
    let pace = pace(50 * MS, 20 * MS);
    let decision = |distance, most| pace.wait_decision(16 * MB, distance, most);
    let (review_after, portion) = (50 * MS, 80 * MB);
    let wait = WaitDecision::Wait {
        review_after,
        portion,
    };
    assert_eq!(decision(319 * MB, u64::MAX), wait);
    assert_eq!(decision(321 * MB, u64::MAX), WaitDecision::Refuse);
    // The cache would not retain so much until it is read.
    assert_eq!(decision(319 * MB, 100 * MB), WaitDecision::Refuse);
}

#[test]
fn a_stalled_download_is_refused_and_a_paused_one_is_not() {
    let decision = |pace: Pace| pace.wait_decision(16 * MB, 100 * MB, u64::MAX);
    assert_eq!(decision(pace(50 * MS, 10_020 * MS)), WaitDecision::Refuse);
    // Pauses do not count as receiving.
    let mut paused = pace(50 * MS, 20 * MS);
    paused.is_paused = true;
    let wait = decision(paused);
    assert!(matches!(wait, WaitDecision::Wait { .. }), "{wait:?}");
    paused.is_paused = false;
    assert_eq!(decision(paused), wait, "it continues");
}

#[test]
fn a_young_download_is_given_a_part_of_a_round_trip() {
    let decision = |pace: Pace| pace.wait_decision(1, 100 * MB, u64::MAX);
    let unknown = WaitDecision::Unknown(Duration::from_micros(10_500));
    assert_eq!(decision(pace(50 * MS, 2 * MS)), unknown);
    assert_eq!(decision(pace(50 * MS, 13 * MS)), WaitDecision::Refuse);
    // A paused download receives nothing that could tell more.
    let mut paused = pace(50 * MS, 2 * MS);
    paused.is_paused = true;
    assert_eq!(decision(paused), WaitDecision::Refuse);
    // Nor is a reader told to wait for a response that has not begun.
    let silent = DownloadSnapshot {
        range: 0..200 * MB,
        position: 1,
        pace: None,
    };
    assert_eq!(
        silent.wait_decision(100 * MB, NEAR, u64::MAX),
        WaitDecision::Refuse
    );
}

#[test]
fn a_slow_first_response_does_not_count_as_a_long_round_trip() {
    let pace = pace(15_000 * MS, 10_000 * MS);
    let decision = pace.wait_decision(10 * MB, 50 * MB, u64::MAX);
    assert_eq!(decision, WaitDecision::Refuse);
}

#[test]
fn reads_cost_at_most_twice_their_bytes_and_some_slack() {
    let start = |counts, capacity, gap: Range<u64>, last_end| {
        let snapshot = Snapshot {
            capacity,
            counts,
            last_end,
            ..fresh()
        };
        let read_end = gap.start + 64 * KIB;
        match snapshot.plan(&gap, read_end, &vec![0..LEN]) {
            Plan::Start(start) => (start.range, start.run_until - read_end),
            plan => panic!("{plan:?}"),
        }
    };
    let counts = |requests, received, served| RequestCounts {
        requests,
        bytes: 0,
        received,
        served,
    };
    let (large, small) = (1 << 30, 6 * MIB);
    let head = start(counts(0, 0, 0), large, 0..LEN, 0);
    assert_eq!(head, (0..LEN, 5 * MIB), "the head of a file");
    let later = start(counts(1, 9 * MIB, 8 * MIB), large, 9 * MIB..LEN, 9 * MIB);
    assert_eq!(later, (9 * MIB..LEN, 12 * MIB), "after some reads");
    let jump = start(counts(3, 8 * MIB, 2 * MIB), small, 50 * MIB..LEN, 0);
    assert_eq!(jump, (50 * MIB..51 * MIB, MIB), "a jump");
    let spent = start(counts(9, 99 * MIB, 2 * MIB), small, 50 * MIB + 3..LEN, 0);
    let block = 50 * MIB..50 * MIB + 128 * KIB;
    assert_eq!(spent, (block, 128 * KIB), "only the block that is read");
    let start_again = start(counts(9, 99 * MIB, 2 * MIB), small, 0..LEN, 60 * MIB);
    assert_eq!(
        start_again.0,
        0..128 * KIB,
        "the start of a file, read again"
    );
}
