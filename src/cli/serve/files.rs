//! The files of a running server in the user's runtime folder, which only its owner can
//! enter: `serve-<identity>.sock`, `.secret`, `.json` (where it is) and `.lock`.
//!
//! The server holds the lock as long as it runs; a record without a locked file is that
//! of a server that was killed. The lock file stays: a process that removes it could
//! remove the one that another has just locked.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use icos_files::SafeFolder;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::connect;
use crate::serve::Secret;

/// How long to wait for another process that starts or ends a server.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(20);
/// Interval of attempts.
const CLAIM_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum length of a record and of a secret, in bytes.
const MAX_RECORD: u64 = 64 << 10;

/// Where a running server is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::cli) struct ServerRecord {
    pub(in crate::cli) pid: u32,
    pub(in crate::cli) url: Option<String>,
    pub(in crate::cli) socket: PathBuf,
    pub(in crate::cli) secret_file: PathBuf,
}

impl ServerRecord {
    /// The line of JSON of `icosfs serve --json`.
    pub(super) fn ready_line(&self) -> String {
        let Self {
            pid,
            url,
            socket,
            secret_file,
        } = self;
        json!({"url": url, "socket": socket, "secret_file": secret_file, "pid": pid}).to_string()
    }

    /// The URL or the socket, for messages.
    pub(in crate::cli) fn shown(&self) -> String {
        let socket = || self.socket.display().to_string();
        self.url.clone().unwrap_or_else(socket)
    }
}

/// The result of an attempt to become the server with an identity.
pub(super) enum ServerClaim {
    Claimed(ServerFiles),
    Running(ServerRecord),
}

/// The files of this process's server. Dropping this removes them.
pub(super) struct ServerFiles {
    folder: SafeFolder,
    path: PathBuf,
    identity: String,
    _lock: Flock<fs::File>,
}

impl ServerFiles {
    /// Takes the lock of `identity`, or returns the server that holds it, waiting until
    /// that is ready or has ended.
    pub(super) fn claim(path: &Path, identity: &str) -> anyhow::Result<ServerClaim> {
        let shown = path.display();
        let folder = SafeFolder::private(path, true).with_context(|| {
            format!("cannot use the folder {shown} for socket and secret; set XDG_RUNTIME_DIR or --cache-dir")
        })?;
        ensure!(
            is_closed_to(folder.metadata(), 0o077),
            "expected a folder that only its owner can enter (mode 0700) at {shown}; run chmod 700 {shown}"
        );
        let deadline = Instant::now() + CLAIM_TIMEOUT;
        loop {
            if let Some(lock) = try_lock(&folder, identity)? {
                let files = Self {
                    folder,
                    path: path.to_owned(),
                    identity: identity.to_owned(),
                    _lock: lock,
                };
                files.remove();
                return Ok(ServerClaim::Claimed(files));
            }
            // It may be starting, or ending.
            if let Some(record) = read_record(&folder, identity)
                && connect(&record.socket).is_ok()
            {
                return Ok(ServerClaim::Running(record));
            }
            ensure!(
                Instant::now() < deadline,
                "another process with the same settings has neither started nor ended its server for {} s",
                CLAIM_TIMEOUT.as_secs()
            );
            std::thread::sleep(CLAIM_INTERVAL);
        }
    }

    fn name(&self, ending: &str) -> OsString {
        file_name(&self.identity, ending)
    }

    /// Writes the secret, and returns the path of its file.
    pub(super) fn write_secret(&self, secret: &str) -> anyhow::Result<PathBuf> {
        let name = self.name("secret");
        (self.folder)
            .replace(&name, &self.name("secret.new"), 0o600, secret.as_bytes())
            .context("cannot write the secret")?;
        Ok(self.path.join(name))
    }

    /// Listens on the socket of this identity.
    pub(super) fn bind_socket(&mut self) -> anyhow::Result<(UnixListener, PathBuf)> {
        let name = self.name("sock");
        // The path through the descriptor is short enough for a socket.
        let listener = bind_private(&self.folder.path().join(&name));
        let path = self.path.join(&name);
        let listener = listener.with_context(|| format!("cannot listen on {}", path.display()))?;
        Ok((listener, path))
    }

    /// Says that the server is ready.
    pub(super) fn publish(&self, record: &ServerRecord) -> anyhow::Result<()> {
        let json = serde_json::to_vec(record)?;
        let (name, temporary) = (self.name("json"), self.name("json.new"));
        (self.folder.replace(&name, &temporary, 0o600, &json))
            .context("cannot write where the server is")
    }

