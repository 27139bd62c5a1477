//! Machines that share a cache: mounts with local caches of their own, and one store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService, Fault, FaultRule};
use icos_portal::ObjectId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{
    Home, SmallDisk, TestMount, co2, eventually, feed, get, portal, said, slices,
};

#[cfg(feature = "cluster")]
mod engines;
#[cfg(feature = "cluster")]
mod leases;
mod lists;
mod programs;

#[cfg(feature = "cluster")]
use engines::{RedisServer, S3Server};

const SOON: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

/// What machines of a cluster share.
struct SharedStore {
    folder: tempfile::TempDir,
    options: Vec<String>,
    env: Vec<(String, String)>,
}

impl SharedStore {
    /// A store whose bytes a key proves.
    fn keyed() -> Self {
        let store = Self::without_key();
        let key = store.folder.path().join("key");
        let init = Home::new()
            .icosfs()
            .args(["cluster", "init"])
            .arg(&key)
            .output();
        let init = init.unwrap();
        assert!(init.status.success(), "{}", said(&init));
        let option = format!("--shared-key-file={}", key.display());
        Self {
            options: [store.options, vec![option]].concat(),
            ..store
        }
    }

    fn without_key() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        std::fs::create_dir(&store).unwrap();
        // This machine may be busy; the tests of failures set less.
        let options = vec![
            format!("--shared-cache=file://{}", store.display()),
            "--shared-cache-timeout=60000".to_owned(),
        ];
        Self {
            folder,
            options,
            env: Vec::new(),
        }
    }

    /// A store in a bucket of `server`, whose bytes a key proves.
    #[cfg(feature = "cluster")]
    fn in_bucket(server: &S3Server) -> Self {
        let mut store = Self::keyed();
        "--shared-cache=s3://icosfs/a/b".clone_into(&mut store.options[0]);
        let env = [
            ("AWS_ENDPOINT_URL", server.url.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            env: env.to_vec(),
            ..store
        }
    }

    /// The same, with its leases on a server.
    #[cfg(feature = "cluster")]
    fn with_leases(mut self, redis: &RedisServer) -> Self {
        let option = format!("--shared-leases={}", redis.url());
        self.options.push(option);
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Mounts `portal` with a local cache of its own, as another machine does.
    fn mount(&self, portal: &DemoPortal) -> TestMount {
        self.mount_with(portal, &[])
    }

    fn mount_with(&self, portal: &DemoPortal, more: &[&str]) -> TestMount {
        let name = |option: &str| option.split('=').next().map(str::to_owned);
        let is_replaced = |option: &&str| more.iter().any(|more| name(more) == name(option));
        let options: Vec<&str> = (self.options.iter().map(String::as_str))
            .filter(|option| !is_replaced(option))
            .chain(more.iter().copied())
            .collect();
        let token = portal.token();
        let mut env = vec![("ICOSFS_TOKEN", token.as_str())];
        env.extend(self.env.iter().map(|(name, value)| (&**name, &**value)));
        let mount = TestMount::with(portal, &options, &env);
        mount.list("objects");
        mount
    }
}

/// Returns how often each path of the data service was requested.
fn downloads(portal: &DemoPortal) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in portal.requests() {
        if request.service == DemoService::Data && request.route != "whoami" {
            *counts.entry(request.path).or_default() += 1;
        }
    }
    counts
}

fn shared_status(mount: &TestMount) -> Value {
    mount.status()["shared_cache"].clone()
}

/// Waits until `mount` has published `bytes` bytes.
fn wait_until_published(mount: &TestMount, bytes: u64) {
    let published = || shared_status(mount)["bytes_written"] == bytes;
    assert!(eventually(SOON, published), "{}", shared_status(mount));
    // The manifest and the lease follow.
    std::thread::sleep(Duration::from_millis(100));
}

fn slow_portal(lens: &[u64], bytes_per_second: u64) -> (DemoPortal, Vec<(String, Vec<u8>)>) {
    let mut repository = DemoRepository::builtin(1);
    let ids: Vec<ObjectId> = (lens.iter().enumerate())
        .map(|(n, &len)| repository.add_original(&format!("{n}.bin"), len))
        .collect();
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let files = ids.iter().map(|id| {
        let bytes = get(&portal, &format!("/objects/{id}"));
        (format!("objects/{id}.bin"), bytes)
    });
    let files = files.collect();
    portal.clear_requests();
    if bytes_per_second > 0 {
        portal.add_fault(FaultRule::always(Fault::Bandwidth { bytes_per_second }));
    }
    (portal, files)
}

