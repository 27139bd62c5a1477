//! The Python package in `python/`: its own tests, run with the program under test.

use std::path::Path;
use std::process::Command;

use crate::support::home::ICOSFS;
use crate::support::{Home, interpreter};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Prepares Python with the package, the program under test, and a home of its own.
fn python(home: &Path) -> Command {
    let mut command = interpreter();
    command
        .current_dir(ROOT)
        .env("HOME", home)
        .env("PYTHONPATH", "python")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("ICOSFS_PROGRAM", ICOSFS);
    command
}

/// Runs the tests in one file of `tests/python/package`.
fn passes(file: &str) {
    let home = Home::new();
    let output = python(home.path())
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .arg(format!("tests/python/package/{file}"))
        .output()
        .expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains(" passed"), "{text}");
}

#[test]
fn python_mount_lasts_as_long_as_its_block() {
    passes("test_mount.py");
}

#[test]
fn python_package_is_typed_strictly() {
    let home = Home::new();
    let output = python(home.path())
        .args(["-m", "mypy", "--no-incremental"])
        .output()
        .expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}