    fn remove(&self) {
        for ending in ["json", "sock", "secret"] {
            let _ = self.folder.remove(&self.name(ending));
        }
    }
}

impl Drop for ServerFiles {
    fn drop(&mut self) {
        self.remove();
    }
}

fn file_name(identity: &str, ending: &str) -> OsString {
    format!("serve-{identity}.{ending}").into()
}

/// Takes the lock of `identity`, unless another process has it.
fn try_lock(folder: &SafeFolder, identity: &str) -> anyhow::Result<Option<Flock<fs::File>>> {
    let (file, _) = folder
        .append(&file_name(identity, "lock"), 0o600)
        .context("cannot create a lock file")?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).context("cannot lock a file"),
    }
}

fn read_record(folder: &SafeFolder, identity: &str) -> Option<ServerRecord> {
    let path = folder.path().join(file_name(identity, "json"));
    let json = icos_files::read_file(&path, MAX_RECORD).ok()?;
    serde_json::from_slice(&json).ok()
}

/// The server that runs with `identity`, if there is one.
pub(super) fn running(path: &Path, identity: &str) -> anyhow::Result<Option<ServerRecord>> {
    let Ok(folder) = SafeFolder::private(path, false) else {
        return Ok(None);
    };
    let Some(record) = read_record(&folder, identity) else {
        return Ok(None);
    };
    let is_running = try_lock(&folder, identity)?.is_none();
    Ok((is_running && connect(&record.socket).is_ok()).then_some(record))
}

/// The servers of this user whose files are in `path`.
pub(in crate::cli) fn all_running(path: &Path) -> Vec<ServerRecord> {
    let Ok(folder) = SafeFolder::private(path, false) else {
        return Vec::new();
    };
    let names = fs::read_dir(path).into_iter().flatten().flatten();
    let identities = names.filter_map(|entry| {
        let name = entry.file_name();
        let identity = name
            .to_str()?
            .strip_prefix("serve-")?
            .strip_suffix(".json")?;
        Some(identity.to_owned())
    });
    let mut records: Vec<ServerRecord> = identities
        .filter(|identity| matches!(try_lock(&folder, identity), Ok(None)))
        .filter_map(|identity| read_record(&folder, &identity))
        .collect();
    records.sort_by_key(|record| record.pid);
    records
}

/// The secret in a file that the user gives.
pub(super) fn given_secret(path: &Path) -> anyhow::Result<Secret> {
    let shown = path.display();
    let text = private_file(path, "secret", MAX_RECORD)?;
    let text = String::from_utf8(text).unwrap_or_default();
    Secret::parse(&text).with_context(|| format!("bad secret in {shown}"))
}

/// The content of a file with `what`, a secret thing, that the user gives.
pub(super) fn private_file(path: &Path, what: &str, limit: u64) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let read = icos_files::read_with_metadata(path, limit);
    let (content, found) = read.with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        icos_files::is_own_file(&found),
        "expected a {what} file of your own or root's at {shown}, found one of user {} with {} names",
        found.uid(),
        found.nlink()
    );
    // A group may read it: so Kubernetes gives a secret to a user without a name.
    ensure!(
        is_closed_to(&found, 0o027),
        "expected a {what} file that others cannot read or write at {shown}; run chmod 600 {shown}"
    );
    Ok(content)
}

/// Whether none of the permissions in `bits` is granted.
fn is_closed_to(found: &fs::Metadata, bits: u32) -> bool {
    found.mode() & bits == 0
}

/// Listens on a socket at a path that the user gives. One that a killed server left is
/// replaced.
pub(super) fn bind_given_socket(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("expected the path of a socket, found {shown}");
    };
    let folder = SafeFolder::private(parent, false).with_context(|| {
        format!(
            "other users could replace the socket in {}, and would get its secret; choose a --socket in a folder of your own",
            parent.display()
        )
    })?;
    match folder.metadata_of(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Ok(found) if found.file_type().is_socket() => {
            if connect(path).is_ok() {
                bail!("another process listens on {shown}; choose another --socket");
            }
            let removed = folder.remove(name);
            removed.with_context(|| format!("cannot replace {shown}"))?;
        }
        _ => bail!("expected no file or a socket at {shown}; choose another --socket"),
    }
    // The path through the descriptor is short enough for a socket.
    bind_private(&folder.path().join(name)).with_context(|| format!("cannot listen on {shown}"))
}

/// Listens on a new socket that only this user can connect to. The umask is that of the
/// process, which has no other threads yet.
fn bind_private(path: &Path) -> std::io::Result<UnixListener> {
    let previous = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(previous);
    bound
}
