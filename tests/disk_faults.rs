//! Faults of the cache, the disk and the daemon: bytes read are always correct.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService, Fault, FaultRule};
use icos_portal::ObjectId;
use nix::sys::signal::Signal;

use crate::python::{printed, python};
use crate::support::{
    Dice, HangingDisk, Home, SmallDisk, TestMount, co2, contents, eventually, files_below, portal,
    said,
};

fn mount_in(portal: &DemoPortal, cache: &Path, options: &[&str]) -> TestMount {
    let cache_dir = format!("--cache-dir={}", cache.display());
    let options: Vec<&str> = std::iter::once(&*cache_dir)
        .chain(options.iter().copied())
        .collect();
    TestMount::with(portal, &options, &[("ICOSFS_TOKEN", &portal.token())])
}

/// Reads every file and compares it with the expected bytes.
fn assert_all_right(mount: &TestMount, contents: &[(String, Vec<u8>)]) {
    for (path, expected) in contents {
        assert!(mount.read(path) == *expected, "{path} is wrong");
    }
}

/// Short here; `ICOSFS_KILLS=200` makes it long, as `scripts/soak --kills 200`
/// does.
#[test]
fn daemon_killed_at_any_moment_leaves_no_wrong_bytes() {
    let kills = std::env::var("ICOSFS_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let portal = portal();
    let contents = contents(&portal);
    let cache = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(6);
    let reads = AtomicU64::new(0);
    // So that a download is in progress most of the time.
    portal.add_fault(FaultRule::always(Fault::Bandwidth {
        bytes_per_second: 6_000_000,
    }));
    for kill in 0..kills {
        if kill % 4 == 3 {
            // Otherwise everything would soon be cached.
            fs::remove_dir_all(cache.path()).unwrap();
        }
        let mount = mount_in(&portal, cache.path(), &[]);
        mount.list("objects");
        let moment = Duration::from_millis(20 + dice.roll(500) as u64);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in 0..16 {
                let mut dice = Dice::new(kill * 16 + reader);
                let (mount, contents, over, reads) = (&mount, &contents, &over, &reads);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let (path, expected) = &contents[dice.roll(contents.len())];
                        if let Ok(bytes) = mount.try_read(path) {
                            assert!(bytes == *expected, "{path} is wrong");
                            reads.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            std::thread::sleep(moment);
            mount.signal(Signal::SIGKILL);
            over.store(true, Ordering::Relaxed);
        });
        mount.clear_away();
    }
    portal.clear_faults();
    assert_all_right(&mount_in(&portal, cache.path(), &[]), &contents);
    assert!(reads.into_inner() > kills, "readers had something to read");
}

#[test]
fn flipped_bits_and_truncated_cache_files_are_never_returned() {
    let portal = portal();
    let contents = contents(&portal);
    let cache = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(42);
    assert_all_right(&mount_in(&portal, cache.path(), &[]), &contents);
    for round in 0..3 {
        let mut spoilt = 0;
        for path in files_below(cache.path()) {
            if path.to_str().unwrap().contains("catalog") {
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            let at = dice.roll(bytes.len().max(1));
            let before = fs::metadata(&path).unwrap();
            match dice.roll(4) {
                0 if !bytes.is_empty() => {
                    bytes[at] ^= 1 << dice.roll(8);
                    fs::write(&path, bytes).unwrap();
                }
                1 => fs::write(&path, &bytes[..at]).unwrap(),
                // As a failing disk does, without a change of timestamps.
                2 if !bytes.is_empty() => {
                    bytes[at] ^= 1 << dice.roll(8);
                    fs::write(&path, bytes).unwrap();
                    let time = before.modified().unwrap();
                    fs::File::open(&path).unwrap().set_modified(time).unwrap();
                }
                _ => continue,
            }
            spoilt += 1;
        }
        assert!(spoilt > 5, "round {round} spoilt {spoilt} files");
        assert_all_right(&mount_in(&portal, cache.path(), &[]), &contents);
    }
}

#[test]
fn two_mounts_share_one_small_cache_concurrently() {
    let portal = portal();
    let contents = contents(&portal);
    let cache = tempfile::tempdir().unwrap();
    let options = ["--cache-size=4M", "--memory=8M"];
    let mounts = [(); 2].map(|()| mount_in(&portal, cache.path(), &options));
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (mount, contents) = (&mounts[reader % 2], &contents);
            let mut dice = Dice::new(reader as u64);
            scope.spawn(move || {
                for _ in 0..contents.len() {
                    let (path, expected) = &contents[dice.roll(contents.len())];
                    assert!(mount.read(path) == *expected, "{path} is wrong");
                }
            });
        }
    });
}

