//! A mount by the real program, in a folder of its own, taken away at the end.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use icosfs::demo::DemoPortal;
use icosfs::mount::mountinfo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::home::{Home, feed};
use super::{eventually, services_of};

pub(crate) struct TestMount {
    home: Home,
    pid: i32,
}

impl TestMount {
    /// Mounts `portal`, logged in as its user.
    pub(crate) fn of(portal: &DemoPortal) -> Self {
        Self::with(portal, &[], &[("ICOSFS_TOKEN", &portal.token())])
    }

    /// Mounts `portal` as nobody in particular.
    pub(crate) fn anonymous(portal: &DemoPortal) -> Self {
        Self::with(portal, &[], &[])
    }

    pub(crate) fn with(portal: &DemoPortal, options: &[&str], env: &[(&str, &str)]) -> Self {
        Self::at(Home::new(), portal, options, env, "")
    }

    /// Mounts in `home`, where relative paths begin, with `input` to read.
    pub(crate) fn at(
        home: Home,
        portal: &DemoPortal,
        options: &[&str],
        env: &[(&str, &str)],
        input: &str,
    ) -> Self {
        std::fs::create_dir(home.path().join("mnt")).expect("a mount point");
        let mut mount = Self { home, pid: 0 };
        let mut command = mount.icosfs();
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

    /// The program, with an environment of its own.
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

    /// The sorted names in a folder.
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

    /// The ids of the listed tables.
    pub(crate) fn tables(&self) -> Vec<String> {
        let names = self.list("objects");
        let ids = names.iter().filter_map(|name| name.strip_suffix(".csv"));
        ids.filter(|id| !id.contains('.'))
            .map(str::to_owned)
            .collect()
    }

    /// What the mount says about itself.
    pub(crate) fn status(&self) -> Value {
        let json = std::fs::read(self.path(".icosfs/status.json")).expect("a status");
        serde_json::from_slice(&json).expect("JSON")
    }

    /// The reason of the last failure.
    pub(crate) fn last_reason(&self) -> String {
        let status = self.status();
        let reason = status["errors"][0]["reason"].as_str();
        reason.expect("a failure with its reason").to_owned()
    }

    /// Runs a command in the mount and expects it to succeed.
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

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("the daemon runs");
    }

    pub(crate) fn is_running(&self) -> bool {
        // One that has ended waits for its parent, which may be slow to ask.
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
        if self.pid != 0 && self.is_running() {
            self.signal(Signal::SIGTERM);
            eventually(Duration::from_secs(5), || !self.is_running());
        }
    }
}
