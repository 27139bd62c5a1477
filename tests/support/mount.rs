//! A mount by the real program in a temporary folder, unmounted on drop.

use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use icos_demo::DemoPortal;
use icos_portal::ObjectId;
use icosfs::mount::mountinfo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::home::{Home, ICOSFS, feed};
use super::{eventually, get, serves_csv, serves_original, services_of};

pub(crate) struct TestMount {
    home: Home,
    pid: i32,
}

impl TestMount {
    /// Mounts `portal` with its user's login.
    pub(crate) fn of(portal: &DemoPortal) -> Self {
        Self::with(portal, &[], &[("ICOSFS_TOKEN", &portal.token())])
    }

    /// Mounts `portal` without a login.
    pub(crate) fn anonymous(portal: &DemoPortal) -> Self {
        Self::with(portal, &[], &[])
    }

    pub(crate) fn with(portal: &DemoPortal, options: &[&str], env: &[(&str, &str)]) -> Self {
        Self::at(Home::new(), portal, options, env, "")
    }

    /// Mounts with `home` as working directory and `input` on standard input.
    pub(crate) fn at(
        home: Home,
        portal: &DemoPortal,
        options: &[&str],
        env: &[(&str, &str)],
        input: &str,
    ) -> Self {
        let command = home.icosfs();
        Self::by(command, home, portal, options, env, input)
    }

    /// Mounts `portal` with a daemon that may open only a few descriptors.
    pub(crate) fn with_few_descriptors(portal: &DemoPortal) -> Self {
        Self::after("ulimit -n 64", portal, &[])
    }

    /// Mounts `portal` from a shell that runs `first` before.
    pub(crate) fn after(first: &str, portal: &DemoPortal, options: &[&str]) -> Self {
        let home = Home::new();
        let mut command = Command::new("sh");
        let script = format!("{first}; exec \"$0\" \"$@\"");
        home.alone(&mut command).args(["-ec", &script, ICOSFS]);
        let token = portal.token();
        let env = [("ICOSFS_TOKEN", &*token)];
        Self::by(command, home, portal, options, &env, "")
    }

    fn by(
        mut command: Command,
        home: Home,
        portal: &DemoPortal,
        options: &[&str],
        env: &[(&str, &str)],
        input: &str,
    ) -> Self {
        std::fs::create_dir(home.path().join("mnt")).expect("a mount point");
        let mut mount = Self { home, pid: 0 };
        command
            .arg("mount")
            .args(services_of(portal, options))
            .args(options)
            .arg(mount.path(""))
            .current_dir(mount.home.path())
            .env("ICOSFS_CACHE_DIR", mount.cache())
            .envs(env.iter().copied());
        let output = feed(command, input);
        assert!(
            output.status.success(),
            "cannot mount: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let pid = mount.status()["pid"].as_i64().expect("a process id");
        mount.pid = i32::try_from(pid).expect("a process id");
        mount
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Prepares the program with an environment of its own.
    pub(crate) fn icosfs(&self) -> Command {
        self.home.icosfs()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let mountpoint = self.home.path().join("mnt");
        if path.is_empty() {
            mountpoint
        } else {
            mountpoint.join(path)
        }
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        self.try_read(path)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{:#}", self.status()))
    }

    pub(crate) fn try_read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(path))
    }

    /// Returns the sorted names in a folder.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(path))
            .unwrap_or_else(|error| panic!("{path}: {error}\n{:#}", self.status()))
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        names
    }

    /// Returns the ids of the listed tables.
    pub(crate) fn tables(&self) -> Vec<String> {
        let names = self.list("objects");
        let ids = names.iter().filter_map(|name| name.strip_suffix(".csv"));
        ids.filter(|id| !id.contains('.'))
            .map(str::to_owned)
            .collect()
    }

    /// Returns the mount's status.
    pub(crate) fn status(&self) -> Value {
        let json = std::fs::read(self.path(".icosfs/status.json")).expect("a status");
        serde_json::from_slice(&json).expect("JSON")
    }

    /// Returns the complete file of `id` in the cache, waiting until it is written.
    pub(crate) fn kept_file(&self, id: ObjectId) -> PathBuf {
        let cache = self.status()["cache"].as_str().expect("a path").to_owned();
        let folder = Path::new(&cache).join("dataAppStorage");
        let mut kept = None;
        eventually(Duration::from_secs(20), || {
            let mut formats = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let file = |format: DirEntry| format.path().join(id.to_string());
            kept = formats.by_ref().map(file).find(|file| file.exists());
            kept.is_some()
        });
        kept.expect("it is complete")
    }

