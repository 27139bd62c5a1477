//! The model: all names and bytes, collected without faults.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::Arc;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, Fault};
use icos_portal::ObjectId;

use crate::support::{TestMount, contents};

/// The offset of the byte that [`Fault::Corrupt`] inverts in an original.
pub(super) const CORRUPT: u64 = 70_000;

/// A file and its bytes.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) bytes: Arc<[u8]>,
    /// Whether a part of it may contain a corrupt byte that only the complete file
    /// reveals: true for originals.
    pub(super) is_original: bool,
}

pub(super) struct World {
    pub(super) portal: DemoPortal,
    pub(super) files: Vec<File>,
    pub(super) folders: Vec<(String, Vec<String>)>,
}

impl World {
    /// The built-in repository and a file of several blocks. Bytes come from the
    /// portal itself, names from a mount without faults.
    pub(super) fn new() -> Self {
        let mut repository = DemoRepository::builtin(1);
        repository.add_original("large.bin", (5 << 20) + 123);
        let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
        let mount = TestMount::of(&portal);
        let folders = folders(&mount);
        let mut by_inode = BTreeMap::new();
        for (path, bytes) in contents(&portal) {
            let is_original = ObjectId::of_content(&bytes) == id_of(&path);
            let inode = fs::metadata(mount.path(&path)).unwrap().ino();
            by_inode.insert(inode, (Arc::from(bytes), is_original));
        }
        let mut files = Vec::new();
        for (folder, names) in &folders {
            for name in names {
                let path = format!("{folder}/{name}");
                let Ok(metadata) = fs::metadata(mount.path(&path)) else {
                    panic!("{path} is listed, but not there");
                };
                if !metadata.is_file() {
                    continue;
                }
                let known = by_inode.get(&metadata.ino()).cloned();
                let known = known.or_else(|| Some((told_otherwise(&portal, &path)?, false)));
                if let Some((bytes, is_original)) = known {
                    files.push(File {
                        path,
                        bytes,
                        is_original,
                    });
                }
            }
        }
        Self {
            portal,
            files,
            folders,
        }
    }

    /// Returns the response faults by name.
    pub(super) fn misfortunes() -> [(&'static str, Vec<Fault>); 7] {
        let status = |code| Fault::Status {
            code,
            retry_after: None,
        };
        [
            ("errors", vec![status(503), status(500), Fault::Close]),
            (
                "broken lines",
                vec![
                    Fault::Reset,
                    Fault::ResetInBody { after: 9_000 },
                    Fault::Truncate { after: 30_000 },
                ],
            ),
            ("short answers", vec![Fault::Shorten { after: 20_000 }]),
            (
                "stalls",
                vec![Fault::Stall {
                    after: 5_000,
                    ms: None,
                }],
            ),
            ("wrong bytes", vec![Fault::Corrupt { at: CORRUPT }]),
            ("revoked tokens", vec![Fault::RevokeTokens]),
            (
                "services that come and go",
                vec![Fault::Down { ms: Some(150) }],
            ),
        ]
    }
}

/// Returns every folder except those of control files, with its names.
fn folders(mount: &TestMount) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut waiting = vec![String::new()];
    while let Some(folder) = waiting.pop() {
        let names = mount.list(&folder);
        for name in &names {
            let path = format!("{folder}/{name}");
            let path = path.trim_start_matches('/');
            if fs::metadata(mount.path(path)).is_ok_and(|found| found.is_dir()) {
                waiting.push(path.to_owned());
            }
        }
        if !folder.is_empty() {
            found.push((folder, names));
        }
    }
    found.sort();
    found
}

/// Returns the bytes of a file that is neither a CSV nor an original.
fn told_otherwise(portal: &DemoPortal, path: &str) -> Option<Arc<[u8]>> {
    let id = || path.rsplit('/').next()?.split('.').next()?.parse().ok();
    if path.ends_with(".cpb") {
        // Tables with string columns have no columns.
        portal.repository().csv(&id()?)?;
        return Some(portal.repository().cpb(&id()?)?.into());
    }
    if path.starts_with("objects/") && path.ends_with(".json") {
        let answer = Command::new("curl")
            .args(["--silent", "--fail", "--header", "Accept: application/json"])
            .arg(format!("{}/objects/{}", portal.meta_url(), id()?))
            .output()
            .expect("curl is installed (scripts/setup)");
        return answer.status.success().then(|| answer.stdout.into());
    }
    None
}

fn id_of(path: &str) -> ObjectId {
    let name = path.rsplit('/').next().unwrap();
    name.split('.').next().unwrap().parse().unwrap()
}
