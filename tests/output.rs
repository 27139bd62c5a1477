//! Output of commands whose reader exits early, closes the stream, or has a full disk;
//! exit codes of interrupted commands.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use icosfs::cli::command_names;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::home::ICOSFS;
use crate::support::{Home, SilentPortal, TestMount, co2, eventually, portal, said, services_of};

/// The exit code for a reader that has exited.
const READER_EXITED: i32 = 141;

/// Returns a pipe whose reader has exited already.
fn pipe_without_reader() -> OwnedFd {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// Arguments with which the command `name` has something to print, if it needs any. A
/// new command needs a line here.
fn arguments(name: &[String], mount: &TestMount, id: &str, folder: &Path) -> Vec<String> {
    let words: Vec<&str> = name.iter().map(String::as_str).collect();
    let mountpoint = mount.path("").display().to_string();
    if words == ["sparql"] {
        return vec!["select (1 as ?x) where {}".to_owned()];
    }
    let own = match &words[..] {
        ["cache" | "auth" | "config", ..]
            if !matches!(words.last(), Some(&("evict" | "pin" | "unpin"))) =>
        {
            ""
        }
        ["doctor" | "find" | "stations" | "datatypes" | "collections" | "logout"] => "",
        // It fails, and says so on standard error only.
        ["mount"] => "MOUNT/objects/nowhere",
        ["unmount"] | ["cluster", ..] => "--help",
        ["status" | "refresh"] => "MOUNT",
        ["log-level"] => "MOUNT warn",
        ["prefetch"] => "MOUNT/objects/ID.csv",
        ["get" | "info" | "cite" | "plot"] | ["cache", "pin" | "unpin" | "evict"] => "ID",
        ["login"] => "--user USER --password-stdin",
        ["completions"] => "bash",
        ["man"] => "FOLDER/man",
        ["demo"] => "--port 0",
        ["serve"] => "--demo --json",
        _ => panic!("a new command, {words:?}: add arguments with which it prints something"),
    };
    (own.split_whitespace())
        .map(|word| {
            word.replace("MOUNT", &mountpoint)
                .replace("FOLDER", folder.to_str().unwrap())
                .replace("ID", id)
        })
        .collect()
}

#[test]
fn every_command_ends_silently_when_its_reader_has_exited() {
    let portal = portal();
    let log = tempfile::NamedTempFile::new().unwrap();
    let log = format!("--log-file={}", log.path().display());
    let mount = TestMount::with(&portal, &[&log], &[("ICOSFS_TOKEN", &portal.token())]);
    let id = co2(&portal).to_string();
    let folder = tempfile::tempdir().unwrap();
    let command = |name: &[String], more: &[String], first: &str| {
        let mut command = Command::new("sh");
        let script = format!("{first} timeout 60 \"$0\" \"$@\"");
        (mount.home().alone(&mut command))
            .args(["-c", &script, ICOSFS])
            .args(services_of(&portal, &[]))
            .args(name)
            .args(more)
            .env("ICOSFS_CACHE_DIR", mount.cache())
            .env("ICOSFS_TOKEN", portal.token())
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    let names = command_names();
    assert!(names.len() > 25, "{names:?}");
    for name in &names {
        let help = vec!["--help".to_owned()];
        // A group of commands, such as `cache`, only has a help.
        let is_group = (names.iter()).any(|other| other.len() > 1 && other[..1] == name[..]);
        let runs = if is_group {
            vec![help]
        } else {
            vec![arguments(name, &mount, &id, folder.path()), help]
        };
        let fails = name == &["mount"] || name == &["login"];
        for more in runs {
            let shown = format!("{name:?} {more:?}");
            let output = command(name, &more, "exec")
                .stdout(pipe_without_reader())
                .output()
                .unwrap();
            let code = output.status.code();
            if !fails || more == ["--help"] {
                assert!(
                    matches!(code, Some(0 | READER_EXITED)),
                    "{shown}: {output:?}"
                );
                assert_eq!(said(&output), "", "{shown}");
            }
            // These run until they are stopped; all help is written by one function.
            if name == &["demo"] || name == &["serve"] || more == ["--help"] {
                continue;
            }
            let plain = command(name, &more, "exec")
                .stdout(Stdio::null())
                .output()
                .unwrap();
            let closed = command(name, &more, "exec >&-; exec").output().unwrap();
            assert_eq!(closed.status.code(), plain.status.code(), "{shown}");
            assert!(!said(&closed).contains("panicked"), "{shown}: {closed:?}");
            // Neither stream can be written.
            let deaf = command(name, &more, "exec")
                .stdout(pipe_without_reader())
                .stderr(pipe_without_reader())
                .status()
                .unwrap();
            assert_eq!(deaf.code(), code, "{shown}");
        }
    }
}

#[test]
fn long_output_may_be_cut_by_head() {
    let portal = portal();
    let home = Home::new();
    for arguments in [&["find", "--json"][..], &["completions", "bash"], &["-h"]] {
        let mut command = Command::new("bash");
        let script = r#""$0" "$@" | head -1; echo "${PIPESTATUS[0]}" >&2"#;
        let output = (home.alone(&mut command))
            .args(["-c", script, ICOSFS])
            .args(services_of(&portal, &[]))
            .args(arguments)
            .output()
            .unwrap();
        let code = String::from_utf8(output.stderr).unwrap();
        assert!(
            matches!(code.trim(), "0" | "141"),
            "{arguments:?}: only the code is on standard error, found {code}"
        );
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    }
}

/// Regression: the log panicked when nothing read standard error.
#[test]
fn log_without_reader_does_not_end_a_command() {
    let portal = portal();
    let output = Home::new()
        .icosfs()
        .args(services_of(&portal, &[]))
        .args(["-vvv", "stations"])
        .stderr(pipe_without_reader())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output).contains("HTM"), "{output:?}");
}

