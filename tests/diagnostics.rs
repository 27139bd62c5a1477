//! Diagnostics: status, doctor, the log, metrics, help, completions and manual
//! pages.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Home, SilentPortal, TestMount, co2, eventually, portal, python_script, said, services_of,
};

fn status(mount: &TestMount, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new("timeout");
    // It takes at most a second, plus delays of a busy machine.
    command
        .args(["5", crate::support::home::ICOSFS, "status"])
        .args(arguments);
    command.arg(mount.path("")).output().unwrap()
}

#[test]
fn status_shows_requests_and_reachability_of_the_services() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.read(&format!("objects/{}.csv", co2(&portal)));
    let text = said(&status(&mount, &[]));
    for part in [
        "authentication responds in",
        "metadata responds in",
        "data responds in",
        // One to probe the service, one for the table.
        "data: 2 requests, 0 failed",
        " % of the bytes read needed no download",
        "lists    objects not downloaded yet; stations and data types 0 s old",
        "cache    /",
        "holds ",
        "errors   none",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json: Value = serde_json::from_slice(&status(&mount, &["--json"]).stdout).unwrap();
    assert_eq!(json[0]["reachable"]["data"]["answers"], true);
    assert_eq!(json[0]["traffic"]["services"]["data"]["requests"], 2);
    let slowest = json[0]["traffic"]["slowest"].to_string();
    assert!(slowest.contains("POST /"), "{slowest}");

    mount.list("objects");
    let json: Value = serde_json::from_slice(&status(&mount, &["--json"]).stdout).unwrap();
    let taken: jiff::Timestamp = json[0]["lists"]["objects"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(taken <= jiff::Timestamp::now());
    let (held, limit) = (
        &json[0]["cache_use"]["held"],
        &json[0]["cache_use"]["limit"],
    );
    assert!(held.as_u64().unwrap() > 10_000, "{held}");
    assert!(limit.as_u64() > held.as_u64(), "{limit}");
}

#[test]
fn status_works_while_the_portal_hangs() {
    let portal = portal();
    let silent = SilentPortal::new();
    let urls = ["auth", "meta", "data"].map(|name| format!("--{name}-url={}", silent.url()));
    let mount = TestMount::with(&portal, &urls.each_ref().map(String::as_str), &[]);
    // Meanwhile a reader waits for it.
    let listing = mount.path("objects");
    let waiting = std::thread::spawn(move || fs::read_dir(listing));
    let output = status(&mount, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("metadata does not respond within"), "{text}");
    drop(mount);
    let _ = waiting.join();
}

#[test]
fn status_reports_a_dead_mount_and_the_fix() {
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
fn status_works_while_a_daemon_is_stopped() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.stop();
    let output = status(&mount, &[]);
    mount.signal(Signal::SIGCONT);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("is its process stopped?"), "{text}");
}

