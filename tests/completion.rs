//! Completion of values in shells, from the lists that earlier commands have stored.

use std::fs;
use std::process::Command;

use icos_demo::DemoPortal;

use crate::support::home::ICOSFS;
use crate::support::{Home, co2, portal, said, services_of};

/// Returns what a shell is offered for the last of `words`.
fn offered(home: &Home, portal: &DemoPortal, words: &[&str]) -> Vec<String> {
    let mut command = home.icosfs();
    command
        .args(["--", "icosfs"])
        .args(services_of(portal, &[]))
        .args(words)
        .current_dir(home.path())
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (3 + words.len()).to_string())
        .env("_CLAP_IFS", "\n");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Stores the lists by a command that needs them.
fn with_lists(portal: &DemoPortal) -> Home {
    let home = Home::new();
    let output = home.run(portal, &["find"], "");
    assert!(output.status.success(), "{}", said(&output));
    home
}

#[test]
fn names_are_completed_from_the_stored_lists_without_a_request() {
    let portal = portal();
    let home = with_lists(&portal);
    let requests = portal.requests().len();
    let id = co2(&portal).to_string();
    let offered = |words: &[&str]| offered(&home, &portal, words);
    assert_eq!(offered(&["find", "--station", "H"]), ["HTM", "Hyltemossa"]);
    assert_eq!(
        offered(&["find", "--station", "HTM,sv"]),
        ["HTM,SVB", "HTM,Svartberget"]
    );
    assert_eq!(offered(&["stations", "FI"]), ["FI-Sii"]);
    assert_eq!(
        offered(&["prefetch", "--datatype", "atcC"]),
        [
            "atcCh4L2DataObject",
            "atcCo2L2DataObject",
            "atcCoL2DataObject"
        ]
    );
    assert_eq!(offered(&["find", "--theme", "at"]), ["atmosphere"]);
    assert_eq!(offered(&["find", "--project", "m"]), ["misc"]);
    assert_eq!(offered(&["find", "--variable", "NbP"]), ["NbPoints"]);
    assert_eq!(offered(&["get", &id[..6]]), [&*id]);
    assert_eq!(offered(&["info", &id[..6]]), [&*id]);
    assert_eq!(offered(&["get", &id, "--columns", "TIME"]), ["TIMESTAMP"]);
    assert_eq!(
        offered(&["get", &id, "--columns", "TIMESTAMP,c"]),
        ["TIMESTAMP,co2"]
    );
    assert_eq!(offered(&["unmo"]), ["unmount"]);
    assert_eq!(portal.requests().len(), requests, "no request");
}

#[test]
fn without_stored_lists_nothing_is_offered_and_nothing_created() {
    let portal = portal();
    let home = Home::new();
    assert_eq!(
        offered(&home, &portal, &["find", "--station", "H"]),
        [""; 0]
    );
    assert_eq!(portal.requests().len(), 0);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn script_for_bash_completes_values() {
    let portal = portal();
    let home = with_lists(&portal);
    let services = services_of(&portal, &[]);
    let script = format!(
        "source <(\"$I\" completions bash)
         icosfs() {{ \"$I\" \"$@\"; }}
         COMP_WORDS=(icosfs {} find --station Hyl) COMP_CWORD=6
         _clap_complete_icosfs icosfs Hyl --station
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        services.join(" ")
    );
    let mut command = Command::new("bash");
    let path = std::path::Path::new(ICOSFS).parent().unwrap();
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let output = (home.alone(&mut command))
        .args(["-c", &script])
        .env("I", ICOSFS)
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(said(&output), "Hyltemossa\n");
}

/// Runs `script` in a shell whose `icosfs` is the program under test.
fn in_shell(home: &Home, portal: &DemoPortal, shell: &[&str], script: &str) -> String {
    let mut command = Command::new("timeout");
    let path = std::path::Path::new(ICOSFS).parent().unwrap();
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let alone = home.alone(&mut command);
    for service in services_of(portal, &[]) {
        let (name, url) = service.trim_start_matches("--").split_once('=').unwrap();
        let name = name.to_ascii_uppercase().replace('-', "_");
        alone.env(format!("ICOSFS_{name}"), url);
    }
    let output = alone
        .arg("60")
        .args(shell)
        .arg(script)
        .env("PATH", path)
        .env("TERM", "xterm")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}; scripts/setup installs {}",
        said(&output),
        shell[0]
    );
    said(&output)
}

#[test]
fn script_for_fish_completes_values() {
    let portal = portal();
    let home = with_lists(&portal);
    let script = "icosfs completions fish | source
        complete -C 'icosfs find --station Hyl'
        complete -C 'icosfs unm'";
    assert_eq!(
        in_shell(&home, &portal, &["fish", "--no-config", "-c"], script),
        "Hyltemossa\tSweden\nunmount\tUnmount a repository\n"
    );
}

#[test]
fn script_for_zsh_completes_values_at_the_tab_key() {
    let portal = portal();
    let home = with_lists(&portal);
    // A shell on a terminal of its own: the tab key, then `print` before the completed line.
    let script = r"
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z 'autoload -Uz compinit; compinit -D -u; source <(icosfs completions zsh); print READ''Y'
        zpty -r -m z seen '*READY*'
        zpty -w -n z $'icosfs find --station Hyl\t'
        zpty -w -n z $'\x01print -r -- COMPLETED \x05\n'
        zpty -r -m z seen '*COMPLETED icosfs find --station Hyltemossa*'
        print $?
        zpty -d z";
    assert_eq!(
        in_shell(&home, &portal, &["zsh", "-f", "-c"], script),
        "0\n"
    );
}
