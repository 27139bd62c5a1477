//! Replays recorded traces: sequences of reads, with the requests that they may
//! cause. The planner must send the same requests, never more.
//!
//! Time is simulated in steps of 1 ms. A response begins after [`ROUND_TRIP`]
//! and delivers [`BYTES_PER_MS`]. Reads follow each other, with pauses where
//! the trace has some; two readers take turns.

use super::*;

const MIB: u64 = 1 << 20;
const LEN: u64 = 100 * MIB;
/// The kernel's largest read without special rights.
const READ: u64 = 128 << 10;
const ROUND_TRIP: u64 = 20;
const BYTES_PER_MS: u64 = 128 << 10;

/// A read: milliseconds before it, its offset and its length.
type Read = (u64, u64, u64);

struct SimulatedDownload {
    range: Range<u64>,
    position: u64,
    run_until: u64,
    started: u64,
    answered: Option<u64>,
    paused_since: Option<u64>,
    paused: u64,
    ended: bool,
}

/// One file: its missing ranges, its downloads, the time.
struct Simulation {
    state: Snapshot,
    missing: Vec<Range<u64>>,
    downloads: Vec<SimulatedDownload>,
    requests: Vec<Range<u64>>,
    now: u64,
}

impl SimulatedDownload {
    fn snapshot(&self, now: u64) -> DownloadSnapshot {
        let pace = |answered| {
            let until = self.paused_since.unwrap_or(now);
            Pace {
                round_trip: Duration::from_millis(answered - self.started),
                receiving: Duration::from_millis(until - answered - self.paused),
                is_paused: self.paused_since.is_some(),
            }
        };
        DownloadSnapshot {
            range: self.range.clone(),
            position: self.position,
            pace: self.answered.map(pace),
        }
    }

    /// Receives for a millisecond, up to `now`; returns what arrived.
    fn step(&mut self, now: u64) -> Range<u64> {
        let nothing = self.position..self.position;
        if self.ended || now < self.started + ROUND_TRIP {
            return nothing;
        }
        if self.answered.is_none() {
            self.answered = Some(now);
            return nothing;
        }
        if !continues(&self.range, self.position, self.run_until) {
            let since = *self.paused_since.get_or_insert(now);
            self.ended = Duration::from_millis(now - since) >= IDLE;
            return nothing;
        }
        self.paused += self.paused_since.take().map_or(0, |since| now - since);
        let from = self.position;
        self.position = (from + BYTES_PER_MS).min(self.range.end);
        self.ended = self.position == self.range.end;
        from..self.position
    }
}

impl Simulation {
    fn new(len: u64, options: DownloadOptions) -> Self {
        Self {
            state: Snapshot {
                options,
                len,
                capacity: 1 << 29,
                counts: RequestCounts::default(),
                split: false,
                last_end: 0,
                downloads: Vec::new(),
            },
            missing: vec![0..len],
            downloads: Vec::new(),
            requests: Vec::new(),
            now: 0,
        }
    }

    fn step(&mut self) {
        self.now += 1;
        for download in &mut self.downloads {
            let arrived = download.step(self.now);
            self.state.counts.received += arrived.end - arrived.start;
            let rest = self.missing.iter().flat_map(|gap| {
                let before = gap.start..gap.end.min(arrived.start);
                let after = gap.start.max(arrived.end)..gap.end;
                [before, after]
            });
            self.missing = rest.filter(|gap| !gap.is_empty()).collect();
        }
    }

    fn start(&mut self, start: Start) {
        self.state.counts.requests += 1;
        self.requests.push(start.range.clone());
        self.downloads.push(SimulatedDownload {
            position: start.range.start,
            range: start.range,
            run_until: start.run_until,
            started: self.now,
            answered: None,
            paused_since: None,
            paused: 0,
            ended: false,
        });
    }

    fn read(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.state.len);
        self.state.counts.served += end - offset;
        while let Some(gap) = self.missing.first_gap(offset..end) {
            self.downloads.retain(|download| !download.ended);
            let snapshots = self.downloads.iter();
            self.state.downloads = snapshots.map(|one| one.snapshot(self.now)).collect();
            let (index, review_after) = match self.state.plan(&gap, end, &self.missing) {
                Plan::Nothing => continue,
                Plan::Wait {
                    download,
                    run_until,
                    review_after,
                } => {
                    let wanted = &mut self.downloads[download].run_until;
                    *wanted = (*wanted).max(run_until.unwrap_or(0));
                    (download, review_after)
                }
                Plan::Start(start) => {
                    if start.counts_bytes {
                        self.state.counts.bytes += start.range.end - start.range.start;
                    }
                    self.start(start);
                    (self.downloads.len() - 1, IDLE)
                }
            };
            let review = self.now
                + u64::try_from(review_after.as_micros())
                    .unwrap()
                    .div_ceil(1000);
            let until = gap.end.min(end).min(self.downloads[index].range.end);
            while self.now < review
                && self.downloads[index].position < until
                && !self.downloads[index].ended
            {
                self.step();
            }
        }
        self.after_read(end);
    }

    fn after_read(&mut self, end: u64) {
        self.state.last_end = end;
        let snapshots = self.downloads.iter();
        self.state.downloads = snapshots.map(|one| one.snapshot(self.now)).collect();
        match self.state.after_read(end, &self.missing) {
            AfterRead::Nothing => {}
            AfterRead::RunOn(ahead) => {
                for download in &mut self.downloads {
                    download.run_until = download.run_until.max(download.position + ahead);
                }
            }
            AfterRead::Split(starts) => {
                self.state.split = true;
                for start in starts {
                    self.start(start);
                }
            }
        }
    }
}

