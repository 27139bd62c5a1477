//! A small disk of its own for a cache folder.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::eventually;

/// A small tmpfs; needs root.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn new(bytes: u64) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        disk.mount(&format!("size={bytes}"));
        disk
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn mount(&self, options: &str) {
        let mut said = String::new();
        // A daemon that is ending may still write to it.
        let mounted = eventually(Duration::from_secs(20), || {
            let mount = Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "icosfs-test"])
                .arg(self.0.path())
                .output()
                .unwrap();
            said = String::from_utf8_lossy(&mount.stderr).into_owned();
            mount.status.success()
        });
        assert!(mounted, "run this test as root: {said}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
