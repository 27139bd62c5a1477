//! What commands say: greetings, summaries, and messages for the mistakes of new users.

use std::fs;
use std::process::{Command, Output};

use icos_demo::{DemoService, Fault, FaultRule};

use crate::support::home::ICOSFS;
use crate::support::{Home, TestMount, co2, portal, said, services_of};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a shell script on a terminal of 80 columns; $I is the program.
fn on_terminal(home: &Home, script: &str) -> String {
    let mut command = Command::new("timeout");
    let script = format!("stty cols 80 rows 24; {script}");
    let output = (home.alone(&mut command))
        .args(["60", "script", "-qec", &script, "/dev/null"])
        .env("I", ICOSFS)
        .env("NO_COLOR", "1")
        .env("TERM", "xterm")
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let said = text(&output.stdout).replace('\r', "");
    // A busy machine may take more than a second.
    let waits = |line: &&str| line.starts_with("waiting for the mount");
    let lines = said.split_inclusive('\n').filter(|line| !waits(line));
    lines.collect()
}

fn assert_fails(output: &Output, code: i32, message: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    let message = message.replace("; ", "\nhint: ");
    assert_eq!(text(&output.stderr), format!("icosfs: {message}\n"));
}

#[test]
fn mount_on_a_terminal_says_what_it_mounted_and_what_to_try() {
    let home = Home::new();
    fs::create_dir(home.path().join("icos")).unwrap();
    let said = on_terminal(&home, "$I mount --demo icos; $I unmount icos");
    let folder = home.path().join("icos").canonicalize().unwrap();
    let folder = folder.display();
    let first = format!("mounted the demo portal at {folder}, as demo@icosfs.example\n");
    assert!(said.starts_with(&first), "{said}");
    for part in [
        "ls ",
        "icosfs find --paths ",
        "icosfs status ",
        "icosfs unmount ",
    ] {
        assert!(said.contains(&format!("\n  {part}{folder}")), "{said}");
    }
    assert_eq!(
        on_terminal(&home, "$I mount --demo -q icos; $I unmount icos"),
        ""
    );
    let mut plain = home.icosfs();
    let output = plain
        .args(["mount", "--demo"])
        .arg(home.path().join("icos"))
        .output();
    assert_eq!(said_by(&output.unwrap()), "");
    on_terminal(&home, "$I unmount icos");
}

fn said_by(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

#[test]
fn mount_without_a_network_is_a_warning_in_one_sentence() {
    let home = Home::new();
    let folder = home.path().join("icos");
    fs::create_dir(&folder).unwrap();
    let mut command = home.icosfs();
    for service in ["auth", "meta", "data"] {
        command.arg(format!("--{service}-url=http://127.0.0.1:1"));
    }
    let output = command.arg("mount").arg(&folder).output().unwrap();
    let _ = home.icosfs().arg("unmount").arg(&folder).output();
    let message = said_by(&output);
    let lines: Vec<&str> = message.lines().collect();
    assert!(
        lines[0].starts_with("warning: the metadata service cannot be reached (127.0.0.1"),
        "{message}"
    );
    assert_eq!(
        lines[1..],
        [
            "hint: cached files can be read now, all others once it responds",
            "hint: `icosfs doctor` finds the cause"
        ]
    );
}

#[test]
fn variable_that_names_no_config_file_is_an_error() {
    let home = Home::new();
    let mut command = home.icosfs();
    let output = command
        .arg("stations")
        .env("ICOSFS_CONFIG", "/no/config.toml")
        .output();
    assert_fails(
        &output.unwrap(),
        2,
        "there is no file /no/config.toml, which ICOSFS_CONFIG names; correct the variable, or set it to nothing to read no file",
    );
}

#[test]
fn usage_line_does_not_list_options_that_the_environment_sets() {
    let home = Home::new();
    let mut command = home.icosfs();
    let output = command
        .args(["get", "--zzzz"])
        .env("ICOSFS_META_URL", "http://127.0.0.1:1")
        .env("ICOSFS_MEMORY", "64M")
        .output()
        .unwrap();
    let message = text(&output.stderr);
    let usage = message
        .lines()
        .find(|line| line.starts_with("usage:"))
        .unwrap();
    assert_eq!(usage, "usage: icosfs get [OPTIONS] <ID>", "{message}");
}

#[test]
fn prefetch_downloads_tables_and_originals_only_on_request() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal);
    let folder = mount.path("objects").display().to_string();
    mount.list("objects");
    let run = |arguments: &[&str]| {
        let output = mount
            .icosfs()
            .arg("prefetch")
            .args(arguments)
            .output()
            .unwrap();
        said(&output)
    };
    let before = portal.requests().len();
    run(&[&folder]);
    let originals = |from: usize| {
        let requests = portal.requests();
        let path = format!("/objects/{id}");
        let data = requests[from..]
            .iter()
            .filter(|r| r.service == DemoService::Data);
        data.filter(|request| request.path == path).count()
    };
    assert_eq!(originals(before), 0);
    let file = format!("{folder}/{id}.original.zip");
    assert!(run(&["--originals", &file]).contains("1 file is cached"));
    assert_eq!(originals(before), 1);
}

