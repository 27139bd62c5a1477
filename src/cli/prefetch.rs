//! `icosfs prefetch`: downloads files into the cache before they are needed,
//! e.g. before a journey. It reads the files through a mount, which caches
//! them. Cached files cost no download, so an interrupted run can be repeated.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use indicatif::ProgressBar;

use super::output::{note, print_line};
use super::pins;
use super::settings::GlobalArgs;
use super::status::read_status;
use super::waiting::progress_bar;
use crate::mount::{absolute, mountinfo};
use icos_portal::ObjectId;

/// Files read concurrently; each is one stream from the portal.
const CONCURRENT_FILES: usize = 4;
/// Bytes per read call.
const READ_SIZE: usize = 1 << 20;

/// Arguments of `icosfs prefetch`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs prefetch ~/icos/stations/HTM
  icosfs prefetch --station HTM --datatype atcCo2L2DataObject
  icosfs prefetch --pin UNhY4JhezH9gQYqvDMWrWH9C

Cached files are not downloaded again: repeat the command to continue an
interrupted one.")]
pub(super) struct PrefetchArgs {
    /// Files and folders in a mount, or ids of objects
    #[arg(value_name = "PATH|ID", required_unless_present_any = ["station", "datatype"])]
    items: Vec<String>,
    /// All files of this station, e.g. HTM
    #[arg(long)]
    station: Option<String>,
    /// All files of this data type, given by its folder's name
    #[arg(long)]
    datatype: Option<String>,
    /// Keep the files from eviction (`icosfs cache unpin` allows it again)
    #[arg(long)]
    pin: bool,
    /// The mount to use, if the portal is mounted more than once
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
}

pub(super) fn run(global: &GlobalArgs, args: &PrefetchArgs) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for item in &args.items {
        let path = Path::new(item);
        match item.parse::<ObjectId>() {
            Ok(id) if !path.exists() => files.push(of_object(&mount_of(global, args)?, id)?),
            _ => {
                let shown = path.display();
                let absolute =
                    absolute(path).with_context(|| format!("cannot prefetch {shown}"))?;
                ensure!(
                    mountinfo::is_in_mount(&absolute)?,
                    "expected a file or folder in a mount, or an object's id; {shown} is neither"
                );
                collect(path, &mut files)?;
            }
        }
    }
    if args.station.is_some() || args.datatype.is_some() {
        let mount = mount_of(global, args)?;
        let folder = match (&args.station, &args.datatype) {
            (Some(station), Some(datatype)) => mount.join("stations").join(station).join(datatype),
            (Some(station), None) => mount.join("stations").join(station),
            (None, datatype) => mount
                .join("datatypes")
                .join(datatype.as_deref().unwrap_or("")),
        };
        collect(&folder, &mut files)?;
    }
    if args.pin {
        pins::pin_files(&files)?;
    }
    fetch(&files)
}

/// The mount given by `--mount`, or the only mount of the portal.
fn mount_of(global: &GlobalArgs, args: &PrefetchArgs) -> anyhow::Result<PathBuf> {
    if let Some(mount) = &args.mount {
        return Ok(absolute(mount)?);
    }
    let data = global
        .services()?
        .base(icos_portal::Service::Data)
        .to_string();
    let mut mounts: Vec<PathBuf> = mountinfo::mounts_without_binds()?
        .into_iter()
        .map(|mount| mount.mountpoint)
        .filter(|path| read_status(path).is_ok_and(|status| status.info.services.data == data))
        .collect();
    let Some(mount) = mounts.pop() else {
        bail!("{data} is not mounted; `icosfs mount FOLDER` mounts it");
    };
    ensure!(
        mounts.is_empty(),
        "{data} is mounted more than once; name a mount with --mount"
    );
    Ok(mount)
}

/// The path of the object's CSV if it is a table, else of its original.
fn of_object(mount: &Path, id: ObjectId) -> anyhow::Result<PathBuf> {
    let objects = mount.join("objects");
    let table = objects.join(format!("{id}.csv"));
    if table.exists() {
        return Ok(table);
    }
    let id = id.to_string();
    let is_original = |name: &str| name.split('.').next() == Some(&id) && !name.ends_with(".json");
    let listed = fs::read_dir(&objects)
        .with_context(|| format!("cannot list {}", objects.display()))?
        .flatten()
        .find(|entry| entry.file_name().to_str().is_some_and(is_original));
    let entry =
        listed.with_context(|| format!("object {id} is not listed in {}", objects.display()))?;
    Ok(entry.path())
}

/// Adds the files below `path` to `files`; of a table's representations, only
/// one.
pub(super) fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let failed = || format!("cannot read {}", path.display());
    if !fs::metadata(path).with_context(failed)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut names: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(failed)?;
    names.sort();
    for name in &names {
        let ending = name.extension().and_then(|ending| ending.to_str());
        let is_view = ending == Some("parquet");
        let mut table = name.as_os_str().to_owned();
        table.push(".csv");
        let is_table = names.binary_search(&PathBuf::from(table)).is_ok()
            || names
                .binary_search(&name.with_extension("csv"))
                .is_ok_and(|_| ending != Some("csv") && ending != Some("json"));
        if !is_view && !is_table {
            collect(name, files)?;
        }
    }
    Ok(())
}

/// Reads all `files`, [`CONCURRENT_FILES`] at a time, and reports failures.
fn fetch(files: &[PathBuf]) -> anyhow::Result<()> {
    let lengths = (files.iter()).filter_map(|path| Some(fs::metadata(path).ok()?.len()));
    let progress = progress_bar(lengths.sum());
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let work = || {
            while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = read(path, &progress) {
                    progress.suspend(|| note!("{}: {error}", path.display()));
                    failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        // This thread is one of them, in case that no other can be started.
        for _ in 1..CONCURRENT_FILES {
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    progress.finish_and_clear();
    let (count, failures) = (files.len(), failures.into_inner());
    print_line!("{} of {count} files are cached", count - failures)?;
    ensure!(
        failures == 0,
        "{failures} files could not be downloaded; `icosfs status` shows why; repeat the command to continue"
    );
    Ok(())
}

fn read(path: &Path, progress: &ProgressBar) -> io::Result<()> {
    let bound = fs::metadata(path)?.len();
    let mut file = File::open(path)?;
    // Asking for the size makes the mount download a table in one request.
    let len = file.metadata()?.len();
    progress.set_length((progress.length().unwrap_or(0) + len).saturating_sub(bound));
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => progress.inc(read as u64),
        }
    }
}
