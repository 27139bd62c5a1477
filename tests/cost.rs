//! What reads cost, whatever the room on the disk, the bounds on cache and memory,
//! and the patterns of the readers: bytes and requests are bounded by what is read, no
//! read fails, and no read waits long.
//!
//! Settings are made from seeds. `ICOSFS_COST_SEEDS=7..8` runs one case again,
//! `ICOSFS_COST_SEEDS=0..100` many; `--nocapture` shows the figures of every case.

mod reads;
mod settings;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use icos_demo::{
    DemoOptions, DemoPortal, DemoRepository, DemoService, Fault, FaultRule, RecordedRequest,
};
use icos_portal::ObjectId;
use nix::sys::signal::Signal;

use self::reads::Pattern;
use self::settings::{Format, Object, Reader, Settings};
use crate::support::{Dice, SmallDisk, TestMount, eventually};

const MIB: u64 = 1 << 20;
/// No single read may wait longer.
const LONGEST_READ: Duration = Duration::from_secs(10);
/// The readers of one case may take this long; then the daemon is killed.
const LONGEST_CASE: Duration = Duration::from_secs(100);
/// Requests and bytes of an object beyond what is read of it.
const SPARE_REQUESTS: u64 = 16;
const SPARE_BYTES: u64 = 8 * MIB;

/// An object that the portal serves, and what was read of it.
struct Served {
    id: ObjectId,
    object: Object,
    /// The expected bytes of each format that is read.
    contents: Vec<(Format, Vec<u8>)>,
    /// The bytes read, by all readers in all passes. See [`reads::ReadPlan`].
    read: AtomicU64,
    /// Reads at random places.
    scattered: AtomicU64,
    /// Whether all readers read from start to end, or only one of the two.
    has_only_ends: bool,
}

/// What an object cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    requests: u64,
    bytes: u64,
}

/// The result of a case.
#[derive(Debug, Default)]
struct Outcome {
    problems: Vec<String>,
    figures: String,
}

impl Served {
    fn new(repository: &mut DemoRepository, number: usize, object: Object) -> Self {
        let name = format!("object{number}");
        let id = match object {
            Object::Original { len } => repository.add_original(&format!("{name}.bin"), len),
            Object::Table { columns, rows } => {
                repository.add_table(&format!("{name}.csv"), columns, rows)
            }
        };
        Self {
            id,
            object,
            contents: Vec::new(),
            read: AtomicU64::new(0),
            scattered: AtomicU64::new(0),
            has_only_ends: true,
        }
    }

    fn add_format(&mut self, portal: &DemoPortal, format: Format) {
        if self.contents.iter().any(|(known, _)| *known == format) {
            return;
        }
        let repository = portal.repository();
        let bytes = match format {
            Format::Original => repository.original(&self.id).unwrap(),
            Format::Csv => repository.csv(&self.id).unwrap().into_bytes(),
            Format::Cpb => repository.cpb(&self.id).unwrap(),
        };
        self.contents.push((format, bytes));
    }

    fn content(&self, format: Format) -> &[u8] {
        let found = self.contents.iter().find(|(known, _)| *known == format);
        &found.unwrap().1
    }

    /// The requests for its bytes.
    fn requests(&self, portal: &DemoPortal) -> Vec<RecordedRequest> {
        let (original, csv) = (format!("/objects/{}", self.id), format!("/csv/{}", self.id));
        let id = self.id.to_string();
        let mut requests = portal.requests();
        requests.retain(|request| {
            let is_columns = request.path == "/cpb" && request.body.contains(&id);
            let is_whole = request.path == original || request.path.starts_with(&csv);
            request.service == DemoService::Data && (is_whole || is_columns)
        });
        requests
    }

    fn cost(&self, portal: &DemoPortal) -> Cost {
        let requests = self.requests(portal);
        Cost {
            requests: requests.len() as u64,
            bytes: requests.iter().map(|request| request.bytes).sum(),
        }
    }

    /// The most that its reads may cost; `stays` says whether there is room for all
    /// bytes of all objects.
    fn bounds(&self, stays: bool) -> Cost {
        let read = self.read.load(Ordering::Relaxed);
        let scattered = self.scattered.load(Ordering::Relaxed);
        let strict = Cost {
            requests: SPARE_REQUESTS + read.div_ceil(MIB),
            bytes: 2 * read + SPARE_BYTES,
        };
        if self.has_only_ends {
            return strict;
        }
        if stays {
            // Every byte once is as good, and a quarter of them twice: the planner gives up
            // on ranges then, and takes all at once.
            Cost {
                requests: strict.requests + 1,
                bytes: strict.bytes.max(self.object.len() / 4 * 5 + 2 * MIB),
            }
        } else {
            // What does not stay costs a request each time that a reader jumps to it.
            Cost {
                requests: strict.requests + scattered,
                bytes: strict.bytes + scattered * self.object.unit(),
            }
        }
    }
}