/// Has 64 readers of `mounts` read all `files`, each in an order of its own.
fn read_all(mounts: &[TestMount], files: &[(String, Vec<u8>)]) {
    std::thread::scope(|scope| {
        for (number, mount) in (0..64).zip(mounts.iter().cycle()) {
            scope.spawn(move || {
                for at in 0..files.len() {
                    let (path, right) = &files[(at * 7 + number * 13) % files.len()];
                    assert!(mount.read(path) == *right, "{path} is wrong");
                }
            });
        }
    });
}

/// 64 readers on 4 machines read 100 originals, each in an order of its own.
#[test]
fn originals_that_many_readers_of_many_machines_read_are_downloaded_once() {
    for store in [SharedStore::keyed(), SharedStore::without_key()] {
        let lens: Vec<u64> = (0..99).map(|n| 1000 + 7919 * n).chain([9 * MIB]).collect();
        let (portal, files) = slow_portal(&lens, 0);
        let mounts = [(); 4].map(|()| store.mount(&portal));
        read_all(&mounts, &files);
        let downloads = downloads(&portal);
        assert_eq!(downloads.len(), files.len());
        let repeated: Vec<_> = downloads.iter().filter(|(_, count)| **count > 1).collect();
        assert!(repeated.is_empty(), "{repeated:?}");
    }
}

/// 100 tables in a bucket; 64 readers on 4 machines.
#[cfg(feature = "cluster")]
#[test]
fn tables_are_downloaded_once_by_machines_that_share_a_bucket() {
    let (portal, files) = small_tables(100);
    let server = S3Server::moto();
    let store = SharedStore::in_bucket(&server);
    let mounts = [(); 4].map(|()| store.mount(&portal));
    portal.clear_requests();
    read_all(&mounts, &files);
    assert_eq!(slices(&portal), files.len());
    let status = shared_status(&mounts[0]);
    assert_eq!(status["leases_off"], false, "{status}");
}

#[cfg(feature = "cluster")]
#[test]
fn frozen_bucket_delays_reads_for_a_moment_and_is_used_again_by_itself() {
    let (portal, files) = slow_portal(&[5000, 6000, 7000], 0);
    let server = S3Server::moto();
    let store = SharedStore::in_bucket(&server);
    let mount = store.mount_with(&portal, &["--shared-cache-timeout=800"]);
    assert!(mount.read(&files[0].0) == files[0].1);
    wait_until_published(&mount, 5000);
    server.signal(Signal::SIGSTOP);
    assert!(mount.read(&files[1].0) == files[1].1);
    assert_eq!(shared_status(&mount)["state"], "unavailable");
    server.signal(Signal::SIGCONT);
    assert!(eventually(SOON, || shared_status(&mount)["state"] == "working"));
    assert!(mount.read(&files[2].0) == files[2].1);
    wait_until_published(&mount, 12_000);
}

/// Two conditional creations of one object succeed there: it cannot have leases. Its
/// bytes are shared.
#[cfg(feature = "cluster")]
#[test]
fn rclone_serve_s3_is_refused_for_leases() {
    let (portal, files) = slow_portal(&[5000], 0);
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::rclone(folder.path());
    let store = SharedStore::in_bucket(&server);
    let (path, right) = &files[0];
    let first = store.mount(&portal);
    assert!(first.read(path) == *right);
    wait_until_published(&first, 5000);
    assert_eq!(shared_status(&first)["leases_off"], true);
    let text = first.icosfs().arg("status").arg(first.path("")).output();
    let text = said(&text.unwrap());
    assert!(text.contains("its leases are off"), "{text}");
    let second = store.mount(&portal);
    assert!(second.read(path) == *right);
    assert_eq!(
        downloads(&portal).values().sum::<usize>(),
        1,
        "bytes are shared"
    );

    let mut doctor = Home::new().icosfs();
    doctor
        .args(crate::support::services_of(&portal, &[]))
        .arg("doctor")
        .args(&store.options)
        .envs(store.env.iter().cloned());
    let text = said(&feed(doctor, ""));
    assert!(
        text.contains(
            "it ignores conditions (If-None-Match, If-Match), as `rclone serve s3` does, so \
             that machines cannot agree which of them downloads"
        ),
        "{text}"
    );
}

