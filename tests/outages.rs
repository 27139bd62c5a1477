//! A portal that is down, silent or faulty, as readers see it.

use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use icos_demo::{DemoPortal, DemoService, Fault, FaultPlan, FaultRule};
use icos_portal::ObjectId;

use serde_json::Value;

use crate::support::{SilentPortal, TestMount, co2, contents, eventually, get, portal};

const FILE: &str = "demo_inversion_2023.nc";

fn mount_with(portal: &DemoPortal, options: &[&str]) -> TestMount {
    TestMount::with(portal, options, &[("ICOSFS_TOKEN", &portal.token())])
}

fn go_offline(portal: &DemoPortal) {
    for service in DemoService::ALL {
        portal.go_offline(service);
    }
}

#[test]
fn cached_files_are_readable_with_every_service_down() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let file = portal.repository().find(FILE).unwrap();
    let paths = [
        format!("objects/{file}.nc"),
        format!("objects/{file}.json"),
        format!("objects/{}.csv", co2(&portal)),
    ];
    let before: Vec<_> = paths.iter().map(|path| mount.read(path)).collect();
    let listed = mount.list("objects");

    go_offline(&portal);

    let after: Vec<_> = paths.iter().map(|path| mount.read(path)).collect();
    assert!(before == after);
    assert_eq!(mount.list("objects"), listed);
}

#[test]
fn uncached_files_fail_with_a_reason_until_the_portal_returns() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let file = portal.repository().find(FILE).unwrap();
    let path = format!("objects/{file}.nc");
    mount.list("objects");

    portal.go_offline(DemoService::Data);
    let error = mount.try_read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH));
    assert!(mount.last_reason().contains("cannot be reached"));

    portal.go_online(DemoService::Data).unwrap();
    let mut bytes = Vec::new();
    assert!(eventually(Duration::from_secs(20), || {
        mount.try_read(&path).map(|read| bytes = read).is_ok()
    }));
    assert_eq!(ObjectId::of_content(&bytes), file);
}

/// Regression: the members of a collection were taken for known before their
/// objects were. Deprecated objects, which no list contains, were missing for
/// readers in the meantime, and for good if their query failed.
#[test]
fn deprecated_objects_of_a_collection_appear_after_a_failed_query() {
    let portal = portal();
    let calm = TestMount::of(&portal);
    let is_member = |path: &String| !path.contains("by-") && !path.ends_with("/collection.json");
    let found = calm.run("find", &["collections", "-name", "*.json"]).stdout;
    let found = String::from_utf8(found).unwrap();
    let path = found.lines().map(str::to_owned).find(is_member);
    let path = &path.expect("a collection has objects");
    let page: Value = serde_json::from_slice(&calm.read(path)).unwrap();
    let id = &page["hash"].as_str().unwrap()[..24];
    let refused = Fault::Status {
        code: 400,
        retry_after: None,
    };
    let rule = FaultRule::always(refused).at(DemoService::Meta);
    portal.add_fault(rule.of(&id.parse().unwrap()).times(1));

    let mount = TestMount::of(&portal);
    assert!(mount.path(path).metadata().is_err(), "nothing was refused");
    // The failure is cached for a while.
    assert!(eventually(Duration::from_secs(20), || mount
        .path(path)
        .exists()));
}

/// Regression: when a list was unavailable, its folder was shown empty, or with
/// only the objects that had been looked up by name.
#[test]
fn single_cached_object_is_not_taken_for_a_list() {
    let portal = portal();
    let mount = mount_with(&portal, &[]);
    let id = co2(&portal);
    assert!(std::fs::metadata(mount.path(&format!("objects/{id}.csv"))).is_ok());
    let types = mount.list("datatypes");
    portal.go_offline(DemoService::Meta);
    let of_types = types.iter().map(|name| format!("datatypes/{name}"));
    let folders = of_types.chain(["objects", "documents", "collections"].map(str::to_owned));
    for folder in folders {
        let listed: Result<Vec<_>, _> =
            std::fs::read_dir(mount.path(&folder)).and_then(Iterator::collect);
        assert!(listed.is_err(), "{folder}: {listed:?}");
    }
    portal.go_online(DemoService::Meta).unwrap();
    let all = portal.repository().objects().len();
    let back = || std::fs::read_dir(mount.path("objects")).is_ok_and(|list| list.count() > all / 2);
    assert!(eventually(Duration::from_mins(1), back));
}

