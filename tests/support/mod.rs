//! Helpers that hide the plumbing from the tests.

mod contents;
mod dice;
mod disk;
mod front;
mod hanging;
pub(crate) mod home;
mod mount;
mod portal;
mod python;
mod server;

pub(crate) use contents::TestContents;
pub(crate) use dice::Dice;
pub(crate) use disk::SmallDisk;
pub(crate) use front::{Front, TestCertificate, forwarded};
pub(crate) use hanging::HangingDisk;
pub(crate) use home::{Home, feed, said, write_credentials};
pub(crate) use mount::{TestMount, contents};
pub(crate) use portal::{
    SilentPortal, co2, get, portal, serves_csv, serves_original, services_of, slices,
};
pub(crate) use python::{interpreter, python_script};
pub(crate) use server::{TestServer, end_servers, servers_below};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Waits until `condition` holds, at most `limit`.
pub(crate) fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns every file below `folder`.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
