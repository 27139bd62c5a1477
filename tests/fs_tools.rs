//! Originals, tested with the tools that file system developers use.

use std::fs;
use std::process::Command;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, Fault, FaultRule};
use icos_portal::ObjectId;

use crate::support::{TestMount, python_script};

const SIZE: usize = 6 << 20;

/// A file written by `fio`: each block contains its offset and a checksum.
fn made_by_fio() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fio(&file, &["--rw=write", "--do_verify=0"]);
    fs::read(file).unwrap()
}

#[track_caller]
fn fio(file: &std::path::Path, how: &[&str]) {
    let output = Command::new("fio")
        .args([
            "--name=x",
            "--thread",
            "--bs=4k",
            "--verify=crc32c",
            "--verify_fatal=1",
        ])
        .arg(format!("--size={SIZE}"))
        .arg(format!("--filename={}", file.display()))
        .args(how)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("fio is installed (scripts/setup tests)");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{how:?}: {said}{errors}");
}

fn serving(bytes: Vec<u8>) -> (DemoPortal, ObjectId) {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_content("written.bin", bytes);
    (
        DemoPortal::start(repository, DemoOptions::default()).unwrap(),
        id,
    )
}

#[test]
fn fio_verifies_an_original_cold_and_warm_with_each_io_engine() {
    let (portal, id) = serving(made_by_fio());
    let ways: [&[&str]; 6] = [
        &["--rw=read"],
        &["--rw=randread"],
        &["--rw=randread", "--ioengine=mmap"],
        &["--rw=read", "--numjobs=4"],
        &[
            "--rw=randread",
            "--ioengine=libaio",
            "--iodepth=16",
            "--direct=1",
        ],
        &["--rw=randread", "--bsrange=4k-64k", "--bs_unaligned=0"],
    ];
    for way in ways {
        // Each job starts with an empty cache and then reads cached bytes.
        let mount = TestMount::of(&portal);
        for _ in 0..2 {
            let file = mount.path(&format!("objects/{id}.bin"));
            fio(&file, &[&["--readonly"], way].concat());
        }
    }
}

/// Shows that the verification above can fail.
#[test]
fn fio_detects_a_wrong_byte() {
    let mut bytes = made_by_fio();
    bytes[5_000_123] ^= 1;
    let (portal, id) = serving(bytes);
    let mount = TestMount::of(&portal);
    let file = mount.path(&format!("objects/{id}.bin"));
    let found = std::panic::catch_unwind(|| fio(&file, &["--readonly", "--rw=read"]));
    assert!(found.is_err());
}

/// Like `fsx` without writes: reads and mappings of random ranges, by old and new
/// handles, while responses break.
#[test]
fn random_reads_and_mappings_equal_the_original() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_original("exercised.bin", 3_000_017);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let right = tempfile::NamedTempFile::new().unwrap();
    fs::write(right.path(), portal.repository().original(&id).unwrap()).unwrap();
    let broken = [Fault::Reset, Fault::Truncate { after: 30_000 }];
    for fault in broken {
        portal.add_fault(FaultRule::always(fault).with_probability(0.2));
    }
    // With a cache that holds a part of the file, and with one that holds all.
    for (seed, size) in [(1, "--cache-size=1M"), (2, "--cache-size=1G")] {
        let mount = TestMount::with(&portal, &[size], &[("ICOSFS_TOKEN", &portal.token())]);
        let file = mount.path(&format!("objects/{id}.bin"));
        let said = python_script(
            "fsx.py",
            &[file, right.path().to_owned(), format!("{seed}").into()],
        );
        assert!(said.contains("all as in the original"), "{said}");
    }
}