/// Runs one case.
fn run(settings: &Settings) -> Outcome {
    let mut repository = DemoRepository::builtin(1);
    let mut objects: Vec<Served> = (settings.objects.iter().enumerate())
        .map(|(number, &object)| Served::new(&mut repository, number, object))
        .collect();
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    for reader in &settings.readers {
        let served = &mut objects[reader.object];
        served.add_format(&portal, reader.format);
        served.has_only_ends &= reader.pattern.is_at_ends();
    }
    if settings.round_trip > 0 {
        let (ms, jitter_ms) = (settings.round_trip, 0);
        let latency = FaultRule {
            service: Some(DemoService::Data),
            ..FaultRule::always(Fault::Latency { ms, jitter_ms })
        };
        portal.add_fault(latency);
    }

    let disk = SmallDisk::new(settings.disk * MIB);
    fill(disk.path(), settings.disk * MIB / 100 * settings.filled);
    let mut options = vec![
        format!("--cache-dir={}", disk.path().display()),
        format!("--memory={}M", settings.memory),
    ];
    if let Some(cache) = settings.cache {
        options.push(format!("--cache-size={cache}M"));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
    mount.list("objects");
    portal.clear_requests();
    let room = room(disk.path()).min(settings.cache.map_or(u64::MAX, |cache| cache * MIB));
    let all: u64 = settings.objects.iter().map(Object::len).sum();
    // Half of the memory is for blocks that the disk does not take.
    let stays = all + all / 20 + MIB <= room.max(settings.memory * MIB / 2);
    let received_before = received(&mount);

    let mut outcome = Outcome::default();
    read_all(settings, &objects, &mount, &mut outcome);
    if !mount.is_running() {
        outcome.problems.push("the daemon has ended".to_owned());
        return outcome;
    }
    let received = received_by_now(&mount) - received_before;
    let sent: u64 = objects
        .iter()
        .map(|object| object.cost(&portal).bytes)
        .sum();
    let _ = write!(outcome.figures, "; room {} KiB, stays: {stays}", room >> 10);
    for (number, object) in objects.iter().enumerate() {
        let (mut cost, bounds) = (object.cost(&portal), object.bounds(stays));
        // What was sent and lies in the buffers of ended connections.
        cost.bytes = cost.bytes.saturating_sub(sent.saturating_sub(received));
        let read = object.read.load(Ordering::Relaxed);
        let _ = write!(
            outcome.figures,
            "; object {number}: {} requests of {}, {} KiB of {} for {} KiB read",
            cost.requests,
            bounds.requests,
            cost.bytes >> 10,
            bounds.bytes >> 10,
            read >> 10
        );
        let is_dear = cost.requests > bounds.requests || cost.bytes > bounds.bytes;
        if is_dear || !outcome.problems.is_empty() {
            for request in object.requests(&portal) {
                let _ = write!(outcome.figures, "\n    {}", in_words(&request));
            }
        }
        if cost.requests > bounds.requests {
            let (found, most) = (cost.requests, bounds.requests);
            let problem = format!("object {number}: {found} requests, at most {most} allowed");
            outcome.problems.push(problem);
        }
        if cost.bytes > bounds.bytes {
            let (found, most) = (cost.bytes >> 10, bounds.bytes >> 10);
            let problem = format!("object {number}: {found} KiB received, at most {most} allowed");
            outcome.problems.push(problem);
        }
    }
    outcome
}

/// When a request was sent, what it was for, and the bytes of the response so far.
fn in_words(request: &RecordedRequest) -> String {
    let what = match serde_json::from_str::<serde_json::Value>(&request.body) {
        Ok(body) => {
            let columns = body["columnNumbers"].as_array().map_or(0, Vec::len);
            format!("{columns} columns, rows {}", body["slice"])
        }
        Err(_) => request.range.clone().unwrap_or("all".to_owned()),
    };
    let (at, kib) = (request.started.as_millis(), request.bytes >> 10);
    format!("{at} ms: {what}: {kib} KiB")
}

/// Runs all readers of a case at once.
fn read_all(settings: &Settings, objects: &[Served], mount: &TestMount, outcome: &mut Outcome) {
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (settings.readers.iter().enumerate())
            .map(|(number, reader)| {
                let dice = Dice::new(settings.seed * 16 + number as u64 + 1);
                let served = &objects[reader.object];
                scope.spawn(move || read(*reader, served, mount, dice))
            })
            .collect();
        let is_over = &is_over;
        let watch = scope.spawn(move || {
            let is_in_time = eventually(LONGEST_CASE, || is_over.load(Ordering::Relaxed));
            if !is_in_time {
                mount.signal(Signal::SIGKILL);
            }
            is_in_time
        });
        for (number, reader) in readers.into_iter().enumerate() {
            let (problems, longest) = reader.join().unwrap();
            slowest = slowest.max(longest);
            let problems = problems.into_iter();
            let of_reader = problems.map(|problem| format!("reader {number}: {problem}"));
            outcome.problems.extend(of_reader);
        }
        is_over.store(true, Ordering::Relaxed);
        if !watch.join().unwrap() {
            outcome
                .problems
                .push("the readers took too long".to_owned());
        }
    });
    let (all, slowest) = (begun.elapsed().as_millis(), slowest.as_millis());
    outcome.figures = format!("{all} ms, longest read {slowest} ms");
}