#[test]
fn cache_folder_can_be_removed_during_a_mount() {
    let portal = portal();
    let contents = contents(&portal);
    let cache = tempfile::tempdir().unwrap();
    let mount = mount_in(&portal, cache.path(), &[]);
    let (first, second) = contents.split_at(contents.len() / 2);
    assert_all_right(&mount, first);

    // The bytes read last may still be written to it.
    let taken = eventually(Duration::from_secs(20), || {
        fs::remove_dir_all(cache.path()).is_ok()
    });
    assert!(taken);

    assert_all_right(&mount, second);
    assert_all_right(&mount, first);
}

/// Returns the mount's warnings about files that it cannot cache.
fn troubles(mount: &TestMount, keep: &str) -> String {
    let errors = String::from_utf8(mount.read(".icosfs/errors")).unwrap();
    let told = errors.lines().filter(|line| line.contains(keep));
    told.collect::<Vec<_>>().join("\n")
}

#[test]
fn full_disk_causes_one_warning() {
    let portal = portal();
    let contents = contents(&portal);
    let disk = SmallDisk::new(3 << 20);
    let mount = mount_in(&portal, disk.path(), &["--cache-size=1G", "--memory=32M"]);
    // The catalog needs some of the space.
    mount.list("objects");
    assert_all_right(&mount, &contents);
    let told = troubles(&mount, "keep cache");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("ENOSPC") && told.contains("--cache-dir"),
        "{told}"
    );
}

/// Regression: with a few free megabytes on the disk, an original of 12 MB took 296
/// requests and 3.6 GB. Blocks were evicted before they were read, and each miss
/// requested the complete file again.
#[test]
fn nearly_full_disk_does_not_multiply_downloads() {
    const MIB: u64 = 1 << 20;
    const LEN: u64 = 12 * MIB;
    let mut repository = DemoRepository::builtin(1);
    let in_order = repository.add_original("in-order.bin", LEN);
    let at_random = repository.add_original("at-random.bin", LEN);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let mut dice = Dice::new(26);
    for (room, memory) in [0, 1, 2, 3, 5, 8, 12]
        .into_iter()
        .flat_map(|room| [(room, "32M"), (room, "256M")])
    {
        let disk = SmallDisk::new(24 * MIB);
        let cache = disk.path();
        let mount = mount_in(&portal, cache, &[&format!("--memory={memory}")]);
        mount.list("objects");
        let found = nix::sys::statvfs::statvfs(cache).unwrap();
        let unit = found.fragment_size();
        // A twentieth of the disk stays free.
        let spare = (found.blocks_available() * unit) - found.blocks() * unit / 20;
        let filler = spare.saturating_sub(room * MIB);
        fs::write(
            cache.join("filler"),
            vec![1; usize::try_from(filler).unwrap()],
        )
        .unwrap();
        portal.clear_requests();

        let path = |id: ObjectId| format!("objects/{id}.bin");
        let whole = mount.read(&path(in_order));
        assert_eq!(ObjectId::of_content(&whole), in_order);
        let file = fs::File::open(mount.path(&path(at_random))).unwrap();
        for _ in 0..60 {
            let mut bytes = vec![0; 64 << 10];
            let at = dice.roll(usize::try_from(LEN).unwrap() - bytes.len());
            file.read_exact_at(&mut bytes, at as u64).unwrap();
        }
        for id in [in_order, at_random] {
            let requests = portal.requests();
            let route = format!("/objects/{id}");
            let of_file = requests
                .iter()
                .filter(|request| request.service == DemoService::Data && request.path == route);
            let fetched: Vec<u64> = of_file.map(|request| request.bytes).collect();
            let case = format!("{room} MiB of room, {memory} of memory: {fetched:?}");
            assert!(fetched.len() as u64 <= 16 + LEN / MIB, "{case}");
            assert!(fetched.iter().sum::<u64>() <= 2 * LEN + 8 * MIB, "{case}");
        }
    }
}

