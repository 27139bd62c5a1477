//! `icosfs status`: shows the status of mounts and servers, and whether the services of their
//! portals respond. Ends within a second, even if a mount or service hangs.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::mount_context::{not_mounted, owned_by, require_trusted};
use super::output::{print_json, print_line, print_text};
use super::serve::client;
use super::serve::files::ServerRecord;
use super::settings::{GlobalArgs, block_on, for_each_service};
use super::target::{Target, own_servers};
use super::terminal::escape_control;
use crate::daemon::report::DaemonStatus;
use crate::mount::mountinfo::{self, MountEntry};
use crate::mount::{absolute, read_control_file};
use icos_portal::http::{Http, Timeouts};
use icos_portal::{Envri, PortalError, Service, Services};

mod text;

/// Timeout for reading the status of a mount.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout for the subsequent probe of a service.
const PROBE_TIMEOUT: Duration = Duration::from_millis(400);

/// Arguments of `icosfs status`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs status                      every mount and server
  icosfs status ~/icos               one mount; fails if it does not respond
  icosfs status --json | jq '.[].errors[].reason'")]
pub(super) struct StatusArgs {
    /// The mount point, or the URL or socket of a server; by default all mounts and servers
    mountpoint: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// The status of one mount or server, or why it cannot be read.
struct QueriedTarget {
    target: Target,
    /// Whether it is this user's, or was asked for: only then is it a failure if it does
    /// not respond.
    expected: bool,
    status: anyhow::Result<(DaemonStatus, Vec<ServiceCheck>)>,
}

/// The result of a probe of one service.
struct ServiceCheck {
    service: Service,
    latency: Result<Duration, PortalError>,
}

/// Runs the command.
pub(super) fn run(global: &GlobalArgs, args: &StatusArgs) -> anyhow::Result<()> {
    let is_named = args.mountpoint.is_some();
    let mut targets = Vec::new();
    if let Some(name) = &args.mountpoint {
        targets.push(Target::named(global, name)?);
    } else {
        let mut mounts = mountinfo::mounts_without_binds()?;
        // A mount that was unmounted here may still be in the namespace of a container.
        let foreign = mountinfo::foreign_mounts().into_iter();
        let entries = foreign.map(|mount| MountEntry {
            mountpoint: mount.path(),
            ..mount.entry
        });
        mounts.extend(entries.filter(|mount| read_status(mount).is_ok()));
        targets.extend(mounts.into_iter().map(Target::Mount));
        targets.extend(own_servers(global).into_iter().map(Target::Server));
    }
    if targets.is_empty() && !args.json {
        let text = "nothing is mounted; `icosfs mount FOLDER` mounts the repository";
        return Ok(print_line!("{text}")?);
    }
    // In parallel: several mounts that hang take no longer than one.
    let threads: Vec<_> = (targets.into_iter())
        .map(|target| {
            let queried = target.clone();
            let query = move || query(queried, is_named);
            (target, std::thread::Builder::new().spawn(query))
        })
        .collect();
    let mounts: Vec<QueriedTarget> = (threads.into_iter())
        .filter_map(|(target, thread)| match thread {
            Ok(thread) => thread.join().ok(),
            Err(error) => Some(QueriedTarget {
                target,
                expected: true,
                status: Err(error).context("cannot start a thread"),
            }),
        })
        .collect();
    if args.json {
        let all: Vec<Value> = mounts.iter().map(as_json).collect();
        print_json(&all)?;
    } else {
        let all: Vec<String> = mounts.iter().map(text::render).collect();
        print_text!("{}", escape_control(&all.join("\n")))?;
    }
    ensure!(
        (mounts.iter()).all(|mount| mount.status.is_ok() || !mount.expected),
        "not every mount responds; the remedy is above"
    );
    Ok(())
}

/// Returns the mount at `mountpoint`, which must be one of icosfs.
pub(super) fn mounted(mountpoint: &Path) -> anyhow::Result<MountEntry> {
    let path = absolute(mountpoint)?;
    let mount = mountinfo::mount_at(&path)?.filter(MountEntry::is_icosfs);
    mount.with_context(|| not_mounted(&path, ""))
}

/// Reads the status of a mount or server and probes its services. `is_named` says whether
/// the user named it.
fn query(target: Target, is_named: bool) -> QueriedTarget {
    let user = nix::unistd::geteuid().as_raw();
    let (status, expected) = match &target {
        Target::Mount(mount) => {
            let expected = is_named || mount.owner == Some(user);
            match read_status(mount) {
                Err(_) if !expected => {
                    let owner = owned_by(mount.owner);
                    let reason =
                        anyhow::anyhow!("a mount {owner}, whose status only that user sees");
                    (Err(reason), false)
                }
                status => (status, expected),
            }
        }
        Target::Server(server) => (read_server_status(server), true),
    };
    let status = status.map(|status| {
        let checks = probe_services(&status).unwrap_or_default();
        (status, checks)
    });
    QueriedTarget {
        target,
        expected,
        status,
    }
}

/// Reads the status of a mount or a server.
pub(super) fn read_status_of(target: &Target) -> anyhow::Result<DaemonStatus> {
    match target {
        Target::Mount(mount) => read_status(mount),
        Target::Server(server) => read_server_status(server),
    }
}

/// Reads the status of a server by its socket.
fn read_server_status(server: &ServerRecord) -> anyhow::Result<DaemonStatus> {
    let json = client::get(server, "/.icosfs/status.json", STATUS_TIMEOUT)?;
    serde_json::from_slice(&json)
        .context("its status is from another version of icosfs; end it and start it again")
}

/// Reads the status of a mount, on a thread that is abandoned if it blocks.
pub(super) fn read_status(mount: &MountEntry) -> anyhow::Result<DaemonStatus> {
    read_status_within(mount, STATUS_TIMEOUT)
}

/// The same with another timeout.
pub(super) fn read_status_within(
    mount: &MountEntry,
    timeout: Duration,
) -> anyhow::Result<DaemonStatus> {
    // The process of another user may never reply, and this one could not end then.
    require_trusted(mount)?;
    let (sender, receiver) = mpsc::channel();
    let queried = mount.clone();
    std::thread::Builder::new()
        .spawn(move || sender.send(read_control_file(&queried, "status.json")))
        .context("cannot start a thread")?;
    let shown = mount.mountpoint.display();
    let Ok(read) = receiver.recv_timeout(timeout) else {
        bail!("no response; is its process stopped? `icosfs unmount --lazy {shown}` unmounts it");
    };
    let json = read.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTCONN | libc::ECONNABORTED) => anyhow::anyhow!(
            "dead: its process has ended; `icosfs unmount {shown}` unmounts it, and `icosfs mount` mounts it again"
        ),
        Some(libc::ENOENT) => anyhow::anyhow!(
            "a bind mount of a part of a repository; its origin has been unmounted, and its process goes on until `icosfs unmount {shown}`"
        ),
        Some(libc::EACCES) => anyhow::anyhow!("mounted by another user, without access for others"),
        _ => error.into(),
    })?;
    serde_json::from_slice(&json)
        .context("its status is from another version of icosfs; unmount it and mount it again")
}