/// Reads by one reader; returns its problems and how long its longest read took.
fn read(
    reader: Reader,
    served: &Served,
    mount: &TestMount,
    mut dice: Dice,
) -> (Vec<String>, Duration) {
    let expected = served.content(reader.format);
    let path = reader.format.path(served.id);
    let (mut problems, mut longest) = (Vec::new(), Duration::ZERO);
    for _ in 0..reader.passes {
        let plan = reader.pattern.plan(expected.len(), reader.size, &mut dice);
        let mut counted = plan.counted;
        if reader.format == Format::Csv && !reader.pattern.is_from_start() {
            // Where a row begins in the text depends on all rows before it.
            counted += served.object.len();
        }
        served.read.fetch_add(counted, Ordering::Relaxed);
        let scattered = &served.scattered;
        scattered.fetch_add(plan.scattered, Ordering::Relaxed);
        let begun = Instant::now();
        let file = match File::open(mount.path(&path)) {
            Ok(file) => file,
            Err(error) => {
                problems.push(format!("open: {error}"));
                break;
            }
        };
        let mut buffer = Vec::new();
        let mut begun = Some(begun);
        for part in &plan.reads {
            buffer.resize(part.len(), 0);
            let begun = begun.take().unwrap_or_else(Instant::now);
            if let Err(error) = file.read_exact_at(&mut buffer, part.start as u64) {
                let waited = begun.elapsed().as_millis();
                let at = part.start;
                let why = mount
                    .is_running()
                    .then(|| mount.status()["errors"][0].to_string());
                let problem = format!("read at {at} failed after {waited} ms: {error}: {why:?}");
                problems.push(problem);
                return (problems, longest);
            }
            let took = begun.elapsed();
            longest = longest.max(took);
            if took > LONGEST_READ {
                let (at, took) = (part.start, took.as_millis());
                problems.push(format!("read at {at} took {took} ms"));
            }
            if buffer[..] != expected[part.clone()] {
                problems.push(format!("wrong bytes at {}", part.start));
            }
        }
    }
    (problems, longest)
}

/// Fills a disk with another file.
fn fill(disk: &Path, bytes: u64) {
    let mut filler = File::create(disk.join("filler")).unwrap();
    let zeros = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let taken = left.min(MIB);
        filler
            .write_all(&zeros[..usize::try_from(taken).unwrap()])
            .unwrap();
        left -= taken;
    }
}

/// The bytes that the cache may still take: a twentieth of the disk stays free.
fn room(disk: &Path) -> u64 {
    let found = nix::sys::statvfs::statvfs(disk).unwrap();
    let unit = found.fragment_size();
    (found.blocks_available() * unit).saturating_sub(found.blocks() * unit / 20)
}

/// The bytes that the daemon has received of data.
fn received(mount: &TestMount) -> u64 {
    let status = mount.status();
    status["traffic"]["services"]["data"]["bytes"]
        .as_u64()
        .unwrap_or(0)
}

/// As [`received`], once downloads ahead of the readers have paused or ended.
fn received_by_now(mount: &TestMount) -> u64 {
    let mut last = received(mount);
    loop {
        std::thread::sleep(Duration::from_millis(150));
        let now = received(mount);
        if now == last {
            return now;
        }
        last = now;
    }
}