/// `count` tables with their CSVs.
fn small_tables(count: usize) -> (DemoPortal, Vec<(String, Vec<u8>)>) {
    let mut repository = DemoRepository::builtin(1);
    let ids: Vec<ObjectId> = (0..count)
        .map(|n| repository.add_table(&format!("{n}.csv"), 3 + n % 7, 50 + 40 * n as u64))
        .collect();
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let files = ids.iter().map(|id| {
        let csv = portal.repository().csv(id).unwrap();
        (format!("objects/{id}.csv"), csv.into_bytes())
    });
    let files = files.collect();
    (portal, files)
}

/// The same of tables, whose CSVs the mounts render from the portal's columns.
#[test]
fn tables_that_many_readers_of_many_machines_read_are_downloaded_once() {
    let (portal, files) = small_tables(100);
    let store = SharedStore::keyed();
    let mounts = [(); 4].map(|()| store.mount(&portal));
    portal.clear_requests();
    read_all(&mounts, &files);
    let requests = portal.requests();
    let of_data = requests.iter().filter(|r| r.service == DemoService::Data);
    let of_data: Vec<_> = of_data.filter(|r| r.route != "whoami").collect();
    let headers = of_data.iter().filter(|r| r.path.starts_with("/csv/"));
    assert!(headers.count() <= 7, "one for each kind of table at most");
    let slices = of_data.iter().filter(|r| r.path == "/cpb").count();
    assert_eq!(slices, files.len());
}

/// Nothing proves a table without a key.
#[test]
fn tables_are_not_shared_without_a_key() {
    let (portal, store) = (portal(), SharedStore::without_key());
    let path = format!("objects/{}.csv", co2(&portal));
    let right = get(&portal, &format!("/csv/{}", co2(&portal)));
    portal.clear_requests();
    for _ in 0..2 {
        assert!(store.mount(&portal).read(&path) == right);
    }
    assert_eq!(slices(&portal), 2);
    let names = crate::support::files_below(&store.path());
    assert!(
        names.iter().all(|name| name.ends_with("probe")),
        "{names:?}"
    );
}

/// The portal sends columns from their starts only: the machine that goes on skips what
/// others have.
#[test]
fn table_is_complete_after_the_machine_that_downloads_it_is_killed() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("long.csv", 7, 700_000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let right = portal.repository().cpb(&id).unwrap();
    assert!(right.len() > 17 << 20, "three segments: {}", right.len());
    portal.add_fault(FaultRule::always(Fault::Bandwidth {
        bytes_per_second: 6_000_000,
    }));
    let store = SharedStore::keyed();
    let mounts = [(); 2].map(|()| store.mount(&portal));
    let [first, second] = &mounts;
    let folder = |mount: &TestMount| {
        let formats = mount.list("dataAppStorage").into_iter();
        let mut paths = formats.map(|format| format!("dataAppStorage/{format}/{id}.cpb"));
        paths.find(|path| mount.path(path).exists()).unwrap()
    };
    let path = folder(second);
    std::thread::scope(|scope| {
        let path = &path;
        scope.spawn(move || first.try_read(path));
        let published = || shared_status(first)["segments_written"] == 1;
        assert!(eventually(SOON, published));
        let reader = scope.spawn(move || second.read(path));
        first.signal(Signal::SIGKILL);
        first.clear_away();
        assert!(reader.join().unwrap() == right, "the table is wrong");
    });
    assert_eq!(slices(&portal), 2);
}

#[test]
fn shared_bytes_are_reported_as_used_once_unless_that_is_turned_off() {
    let (portal, files) = slow_portal(&[5000], 0);
    let store = SharedStore::keyed();
    let (path, right) = &files[0];
    let first = store.mount(&portal);
    assert!(first.read(path) == *right);
    wait_until_published(&first, 5000);
    let reports = || {
        let requests = portal.requests();
        let reports = requests.iter().filter(|r| r.path == "/logs/portaluse");
        reports.map(|r| r.body.clone()).collect::<Vec<_>>()
    };
    assert!(reports().is_empty(), "a download is no use of shared bytes");
    let silent = store.mount_with(&portal, &["--no-usage-report"]);
    assert!(silent.read(path) == *right);
    let second = store.mount(&portal);
    assert!(second.read(path) == *right && second.read(path) == *right);
    assert!(eventually(SOON, || reports().len() == 1), "{:?}", reports());
    let report: Value = serde_json::from_str(&reports()[0]).unwrap();
    let id = path.split(['/', '.']).nth(1).unwrap();
    assert_eq!(report["cpbFileAccess"]["objects"], serde_json::json!([id]));
    assert_eq!(downloads(&portal).values().sum::<usize>(), 1);
}