#[test]
fn doctor_reports_no_failure_on_a_healthy_system() {
    let portal = portal();
    let home = Home::new();
    let mut command = home.icosfs();
    command
        .args(services_of(&portal, &[]))
        .args(["doctor", "--json"])
        .env("ICOSFS_TOKEN", portal.token());
    let output = command.output().unwrap();
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    // Except for mounts: those of other tests may be dead at this moment.
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
fn doctor_reports_a_fix_for_each_failure() {
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
            "cannot resolve nowhere.invalid",
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
fn log_level_of_a_running_mount_can_be_changed() {
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
fn log_level_of_a_mount_without_a_log_says_what_to_do() {
    let home = Home::new();
    let folder = home.path().join("icos");
    fs::create_dir(&folder).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = home.icosfs();
        let output = command.args(arguments).arg(&folder).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    run(&["mount", "--demo"]);
    let mut command = home.icosfs();
    let output = command.arg("log-level").arg(&folder).arg("debug").output();
    run(&["unmount"]);
    let output = output.unwrap();
    assert_eq!(
        (output.status.code(), said(&output)),
        (
            Some(0),
            "warning: the level is set, but the mount in the background has no log file\n\
             hint: mount it again with --log-file FILE\n"
                .to_owned()
        )
    );
}

#[test]
fn log_contains_each_read_and_request_but_no_credentials() {
    let portal = portal();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let options = [
        format!("--log-file={}", log.display()),
        "--log-level=debug".to_owned(),
    ];
    let options = options.each_ref().map(String::as_str);
    let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
    // A program that asks for the size first causes the complete download.
    let table = mount.path(&format!("objects/{}.csv", co2(&portal)));
    fs::File::open(table)
        .unwrap()
        .read_exact(&mut [0; 100])
        .unwrap();
    fs::File::open(mount.path("objects/nothing")).unwrap_err();
    let wanted = [
        ("read{ino=", "offset=0 len=100}: "),
        ("read{ino=", "outcome=\"ok\" bytes=100 source=\"portal\""),
        ("lookup{parent=", "name=\"nothing\""),
        ("lookup{parent=", "outcome=\"ENOENT\""),
        ("open{ino=", "outcome=\"ok\""),
    ];
    // A log line is written after its response was sent.
    let told = |text: &str| {
        let tells = |(start, part): &(&str, &str)| {
            let mut lines = text.lines();
            lines.any(|line| line.contains(start) && line.contains(part))
        };
        wanted.iter().find(|wanted| !tells(wanted)).copied()
    };
    let read = || fs::read_to_string(&log).unwrap();
    let whole = eventually(Duration::from_secs(5), || told(&read()).is_none());
    let text = read();
    assert!(whole, "{:?} in {text}", told(&text));
    assert!(text.contains("/cpb status=200"), "{text}");
    assert!(!text.contains(&portal.token()), "a login is in the log");
}

#[test]
fn metrics_parse_as_prometheus_text() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.list("objects");
    let bytes = mount.read(&format!("objects/{}.csv", co2(&portal))).len();
    let later = portal.repository().find("SE-Htm_EC_20991231.csv").unwrap();
    fs::read(mount.path(&format!("objects/{later}.csv"))).unwrap_err();
    let file = mount.home().path().join("metrics");
    fs::write(&file, mount.read(".icosfs/metrics")).unwrap();
    let families: Value = serde_json::from_str(&python_script("metrics.py", &[file])).unwrap();
    let value = |family: &str, label: &str| {
        let value = families[format!("icosfs_{family}")][label].as_f64();
        value.unwrap_or_else(|| panic!("{family} {label} in {families:#}"))
    };
    #[allow(clippy::cast_precision_loss)] // Exact, up to 2^53.
    let bytes = bytes as f64;
    let read = ["memory", "cache", "portal-disk", "portal"].map(|from| value("read_bytes", from));
    assert!(read.iter().sum::<f64>() >= bytes, "{read:?}");
    assert!(value("portal_wait_seconds", "data") >= 0.0);
    assert!(value("requests", "read") >= 1.0);
    assert!(value("portal_requests", "data") >= 1.0);
    assert!(value("failures", "EACCES") >= 1.0);
    assert!(value("cache_bytes", "") > 0.0);
    assert!(value("cache_limit_bytes", "") > value("cache_bytes", ""));
    let started = value("start_time_seconds", "");
    assert!(value("catalog_taken_seconds", "objects") >= started - 60.0);
}

/// Only a terminal shows what a command waits for, not a script.
#[test]
fn terminal_shows_what_a_slow_command_waits_for() {
    let silent = SilentPortal::new();
    let home = Home::new();
    let stations = format!(
        "{} --meta-url={} stations",
        crate::support::home::ICOSFS,
        silent.url()
    );
    // `script` provides a terminal.
    let seen = |command: &str, arguments: &[&str]| {
        let mut run = std::process::Command::new("timeout");
        run.args(["3", command]).args(arguments);
        run.env("HOME", home.path())
            .stdin(std::process::Stdio::null());
        said(&run.output().unwrap())
    };
    let sign = "requesting the portal's lists";
    let terminal = seen("script", &["-qec", &stations, "/dev/null"]);
    assert!(terminal.contains(sign), "{terminal}");
    let plain = seen("sh", &["-c", &stations]);
    assert!(!plain.contains(sign), "{plain}");
}

/// Serves metadata with control characters.
#[test]
fn control_characters_in_metadata_do_not_reach_the_terminal() {
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
fn completions_and_manual_pages_cover_every_command() {
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
        assert!(text.contains("COMPLETE=") && text.contains(shell), "{text}");
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
    assert!(
        page.contains("EXIT STATUS") && page.contains("ctrl\\-C"),
        "{page}"
    );
}

#[test]
fn help_groups_all_commands() {
    let home = Home::new();
    let output = home.icosfs().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for heading in [
        "Mounts:",
        "Find data:",
        "Login and this program:",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(
            help.lines().any(|line| line.starts_with(heading)),
            "{heading} in {help}"
        );
    }
    let names = icosfs::cli::command_names();
    let mut known = 0;
    for command in names.iter().filter(|name| name.len() == 1) {
        let listed = help
            .lines()
            .any(|line| line.starts_with(&format!("  {} ", command[0])));
        assert!(listed, "{command:?} in {help}");
        known += 1;
    }
    assert!(known > 10, "{known}");
}

/// The mistakes that new users make first.
#[test]
fn common_mistakes_are_answered_with_a_fix() {
    let home = Home::new();
    let here = home.path().to_str().unwrap().to_owned();
    for (arguments, code, parts) in [
        (&["mont"][..], 2, &["hint: did you mean mount?"][..]),
        (
            &["mount"],
            2,
            &["<MOUNTPOINT>", "hint: for example, icosfs mount ~/icos"],
        ),
        (&["get"], 2, &["hint: for example, icosfs get "]),
        (
            &["cache", "evict"],
            2,
            &["--to <SIZE>", "icosfs cache evict <PATH|ID>"],
        ),
        (&["mount", "/no/where"], 1, &["/no/where", "mkdir -p"]),
        (
            &["mount", "/nowhere"],
            1,
            &["no folder /nowhere to mount at", "mkdir -p"],
        ),
        (&["unmount", &here], 1, &["no icosfs is mounted at"]),
        (&["status", &here], 1, &["no icosfs is mounted at"]),
        (
            &["log-level", &here, "debug"],
            1,
            &["no icosfs is mounted at"],
        ),
        (
            &["prefetch", &here],
            1,
            &["expected a file or folder in a mount"],
        ),
        (
            &["info", "no/such/file"],
            2,
            &[
                "there is no file no/such/file",
                "expected an object, a collection or a station: its id, PID, DOI, landing page",
            ],
        ),
        (&["login"], 1, &["expected a user name", "--user"]),
        (
            &["auth", "token"],
            1,
            &["not logged in\nhint: run `icosfs login`"],
        ),
        (&["find", "--bbox", "1"], 2, &["such as 12,55,14,57"]),
        (
            &["--portal", "icso", "status"],
            2,
            &["icos, sites, cities", "hint: did you mean icos?"],
        ),
    ] {
        let mut command = home.icosfs();
        let output = command.args(arguments).stdin(std::process::Stdio::null());
        let output = output.output().unwrap();
        let message = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
        assert!(!message.contains("WARN"), "{arguments:?}: {message}");
    }
    // The unreachable service is reported once.
    let mut command = home.icosfs();
    command.args(["--meta-url=http://127.0.0.1:1", "stations"]);
    let message = said(&command.output().unwrap());
    assert_eq!(message.matches("cannot be reached").count(), 1, "{message}");
}

#[test]
fn short_help_fits_one_screen() {
    let home = Home::new();
    for (command, lines) in [
        ("unmount", 24),
        ("status", 24),
        ("info", 24),
        ("stations", 24),
        ("cite", 30),
    ] {
        let output = home.icosfs().args([command, "-h"]).output().unwrap();
        let help = said(&output);
        assert!(help.lines().count() <= lines, "{help}");
        assert!(help.contains("Examples:"), "{help}");
    }
    let help = said(&home.icosfs().arg("-h").output().unwrap());
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
}

#[test]
fn invalid_value_from_the_environment_names_its_variable() {
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
