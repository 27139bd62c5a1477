//! What keeps the plumbing out of the tests.

mod contents;
pub(crate) mod home;
mod mount;
mod portal;
mod python;

pub(crate) use contents::TestContents;
pub(crate) use home::{Home, feed, said, write_credentials};
pub(crate) use mount::{TestMount, contents};
pub(crate) use portal::{
    SilentPortal, co2, get, portal, serves_csv, serves_original, services_of, slices,
};
pub(crate) use python::{interpreter, python_script};

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
