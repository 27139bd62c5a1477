//! What is going on, and what is wrong: status, doctor, the log, metrics,
//! completions and manual pages.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Home, SilentPortal, TestMount, co2, eventually, portal, said, services_of};

fn status(mount: &TestMount, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new("timeout");
    // It takes a second at most; some of that the machine may take itself.
    command
        .args(["5", crate::support::home::ICOSFS, "status"])
        .args(arguments);
    command.arg(mount.path("")).output().unwrap()
}

#[test]
fn status_tells_what_was_asked_and_how_the_services_answer() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.read(&format!("objects/{}.csv", co2(&portal)));
    let text = said(&status(&mount, &[]));
    for part in [
        "authentication answers in",
        "metadata answers in",
        "data answers in",
        "data: 1 request asked, 0 failed",
        "came from the cache",
        "errors   none",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json: Value = serde_json::from_slice(&status(&mount, &["--json"]).stdout).unwrap();
    assert_eq!(json[0]["reachable"]["data"]["answers"], true);
    assert_eq!(json[0]["traffic"]["services"]["data"]["requests"], 1);
    let slowest = json[0]["traffic"]["slowest"].to_string();
    assert!(slowest.contains("POST /"), "{slowest}");
}

#[test]
fn status_answers_though_the_portal_hangs() {
    let portal = portal();
    let silent = SilentPortal::new();
    let urls = ["auth", "meta", "data"].map(|name| format!("--{name}-url={}", silent.url()));
    let mount = TestMount::with(&portal, &urls.each_ref().map(String::as_str), &[]);
    // Someone waits for it meanwhile.
    let listing = mount.path("objects");
    let waiting = std::thread::spawn(move || fs::read_dir(listing));
    let output = status(&mount, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("metadata does not answer within"), "{text}");
    drop(mount);
    let _ = waiting.join();
}

#[test]
fn status_names_a_dead_mount_and_what_to_do() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.signal(Signal::SIGKILL);
    assert!(eventually(Duration::from_secs(5), || !mount.is_running()));
    let output = status(&mount, &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("dead") && text.contains("icosfs unmount"),
        "{text}"
    );
    let json: Value = serde_json::from_slice(&status(&mount, &["--json"]).stdout).unwrap();
    assert!(json[0]["problem"].as_str().unwrap().contains("dead"));
    mount
        .icosfs()
        .arg("unmount")
        .arg(mount.path(""))
        .status()
        .unwrap();
}

#[test]
fn a_stopped_mount_does_not_stop_status() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.signal(Signal::SIGSTOP);
    let output = status(&mount, &[]);
    mount.signal(Signal::SIGCONT);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("is its process stopped?"), "{text}");
}

#[test]
fn doctor_finds_nothing_bad_where_all_is_well() {
    let portal = portal();
    let home = Home::new();
    let mut command = home.icosfs();
    command
        .args(services_of(&portal, &[]))
        .args(["doctor", "--json"])
        .env("ICOSFS_TOKEN", portal.token());
    let output = command.output().unwrap();
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    // But for mounts: those of other tests may be dead just now.
    for what in [
        "settings",
        "kernel",
        "fuse",
        "other users",
        "cache",
        "authentication",
        "metadata",
        "data",
        "clock",
        "login",
        "licence",
    ] {
        let finding = all.iter().find(|finding| finding["what"] == what);
        let finding = finding.unwrap_or_else(|| panic!("{what} in {}", said(&output)));
        assert_ne!(finding["verdict"], "bad", "{finding}");
    }
}

#[test]
fn doctor_names_what_mends_each_thing_that_is_bad() {
    let portal = portal();
    let home = Home::new();
    fs::create_dir_all(home.path().join(".config/icosfs")).unwrap();
    fs::write(
        home.path().join(".config/icosfs/config.toml"),
        "nonsense = 1",
    )
    .unwrap();
    let mut command = home.icosfs();
    command
        .args(services_of(&portal, &["--meta-url=", "--data-url="]))
        .args([
            "--meta-url=http://127.0.0.1:1",
            "--data-url=http://nowhere.invalid",
        ])
        .args(["doctor", "--json"])
        .env("ICOSFS_TOKEN", "cpauthToken=bad");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for (what, found, remedy) in [
        ("settings", "nonsense", "correct the file"),
        (
            "metadata",
            "cannot be reached",
            "curl -v http://127.0.0.1:1",
        ),
        (
            "data",
            "nowhere.invalid is not found",
            "getent hosts nowhere.invalid",
        ),
        ("login", "ICOSFS_TOKEN", "icosfs login"),
    ] {
        let finding = all.iter().find(|finding| finding["what"] == what).unwrap();
        assert_eq!(finding["verdict"], "bad", "{finding}");
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        assert!(text("found").contains(found), "{finding}");
        assert!(text("remedy").contains(remedy), "{finding}");
    }
}

