//! Another user puts links, pipes and files of others in place of every file that
//! icosfs opens, creates, renames or removes. Whatever icosfs does then, no other
//! file changes, and it does not wait.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use icos_demo::DemoPortal;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chown, mkfifo};

use crate::support::home::ICOSFS;
use crate::support::{Home, TestMount, co2, files_below, portal, said, services_of};

/// The user whose folder it is: one with a name, since `fusermount3` serves no others.
pub(super) const ATTACKER: u32 = 65_534;
/// The user who runs icosfs, unless root does.
pub(super) const USER: u32 = 12_346;
/// A user who has nothing to do with it.
const THIRD: u32 = 12_347;
/// What `timeout` returns if it had to end the program.
const TIMED_OUT: i32 = 124;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Attack {
    SymbolicLink,
    HardLink,
    Pipe,
    FileOfAThirdUser,
    LinkToAFolder,
}

impl Attack {
    pub(super) const ALL: [Self; 5] = [
        Self::SymbolicLink,
        Self::HardLink,
        Self::Pipe,
        Self::FileOfAThirdUser,
        Self::LinkToAFolder,
    ];

    /// Whether it needs a file that must not change.
    fn has_victim(self) -> bool {
        matches!(self, Self::SymbolicLink | Self::HardLink)
    }
}

/// Every file that a command uses in the folder, and the command. `{}` stands for the
/// folder, `ID` for a table.
const TARGETS: &[(&str, &str)] = &[
    ("login.json", "login --credentials {}/login.json"),
    ("login.json.lock", "login --credentials {}/login.json"),
    (".login.json.new", "login --credentials {}/login.json"),
    ("login.json", "auth status --credentials {}/login.json"),
    ("login.json", "logout --credentials {}/login.json"),
    ("token", "auth status --token-file {}/token"),
    ("log", "-vvv --log-file {}/log stations"),
    ("table.csv", "get ID --output {}/table.csv"),
    ("co2.svg", "plot ID co2 --output {}/co2.svg"),
    ("map.png", "stations --map --output {}/map.png"),
    ("cache", "--cache-dir {}/cache get ID --output /dev/null"),
    ("cache", "--cache-dir {}/cache cache clear"),
    ("HOST", "--cache-dir {} get ID --output /dev/null"),
    ("icosfs.1", "man {}"),
    ("icosfs-get.1", "man {}"),
    ("v1", "cluster gc --unused-days 0 {}"),
    ("key.pub", "cluster init --writer {}/key"),
];

/// The folder of the attacker, and the files that must not change.
pub(super) struct Scene {
    dir: tempfile::TempDir,
    runs_as: u32,
    /// A shell script that runs icosfs, given as `"$@"`.
    wrapper: String,
}

impl Scene {
    pub(super) fn new(runs_as: u32, mode: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let scene = Self {
            dir,
            runs_as,
            wrapper: "exec \"$@\"".to_owned(),
        };
        for (name, owner, mode) in [
            ("victims", 0, 0o755),
            ("victims/folder", runs_as, 0o755),
            ("theirs", ATTACKER, mode),
            ("home", runs_as, 0o700),
        ] {
            fs::create_dir(scene.path(name)).unwrap();
            scene.give(name, owner, mode);
        }
        for (name, owner, mode) in [
            ("victims/root", 0, 0o640),
            ("victims/user", runs_as, 0o644),
            ("victims/third", THIRD, 0o644),
            ("victims/folder/file", runs_as, 0o644),
            // As a file of a shared cache is called, and others in mail folders.
            ("victims/folder/7", runs_as, 0o644),
        ] {
            fs::write(scene.path(name), "must not change").unwrap();
            scene.give(name, owner, mode);
        }
        // Not by this process: a child that another test starts meanwhile would have the
        // copy open for writing, so that it could not be run.
        let mut copy = Command::new("cp");
        copy.arg(ICOSFS).arg(scene.path("icosfs"));
        assert!(copy.status().unwrap().success());
        scene
    }

