//! The mounts and servers of this machine that a command is about.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use super::log::control::runtime_folder;
use super::serve::client;
use super::serve::files::{ServerRecord, all_running};
use super::settings::GlobalArgs;
use super::status::mounted;
use crate::mount::mountinfo::MountEntry;
use crate::mount::read_control_file;

/// A mount or a server.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A mount.
    Mount(MountEntry),
    /// A server.
    Server(ServerRecord),
}

impl Target {
    /// The mount or server that the user names: by a mount point, or by the URL or the
    /// socket of a server.
    pub(super) fn named(global: &GlobalArgs, name: &Path) -> anyhow::Result<Self> {
        let servers = own_servers(global);
        if let Some(server) = servers.into_iter().find(|server| is_name_of(server, name)) {
            return Ok(Self::Server(server));
        }
        let shown = name.display();
        if name.to_str().is_some_and(|name| name.contains("://")) {
            bail!("no server of yours is at {shown}; `icosfs status` lists the servers");
        }
        mounted(name).map(Self::Mount)
    }

    /// The control file `name`. A server has `timeout` for its reply.
    pub(super) fn control_file(&self, name: &str, timeout: Duration) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Mount(mount) => Ok(read_control_file(mount, name)?),
            Self::Server(server) => client::get(server, &format!("/.icosfs/{name}"), timeout),
        }
    }

    /// The mount point, or the address of the server.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Mount(mount) => mount.mountpoint.display().to_string(),
            Self::Server(server) => server.shown(),
        }
    }
}

/// This user's servers whose sockets are in the user's runtime folder, or below the cache
/// folder of the settings.
pub(super) fn own_servers(global: &GlobalArgs) -> Vec<ServerRecord> {
    let cache = global.cache_dir();
    cache.map_or_else(|_| Vec::new(), |cache| all_running(&runtime_folder(&cache)))
}

/// Whether `name` is the URL of the server, with or without the slash at its end, or its
/// socket.
fn is_name_of(server: &ServerRecord, name: &Path) -> bool {
    let is_socket = std::path::absolute(name).is_ok_and(|path| path == server.socket);
    let url = server.url.as_deref().map(|url| url.trim_end_matches('/'));
    let name = name.to_str().map(|name| name.trim_end_matches('/'));
    is_socket || (url.is_some() && url == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_is_named_by_its_url_or_its_socket() {
        let server = |url: Option<&str>| ServerRecord {
            pid: 1,
            url: url.map(str::to_owned),
            socket: "/run/user/1/icosfs/serve-1.sock".into(),
            secret_file: "/run/user/1/icosfs/serve-1.secret".into(),
        };
        let on_a_port = server(Some("http://127.0.0.1:8080/"));
        for (name, is_name) in [
            ("http://127.0.0.1:8080/", true),
            ("http://127.0.0.1:8080", true),
            ("/run/user/1/icosfs/serve-1.sock", true),
            ("http://127.0.0.1:808", false),
            ("/run/user/1/icosfs/serve-1.secret", false),
            ("", false),
        ] {
            assert_eq!(is_name_of(&on_a_port, Path::new(name)), is_name, "{name}");
        }
        assert!(!is_name_of(&server(None), Path::new("")));
    }
}