/// The disk of one cached table hangs, as a network file system may.
#[test]
fn reader_of_a_table_on_a_hanging_disk_can_be_killed_and_delays_no_other() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let table = co2(&portal);
    let (format, other) = (
        "dataAppStorage/asciiAtcProductTimeSer",
        "demo_inversion_2023.nc",
    );
    let original = portal.repository().find(other).unwrap();
    let cpb = format!("{format}/{table}.cpb");
    let folder = {
        let mount = mount_in(&portal, cache.path(), &[]);
        mount.read(&cpb);
        mount.read(&format!("objects/{original}.nc"));
        let folder = Path::new(mount.status()["cache"].as_str().unwrap()).join(format);
        let is_complete = || folder.join(format!("{table}.cpb")).exists();
        assert!(eventually(Duration::from_secs(20), is_complete));
        folder
    };
    let disk = HangingDisk::over(&folder);
    let mount = mount_in(&portal, cache.path(), &[]);
    disk.hang();
    let mut cat = Command::new("cat");
    cat.arg(mount.path(&cpb)).stdout(Stdio::null());
    let mut reader = cat.spawn().unwrap();
    assert!(eventually(Duration::from_secs(10), || disk.waiting() > 0));

    let read = mount.read(&format!("objects/{original}.nc"));
    assert_eq!(ObjectId::of_content(&read), original);
    assert!(!mount.list("stations").is_empty());
    reader.kill().unwrap();
    let ended = eventually(Duration::from_secs(10), || {
        reader.try_wait().unwrap().is_some()
    });
    disk.release();
    reader.wait().unwrap();
    assert!(ended, "the reader could not be killed");
    // The disk failed once: the bytes are downloaded again.
    assert_eq!(portal.repository().cpb(&table), Some(mount.read(&cpb)));
}

/// Regression: a read of an original waited for the disk on an event loop, so that a few
/// of them stopped the mount.
#[test]
fn readers_of_originals_on_a_hanging_disk_delay_no_other_and_can_be_interrupted() {
    const READERS: usize = 12;
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let original = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let name = format!("objects/{original}.nc");
    let (folder, format) = {
        let mount = mount_in(&portal, cache.path(), &[]);
        mount.read(&name);
        let root = PathBuf::from(mount.status()["cache"].as_str().unwrap());
        let mut found = None;
        let is_complete = || {
            let mut files = files_below(&root.join("dataAppStorage")).into_iter();
            found = files.find(|path| path.ends_with(original.to_string()));
            found.is_some()
        };
        assert!(eventually(Duration::from_secs(20), is_complete));
        let folder = found.unwrap().parent().unwrap().to_owned();
        let format = folder.file_name().unwrap().to_str().unwrap().to_owned();
        (folder, format)
    };
    assert_ne!(
        format, "asciiAtcProductTimeSer",
        "tables are on another disk"
    );
    let table = format!("objects/{}.csv", co2(&portal));
    let disk = HangingDisk::over(&folder);
    let mount = mount_in(&portal, cache.path(), &[]);
    let right = mount.read(&table);
    disk.hang();
    let mut readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let skip = format!("skip={reader}");
            // A suite that runs in the background passes on that SIGINT is ignored.
            let mut dd = Command::new("env");
            dd.args(["--default-signal=INT", "dd"])
                .arg(format!("if={}", mount.path(&name).display()))
                .args(["bs=128K", "count=1", &skip, "of=/dev/null"]);
            dd.stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let is_dd = |reader: &std::process::Child| {
        let name = fs::read_to_string(format!("/proc/{}/comm", reader.id()));
        name.is_ok_and(|name| name == "dd\n")
    };
    assert!(eventually(Duration::from_secs(10), || {
        disk.waiting() > 0 && readers.iter().all(is_dd)
    }));

    // Of other files, in the cache or not, and of the state.
    assert!(mount.read(&table) == right);
    assert!(!mount.list("stations").is_empty());
    assert!(mount.status()["pid"].is_number());
    for reader in &readers {
        let pid = nix::unistd::Pid::from_raw(reader.id().try_into().unwrap());
        nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    }
    let ended = eventually(Duration::from_secs(10), || {
        let mut running = readers.iter_mut();
        running.all(|reader| reader.try_wait().unwrap().is_some())
    });
    disk.release();
    for reader in &mut readers {
        reader.wait().unwrap();
    }
    assert!(ended, "a reader could not be interrupted");
    let read = mount.read(&name);
    assert_eq!(ObjectId::of_content(&read), original);
}