    /// Runs icosfs by the shell script `wrapper`.
    pub(super) fn by(mut self, wrapper: String) -> Self {
        self.wrapper = wrapper;
        self
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn give(&self, name: &str, owner: u32, mode: u32) {
        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
        chown(&self.path(name), Some(uid), Some(gid)).expect("these tests run as root");
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// Owners, modes and contents of the files that must not change.
    fn snapshot(&self) -> Vec<(PathBuf, u32, u32, u32, Vec<u8>)> {
        let mut paths = files_below(&self.path("victims"));
        paths.push(self.path("victims/folder"));
        let found = paths.into_iter().map(|path| {
            let found = fs::symlink_metadata(&path).unwrap();
            let content = fs::read(&path).unwrap_or_default();
            (path, found.uid(), found.gid(), found.mode(), content)
        });
        found.collect()
    }

    fn plant(&self, attack: Attack, name: &str, victim: &str) {
        let at = self.path("theirs").join(name);
        for entry in fs::read_dir(self.path("theirs")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        match attack {
            Attack::SymbolicLink => symlink(self.path(victim), &at).unwrap(),
            Attack::LinkToAFolder => symlink(self.path("victims/folder"), &at).unwrap(),
            Attack::HardLink => fs::hard_link(self.path(victim), &at).unwrap(),
            Attack::Pipe => {
                mkfifo(&at, Mode::S_IRWXU).unwrap();
                self.give(&format!("theirs/{name}"), ATTACKER, 0o666);
            }
            Attack::FileOfAThirdUser => {
                fs::write(&at, "{}").unwrap();
                self.give(&format!("theirs/{name}"), THIRD, 0o666);
            }
        }
    }

    pub(super) fn run(&self, portal: &DemoPortal, arguments: &str) -> Output {
        let folder = self.path("theirs").display().to_string();
        let id = co2(portal).to_string();
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=1", "30", "sh", "-euc", &self.wrapper, "sh"])
            .arg(self.path("icosfs"))
            .args(services_of(portal, &[]))
            .args(arguments.split(' ').map(|part| match part {
                "ID" => id.clone(),
                part => part.replace("{}", &folder),
            }))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .current_dir(self.path("home"))
            .uid(self.runs_as)
            .gid(self.runs_as)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if arguments.starts_with("login") {
            command.args(["--user", &portal.user(), "--password-stdin"]);
        } else if arguments.contains(" ID ") {
            command.env("ICOSFS_TOKEN", portal.token());
        }
        let mut child = command.spawn().expect("coreutils is installed");
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(portal.password().as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }
}

/// Runs every command against each of these attacks.
fn attack_all(scene: &Scene) {
    attack(scene, TARGETS.iter(), &Attack::ALL);
}

/// The same with some of the commands and attacks: what they have in common decides.
pub(super) fn attack_some(scene: &Scene, attacks: &[Attack]) {
    attack(scene, TARGETS.iter().step_by(3), attacks);
}

fn attack<'a>(
    scene: &Scene,
    targets: impl Iterator<Item = &'a (&'a str, &'a str)>,
    attacks: &[Attack],
) {
    let portal = portal();
    let host = portal.meta_url();
    let host = host.trim_start_matches("http://").trim_end_matches('/');
    let victims = ["victims/root", "victims/user", "victims/third"];
    let before = scene.snapshot();
    for &(name, command) in targets {
        let name = name.replace("HOST", &host.replace(':', "_"));
        let attacks = attacks.iter().flat_map(|attack| {
            let victims = if attack.has_victim() {
                &victims[..]
            } else {
                &[""]
            };
            victims.iter().map(|victim| (*attack, *victim))
        });
        for (attack, victim) in attacks {
            scene.plant(attack, &name, victim);
            let planted = scene.path("theirs").join(&name);
            let of_third = fs::symlink_metadata(&planted).unwrap();
            let output = scene.run(&portal, command);
            let what = format!(
                "{attack:?} {victim} as {name}: {command}: {}",
                said(&output)
            );
            assert_ne!(output.status.code(), Some(TIMED_OUT), "{what}");
            assert!(!said(&output).contains("panicked"), "{what}");
            assert_eq!(scene.snapshot(), before, "{what}");
            if let Ok(found) = fs::symlink_metadata(&planted)
                && found.ino() == of_third.ino()
            {
                assert_eq!(found.uid(), of_third.uid(), "{what}");
                assert_eq!(found.mode(), of_third.mode(), "{what}");
            }
        }
    }
}

#[test]
fn files_in_a_folder_of_another_user_are_safe_from_root() {
    attack_all(&Scene::new(0, 0o755));
}

#[test]
fn files_in_a_shared_folder_are_safe_from_its_users() {
    attack_all(&Scene::new(USER, 0o777));
}

#[test]
fn files_in_a_shared_sticky_folder_are_safe_from_its_users() {
    attack_all(&Scene::new(USER, 0o1777));
}

/// Another user renames a folder of their own over the cache while it is in use.
#[test]
fn cache_in_a_folder_that_others_can_write_to_is_refused() {
    let scene = Scene::new(USER, 0o777);
    let portal = portal();
    let refused = |what: &str, folder: &str| {
        let command = format!("--cache-dir {folder} get ID --output /dev/null");
        let output = scene.run(&portal, &command);
        assert!(!output.status.success(), "{what}: {}", said(&output));
        assert!(
            said(&output).contains("only you can write to"),
            "{what}: {}",
            said(&output)
        );
    };
    refused("a folder of another user", "{}/cache");
    scene.give("theirs", USER, 0o777);
    refused("an own folder with mode 0777", "{}/cache");
    scene.give("theirs", USER, 0o1777);
    let command = "--cache-dir {}/cache get ID --output /dev/null";
    let output = scene.run(&portal, command);
    assert!(output.status.success(), "{}", said(&output));
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    open(&scene.path("theirs/cache"));
    refused("an existing folder with mode 0777", "{}/cache");
}

/// Settings name the services that get a login, and files that are written.
#[test]
fn settings_that_others_can_change_are_refused() {
    let portal = portal();
    let scene = Scene::new(USER, 0o755);
    let settings = scene.path("theirs/config.toml");
    fs::write(&settings, "portal = \"icos\"\n").unwrap();
    let wrapper = format!("export ICOSFS_CONFIG='{}'; exec \"$@\"", settings.display());
    let scene = scene.by(wrapper);
    for (owner, mode, is_used) in [
        (USER, 0o644, true),
        (0, 0o644, true),
        // Each user has a group of the same number.
        (USER, 0o664, true),
        (USER, 0o666, false),
        (ATTACKER, 0o644, false),
    ] {
        scene.give("theirs/config.toml", owner, mode);
        let said = said(&scene.run(&portal, "config show"));
        let is_refused = said.contains("expected settings that only you or root can change");
        assert_eq!(is_refused, !is_used, "{owner} {mode:o}: {said}");
    }
}

/// Complete files in the cache have mode 0400, which does not bind root.
#[test]
fn ordinary_user_can_repair_and_evict_the_complete_files_of_their_cache() {
    let scene = Scene::new(USER, 0o755);
    let portal = portal();
    let get = |name: &str| {
        let output = scene.path("home").join(name).display().to_string();
        let cache = scene.path("home/cache").display().to_string();
        let command = format!("--cache-dir {cache} get ID --format cpb --output {output}");
        let done = scene.run(&portal, &command);
        assert!(done.status.success(), "{}", said(&done));
        fs::read(output).unwrap()
    };
    let right = get("first");
    let id = co2(&portal).to_string();
    let is_complete = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.contains("dataAppStorage") && path.contains(&id)
    };
    let complete = || {
        files_below(&scene.path("home/cache"))
            .into_iter()
            .find(is_complete)
    };
    let file = complete().expect("a complete file");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o400);
    let mut bytes = fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(get("second") == right);
    assert_eq!(
        fs::metadata(complete().unwrap()).unwrap().mode() & 0o777,
        0o400
    );
    let cache = scene.path("home/cache").display().to_string();
    let cleared = scene.run(&portal, &format!("--cache-dir {cache} cache clear"));
    assert!(
        cleared.status.success() && complete().is_none(),
        "{}",
        said(&cleared)
    );
}

/// With `--allow-other`, other users read the mount.
#[test]
fn control_files_are_readable_by_the_owner_of_the_mount_only() {
    let portal = portal();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let mountpoint = dir.path().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let icosfs = |arguments: &[&str]| {
        let output = Command::new(ICOSFS)
            .args(arguments)
            .env("HOME", dir.path())
            .env("ICOSFS_CACHE_DIR", dir.path().join("cache"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    let mut arguments = services_of(&portal, &[]);
    arguments.extend(["mount".to_owned(), "--allow-other".to_owned()]);
    arguments.push(mountpoint.display().to_string());
    icosfs(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let read = |user: u32, file: &str| {
        let mut cat = Command::new("cat");
        cat.arg(mountpoint.join(file)).uid(user).gid(user);
        cat.output().unwrap().status.success()
    };
    for file in ["status.json", "errors", "metrics"] {
        let file = format!(".icosfs/{file}");
        assert!(read(0, &file) && !read(THIRD, &file), "{file}");
        let mode = fs::metadata(mountpoint.join(&file)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o400, "{file}");
    }
    assert!(read(THIRD, "README.md"));
    icosfs(&["unmount", &mountpoint.display().to_string()]);
}

/// Regression: the program waited for a process that writes to the pipe.
#[test]
fn pipes_in_place_of_settings_and_logins_are_refused_at_once() {
    let portal = portal();
    let home = Home::new();
    let pipe = home.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let pipe = pipe.display().to_string();
    for (arguments, config) in [
        (vec!["stations"], &*pipe),
        (vec!["--ca-bundle", &pipe, "stations"], ""),
        (vec!["auth", "status", "--credentials", &pipe], ""),
        (vec!["auth", "status", "--token-file", &pipe], ""),
    ] {
        let mut command = Command::new("timeout");
        home.alone(&mut command)
            .args(["--kill-after=1", "20", ICOSFS])
            .args(services_of(&portal, &[]))
            .args(&arguments)
            .env("ICOSFS_CONFIG", config);
        let output = command.output().expect("coreutils is installed");
        let what = format!("{arguments:?}: {}", said(&output));
        assert_ne!(output.status.code(), Some(TIMED_OUT), "{what}");
        assert!(!output.status.success(), "{what}");
        assert!(said(&output).contains("expected a regular file"), "{what}");
    }
}

/// The folder of the control socket is in one that another user may write to.
#[test]
fn control_socket_is_created_in_a_folder_of_its_own_only() {
    let portal = portal();
    let scene = Scene::new(0, 0o755);
    let before = scene.snapshot();
    let (runtime, token) = (scene.path("theirs"), portal.token());
    let shown = runtime.display().to_string();
    let env = [("XDG_RUNTIME_DIR", &*shown), ("ICOSFS_TOKEN", &token)];
    let plant_folder = |owner, mode| {
        fs::create_dir(scene.path("theirs/icosfs")).unwrap();
        scene.give("theirs/icosfs", owner, mode);
    };
    let attacks: [(&str, &dyn Fn()); 5] = [
        ("a link to a folder", &|| {
            scene.plant(Attack::LinkToAFolder, "icosfs", "");
        }),
        ("a pipe", &|| scene.plant(Attack::Pipe, "icosfs", "")),
        ("a file", &|| {
            scene.plant(Attack::FileOfAThirdUser, "icosfs", "");
        }),
        ("a folder of another user", &|| {
            plant_folder(ATTACKER, 0o700);
        }),
        ("an own folder", &|| plant_folder(0, 0o700)),
    ];
    for (what, attack) in attacks {
        for entry in fs::read_dir(&runtime).unwrap() {
            let path = entry.unwrap().path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
        attack();
        let mount = TestMount::with(&portal, &[], &env);
        assert!(!mount.list("objects").is_empty(), "{what}");
        assert!(mount.status()["control"].is_null(), "{what}");
        let mut level = mount.icosfs();
        let output = level
            .arg("log-level")
            .arg(mount.path(""))
            .arg("info")
            .output();
        let said = said(&output.unwrap());
        assert!(said.contains("no control socket"), "{what}: {said}");
        drop(mount);
        assert_eq!(scene.snapshot(), before, "{what}");
        assert!(
            fs::symlink_metadata(scene.path("theirs/icosfs")).is_ok(),
            "{what}"
        );
    }
    // In a folder of its own, the mount has a socket.
    let own = tempfile::tempdir().unwrap();
    let own = own.path().display().to_string();
    let mount = TestMount::with(&portal, &[], &[("XDG_RUNTIME_DIR", &own)]);
    assert!(mount.status()["control"].is_string());
}