#[test]
fn failures_of_prefetch_are_summarised_by_their_reason() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    mount.list("objects");
    portal.accept_licence(false);
    let folder = mount.path("stations/HTM").display().to_string();
    let output = mount.icosfs().args(["prefetch", &folder]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let message = text(&output.stderr);
    // One error for all tables, and the result; each with its hint.
    assert_eq!(message.lines().count(), 4, "{message}");
    assert!(
        message.contains("3 files, such as ") && message.contains("licence"),
        "{message}"
    );
    assert!(!message.contains("os error"), "{message}");
}

#[test]
fn prefetch_on_a_terminal_shows_files_bytes_rate_and_time_left() {
    let portal = portal();
    let slow = FaultRule::always(Fault::Bandwidth {
        bytes_per_second: 400_000,
    });
    portal.add_fault(slow.at(DemoService::Data));
    let mount = TestMount::of(&portal);
    let folder = mount.path("stations/HTM").display().to_string();
    let said = on_terminal(mount.home(), &format!("$I prefetch {folder}"));
    for part in [" of 7 files", "/s,", " left", " %"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

#[test]
fn doctor_without_a_network_does_not_advise_a_login() {
    let home = Home::new();
    let mut command = home.icosfs();
    for service in ["auth", "meta", "data"] {
        command.arg(format!("--{service}-url=http://127.0.0.1:1"));
    }
    let output = command.arg("doctor").output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("not tested without the network"), "{said}");
    assert!(!said.contains("icosfs login"), "{said}");
    assert!(
        !said.contains('\x1b'),
        "no colours without a terminal: {said}"
    );
}

#[test]
fn doctor_has_colours_on_a_terminal() {
    let home = Home::new();
    let script = "NO_COLOR= $I doctor --auth-url=http://127.0.0.1:1 --meta-url=http://127.0.0.1:1 --data-url=http://127.0.0.1:1 || true";
    let said = on_terminal(&home, script);
    assert!(said.contains("\x1b[1;31mBAD "), "{said}");
    assert!(said.contains("\x1b[32mok  "), "{said}");
}

#[test]
fn tables_fit_a_terminal_of_80_columns() {
    let portal = portal();
    let home = Home::new();
    let services = services_of(&portal, &[]).join(" ");
    for command in ["find", "stations", "datatypes"] {
        let said = on_terminal(&home, &format!("$I {services} {command}"));
        for line in said.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line:?}");
        }
        assert!(said.lines().count() > 4, "{said}");
    }
    let said = on_terminal(&home, &format!("$I {services} find --station HTM"));
    assert!(
        said.starts_with("ID  ") && said.contains('\u{2026}'),
        "{said}"
    );
}

#[test]
fn short_help_hides_options_of_all_commands_and_long_help_groups_them() {
    let home = Home::new();
    let help = |arguments: &[&str]| text(&home.icosfs().args(arguments).output().unwrap().stdout);
    let short = help(&["mount", "-h"]);
    assert!(
        !short.contains("--meta-url") && !short.contains("--portal <"),
        "{short}"
    );
    let long = help(&["mount", "--help"]);
    let (own, global) = long.split_once("Options of all commands:").unwrap();
    for option in [
        "--portal",
        "--meta-url",
        "--cache-dir",
        "--timeout",
        "--verbose",
        "--log-file",
    ] {
        assert!(
            global.contains(option) && !own.contains(&format!("{option} ")),
            "{option}"
        );
    }
    // Two screens of 60 lines.
    assert!(
        long.lines().count() <= 120,
        "{} lines: {long}",
        long.lines().count()
    );
    assert_eq!(help(&["help", "mount"]), long);
    assert!(help(&["--help"]).contains("130  interrupted by ctrl-C"));
}