    /// Returns the reason of the last failure.
    pub(crate) fn last_reason(&self) -> String {
        let status = self.status();
        let reason = status["errors"][0]["reason"].as_str();
        reason.expect("a failure with its reason").to_owned()
    }

    /// Runs a command in the mount and asserts that it succeeds.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.path(""))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; see scripts/setup"));
        assert!(
            output.status.success(),
            "{program}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Stops the daemon, and waits until all its threads have stopped: a thread that
    /// takes a request on its way would leave its caller waiting even when killed.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.pid);
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
            // The state follows the name, which may contain spaces.
            stat.is_ok_and(|stat| {
                stat.rsplit(')')
                    .next()
                    .is_some_and(|rest| rest.starts_with(" T"))
            })
        };
        let all_stopped = || std::fs::read_dir(&tasks).unwrap().all(is_stopped);
        assert!(eventually(Duration::from_secs(10), all_stopped));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("the daemon runs");
    }

    /// Unmounts the dead mount of a killed daemon.
    pub(crate) fn clear_away(&self) {
        assert!(eventually(Duration::from_secs(5), || !self.is_running()));
        let mut unmount = self.icosfs();
        unmount.args(["unmount", "--lazy"]).arg(self.path(""));
        let output = unmount.output().expect("the program runs");
        assert!(output.status.success() || !self.is_mounted(), "{output:?}");
    }

    /// Returns the daemon's peak memory in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.expect("the daemon runs");
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|l| l.trim().strip_suffix(" kB"));
        let peak: u64 = peak.expect("in kB").parse().expect("a number");
        peak << 10
    }

    /// Returns how many descriptors the daemon has open.
    pub(crate) fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid));
        open.expect("the daemon runs").count()
    }

    /// Sets the daemon's limit of open descriptors.
    pub(crate) fn limit_descriptors(&self, count: usize) {
        let mut limit = Command::new("prlimit");
        limit.arg(format!("--pid={}", self.pid));
        limit.arg(format!("--nofile={count}:"));
        let limited = limit.status().expect("util-linux is installed");
        assert!(limited.success(), "{limit:?}");
    }

    /// Returns the files that the daemon has open, without catalog and size notes.
    pub(crate) fn open_cache_files(&self) -> Vec<PathBuf> {
        let is_file = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_data = !name.starts_with("catalog") && name != "lengths" && !path.is_dir();
            path.starts_with(self.cache()) && is_data
        };
        self.open().filter(is_file).collect()
    }

    /// Returns whether the daemon has the catalog file open.
    pub(crate) fn has_catalog_open(&self) -> bool {
        (self.open()).any(|path| path.to_string_lossy().ends_with("/catalog.sqlite"))
    }

    fn open(&self) -> impl Iterator<Item = PathBuf> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the daemon runs");
        open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
    }

    pub(crate) fn is_running(&self) -> bool {
        // An ended process stays a zombie until its parent waits for it.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    pub(crate) fn is_mounted(&self) -> bool {
        mountinfo::mount_at(&self.path(""))
            .expect("mountinfo can be read")
            .is_some()
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        if self.pid == 0 || !self.is_running() {
            return;
        }
        // A failed test may leave the daemon stopped. Then removing the home folder
        // would wait for it forever and hide the failure.
        for signal in [Signal::SIGTERM, Signal::SIGCONT, Signal::SIGKILL] {
            let _ = kill(Pid::from_raw(self.pid), signal);
            let wait = if signal == Signal::SIGTERM { 0 } else { 10 };
            if eventually(Duration::from_secs(wait), || !self.is_running()) {
                break;
            }
        }
        if self.is_mounted() {
            let mut unmount = self.icosfs();
            let _ = (unmount.args(["unmount", "--lazy"]).arg(self.path(""))).output();
        }
    }
}

/// Returns every readable file of the repository with its bytes.
pub(crate) fn contents(portal: &DemoPortal) -> Vec<(String, Vec<u8>)> {
    let mount = TestMount::of(portal);
    let mut contents = Vec::new();
    for name in mount.list("objects") {
        let (id, ending) = name.split_once('.').unwrap_or((&name, ""));
        let id: ObjectId = id.parse().unwrap();
        let url = match ending {
            "csv" if serves_csv(portal, id) => format!("/csv/{id}"),
            "csv" | "json" | "parquet" | "contents" => continue,
            // Not the original of an object that is NetCDF itself.
            "nc" if portal.repository().cpb(&id).is_some() => continue,
            _ if serves_original(portal, id) => format!("/objects/{id}"),
            _ => continue,
        };
        contents.push((format!("objects/{name}"), get(portal, &url)));
    }
    contents
}