#[test]
fn user_without_a_licence_or_a_login_gets_no_shared_bytes() {
    let (portal, files) = slow_portal(&[5000], 0);
    let store = SharedStore::keyed();
    let (path, right) = &files[0];
    let first = store.mount(&portal);
    assert!(first.read(path) == *right);
    wait_until_published(&first, 5000);
    portal.accept_licence(false);
    let second = store.mount(&portal);
    let error = second.try_read(path).unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied,
        "{error}"
    );
    let reason = second.last_reason();
    assert!(reason.contains("licence is not accepted"), "{reason}");
    assert_eq!(shared_status(&second)["bytes_read"], 0);
    portal.accept_licence(true);
    assert!(eventually(SOON, || second
        .try_read(path)
        .is_ok_and(|read| read == *right)));

    let options: Vec<&str> = store.options.iter().map(String::as_str).collect();
    let anonymous = TestMount::with(&portal, &options, &[]);
    anonymous.try_read(path).unwrap_err();
    let status = shared_status(&anonymous);
    assert!(status.is_null() || status["bytes_read"] == 0, "{status}");
}

/// The lease of a killed process expires; the bytes that it has published stay.
#[test]
fn readers_go_on_after_the_machine_that_downloads_for_them_is_killed() {
    let len = 24 * MIB;
    let (portal, files) = slow_portal(&[len], 5_000_000);
    let store = SharedStore::keyed();
    let (path, right) = &files[0];
    let mounts = [(); 3].map(|()| store.mount(&portal));
    std::thread::scope(|scope| {
        let [first, others @ ..] = &mounts;
        scope.spawn(move || first.try_read(path));
        let published = || shared_status(first)["segments_written"] == 1;
        assert!(eventually(SOON, published));
        let readers = others
            .each_ref()
            .map(|mount| scope.spawn(move || assert!(mount.read(path) == *right, "it is wrong")));
        first.signal(Signal::SIGKILL);
        first.clear_away();
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert_eq!(downloads(&portal).values().sum::<usize>(), 2);
    let [_, others @ ..] = &mounts;
    let taken_over: u64 = (others.iter())
        .map(|mount| shared_status(mount)["taken_over"].as_u64().unwrap())
        .sum();
    assert_eq!(taken_over, 1);
}

/// A store on another filesystem, whose process can be stopped.
struct FrozenDisk {
    bindfs: Child,
    over: PathBuf,
}

impl FrozenDisk {
    fn over(folder: &Path) -> Self {
        let behind = folder.with_extension("behind");
        std::fs::create_dir(&behind).unwrap();
        let bindfs = Command::new("bindfs")
            .args(["-f", "--no-allow-other"])
            .args([&behind, folder])
            .stderr(Stdio::null())
            .spawn()
            .expect("bindfs is installed (scripts/setup tests)");
        let disk = Self {
            bindfs,
            over: folder.to_owned(),
        };
        let mounted = || {
            icosfs::mount::mountinfo::mount_at(folder)
                .unwrap()
                .is_some()
        };
        assert!(eventually(SOON, mounted));
        disk
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.bindfs.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        let _ = Command::new("umount").arg("-l").arg(&self.over).status();
        let _ = self.bindfs.kill();
        let _ = self.bindfs.wait();
    }
}

#[test]
fn frozen_store_delays_reads_for_a_moment_and_is_used_again_by_itself() {
    let (portal, files) = slow_portal(&[5000, 6000, 7000, 8000], 0);
    let store = SharedStore::keyed();
    let disk = FrozenDisk::over(&store.path());
    let mount = store.mount_with(&portal, &["--shared-cache-timeout=800"]);
    assert!(mount.read(&files[0].0) == files[0].1);
    wait_until_published(&mount, 5000);
    disk.signal(Signal::SIGSTOP);
    for (path, right) in &files[1..3] {
        assert!(mount.read(path) == *right, "{path} is wrong");
    }
    let status = shared_status(&mount);
    assert_eq!(status["state"], "unavailable", "{status}");
    let text = mount.icosfs().args(["status"]).arg(mount.path("")).output();
    let text = said(&text.unwrap());
    assert!(
        text.contains("is not used, the portal delivers all data"),
        "{text}"
    );
    disk.signal(Signal::SIGCONT);
    assert!(eventually(SOON, || shared_status(&mount)["state"] == "working"));
    assert!(mount.read(&files[3].0) == files[3].1);
    wait_until_published(&mount, 13_000);
}

#[test]
fn full_store_is_read_on_and_written_again_once_it_has_room() {
    let (portal, files) = slow_portal(&[300_000, MIB, 400_000], 0);
    let store = SharedStore::keyed();
    let disk = SmallDisk::new(MIB);
    let option = format!("--shared-cache=file://{}", disk.path().display());
    let key = &store.options[2];
    let token = portal.token();
    let mount = || {
        let options = [&*option, key, "--shared-cache-timeout=60000"];
        TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &token)])
    };
    let first = mount();
    assert!(first.read(&files[0].0) == files[0].1);
    wait_until_published(&first, 300_000);
    assert!(
        first.read(&files[1].0) == files[1].1,
        "it has no room there"
    );
    assert!(eventually(SOON, || shared_status(&first)["state"] == "read-only"));
    let second = mount();
    assert!(second.read(&files[0].0) == files[0].1);
    assert_eq!(downloads(&portal).values().sum::<usize>(), 2);
    let status = Command::new("mount")
        .args(["-o", "remount,size=8M"])
        .arg(disk.path())
        .status();
    assert!(status.unwrap().success());
    assert!(eventually(SOON, || shared_status(&first)["state"] == "working"));
    assert!(first.read(&files[2].0) == files[2].1);
    wait_until_published(&first, 700_000);
}