/// Nothing waits for a pipe in the place of a file.
#[test]
fn pipes_in_place_of_all_files_of_the_cache_are_replaced() {
    let portal = portal();
    let contents = contents(&portal);
    let cache = tempfile::tempdir().unwrap();
    assert_all_right(&mount_in(&portal, cache.path(), &[]), &contents);
    let files = files_below(cache.path());
    assert!(
        files.iter().any(|path| path.ends_with("catalog.sqlite")),
        "{files:?}"
    );
    for path in &files {
        fs::remove_file(path).unwrap();
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let mount = mount_in(&portal, cache.path(), &[]);
    assert_all_right(&mount, &contents);
    assert!(!mount.list("stations").is_empty());
}

#[test]
fn pipe_in_place_of_the_catalog_of_a_read_only_cache_is_not_waited_for() {
    let portal = portal();
    let disk = SmallDisk::new(64 << 20);
    let catalog = {
        let mount = mount_in(&portal, disk.path(), &[]);
        mount.list("objects");
        let files = files_below(disk.path());
        let catalog = files
            .into_iter()
            .find(|path| path.ends_with("catalog.sqlite"));
        catalog.expect("a catalog")
    };
    fs::remove_file(&catalog).unwrap();
    nix::unistd::mkfifo(&catalog, nix::sys::stat::Mode::S_IRWXU).unwrap();
    disk.mount("remount,ro");
    let mount = mount_in(&portal, disk.path(), &[]);
    assert!(!mount.list("objects").is_empty());
}

#[test]
fn read_only_cache_causes_one_warning() {
    let portal = portal();
    let contents = contents(&portal);
    let disk = SmallDisk::new(64 << 20);
    disk.mount("remount,ro");
    let mount = mount_in(&portal, disk.path(), &[]);
    assert_all_right(&mount, &contents);
    let told = troubles(&mount, "keep cache");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("EROFS"), "{told}");
}

/// Regression: lookups of names that the catalog did not have yet failed with
/// EIO.
#[test]
fn names_are_found_while_the_disk_is_full() {
    let portal = portal();
    let disk = SmallDisk::new(8 << 20);
    let mount = mount_in(&portal, disk.path(), &["--memory=32M"]);
    let stations = mount.list("stations");
    // Writes until the disk is full.
    let full = fs::write(disk.path().join("rest"), vec![7; 8 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));

    for folder in ["objects", "documents", "collections", "datatypes"] {
        assert!(!mount.list(folder).is_empty(), "{folder}");
    }
    let old = superseded(&portal);
    mount.read(&format!("objects/{old}.json"));
    let whole = walk(&mount);
    assert_eq!(walk(&mount), whole);

    assert_eq!(mount.list("stations"), stations);
    let told = troubles(&mount, "keep catalog");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("--cache-dir"), "{told}");
}

/// A cache that another user filled, as on a cluster.
#[test]
fn read_only_catalog_is_read_and_continued_in_memory() {
    let portal = portal();
    let disk = SmallDisk::new(64 << 20);
    let known = mount_in(&portal, disk.path(), &[]).list("objects");
    disk.mount("remount,ro");
    portal.go_offline(DemoService::Meta);
    let mount = mount_in(&portal, disk.path(), &["--metadata-ttl=indefinite"]);
    assert_eq!(mount.list("objects"), known);

    portal.go_online(DemoService::Meta).unwrap();
    let unlisted = format!("objects/{}.json", superseded(&portal));
    assert!(eventually(Duration::from_secs(20), || {
        mount.try_read(&unlisted).is_ok()
    }));
    assert!(!mount.list("documents").is_empty());

    let told = troubles(&mount, "keep catalog");
    assert_eq!(told.lines().count(), 1, "{told}");
}