/// Reading a folder of a hundred files must not take a hundred timeouts.
#[test]
fn silent_service_costs_one_timeout_for_a_hundred_files() {
    let portal = portal();
    let silent = SilentPortal::new();
    let data_url = format!("--data-url={}", silent.url());
    let mount = mount_with(&portal, &[&data_url, "--timeout=2"]);
    let rows = |id: &String| portal.repository().csv(&id.parse().unwrap());
    let mut tables = mount.tables();
    tables.retain(|id| rows(id).is_some_and(|csv| csv.lines().count() > 1));
    let read = |id: &String| mount.try_read(&format!("objects/{id}.csv")).unwrap_err();
    assert_eq!(read(&tables[0]).raw_os_error(), Some(libc::ETIMEDOUT));
    let asked = silent.connections();

    for id in &tables[1..] {
        assert_eq!(read(id).raw_os_error(), Some(libc::ETIMEDOUT), "{id}");
    }

    // Except for a few requests that probe whether it is back.
    let further = silent.connections() - asked;
    assert!(further < 4, "{further} connections");
}

/// The first rows of a table, over a slow connection that is interrupted: the
/// download resumes where it stopped, not at the start.
#[test]
fn interrupted_download_resumes_where_it_stopped() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let file = portal.repository().find(FILE).unwrap();
    mount.list("objects");
    portal.clear_requests();
    let after = 2_000_000;
    // Slow enough that the reader has most bytes before the reset discards the rest.
    let bytes_per_second = 8_000_000;
    portal.add_fault(FaultRule::always(Fault::Bandwidth { bytes_per_second }).of(&file));
    portal.add_fault(
        FaultRule::always(Fault::ResetInBody { after })
            .of(&file)
            .times(1),
    );

    let bytes = mount.read(&format!("objects/{file}.nc"));

    assert_eq!(ObjectId::of_content(&bytes), file);
    let sent: u64 = portal.requests().iter().map(|r| r.bytes).sum();
    assert!(sent < bytes.len() as u64 + after / 2, "{sent} bytes in all");
}

#[test]
fn interrupted_columns_resume_at_the_interrupted_column() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = portal
        .repository()
        .find("ICOSETC_SE-Htm_FLUXES_L2.csv")
        .unwrap();
    mount.list("objects");
    portal.clear_requests();
    for after in [100_000, 50_000] {
        portal.add_fault(
            FaultRule::always(Fault::Truncate { after })
                .on("cpb")
                .times(1),
        );
    }

    let csv = mount.read(&format!("objects/{id}.csv"));

    assert!(csv == get(&portal, &format!("/csv/{id}")));
    let requests = portal.requests();
    let cpb: Vec<_> = requests.iter().filter(|r| r.path == "/cpb").collect();
    assert!(cpb.iter().any(|r| !r.complete), "one was broken off");
}

/// Reads all files of the repository from fresh mounts with these faults.
struct FaultyReads {
    reads: usize,
    good: usize,
    bad: Vec<String>,
    data_requests: usize,
}