#[test]
fn wrong_bytes_in_the_store_are_rejected_reported_and_never_read() {
    let (portal, files) = slow_portal(&[5000], 0);
    let store = SharedStore::keyed();
    let (path, right) = &files[0];
    let first = store.mount(&portal);
    assert!(first.read(path) == *right);
    wait_until_published(&first, 5000);
    let segments: Vec<_> = crate::support::files_below(&store.path());
    let is_of_original =
        |path: &&PathBuf| path.components().any(|part| part.as_os_str() == "original");
    let segment = segments
        .iter()
        .filter(is_of_original)
        .find(|path| path.ends_with("0"));
    let segment = segment.unwrap();
    let mut bytes = std::fs::read(segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    let second = store.mount(&portal);
    assert!(second.read(path) == *right);
    assert_eq!(shared_status(&second)["rejected"], 1);
    let reason = second.last_reason();
    assert!(
        reason.contains("was rejected: its seal does not match"),
        "{reason}"
    );
    let metrics = String::from_utf8(second.read(".icosfs/metrics")).unwrap();
    assert!(
        metrics.contains("icosfs_shared_cache_rejected_total 1"),
        "{metrics}"
    );
    assert_eq!(downloads(&portal).values().sum::<usize>(), 2);
}

#[test]
fn doctor_tests_the_shared_cache() {
    let (portal, home, store) = (portal(), Home::new(), SharedStore::keyed());
    let doctor = |options: &[String]| {
        let mut arguments = vec!["doctor"];
        arguments.extend(options.iter().map(String::as_str));
        said(&home.run(&portal, &arguments, ""))
    };
    let text = doctor(&store.options);
    assert!(
        text.contains("can be read and written, with a key"),
        "{text}"
    );
    let text = doctor(&store.options[..1]);
    assert!(text.contains("only originals are shared"), "{text}");
    let text = doctor(&["--shared-cache=file:///nowhere/at/all".to_owned()]);
    assert!(
        text.contains("BAD") && text.contains("create it with access"),
        "{text}"
    );
}

#[test]
fn bad_shared_cache_options_are_explained() {
    let (portal, home) = (portal(), Home::new());
    let key = home.path().join("key");
    let init = || {
        let mut command = home.icosfs();
        command.args(["cluster", "init"]).arg(&key);
        feed(command, "")
    };
    assert!(init().status.success());
    let before = std::fs::read(&key).unwrap();
    let again = init();
    assert!(!again.status.success());
    let expected = format!("{} exists; a key is not overwritten", key.display());
    let expected = format!("icosfs: {}\n", expected.replace("; ", "\nhint: "));
    assert_eq!(String::from_utf8_lossy(&again.stderr), expected);
    assert_eq!(std::fs::read(&key).unwrap(), before);
    let open = home.path().join("open");
    std::fs::write(&open, &before).unwrap();
    let (store, open) = (format!("file://{}", home.path().display()), open.display());
    let writer = home.path().join("writer");
    let mut init = home.icosfs();
    init.args(["cluster", "init", "--writer"]).arg(&writer);
    let text = said(&feed(init, ""));
    assert!(text.contains("made a writer's key"), "{text}");
    for (options, expected) in [
        (
            vec!["--shared-cache=scratch".to_owned()],
            "file:///scratch/icosfs",
        ),
        (
            vec!["--shared-cache=file:///nowhere".to_owned()],
            "create it",
        ),
        (
            vec![
                format!("--shared-cache={store}"),
                format!("--shared-key-file={open}"),
            ],
            "chmod 600",
        ),
        (
            vec![
                format!("--shared-cache={store}"),
                format!("--shared-key-file={}.pub", writer.display()),
                "--shared-cache-role=writer".to_owned(),
            ],
            "a public key, which can only read",
        ),
    ] {
        let mut arguments = vec!["get", "no-object"];
        let id = portal.repository().objects()[0].to_string();
        arguments[1] = &id;
        arguments.extend(options.iter().map(String::as_str));
        let output = home.run(&portal, &arguments, "");
        assert!(!output.status.success());
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
}

#[test]
fn garbage_collection_takes_a_path_a_url_or_the_setting() {
    let home = Home::new();
    let folder = home.path().join("shared cache");
    let object = folder.join("v1/host/original/id");
    let gc = |arguments: &[&str], setting: &str| {
        let mut command = home.icosfs();
        command.args(["cluster", "gc", "--unused-days=0"]);
        command.args(arguments).env("ICOSFS_SHARED_CACHE", setting);
        feed(command, "")
    };
    let (path, s3) = (folder.display().to_string(), "s3://bucket/prefix");
    let url = format!("file://{}", path.replace(' ', "%20"));
    for (arguments, setting) in [
        (&[&*path][..], ""),
        (&[&*url], s3),
        (&[], &*url),
        (&[&*format!("--shared-cache={url}")], ""),
    ] {
        std::fs::create_dir_all(&object).unwrap();
        std::fs::write(object.join("0"), "").unwrap();
        let output = gc(arguments, setting);
        let said = said(&output);
        assert!(said.contains("removed 1 object"), "{arguments:?}: {said}");
        assert!(!object.join("0").exists(), "{arguments:?}");
    }
    let absent = home.path().join("absent").display().to_string();
    for (arguments, setting, code, reason, hint) in [
        (&[][..], "", 2, "expected the folder", "ICOSFS_SHARED_CACHE"),
        (&[], s3, 2, "expected a folder", "lifecycle rule"),
        (&[s3], "", 2, "expected a folder", "lifecycle rule"),
        (&[&*absent], "", 1, "there is no folder", "--shared-cache"),
        (&["/"], "", 1, "/ has no shared cache", "--shared-cache"),
    ] {
        let output = gc(arguments, setting);
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(lines[0].contains(reason), "{text}");
        assert!(
            lines[1].starts_with("hint: ") && lines[1].contains(hint),
            "{text}"
        );
    }
}

/// Without a mount, too.
#[test]
fn get_reads_what_another_machine_shared() {
    let (portal, files) = slow_portal(&[9 * MIB], 0);
    let store = SharedStore::keyed();
    let (path, right) = &files[0];
    let id = path.split(['/', '.']).nth(1).unwrap();
    for _ in 0..2 {
        let home = Home::new();
        let started = Instant::now();
        let mut command = home.icosfs();
        command
            .args(crate::support::services_of(&portal, &[]))
            .args(["get", id])
            .args(&store.options)
            .env("ICOSFS_TOKEN", portal.token());
        let output = feed(command, "");
        assert!(output.status.success(), "{}", said(&output));
        assert!(output.stdout == *right);
        assert!(started.elapsed() < SOON);
    }
    assert_eq!(downloads(&portal).values().sum::<usize>(), 1);
}
