//! `icosfs status`: what mounts say about themselves. Answers within a second
//! even if a mount does not.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::mount::report::Status;
use crate::mount::{absolute, mountinfo};

/// How long a mount may take to answer.
const PATIENCE: Duration = Duration::from_millis(800);

/// What `icosfs status` takes.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// Where it is mounted; all mounts without
    mountpoint: Option<PathBuf>,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let mountpoints: Vec<PathBuf> = match &args.mountpoint {
        Some(path) => {
            let path = absolute(path)?;
            if mountinfo::mount_at(&path)?.is_none() {
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
    let mut all = Vec::new();
    for mountpoint in mountpoints {
        let status = read_status(&mountpoint)
            .with_context(|| format!("{} does not answer", mountpoint.display()));
        match status {
            Ok(status) if args.json => all.push(status),
            Ok(status) => print(&status),
            Err(error) if args.mountpoint.is_some() => return Err(error),
            Err(error) => eprintln!("icosfs: {error:#}"),
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

/// What the mount at `mountpoint` says, asked in a thread that may be left
/// behind.
pub(super) fn read_status(mountpoint: &Path) -> anyhow::Result<Status> {
    let path = mountpoint.join(".icosfs/status.json");
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || answer.send(std::fs::read(path)));
    let json = answered
        .recv_timeout(PATIENCE)
        .context("no answer; is its daemon stopped?")??;
    serde_json::from_slice(&json).context("its status is of another version of icosfs")
}

fn print(status: &Status) {
    let about = &status.about;
    println!("{}", about.mountpoint.display());
    println!("  portal  {} ({})", about.portal, about.services.data);
    match &status.login {
        Some(login) => {
            println!("  login   {login}");
            if let Some(advice) = &login.advice {
                println!("          {advice}");
            }
        }
        None => println!(
            "  login   none: metadata and free objects only; `icosfs login` is noticed at once"
        ),
    }
    println!("  cache   {}", about.cache.display());
    println!("  since   {} (process {})", about.since, about.pid);
    let served = status.served;
    println!(
        "  served  {} bytes in {} reads; {} files read by the kernel itself",
        served.bytes, served.reads, served.passed_through
    );
    if status.errors.is_empty() {
        println!("  errors  none");
    }
    for failure in status.errors.iter().take(5) {
        println!(
            "  error   {} {} {}: {} ({}x)\n          {}",
            failure.at,
            failure.operation,
            failure.file,
            failure.errno,
            failure.times,
            failure.reason
        );
    }
}
