//! `icosfs cache`: shows, verifies and removes cached data. It may run beside
//! live mounts; files that a mount has open are not removed.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::output::{print_json, print_line};
use super::pins::{self, PinArgs};
use super::settings::{GlobalArgs, bytes};
use super::storage::require_private_cache;
use super::terminal::{counted, size};
use super::waiting::Progress;
use crate::cache::{CacheFolder, FolderFile};
use icos_portal::ObjectId;

/// Subcommands of `icosfs cache`.
#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Show the cache folder and its contents
    Info {
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Verify all cached files and remove corrupt ones
    Verify,
    /// Remove all cached files that no mount has open and that are not pinned
    Clear,
    /// Remove the least recently used files, or the given objects
    Evict(EvictArgs),
    /// Keep the cached files of objects from eviction
    #[command(after_help = pins::PIN_EXAMPLES)]
    Pin(PinArgs),
    /// Let the cached files of objects be evicted again
    #[command(after_help = pins::UNPIN_EXAMPLES)]
    Unpin(PinArgs),
    /// List the pinned objects
    Pins {
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `icosfs cache evict`.
#[derive(Args, Debug)]
#[command(
    override_usage = "icosfs cache evict --to <SIZE>\n       icosfs cache evict <PATH|ID>...",
    after_help = "\
Examples:
  icosfs cache evict --to 5G
  icosfs cache evict wutiYS2ccUslON67rA30gK0z"
)]
pub(super) struct EvictArgs {
    /// Remove the least recently used files until at most this much is left
    #[arg(long, value_name = "SIZE", value_parser = bytes, required_unless_present = "objects")]
    to: Option<u64>,
    /// Remove all cached files of these objects, given by ids or by files and folders
    /// in a mount
    #[arg(value_name = "PATH|ID")]
    objects: Vec<String>,
}

pub(super) fn run(global: &GlobalArgs, command: CacheCommand) -> anyhow::Result<()> {
    match &command {
        CacheCommand::Pin(args) => return pins::pin(global, args),
        CacheCommand::Unpin(args) => return pins::unpin(global, args),
        CacheCommand::Evict(args) if !args.objects.is_empty() => {
            return evict_objects(global, &args.objects);
        }
        _ => {}
    }
    let root = global.cache_dir()?.join(global.services()?.cache_name());
    require_private_cache(&root)?;
    let folder = CacheFolder::at(root);
    match command {
        CacheCommand::Info { json } => info(&folder, json),
        CacheCommand::Verify => verify(&folder),
        CacheCommand::Clear => {
            let removed = remove(&folder, &folder.files());
            folder.remove_strays();
            removed
        }
        CacheCommand::Evict(args) => evict(&folder, &args),
        CacheCommand::Pins { json } => pins::list(&folder, json),
        // Handled above.
        CacheCommand::Pin(_) | CacheCommand::Unpin(_) => Ok(()),
    }
}

/// The object that a cached file belongs to, if any.
fn object_of(file: &FolderFile) -> Option<ObjectId> {
    let name = file.path.name();
    name.split('.').next()?.parse().ok()
}

/// The kind of a file as `icosfs cache info` names it: its key in the JSON
/// output, which scripts rely on, and its label in the text output.
fn kind_of(file: &FolderFile) -> (&'static str, &'static str) {
    if !file.complete {
        ("incomplete", "incomplete")
    } else if file.path.name().ends_with(".cpb") {
        ("tables", "tables")
    } else if file.path.name().contains('.') {
        ("drawn tables", "rendered tables")
    } else {
        ("originals", "originals")
    }
}

fn info(folder: &CacheFolder, json: bool) -> anyhow::Result<()> {
    let files = folder.files();
    let mut kinds: BTreeMap<(&str, &str), (usize, u64)> = BTreeMap::new();
    for file in &files {
        let (count, bytes) = kinds.entry(kind_of(file)).or_default();
        *count += 1;
        *bytes += file.bytes;
    }
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let in_use = files.iter().filter(|file| file.in_use).count();
    let pinned = || files.iter().filter(|file| file.pinned);
    let (pinned_files, pinned_bytes) = (pinned().count(), pinned().map(|file| file.bytes).sum());
    if json {
        let kinds: BTreeMap<_, _> = kinds
            .iter()
            .map(|((key, _), (files, bytes))| (key, json!({"files": files, "bytes": bytes})))
            .collect();
        let path = folder.path();
        let all = json!({"path": path, "files": files.len(), "bytes": bytes,
            "inUse": in_use, "kinds": kinds,
            "pinned": {"files": pinned_files, "bytes": pinned_bytes}});
        return print_json(&all);
    }
    print_line!("{}", folder.path().display())?;
    if files.is_empty() {
        return Ok(print_line!("  the cache is empty")?);
    }
    for ((_, label), (count, bytes)) in kinds {
        print_line!(
            "  {label:<16} {:>13} {:>12}",
            counted(count, "file"),
            size(bytes)
        )?;
    }
    let count = files.len();
    let count = counted(count, "file");
    print_line!("  {:<16} {count:>13} {:>12}", "total", size(bytes))?;
    if pinned_files > 0 {
        let bytes = size(pinned_bytes);
        print_line!(
            "  {:<16} {:>13} {bytes:>12}",
            "of these pinned",
            counted(pinned_files, "file")
        )?;
    }
    if in_use > 0 {
        let are = if in_use == 1 { "is" } else { "are" };
        print_line!("  {in_use} of these {are} open in mounts")?;
    }
    Ok(())
}

