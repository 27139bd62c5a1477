//! `icosfs cluster`: the key of a cluster that shares a cache, and the space of the cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;

use super::output::print_line;
use super::terminal::{counted, size};
use crate::cluster::{ClusterKey, GcOptions, collect_garbage};

/// Subcommands of `icosfs cluster`.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Make the key of a cluster: give all its machines the same file
    #[command(after_help = "\
The file is new, and only its owner can read it. With it, one can put data into the \
shared cache that all machines with the key believe. With --writer, only machines with \
FILE can; give all others FILE.pub, which is not secret.

Examples:
  icosfs cluster init ~/.config/icosfs/cluster.key
  icosfs mount --shared-cache file:///scratch/icosfs \
      --shared-key-file ~/.config/icosfs/cluster.key ~/icos
  icosfs cluster init --writer /root/writer.key")]
    Init {
        /// The new file
        file: PathBuf,
        /// Make the key of the machines that write, and FILE.pub for those that only read
        #[arg(long)]
        writer: bool,
    },
    /// Remove what was not used for a while from a shared cache in a folder
    #[command(after_help = "\
Machines may go on reading: what they miss, they download again.

Examples:
  icosfs cluster gc --dry-run /scratch/icosfs
  icosfs cluster gc --unused-days 90 /scratch/icosfs")]
    Gc {
        /// The folder that --shared-cache names
        folder: PathBuf,
        /// Remove objects that were neither read nor written for so many days
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        unused_days: u32,
        /// Remove nothing, say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the command.
pub(super) fn run(command: &ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Init {
            file,
            writer: false,
        } => init(file),
        ClusterCommand::Init { file, writer: true } => init_pair(file),
        ClusterCommand::Gc {
            folder,
            unused_days,
            dry_run,
        } => gc(folder, *unused_days, *dry_run),
    }
}

fn gc(folder: &Path, unused_days: u32, dry_run: bool) -> anyhow::Result<()> {
    let options = GcOptions {
        unused: Duration::from_hours(24) * unused_days,
        dry_run,
    };
    let report = collect_garbage(folder, options)
        .with_context(|| format!("cannot clean the shared cache in {}", folder.display()))?;
    let (verb, objects, unfinished) = (
        if dry_run { "would remove" } else { "removed" },
        report.objects,
        report.unfinished,
    );
    print_line!(
        "{verb} {} and {} ({}); {} remain",
        counted(objects, "object"),
        counted(unfinished, "unfinished file"),
        size(report.bytes),
        size(report.remaining)
    )?;
    Ok(())
}

fn init(file: &Path) -> anyhow::Result<()> {
    ClusterKey::create(file).with_context(|| {
        format!(
            "cannot make a key in {}; a file that exists is not overwritten",
            file.display()
        )
    })?;
    print_line!(
        "made a key in {}; copy it to all machines, readable by you alone, and name it with --shared-key-file",
        file.display()
    )?;
    Ok(())
}

fn init_pair(file: &Path) -> anyhow::Result<()> {
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    ClusterKey::create_pair(file, &public).with_context(|| {
        format!(
            "cannot make keys in {} and {}; a file that exists is not overwritten",
            file.display(),
            public.display()
        )
    })?;
    print_line!(
        "made a writer's key in {}, for the machines that write the shared cache, and its public key in {}, for all others; name them with --shared-key-file",
        file.display(),
        public.display()
    )?;
    Ok(())
}
