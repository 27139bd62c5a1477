//! The Python environment that `scripts/test` prepares.

use std::path::PathBuf;
use std::process::Command;

pub(crate) fn interpreter() -> Command {
    Command::new(std::env::var_os("ICOSFS_TEST_PYTHON").expect(
        "ICOSFS_TEST_PYTHON names a Python with tests/python/requirements.txt; run scripts/test",
    ))
}

/// Runs a script of `tests/python`, asserts that it succeeds, and returns its
/// output.
pub(crate) fn python_script(name: &str, arguments: &[PathBuf]) -> String {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/");
    let output = interpreter()
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(format!("{scripts}{name}"))
        .args(arguments)
        .output()
        .expect("Python runs");
    assert!(
        output.status.success(),
        "{name} {arguments:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}
