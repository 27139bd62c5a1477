//! The book in docs/: its links resolve and its commands work.
//!
//! A block marked `console` is run, page by page, in a home folder of its own,
//! against the demo portal. A block marked `console,real` needs what a test does
//! not have (the real portal, root, a user's systemd): its icosfs commands are
//! only parsed; see `src/cli/documented_commands.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository};
use icosfs::demo_portal::SEED;
use icosfs::mount::mountinfo;
use nix::mount::{MntFlags, umount2};

use crate::support::home::ICOSFS;
use crate::support::{Home, end_servers, feed, files_below, interpreter, said, services_of};

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = fs::read_dir("docs")
        .expect("tests run in the crate's folder")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    pages.sort();
    pages
}

/// Returns the commands of a page to run, each after a line that prints it.
fn script(page: &str) -> String {
    let mut script = String::new();
    let mut running = false;
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            running = kind == "console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| running) {
            let shown = command.replace('\'', "'\\''");
            script.extend(["echo '$ ", &shown, "'\n", command, "\n"]);
        } else if let Some(more) = line.strip_prefix("> ").filter(|_| running) {
            script.extend([more, "\n"]);
        }
    }
    script
}

/// The demo portal that users get, whose ids the book names.
fn demo() -> DemoPortal {
    DemoPortal::start(DemoRepository::plausible(SEED), DemoOptions::default()).unwrap()
}

#[test]
fn documented_commands_work_against_the_demo() {
    let portal = demo();
    let python = interpreter();
    let python = Path::new(python.get_program())
        .parent()
        .unwrap()
        .display()
        .to_string();
    let program = Path::new(ICOSFS).parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap();
    let mut run = 0;
    for page in pages() {
        let script = script(&fs::read_to_string(&page).unwrap());
        if script.is_empty() {
            continue;
        }
        let home = Home::new();
        fs::create_dir(home.path().join("icos")).unwrap();
        let mut command = Command::new("timeout");
        command
            .args(["120", "bash", "-euc", &script])
            .current_dir(home.path())
            .env_clear()
            .env("PATH", format!("{program}:{python}:{path}"))
            .env("HOME", home.path())
            // As the wheel installs it.
            .env(
                "PYTHONPATH",
                Path::new(env!("CARGO_MANIFEST_DIR")).join("python"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("ICOSFS_TOKEN", portal.token());
        for service in services_of(&portal, &[]) {
            let (name, url) = service.trim_start_matches("--").split_once('=').unwrap();
            let name = name.to_ascii_uppercase().replace('-', "_");
            command.env(format!("ICOSFS_{name}"), url);
        }
        let output = command.output().unwrap();
        end_servers(home.path());
        let left = mountinfo::mount_at(&home.path().join("icos")).unwrap();
        if left.is_some() {
            let _ = umount2(&home.path().join("icos"), MntFlags::MNT_DETACH);
        }
        assert!(
            output.status.success() && left.is_none(),
            "{}: {}\n{}\n{}",
            page.display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        run += 1;
    }
    assert!(run >= 5, "only {run} pages have commands");
}

/// Every command of the README in a block marked `console`, as written and in order, for
/// a new user with a terminal. The portal is the demo, also where the README means the
/// real one, and the answers to the prompts of `icosfs login` are typed in advance.
#[test]
fn readme_commands_run_in_order_on_the_demo() {
    let options = DemoOptions::default();
    let (user, password) = (options.user.clone(), options.password.clone());
    let portal = DemoPortal::start(DemoRepository::plausible(SEED), options).unwrap();
    let home = Home::new();
    let readme = fs::read_to_string("README.md").unwrap();
    let script = script(&readme);
    assert!(script.matches("icosfs ").count() > 20, "{script}");
    fs::write(home.path().join("commands"), script).unwrap();
    let program = Path::new(ICOSFS).parent().unwrap().display().to_string();
    let mut command = Command::new("timeout");
    (home.alone(&mut command))
        .args(["120", "script", "-qec", "bash -eu commands", "/dev/null"])
        .current_dir(home.path())
        .env(
            "PATH",
            format!("{program}:{}", std::env::var("PATH").unwrap()),
        );
    for service in services_of(&portal, &[]) {
        let (name, url) = service.trim_start_matches("--").split_once('=').unwrap();
        let name = name.to_ascii_uppercase().replace('-', "_");
        command.env(format!("ICOSFS_{name}"), url);
    }
    let output = feed(command, &format!("{user}\n{password}\n"));
    let mountpoint = home.path().join("icos");
    if mountinfo::mount_at(&mountpoint).unwrap().is_some() {
        let mut unmount = home.icosfs();
        let _ = unmount
            .args(["unmount", "--lazy"])
            .arg(&mountpoint)
            .output();
    }
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("logged in as"), "{}", said(&output));
}

/// Checks what mdBook would check; mdBook itself runs in the last test.
#[test]
fn every_page_is_in_the_summary_and_every_link_resolves() {
    let summary = fs::read_to_string("docs/SUMMARY.md").unwrap();
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap();
        let listed = summary.contains(&format!("]({name})"));
        assert!(
            listed || name == "SUMMARY.md",
            "{name} is not in SUMMARY.md"
        );
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.starts_with("# "), "{name} has no title");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            let elsewhere = target.starts_with("http") || target.is_empty();
            assert!(
                elsewhere || Path::new("docs").join(target).exists(),
                "{name} links to {link}"
            );
        }
    }
}