#[test]
fn a_running_mount_can_be_made_to_say_more_in_its_file() {
    let portal = portal();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let option = format!("--log-file={}", log.display());
    let mount = TestMount::with(&portal, &[&option], &[]);
    let say = |level: &str| {
        let mut command = mount.icosfs();
        command
            .arg("log-level")
            .arg(mount.path(""))
            .arg(level)
            .output()
            .unwrap()
    };
    let ids = mount.tables();
    let heard = |id: &str| {
        mount.read(&format!("objects/{id}.json"));
        fs::read_to_string(&log).unwrap()
    };
    assert_eq!(heard(&ids[0]), "");
    let output = say("debug");
    assert!(output.status.success(), "{}", said(&output));
    assert!(!heard(&ids[1]).is_empty());
    assert!(say("error").status.success());
    fs::write(&log, "").unwrap();
    assert_eq!(heard(&ids[2]), "");

    let output = say("loud");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("expected error, warn, info"),
        "{}",
        said(&output)
    );
    let socket = mount.status()["control"].as_str().unwrap().to_owned();
    let folder = std::path::Path::new(&socket).parent().unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(folder).unwrap());
    assert_eq!(mode & 0o777, 0o700);
    mount.signal(Signal::SIGTERM);
    assert!(eventually(Duration::from_secs(5), || {
        !std::path::Path::new(&socket).exists()
    }));
}

#[test]
fn the_log_tells_of_each_read_and_each_request_but_of_no_login() {
    let portal = portal();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let options = [
        format!("--log-file={}", log.display()),
        "--log-level=debug".to_owned(),
    ];
    let options = options.each_ref().map(String::as_str);
    let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
    // Who asks for the size first has the whole fetched for that.
    let table = mount.path(&format!("objects/{}.csv", co2(&portal)));
    fs::File::open(table)
        .unwrap()
        .read_exact(&mut [0; 100])
        .unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let reads: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("read{ino="))
        .collect();
    for part in ["offset=0", "answered bytes=100"] {
        assert!(
            reads.iter().any(|line| line.contains(part)),
            "{part} in {text}"
        );
    }
    assert!(text.contains("/cpb status=200"), "{text}");
    assert!(!text.contains(&portal.token()), "a login is in the log");
}

#[test]
fn metrics_are_prometheus_text() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let bytes = mount.read(&format!("objects/{}.csv", co2(&portal))).len();
    let metrics = String::from_utf8(mount.read(".icosfs/metrics")).unwrap();
    let value = |name: &str| -> usize {
        let line = metrics
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("icosfs_read_bytes_total") >= bytes);
    assert!(value("icosfs_portal_requests_total{service=\"data\"}") >= 1);
    for line in metrics.lines() {
        let comment = line.starts_with("# HELP icosfs_") || line.starts_with("# TYPE icosfs_");
        let sample = line.starts_with("icosfs_") && line.split(' ').count() == 2;
        assert!(comment || sample, "{line}");
    }
}

/// A portal that tells terminals what to do.
#[test]
fn control_characters_of_a_portal_do_not_reach_the_terminal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = "\u{1b}[2J\u{7}owned";
            let head = "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
        }
    });
    let home = Home::new();
    let folder = home.path().join("mnt");
    fs::create_dir(&folder).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = home.icosfs();
        command.args(["auth", "meta", "data"].map(|name| format!("--{name}-url={url}")));
        said(&command.args(arguments).output().unwrap())
    };
    let folder = folder.to_str().unwrap();
    let mut all = run(&["mount", folder]);
    let _ = fs::read_dir(format!("{folder}/objects"));
    all += &run(&["status", folder]);
    all += &run(&["doctor"]);
    all += &run(&["unmount", folder]);
    assert!(all.matches("owned").count() >= 3, "{all}");
    assert!(!all.contains('\u{1b}') && !all.contains('\u{7}'), "{all:?}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let home = Home::new();
    let commands = [
        "mount",
        "unmount",
        "status",
        "doctor",
        "login",
        "config",
        "log-level",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let output = home.icosfs().args(["completions", shell]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for command in commands {
            assert!(text.contains(command), "{command} for {shell}");
        }
        if shell == "bash" {
            let file = home.path().join("icosfs.bash");
            fs::write(&file, text).unwrap();
            let check = std::process::Command::new("bash")
                .arg("-n")
                .arg(&file)
                .output();
            assert!(check.unwrap().status.success());
        }
    }
    let folder = home.path().join("man");
    let output = home.icosfs().arg("man").arg(&folder).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for command in commands {
        let page = fs::read_to_string(folder.join(format!("icosfs-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    let page = fs::read_to_string(folder.join("icosfs.1")).unwrap();
    assert!(page.contains("Exit codes"), "{page}");
}

#[test]
fn help_groups_commands_and_forgets_none() {
    let home = Home::new();
    let output = home.icosfs().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for heading in [
        "Mounts:",
        "Login:",
        "This program:",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(
            help.lines().any(|line| line.starts_with(heading)),
            "{heading} in {help}"
        );
    }
    let completions = home
        .icosfs()
        .args(["completions", "fish"])
        .output()
        .unwrap();
    let completions = String::from_utf8(completions.stdout).unwrap();
    let commands = completions.lines().filter_map(|line| {
        let rest = line
            .split("__fish_icosfs_needs_command\" -f -a \"")
            .nth(1)?;
        rest.split('"').next()
    });
    let mut known = 0;
    for command in commands.filter(|&command| command != "help") {
        let listed = help
            .lines()
            .any(|line| line.starts_with(&format!("  {command} ")));
        assert!(listed, "{command} in {help}");
        known += 1;
    }
    assert!(known > 10, "{known} in {completions}");
}

#[test]
fn a_bad_value_from_the_environment_is_named_as_such() {
    let home = Home::new();
    let mut command = home.icosfs();
    command
        .args(["mount", "/nowhere"])
        .env("ICOSFS_CACHE_SIZE", "lots");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = said(&output);
    assert!(
        message.contains("the variable ICOSFS_CACHE_SIZE has that value"),
        "{message}"
    );
}
