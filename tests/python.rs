//! What Python's libraries make of the files.

use std::process::Command;

use crate::support::{TestMount, portal};

/// Runs `script` with the Python that `scripts/test` has prepared.
fn python(script: &str, arguments: &[&str]) -> String {
    let python = std::env::var_os("ICOSFS_TEST_PYTHON").expect(
        "ICOSFS_TEST_PYTHON names a Python with tests/python/requirements.txt; run scripts/test",
    );
    let output = Command::new(python)
        .arg("-c")
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pandas_reads_a_mounted_table() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let mut read = 0;
    for name in mount
        .list("objects")
        .iter()
        .filter(|n| n.ends_with(".csv"))
        .take(6)
    {
        let path = mount.path(&format!("objects/{name}"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let shape = python(
            "import pandas, sys; frame = pandas.read_csv(sys.argv[1]); print(*frame.shape)",
            &[path.to_str().unwrap()],
        );
        let header = text.lines().next().unwrap();
        let expected = format!("{} {}", text.lines().count() - 1, header.split(',').count());
        assert_eq!(shape.trim(), expected, "{name}");
        read += 1;
    }
    assert!(read > 0);
}