/// Every row of the threat model names the test that shows it.
#[test]
fn tests_named_by_the_threat_model_exist() {
    let sources = ["crates", "src", "tests"].map(|folder| files_below(Path::new(folder)));
    let code: Vec<String> = (sources.into_iter().flatten())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let page = fs::read_to_string("docs/threat-model.md").unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .filter(|row: &Vec<&str>| row.last().is_some_and(|cell| cell.trim() != "test"))
        .collect();
    assert!(rows.len() > 25, "{} rows", rows.len());
    for row in rows {
        let shown = row[2].split('`').skip(1).step_by(2);
        let mut count = 0;
        for name in shown {
            let fuzzed = Path::new("fuzz/fuzz_targets")
                .join(name)
                .with_extension("rs");
            let test = format!("fn {name}(");
            let exists = fuzzed.exists() || code.iter().any(|text| text.contains(&test));
            assert!(exists, "no test is called {name}");
            count += 1;
        }
        assert!(count > 0, "no test in {row:?}");
    }
}

/// A test that is renamed must be renamed in the documentation too.
#[test]
fn tests_named_by_the_guarantees_page_exist() {
    let page = fs::read_to_string("docs/guarantees.md").unwrap();
    let table = page.split("| promise | test |").nth(1).unwrap();
    let mut named = 0;
    for row in table.lines().skip(2).take_while(|row| row.starts_with('|')) {
        let tests: Vec<&str> = row.split('`').filter(|code| code.contains("::")).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            let source = fs::read_to_string(format!("tests/{file}.rs")).unwrap();
            let there = source.contains(&format!("#[test]\nfn {name}()"));
            assert!(there, "{test}: {row}");
            named += 1;
        }
    }
    assert!(named > 30, "only {named}");
}

/// Runs mdBook, which is installed with the tests' Python packages.
#[test]
fn mdbook_builds_the_book() {
    let folder = tempfile::tempdir().unwrap();
    let python = PathBuf::from(interpreter().get_program());
    let output = Command::new(python.with_file_name("mdbook"))
        .args(["build", "docs", "--dest-dir"])
        .arg(folder.path())
        .output()
        .expect("mdBook runs: tests/python/requirements.txt names it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("WARN"), "{said}");
    assert!(folder.path().join("semantics.html").exists(), "{said}");
}
