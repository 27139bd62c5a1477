//! What Python's libraries make of the files.

use std::process::Command;

use crate::support::{TestMount, portal};

/// The Python that `scripts/test` has prepared.
fn interpreter() -> Command {
    Command::new(std::env::var_os("ICOSFS_TEST_PYTHON").expect(
        "ICOSFS_TEST_PYTHON names a Python with tests/python/requirements.txt; run scripts/test",
    ))
}

/// Runs `script` with Python.
fn python(script: &str, arguments: &[&str]) -> String {
    let output = interpreter()
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
    for file in [
        "ICOSETC_SE-Htm_FLUXES_L2.csv",
        "11SS20230410_SOOP_OTC.csv",
        "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip",
    ] {
        let id = portal.repository().find(file).unwrap();
        let path = mount.path(&format!("objects/{id}.csv"));
        let text = std::fs::read_to_string(&path).unwrap();
        let shape = python(
            "import pandas, sys; frame = pandas.read_csv(sys.argv[1]); print(*frame.shape)",
            &[path.to_str().unwrap()],
        );
        let header = text.lines().next().unwrap();
        let expected = format!("{} {}", text.lines().count() - 1, header.split(',').count());
        assert_eq!(shape.trim(), expected, "{file}");
    }
}

/// Runs the tests of the portal's own Python client whose names match.
fn icoscp_core(names: &str) {
    let tests = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/python/test_icoscp_core.py"
    );
    let output = interpreter()
        .args([
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            names,
            tests,
        ])
        .env("ICOSFS_BIN", env!("CARGO_BIN_EXE_icosfs"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_portals_own_client_takes_the_demo_for_the_portal() {
    icoscp_core("not real_metadata");
}

#[test]
#[cfg(feature = "shared-tests")]
fn the_portals_own_client_understands_real_metadata() {
    icoscp_core("real_metadata");
}