/// Probes the services of a mount from this process, since the mount itself may be
/// waiting for them.
fn probe_services(status: &DaemonStatus) -> anyhow::Result<Vec<ServiceCheck>> {
    let urls = &status.info.services;
    let services = Services::of(status.info.portal.parse::<Envri>()?)
        .with(Service::Auth, &urls.auth)?
        .with(Service::Meta, &urls.meta)?
        .with(Service::Data, &urls.data)?;
    let http = Http::new(Timeouts::default())?;
    let probe = async |service| {
        let probed = http.probe(&services, service, PROBE_TIMEOUT).await;
        let latency = probed.map(|probe| probe.took);
        ServiceCheck { service, latency }
    };
    block_on(async { Ok(for_each_service(probe).await.into()) })
}

fn as_json(mount: &QueriedTarget) -> Value {
    match &mount.status {
        Ok((status, checks)) => {
            let mut value = serde_json::to_value(status).unwrap_or_default();
            let reachable = checks.iter().map(|r| {
                let found = match &r.latency {
                    Ok(took) => json!({"answers": true, "ms": took.as_millis()}),
                    Err(error) => json!({"answers": false, "reason": error.to_string()}),
                };
                (r.service.to_string(), found)
            });
            value["reachable"] = Value::Object(reachable.collect());
            value
        }
        Err(error) => {
            let kind = match mount.target {
                Target::Mount(..) => "mountpoint",
                Target::Server(_) => "server",
            };
            json!({kind: mount.target.shown(), "problem": format!("{error:#}")})
        }
    }
}