/// Returns an object that is not in the list of current objects.
fn superseded(portal: &DemoPortal) -> ObjectId {
    let found = Home::new().run(portal, &["find", "--include-deprecated", "--json"], "");
    let lines = String::from_utf8(found.stdout).unwrap();
    let old = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|object| object["nextVersion"].is_string());
    old.unwrap()["id"].as_str().unwrap().parse().unwrap()
}

/// Returns all paths of a mount.
fn walk(mount: &TestMount) -> String {
    String::from_utf8(mount.run("find", &["."]).stdout).unwrap()
}

/// 64 readers of far more bytes than the cache may hold.
#[test]
fn many_readers_stay_within_the_disk_and_memory_bounds() {
    const CACHE: u64 = 20 << 20;
    const MEMORY: u64 = 32 << 20;
    let mut repository = DemoRepository::builtin(1);
    let files: Vec<ObjectId> = (0..24)
        .map(|n| repository.add_original(&format!("file{n}.bin"), 5 << 20))
        .collect();
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let options = [
        format!("--cache-size={CACHE}"),
        format!("--memory={MEMORY}"),
    ];
    let mount = mount_in(&portal, cache.path(), &[&options[0], &options[1]]);
    mount.list("objects");
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let held: u64 = files_below(cache.path())
                    .iter()
                    .filter(|path| !path.to_str().unwrap().contains("catalog"))
                    .filter_map(|path| Some(fs::metadata(path).ok()?.blocks() * 512))
                    .sum();
                most.fetch_max(held, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let readers: Vec<_> = (0..64)
            .map(|reader| {
                let (mount, files) = (&mount, &files);
                let mut dice = Dice::new(reader);
                scope.spawn(move || {
                    for _ in 0..2 {
                        let id = files[dice.roll(files.len())];
                        let bytes = mount.read(&format!("objects/{id}.bin"));
                        assert_eq!(ObjectId::of_content(&bytes), id);
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    let most = most.into_inner();
    assert!(most <= CACHE + CACHE / 20, "{most} bytes in the cache");
    let peak = mount.peak_memory();
    assert!(peak <= MEMORY + (96 << 20), "{peak} bytes of memory");
}

#[test]
fn few_file_descriptors_suffice() {
    let portal = portal();
    let contents = contents(&portal);
    let mount = TestMount::with_few_descriptors(&portal);
    assert_all_right(&mount, &contents);
    assert!(eventually(Duration::from_secs(5), || mount.descriptors() < 64));
}

/// Regression: a mount without a free descriptor for its lists took the disk for
/// broken and continued in memory.
#[test]
fn shortage_of_file_descriptors_is_temporary() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.list("objects");
    assert!(mount.has_catalog_open());
    // Descriptors 0 to 2 are in use.
    mount.limit_descriptors(3);
    std::thread::scope(|scope| {
        for reader in 0..16 {
            let mount = &mount;
            scope.spawn(move || {
                for n in 10..40 {
                    let unknown = format!("objects/AAAAAAAAAAAAAAAAAAAA{n}{}.json", 10 + reader);
                    assert!(fs::metadata(mount.path(&unknown)).is_err());
                }
            });
        }
    });
    mount.limit_descriptors(1024);
    assert!(mount.has_catalog_open(), "it went on in memory");
    assert_all_right(&mount, &contents(&portal));
}

/// The cache has the layout of the portal's Jupyter data folder.
#[test]
fn filled_cache_serves_icoscp_core_offline() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let tables: Vec<String> = [
        "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip",
        "ICOSETC_SE-Htm_FLUXES_L2.csv",
    ]
    .map(|name| portal.repository().find(name).unwrap().to_string())
    .into();
    for id in &tables {
        mount.read(&format!("objects/{id}.csv"));
    }
    let cache = mount.status()["cache"].as_str().unwrap().to_owned();
    let script = "import sys, elsewhere\n\
        from icoscp_core.bootstrap import Bootstrap\n\
        from icoscp_core.envri import ICOS_CONFIG\n\
        meta, data = Bootstrap(ICOS_CONFIG).fromCookieToken(sys.argv[1])\n\
        for id in sys.argv[2:]:\n\
        \x20   dobj = meta.get_dobj_meta('https://meta.icos-cp.eu/objects/' + id)\n\
        \x20   for name, values in data.get_columns_as_arrays(dobj).items():\n\
        \x20       print(id, name, values.dtype, values.shape, values.tobytes().hex())\n";
    let token = portal.token();
    let arguments: Vec<&str> = std::iter::once(&*token)
        .chain(tables.iter().map(String::as_str))
        .collect();
    let arrays = |folder: &str| {
        let mut python = python(&portal, mount.home());
        python.env("PORTAL_DATA_PATH_ICOS", folder);
        printed(python, script, &arguments)
    };
    let from_portal = arrays("");

    portal.go_offline(DemoService::Data);
    portal.go_offline(DemoService::Auth);

    let from_cache = arrays(&format!("{cache}/dataAppStorage"));
    assert!(from_cache == from_portal, "other arrays");
    assert!(from_cache.lines().count() > 4);
}

#[test]
fn mapped_original_equals_its_bytes() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let path = mount
        .path(&format!("objects/{id}.nc"))
        .display()
        .to_string();
    let script = "import hashlib, mmap, sys\n\
        with open(sys.argv[1], 'rb') as file:\n\
        \x20   mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n\
        \x20   print(hashlib.sha256(mapped).hexdigest())\n";
    // First downloaded by page faults, then by passthrough.
    for _ in 0..2 {
        let digest = printed(python(&portal, mount.home()), script, &[&path]);
        let digest: ObjectId = digest.trim().parse().unwrap();
        assert_eq!(digest, id);
    }
}

/// While the daemon is stopped, another folder takes the place of its cache: one with
/// damaged files, none at all, or a file.
#[test]
fn cache_folder_replaced_while_the_daemon_is_stopped_is_not_read() {
    let portal = portal();
    let contents = contents(&portal);
    for replacement in ["damaged", "empty", "none", "file"] {
        let parent = tempfile::tempdir().unwrap();
        let (cache, aside) = (parent.path().join("cache"), parent.path().join("aside"));
        let mount = mount_in(&portal, &cache, &[]);
        assert_all_right(&mount, &contents[..contents.len() / 2]);
        // Idle files are closed, so that they are opened again.
        let closed = || mount.open_cache_files().is_empty();
        assert!(eventually(Duration::from_secs(40), closed), "{replacement}");

        mount.stop();
        fs::rename(&cache, &aside).unwrap();
        match replacement {
            "damaged" => {
                let copied = Command::new("cp").arg("-a").args([&aside, &cache]).status();
                assert!(copied.unwrap().success());
                for path in files_below(&cache) {
                    // Not the control socket.
                    let Ok(file) = fs::File::options().read(true).write(true).open(path) else {
                        continue;
                    };
                    let mut byte = [0];
                    if file.read_exact_at(&mut byte, 0).is_ok() {
                        file.write_all_at(&[byte[0] ^ 1], 0).unwrap();
                    }
                }
            }
            "empty" => fs::create_dir(&cache).unwrap(),
            "file" => fs::write(&cache, "not a folder").unwrap(),
            _ => {}
        }
        mount.signal(Signal::SIGCONT);
        assert_all_right(&mount, &contents);
        assert!(mount.is_running(), "{replacement}");
        // New files are in the folder that the mount holds open.
        let count = |folder: &Path| files_below(folder).iter().filter(|f| f.is_file()).count();
        assert!(
            count(&aside) > count(&cache) || replacement == "damaged",
            "{replacement}"
        );
    }
}

/// Regression: it said that files were cached that were only read.
#[test]
fn prefetch_to_a_full_disk_fails_and_says_so() {
    let portal = portal();
    let disk = SmallDisk::new(256 << 10);
    let mount = mount_in(&portal, &disk.path().join("cache"), &[]);
    let objects = mount.path("objects");
    let mut command = mount.icosfs();
    let output = command.arg("prefetch").arg(&objects).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("are in the cache: its disk is full\nhint: free some space on "),
        "{said}"
    );
}