#[test]
fn full_disk_of_the_output_is_an_error() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let home = Home::new();
    let mut command = home.icosfs();
    let output = command.args(["config", "show"]).stdout(full()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said(&output),
        "icosfs: cannot write to standard output: No space left on device\n"
    );
}

/// Regression: codes for the same mistake differed between commands.
#[test]
fn same_mistake_has_the_same_exit_code_in_every_command() {
    let (portal, home) = (portal(), Home::new());
    let id = &*co2(&portal).to_string();
    let nothing = "select ?s where { ?s a <http://example.org/nothing> }";
    for (arguments, expected) in [
        (&["find", "--station", "nowhere"][..], 3),
        (&["stations", "nowhere"], 3),
        (&["info", "nothing"], 3),
        (&["cite", "nothing"], 3),
        (&["get", "nothing"], 3),
        (&["find", "--variable", "c02"], 3),
        (&["get", id, "--columns", "c02"], 3),
        (&["plot", id, "c02"], 3),
        (&["get", id, "--rows", "9000000.."], 3),
        (&["get", id, "--from", "2090"], 3),
        (&["sparql", nothing], 3),
        (&["get", id, "--output", "x.xlsx"], 2),
        (&["get", "no/such"], 2),
        (&["get", id, "--output", "no/such.csv"], 1),
    ] {
        let mut command = home.icosfs();
        let output = command
            .current_dir(home.path())
            .args(services_of(&portal, &[]))
            .args(arguments)
            .env("ICOSFS_TOKEN", portal.token())
            .output()
            .unwrap();
        let code = output.status.code();
        assert_eq!(code, Some(expected), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains("os error"), "{}", said(&output));
    }
    assert!(!home.path().join("x.xlsx").exists());
}

/// Prepares the program. A suite that runs in the background passes on that SIGINT is
/// ignored.
fn interruptible(home: &Home) -> Command {
    let mut command = Command::new("env");
    home.alone(&mut command)
        .args(["--default-signal=INT", ICOSFS]);
    command
}

/// Sends SIGINT to a command once `is_busy`, and returns how it ends.
fn interrupt(mut command: Command, is_busy: impl FnMut() -> bool) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(eventually(Duration::from_secs(20), is_busy), "{command:?}");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn interrupted_command_ends_with_130() {
    use std::os::unix::process::ExitStatusExt as _;
    let id = "UNhY4JhezH9gQYqvDMWrWH9C";
    for arguments in [&["get", id][..], &["find"], &["info", id], &["doctor"]] {
        let silent = SilentPortal::new();
        let home = Home::new();
        let mut command = interruptible(&home);
        for service in ["auth", "meta", "data"] {
            command.arg(format!("--{service}-url={}", silent.url()));
        }
        command.args(arguments);
        let output = interrupt(command, || silent.connections() > 0);
        // A shell shows a program that SIGINT has ended with the same code.
        let status = output.status;
        let code = status.code().or(status.signal().map(|number| 128 + number));
        assert_eq!(code, Some(130), "{arguments:?}: {output:?}");
        assert_eq!(said(&output), "", "{arguments:?}");
    }
}

#[test]
fn interrupted_mount_in_the_foreground_unmounts_and_ends_with_130() {
    let home = Home::new();
    let folder = home.path().join("mnt");
    std::fs::create_dir(&folder).unwrap();
    let mut command = interruptible(&home);
    command
        .args(["mount", "--demo", "--foreground"])
        .arg(&folder);
    let status = folder.join(".icosfs/status.json");
    let output = interrupt(command, || status.exists());
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(!status.exists());
}
