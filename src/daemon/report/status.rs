//! The content of `.icosfs/status.json`. `icosfs status` reads it back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::DiskUsage;
use crate::catalog::ListAge;
use crate::cluster::SharedCacheStatus;
use crate::content::ByteSource;
use icos_portal::account::LoginStatus;
use icos_portal::traffic::TrafficStats;

/// All of `.icosfs/status.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DaemonStatus {
    /// Properties of the mount that do not change.
    #[serde(flatten)]
    pub info: DaemonInfo,
    /// Counters of reads since the mount started.
    pub served: ServedStats,
    /// Counters of requests to the portal.
    #[serde(default)]
    pub traffic: TrafficStats,
    /// Requests of programs since the start, by operation.
    #[serde(default)]
    pub requests: BTreeMap<String, u64>,
    /// Values at the time of this status.
    #[serde(flatten)]
    pub state: LiveState,
    /// The cache that is shared with other machines, if there is one.
    #[serde(default)]
    pub shared_cache: Option<SharedCacheStatus>,
    /// The login; `None` for anonymous access.
    pub login: Option<LoginStatus>,
    /// The most recent failures, newest first.
    pub errors: Vec<Failure>,
}

/// Values that were read within a timeout.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LiveState {
    /// When lists were last downloaded.
    #[serde(default)]
    pub lists: ListAge,
    /// Bytes in the cache, and their limit.
    #[serde(default)]
    pub cache_use: Option<DiskUsage>,
}

/// Properties of a mount or server that do not change.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DaemonInfo {
    /// Version of icosfs.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The repository.
    pub portal: String,
    /// Base URLs of its services.
    pub services: ServiceUrls,
    /// Where programs reach it.
    #[serde(flatten)]
    pub front: FrontEnd,
    /// The repository's cache folder.
    pub cache: PathBuf,
    /// Path of the control socket, if the mount has one.
    #[serde(default)]
    pub control: Option<PathBuf>,
    /// When the mount started.
    pub since: Timestamp,
    /// Where other commands find the login of the mount.
    #[serde(default)]
    pub login_from: MountLogin,
}

/// Where the login of a mount comes from, if other commands can use it, too. Contains
/// no secret.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountLogin {
    /// The saved login, or something that only the process of the mount has.
    #[default]
    Default,
    /// The mount runs a demo portal, whose user it is.
    Demo,
    /// A file with a token.
    TokenFile(PathBuf),
    /// A file with user name and password.
    Credentials(PathBuf),
}

impl MountLogin {
    /// Whether it is that of a demo portal.
    #[must_use]
    pub fn is_demo(&self) -> bool {
        *self == Self::Demo
    }
}

/// Where programs reach a mount or server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FrontEnd {
    /// A mount.
    Mount {
        /// Absolute path of the mount point.
        mountpoint: PathBuf,
    },
    /// A server.
    Server {
        /// Its addresses.
        server: ServerAddress,
    },
}

/// Where a server listens.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServerAddress {
    /// Its URL, if it listens on a port.
    pub url: Option<String>,
    /// The path of its socket, if it has one.
    pub socket: Option<PathBuf>,
    /// The file with its secret, which every request must carry.
    pub secret_file: PathBuf,
}

/// Base URLs of the three services.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServiceUrls {
    /// Authentication.
    pub auth: String,
    /// Metadata.
    pub meta: String,
    /// Data.
    pub data: String,
}

/// A failed operation, which a program received as an errno, or as an HTTP status.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failure {
    /// When it last happened.
    pub at: Timestamp,
    /// Number of consecutive occurrences.
    pub times: u64,
    /// The operation, e.g. `read`.
    pub operation: String,
    /// The file, relative to the mount point.
    pub file: String,
    /// The errno's name, e.g. `EACCES`, or the status of a response, e.g. `HTTP 403`.
    pub errno: String,
    /// The reason, and what the user can do.
    pub reason: String,
}

/// Counters of reads since the mount started.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServedStats {
    /// Number of READ requests.
    pub reads: u64,
    /// Bytes in the replies.
    pub bytes: u64,
    /// The same by source. A reply from several sources counts for the slowest.
    #[serde(default)]
    pub from: BTreeMap<ByteSource, u64>,
    /// Number of files opened for passthrough.
    pub passed_through: u64,
    /// Number of opens that were refused because the program opens every file.
    #[serde(default)]
    pub refused_crawlers: u64,
}