/// The requests that `reads` cause.
fn requests(len: u64, options: DownloadOptions, reads: &[Read]) -> Vec<Range<u64>> {
    let mut simulation = Simulation::new(len, options);
    for &(pause, offset, len) in reads {
        for _ in 0..pause {
            simulation.step();
        }
        simulation.read(offset, len);
    }
    simulation.requests
}

/// A number that looks random and is the same in each run.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^= mixed >> 30;
    mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 27)
}

fn options(connections: u32, whole_file_limit: u64) -> DownloadOptions {
    let connections = NonZeroU32::new(connections).unwrap();
    DownloadOptions {
        connections,
        whole_file_limit,
    }
}

/// One reader of each half of the file, taking turns.
fn two_readers(pause: u64) -> Vec<Read> {
    let turn = |n| [(pause, n * MIB, MIB), (pause, LEN / 2 + n * MIB, MIB)];
    (0..LEN / MIB / 2).flat_map(turn).collect()
}

/// A trace: its name, the file's length, the options, the reads, and the recorded requests in
/// blocks of 128 KiB.
type Trace = (
    &'static str,
    u64,
    DownloadOptions,
    Vec<Read>,
    &'static [Range<u64>],
);

#[rustfmt::skip]
fn traces() -> Vec<Trace> {
    const GIB: u64 = 1 << 30;
    vec![
        ("a sequential reader", LEN, options(1, GIB), (0..LEN / READ).map(|n| (0, n * READ, READ)).collect(), &[0..800]),
        ("a sequential reader slower than the portal", LEN, options(1, GIB), (0..LEN / MIB).map(|n| (30, n * MIB, MIB)).collect(), &[0..800]),
        ("a backward reader", LEN, options(1, GIB), (0..LEN / MIB).rev().map(|n| (0, n * MIB, READ)).collect(), &[
            792..800, 784..792, 776..784, 768..776, 760..768, 752..760, 744..752, 736..744,
            728..736, 720..728, 712..720, 704..712, 696..704, 688..696, 680..688, 672..680,
            0..800,
        ]),
        ("strides of 4 MiB", LEN, options(1, GIB), (0..LEN / (4 * MIB)).map(|n| (0, n * 4 * MIB, READ)).collect(), &[0..800]),
        ("strides of 10 MiB", LEN, options(1, GIB), (0..LEN / (10 * MIB)).map(|n| (0, (n * 10 + 3) * MIB, READ)).collect(), &[24..800]),
        ("a random reader", LEN, options(1, GIB), (0..200).map(|n| (0, mix(n) % (LEN - READ), READ)).collect(), &[
            232..240, 88..96, 448..456, 616..624, 320..328, 480..488, 240..248, 144..152,
            352..360, 280..288, 576..584, 464..480, 24..40, 200..216, 752..760, 680..688,
            0..800,
        ]),
        ("a random reader of a file that is never completed", LEN, options(1, MIB), (0..200).map(|n| (0, mix(n) % (LEN - READ), READ)).collect(), &[
            232..240, 88..96, 448..456, 616..624, 320..328, 480..488, 240..248, 144..152,
            352..360, 280..288, 576..584, 464..480, 24..40, 200..216, 752..760, 680..688,
            136..152, 664..680, 512..528, 632..648, 96..112, 496..512, 760..776, 416..432,
            400..416, 0..400, 296..312, 536..552, 720..736, 376..392, 688..704, 528..544,
            600..632, 560..592, 704..736, 747..800, 456..488, 432..464, 736..768, 648..680,
            488..520, 592..624,
        ]),
        ("two sequential readers", LEN, options(1, GIB), two_readers(0), &[
            0..800, 400..408, 408..416, 416..424, 424..432, 432..440, 440..448, 448..456,
            456..464, 464..472, 472..480, 480..488, 488..496, 496..504, 504..512, 512..520,
        ]),
        ("two slow sequential readers", LEN, options(1, GIB), two_readers(10), &[
            0..800, 400..408, 408..416, 416..424, 424..432, 432..440, 440..448, 448..456,
            456..464, 464..472, 472..480, 480..488, 488..496, 496..504, 504..512, 512..520,
        ]),
        ("head and tail", LEN, options(1, GIB), vec![(0, 0, READ), (0, LEN - READ, READ), (0, READ, READ), (0, LEN - 2 * READ, READ)], &[0..800, 792..800]),
        ("a short file", 3 * MIB, options(1, GIB), vec![(0, 2 * MIB, READ), (0, 0, READ)], &[0..24]),
        ("a reader that returns after the download ended", LEN, options(1, GIB), vec![(0, 0, MIB), (25_000, MIB, MIB), (0, 60 * MIB, MIB), (25_000, 30 * MIB, MIB)], &[0..800, 480..488, 240..248]),
        ("readahead out of order", LEN, options(1, GIB), vec![(0, MIB, READ), (0, 0, READ), (0, 2 * MIB, READ), (0, MIB + READ, READ)], &[0..800]),
        ("four connections", LEN, options(4, GIB), (0..LEN / MIB).map(|n| (0, n * MIB, MIB)).collect(), &[0..200, 200..400, 400..600, 600..800]),
        ("four connections, read from the middle", LEN, options(4, GIB), (40..100).chain(0..40).map(|n| (0, n * MIB, MIB)).collect(), &[320..328, 200..400, 400..600, 600..800, 0..200]),
    ]
}

#[test]
fn replayed_traces_send_the_recorded_requests() {
    for (trace, len, options, reads, recorded) in traces() {
        let sent = requests(len, options, &reads);
        let blocks = |range: &Range<u64>| range.start / READ..range.end.div_ceil(READ);
        let sent: Vec<_> = sent.iter().map(blocks).collect();
        assert_eq!(sent, recorded, "{trace}");
    }
}
