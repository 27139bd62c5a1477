//! `icosfs cluster`: the key of a cluster that shares a cache, and the space of the cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;

use super::exit::EndedEarly;
use super::output::print_line;
use super::shared_cache::SharedLocationArgs;
use super::terminal::{counted, size};
use crate::cluster::{ClusterKey, GcOptions, KeyError, SharedLocation, collect_garbage};

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
  icosfs mount --shared-cache file:///scratch/icosfs \\
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
Machines may go on reading: what they miss, they download again. No link in the folder is \
followed, and no other file system is entered.

Examples:
  icosfs cluster gc --dry-run /scratch/icosfs
  ICOSFS_SHARED_CACHE=file:///scratch/icosfs icosfs cluster gc
  icosfs cluster gc --unused-days 90 /scratch/icosfs")]
    Gc {
        /// The folder, by path or URL; by default the one that --shared-cache names
        folder: Option<PathBuf>,
        #[command(flatten)]
        location: SharedLocationArgs,
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
            location,
            unused_days,
            dry_run,
        } => {
            let folder = folder_of(folder.as_deref(), location.shared_cache.as_ref())?;
            gc(&folder, *unused_days, *dry_run)
        }
    }
}

/// The folder that is given by path or URL, or else the one of the settings.
fn folder_of(given: Option<&Path>, setting: Option<&SharedLocation>) -> anyhow::Result<PathBuf> {
    let url = given.and_then(Path::to_str);
    let url = url.filter(|text| text.starts_with("file:") || text.starts_with("s3:"));
    let location = match (given, url) {
        (_, Some(url)) => &url.parse()?,
        (Some(path), None) => return Ok(path.to_owned()),
        (None, None) => setting.ok_or_else(|| {
            let reason = "expected the folder of a shared cache; give it, or set \
                ICOSFS_SHARED_CACHE or the setting shared-cache";
            EndedEarly::Usage(reason.to_owned())
        })?,
    };
    match location {
        SharedLocation::Folder(path) => Ok(path.clone()),
        SharedLocation::Bucket { .. } => {
            let reason = format!(
                "expected a folder, found {location}; let a lifecycle rule of the bucket remove old objects"
            );
            Err(EndedEarly::Usage(reason).into())
        }
    }
}

fn gc(folder: &Path, unused_days: u32, dry_run: bool) -> anyhow::Result<()> {
    let options = GcOptions {
        unused: Duration::from_hours(24) * unused_days,
        dry_run,
    };
    let report = collect_garbage(folder, options)?;
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
    if let Some(first) = report.first_failure {
        let more = match report.failures {
            1 => String::new(),
            failures => format!(", and {} more", failures - 1),
        };
        bail!("cannot read or remove {first}{more}; run it as a user who may");
    }
    Ok(())
}

fn init(file: &Path) -> anyhow::Result<()> {
    ClusterKey::create(file).map_err(|error| cannot_create(file, error))?;
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
    ClusterKey::create_pair(file, &public).map_err(|error| cannot_create(file, error))?;
    print_line!(
        "made a writer's key in {}, for the machines that write the shared cache, and its public key in {}, for all others; name them with --shared-key-file",
        file.display(),
        public.display()
    )?;
    Ok(())
}

/// The error for a key that cannot be written to `file`.
fn cannot_create(file: &Path, error: KeyError) -> anyhow::Error {
    match error {
        KeyError::Exists(_) => error.into(),
        _ => anyhow::Error::new(error).context(format!("cannot make a key in {}", file.display())),
    }
}