/// Makes one run with each seed. Short by default; `ICOSFS_OUTAGES=80` makes it long, as
/// `scripts/soak --outages 80` does.
fn read_with_faults(
    portal: &DemoPortal,
    right: &[(String, Vec<u8>)],
    rules: &[FaultRule],
) -> FaultyReads {
    let (reads, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let bad = Mutex::new(Vec::new());
    let slowest = Mutex::new(Duration::ZERO);
    let mut data_requests = 0;
    for seed in 0..seeds() {
        let mount = mount_with(portal, &["--timeout=8"]);
        // Lists are loaded one at a time and tested separately.
        mount.list("objects");
        portal.clear_requests();
        portal.set_faults(FaultPlan {
            seed,
            rules: rules.to_vec(),
        });
        let next = AtomicUsize::new(0);
        let read_some = || {
            while let Some((path, expected)) = right.get(next.fetch_add(1, Ordering::Relaxed)) {
                let start = Instant::now();
                let read = mount.try_read(path);
                reads.fetch_add(1, Ordering::Relaxed);
                match read {
                    Ok(bytes) if bytes == *expected => {
                        good.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(_) => panic!("{path} was read wrong"),
                    Err(error) => bad.lock().unwrap().push(format!("{path}: {error}")),
                }
                let took = start.elapsed();
                assert!(took < Duration::from_mins(1), "{path} hung");
                let mut slowest = slowest.lock().unwrap();
                *slowest = took.max(*slowest);
            }
        };
        std::thread::scope(|scope| {
            (0..16).for_each(|_| drop(scope.spawn(read_some)));
        });
        portal.clear_faults();
        let requests = portal.requests().into_iter();
        let data = requests.filter(|r| r.service == DemoService::Data && r.path != "/whoami");
        data_requests += data.count();
    }
    let (reads, good) = (reads.into_inner(), good.into_inner());
    let bad = bad.into_inner().unwrap();
    println!(
        "{good} of {reads} right, {data_requests} requests, the slowest in {slowest:?}: {bad:#?}"
    );
    FaultyReads {
        reads,
        good,
        bad,
        data_requests,
    }
}

fn seeds() -> u64 {
    std::env::var("ICOSFS_OUTAGES").map_or(4, |seeds| seeds.parse().expect("a number"))
}

/// With 35 % of all responses broken, at least 99 % of the files are read
/// correctly, none wrongly, and none takes longer than its deadline.
#[test]
fn files_are_read_correctly_while_a_third_of_responses_is_broken() {
    let portal = portal();
    let right = contents(&portal);
    let broken = [
        Fault::Status {
            code: 503,
            retry_after: None,
        },
        Fault::Reset,
        Fault::Truncate { after: 3000 },
        Fault::Stall {
            after: 5000,
            ms: None,
        },
    ];
    // 35 % in total.
    let rules = broken.map(|fault| FaultRule::always(fault).with_probability(0.1021));
    let FaultyReads {
        reads, good, bad, ..
    } = read_with_faults(&portal, &right, &rules);
    assert!(reads >= 100, "only {reads} reads");
    assert!(good * 100 >= reads * 99, "{good} of {reads}: {bad:#?}");
}

/// The same with more kinds of faults, and with few further requests: of each, 35 % must
/// be repeated, so that 1.54 times as many are needed.
#[test]
fn broken_refused_and_cut_responses_cost_few_further_requests() {
    let portal = portal();
    let right = contents(&portal);
    let status = |code, retry_after| Fault::Status { code, retry_after };
    let broken = [
        status(503, None),
        status(429, Some(1)),
        status(408, None),
        Fault::Close,
        Fault::Reset,
        Fault::ResetInBody { after: 2000 },
        Fault::Truncate { after: 3000 },
        Fault::Stall {
            after: 5000,
            ms: None,
        },
    ];
    // 35 % in total.
    let rules = broken.map(|fault| FaultRule::always(fault).with_probability(0.0524));
    let calm = read_with_faults(&portal, &right, &[]);
    assert_eq!(calm.good, calm.reads);
    let FaultyReads {
        reads,
        good,
        bad,
        data_requests,
    } = read_with_faults(&portal, &right, &rules);
    assert!(reads >= 100, "only {reads} reads");
    assert!(good * 100 >= reads * 99, "{good} of {reads}: {bad:#?}");
    let calm = calm.data_requests;
    assert!(
        data_requests > calm * 5 / 4,
        "{data_requests}: the faults apply"
    );
    assert!(
        data_requests * 10 <= calm * 16,
        "{data_requests} requests, calm {calm}"
    );
}

/// Regression: sometimes one of the interrupted readers stayed blocked, since its
/// open waited for pages that other readers were reading.
#[test]
fn readers_waiting_for_a_silent_portal_do_not_delay_readers_of_cached_files() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let csv = format!("objects/{}.csv", co2(&portal));
    let cached = mount.read(&csv);
    let file = portal.repository().find(FILE).unwrap();
    let stall = FaultRule::always(Fault::Stall { after: 0, ms: None });
    portal.add_fault(stall.at(DemoService::Data).of(&file));
    let stuck: Vec<_> = (0..16)
        .map(|_| {
            let path = mount.path(&format!("objects/{file}.nc"));
            // A suite that runs in the background passes on that SIGINT is ignored.
            let mut cat = std::process::Command::new("env");
            cat.args(["--default-signal=INT", "cat"]).arg(path);
            cat.stdout(std::process::Stdio::null());
            cat.spawn().unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));

    let mut again = Vec::new();
    std::fs::File::open(mount.path(&csv))
        .unwrap()
        .read_to_end(&mut again)
        .unwrap();
    assert!(again == cached);
    assert!(!mount.list("objects").is_empty());

    for mut cat in stuck {
        assert!(cat.try_wait().unwrap().is_none(), "still waiting");
        let pid = nix::unistd::Pid::from_raw(cat.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        assert!(eventually(Duration::from_secs(20), || {
            cat.try_wait().unwrap().is_some()
        }));
    }
}
