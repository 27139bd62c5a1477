//! `icosfs status`: what mounts say about themselves, and whether their portals
//! answer. Takes no longer than a second, whatever hangs.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::settings::block_on;
use super::terminal::escape_control;
use crate::mount::report::MountStatus;
use crate::mount::{absolute, mountinfo};
use icos_portal::http::{Http, Timeouts};
use icos_portal::{Envri, PortalError, Service, Services};

mod text;

/// How long a mount may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a service may take after that.
const REACH: Duration = Duration::from_millis(400);

/// What `icosfs status` takes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs status                      every mount
  icosfs status ~/icos               one of them; fails if it does not answer
  icosfs status --json | jq '.[].errors[].reason'")]
pub(super) struct StatusArgs {
    /// Where it is mounted; all mounts without
    mountpoint: Option<PathBuf>,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// What is known of one mount.
struct MountAnswer {
    mountpoint: PathBuf,
    status: anyhow::Result<(MountStatus, Vec<ServiceCheck>)>,
}

struct ServiceCheck {
    service: Service,
    answer: Result<Duration, PortalError>,
}

pub(super) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let mountpoints: Vec<PathBuf> = match &args.mountpoint {
        Some(path) => {
            let path = absolute(path)?;
            if !mountinfo::mount_at(&path)?.is_some_and(|mount| mount.is_icosfs()) {
                bail!(
                    "no icosfs is mounted at {}; `icosfs status` lists the mounts",
                    path.display()
                );
            }
            vec![path]
        }
        None => mountinfo::mounts()?
            .into_iter()
            .map(|mount| mount.mountpoint)
            .collect(),
    };
    if mountpoints.is_empty() && !args.json {
        println!("nothing is mounted; `icosfs mount FOLDER` mounts the repository");
        return Ok(());
    }
    // All at once: many that hang take no longer than one.
    let asking: Vec<_> = mountpoints
        .into_iter()
        .map(|mountpoint| std::thread::spawn(move || ask(mountpoint)))
        .collect();
    let answers: Vec<MountAnswer> = asking
        .into_iter()
        .filter_map(|thread| thread.join().ok())
        .collect();
    if args.json {
        let all: Vec<Value> = answers.iter().map(as_json).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        let all: Vec<String> = answers.iter().map(text::of).collect();
        print!("{}", escape_control(&all.join("\n")));
    }
    match answers
        .iter()
        .filter(|answer| answer.status.is_err())
        .count()
    {
        0 => Ok(()),
        _ => bail!("not every mount answers; what to do is above"),
    }
}

fn ask(mountpoint: PathBuf) -> MountAnswer {
    let status = read_status(&mountpoint).map(|status| {
        let checks = reach(&status).unwrap_or_default();
        (status, checks)
    });
    MountAnswer { mountpoint, status }
}

/// What the mount at `mountpoint` says, asked in a thread that may be left
/// behind.
pub(super) fn read_status(mountpoint: &Path) -> anyhow::Result<MountStatus> {
    let path = mountpoint.join(".icosfs/status.json");
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || answer.send(std::fs::read(path)));
    let shown = mountpoint.display();
    let Ok(read) = answered.recv_timeout(PATIENCE) else {
        bail!("no answer; is its process stopped? `icosfs unmount --lazy {shown}` takes it away");
    };
    let json = read.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTCONN | libc::ECONNABORTED) => anyhow::anyhow!(
            "dead: its process has ended; `icosfs unmount {shown}` takes it away, and `icosfs mount` mounts anew"
        ),
        Some(libc::EACCES) => anyhow::anyhow!("another user's, who alone may look inside"),
        _ => error.into(),
    })?;
    serde_json::from_slice(&json)
        .context("its status is that of another version of icosfs; mount anew")
}

/// Whether its services answer, each asked from here: the mount itself might
/// be waiting for them.
fn reach(status: &MountStatus) -> anyhow::Result<Vec<ServiceCheck>> {
    let urls = &status.info.services;
    let services = Services::of(status.info.portal.parse::<Envri>()?)
        .with(Service::Auth, &urls.auth)?
        .with(Service::Meta, &urls.meta)?
        .with(Service::Data, &urls.data)?;
    let http = Http::new(Timeouts::default())?;
    block_on(async {
        let ask = |service| {
            let (http, services) = (&http, &services);
            async move {
                let answer = http.probe(services, service, REACH).await;
                let answer = answer.map(|probe| probe.took);
                ServiceCheck { service, answer }
            }
        };
        let (auth, meta, data) =
            tokio::join!(ask(Service::Auth), ask(Service::Meta), ask(Service::Data));
        Ok(vec![auth, meta, data])
    })
}

fn as_json(answer: &MountAnswer) -> Value {
    match &answer.status {
        Ok((status, checks)) => {
            let mut value = serde_json::to_value(status).unwrap_or_default();
            let reachable = checks.iter().map(|r| {
                let found = match &r.answer {
                    Ok(took) => json!({"answers": true, "ms": took.as_millis()}),
                    Err(error) => json!({"answers": false, "reason": error.to_string()}),
                };
                (r.service.to_string(), found)
            });
            value["reachable"] = Value::Object(reachable.collect());
            value
        }
        Err(error) => json!({
            "mountpoint": answer.mountpoint.to_string_lossy(),
            "problem": format!("{error:#}"),
        }),
    }
}