/// Runs a case and returns its result in words; `Err` with problems.
fn report(settings: &Settings) -> Result<String, String> {
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| run(settings)));
    let outcome = run.unwrap_or_else(|panic| Outcome {
        problems: vec![
            panic
                .downcast_ref::<String>()
                .map_or("a panic".to_owned(), Clone::clone),
        ],
        figures: String::new(),
    });
    let text = format!("{settings}\n  {}", outcome.figures);
    if outcome.problems.is_empty() {
        return Ok(text);
    }
    Err(format!("{text}\n  ! {}", outcome.problems.join("\n  ! ")))
}

fn assert_cheap(settings: &Settings) {
    if let Err(failed) = report(settings) {
        panic!("{failed}");
    }
}

#[test]
fn random_settings_and_readers_cost_what_they_read() {
    /// Cases that run at once.
    const THREADS: usize = 3;
    let seeds = std::env::var("ICOSFS_COST_SEEDS").unwrap_or("0..10".to_owned());
    let (from, to) = seeds.split_once("..").expect("ICOSFS_COST_SEEDS=from..to");
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    let (next, failed) = (AtomicU64::new(from), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        break;
                    }
                    match report(&Settings::from_seed(seed)) {
                        Ok(text) => eprintln!("ok: {text}"),
                        Err(text) => {
                            eprintln!("FAILED: {text}");
                            failed.lock().unwrap().push(text);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {seeds} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// A large, empty disk.
fn settings(cache: u64, memory: u64, object: Object, readers: &[(Format, Pattern)]) -> Settings {
    let readers = readers.iter().map(|&(format, pattern)| Reader {
        object: 0,
        format,
        pattern,
        size: 128 << 10,
        passes: 1,
    });
    Settings {
        seed: 1000,
        disk: 200,
        filled: 0,
        cache: Some(cache),
        memory,
        round_trip: 0,
        objects: vec![object],
        readers: readers.collect(),
    }
}

const TABLE: Object = Object::Table {
    columns: 7,
    rows: 210_000,
};
const ORIGINAL: Object = Object::Original { len: 12 * MIB };

/// It failed with "No space left on device" after 33 requests.
#[test]
fn table_longer_than_cache_size_is_read_in_order() {
    for format in [Format::Csv, Format::Cpb] {
        assert_cheap(&settings(2, 32, TABLE, &[(format, Pattern::Forward)]));
    }
}

/// They cost 653 requests and 7.2 GB.
#[test]
fn forward_and_backward_reader_share_a_small_cache() {
    let readers = [
        (Format::Original, Pattern::Backward),
        (Format::Original, Pattern::Forward),
    ];
    assert_cheap(&settings(2, 256, ORIGINAL, &readers));
}

/// They cost 285 requests and 3.1 GB.
#[test]
fn table_and_backward_reader_share_a_nearly_full_disk() {
    let mut settings = settings(0, 0, ORIGINAL, &[(Format::Original, Pattern::Backward)]);
    settings.disk = 20;
    settings.filled = 90;
    settings.cache = None;
    // The default.
    settings.memory = 256;
    settings.objects.push(TABLE);
    settings.readers.push(Reader {
        object: 1,
        format: Format::Csv,
        pattern: Pattern::Forward,
        size: 128 << 10,
        passes: 1,
    });
    assert_cheap(&settings);
}

/// Each evicted the other's rows until one of them failed with "No space left on device".
#[test]
fn two_readers_of_a_wide_table_share_a_cache_of_its_length() {
    assert_cheap(&Settings::from_seed(89));
}

/// The last request took all of the file, although more than half of it was present.
#[test]
fn jumping_reader_gets_little_of_a_file_twice() {
    assert_cheap(&Settings::from_seed(102));
}

/// A read waited 20 s for an idle download to end.
#[test]
fn backward_read_through_small_cache_and_memory_waits_for_no_idle_download() {
    assert_cheap(&settings(
        6,
        8,
        ORIGINAL,
        &[(Format::Original, Pattern::Backward)],
    ));
}

/// They cost 94 MB in 11 requests, and took more than 40 s.
#[test]
fn scattered_reads_through_small_cache_and_memory_wait_for_no_idle_download() {
    assert_cheap(&settings(
        2,
        8,
        ORIGINAL,
        &[(Format::Original, Pattern::Random)],
    ));
}