fn verify(folder: &CacheFolder) -> anyhow::Result<()> {
    let files = folder.files();
    let bar = Progress::of(Some(files.iter().map(|file| file.bytes).sum()));
    let (mut corrupt, mut verified) = (0, 0);
    for file in &files {
        bar.say(file.path.name());
        let mut hash = Sha256::new();
        let checked = folder.check(file, |bytes| {
            hash.update(bytes);
            bar.advance(bytes.len() as u64);
        });
        let problem = match checked {
            Ok(checked) => {
                verified += checked.intact;
                // An original's id is its checksum.
                let original = file.complete && checked.complete && !file.path.name().contains('.');
                let id = object_of(file).filter(|_| original);
                let matches = id.is_none_or(|id| id.matches(&hash.finalize().into()));
                (checked.damaged > 0)
                    .then(|| format!("{} are corrupt", size(checked.damaged)))
                    .or_else(|| (!matches).then(|| "its checksum differs from its id".to_owned()))
            }
            // A mount removed or completed the file in the meantime.
            Err(_) if !folder.files().iter().any(|now| now.path == file.path) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            corrupt += 1;
            // First, since the kernel may read a file that no process has open.
            let distrusted = !file.complete || folder.distrust(file).is_ok();
            let done = if folder.remove(file) {
                "removed"
            } else if distrusted {
                "a mount has it open, and checks it when it is opened again"
            } else {
                "a mount has it open; unmount it and repeat this command"
            };
            let line = format!("{}: {problem}; {done}", file.path.path().display());
            bar.suspend(|| print_line!("{line}"))?;
        }
    }
    bar.clear();
    print_line!(
        "{}, {} verified",
        counted(files.len(), "file"),
        size(verified)
    )?;
    match corrupt {
        0 => {}
        1 => bail!("1 file was corrupt; it is downloaded again when it is read"),
        corrupt => {
            bail!("{corrupt} files were corrupt; they are downloaded again when they are read")
        }
    }
    Ok(())
}

/// Removes the least recently used files.
fn evict(folder: &CacheFolder, args: &EvictArgs) -> anyhow::Result<()> {
    let mut files = folder.files();
    let mut left: u64 = files.iter().map(|file| file.bytes).sum();
    let bound = args.to.unwrap_or(u64::MAX);
    files.retain(|file| {
        let over = left > bound && !file.in_use && !file.pinned;
        if over {
            left -= file.bytes;
        }
        over
    });
    remove(folder, &files)
}

/// Removes the files of objects.
fn evict_objects(global: &GlobalArgs, items: &[String]) -> anyhow::Result<()> {
    for (cache, objects) in pins::objects_of_items(global, items)? {
        let folder = pins::folder_at(&cache)?;
        let mut files = folder.files();
        files.retain(|file| object_of(file).is_some_and(|id| objects.contains(&id)));
        remove(&folder, &files)?;
    }
    Ok(())
}

fn remove(folder: &CacheFolder, files: &[FolderFile]) -> anyhow::Result<()> {
    let (pinned, files): (Vec<&FolderFile>, Vec<&FolderFile>) =
        files.iter().partition(|file| file.pinned);
    let (removed, open): (Vec<&FolderFile>, Vec<&FolderFile>) =
        files.iter().partition(|file| folder.remove(file));
    let freed = removed.iter().map(|file| file.bytes).sum();
    print_line!(
        "removed {}, {}",
        counted(removed.len(), "file"),
        size(freed)
    )?;
    if !pinned.is_empty() {
        print_line!(
            "kept {}, which `icosfs cache pin` protects",
            counted(pinned.len(), "file")
        )?;
    }
    if !open.is_empty() {
        print_line!(
            "kept {}, open in mounts; unmount them to remove the rest",
            counted(open.len(), "file")
        )?;
    }
    Ok(())
}
