//! `icosfs cache`: what is kept, whether it is sound, and taking it away.
//! Works beside live mounts, whose open files stay.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use anyhow::bail;
use clap::{Args, Subcommand};
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::settings::{GlobalArgs, bytes};
use crate::cache::{CacheFolder, FolderFile};
use icos_portal::ObjectId;

/// What `icosfs cache` can do.
#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Show what is kept, and where
    Info(CacheInfoArgs),
    /// Read all of it, check it, and remove what is damaged
    Verify,
    /// Remove all of it, but for what mounts have open
    Clear,
    /// Remove some of it: what was not used for longest, or named objects
    Evict(EvictArgs),
}

/// What `icosfs cache info` takes.
#[derive(Args, Debug)]
pub(super) struct CacheInfoArgs {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// What `icosfs cache evict` takes.
#[derive(Args, Debug)]
#[command(
    override_usage = "icosfs cache evict --to <SIZE>\n       icosfs cache evict <ID>...",
    after_help = "\
Examples:
  icosfs cache evict --to 5G
  icosfs cache evict UNhY4JhezH9gQYqvDMWrWH9C"
)]
pub(super) struct EvictArgs {
    /// Remove what was not used for longest until at most this is left
    #[arg(long, value_name = "SIZE", value_parser = bytes, required_unless_present = "objects")]
    to: Option<u64>,
    /// Remove what is kept of these objects
    #[arg(value_name = "ID")]
    objects: Vec<ObjectId>,
}

pub(super) fn run(global: &GlobalArgs, command: CacheCommand) -> anyhow::Result<()> {
    let root = global.cache_dir()?.join(global.services()?.cache_name());
    let folder = CacheFolder::at(root);
    match command {
        CacheCommand::Info(args) => info(&folder, &args),
        CacheCommand::Verify => verify(&folder)?,
        CacheCommand::Clear => {
            remove(&folder, &folder.files());
            folder.remove_strays();
        }
        CacheCommand::Evict(args) => evict(&folder, &args),
    }
    Ok(())
}

/// The object that a file of the cache is of, if any.
fn object_of(file: &FolderFile) -> Option<ObjectId> {
    let name = file.place.name();
    name.split('.').next()?.parse().ok()
}

/// What a person calls a file of its kind.
fn kind_of(file: &FolderFile) -> &'static str {
    if !file.complete {
        "incomplete"
    } else if file.place.name().ends_with(".cpb") {
        "tables"
    } else if file.place.name().contains('.') {
        "drawn tables"
    } else {
        "originals"
    }
}

fn info(folder: &CacheFolder, args: &CacheInfoArgs) {
    let files = folder.files();
    let mut kinds: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for file in &files {
        let (count, bytes) = kinds.entry(kind_of(file)).or_default();
        *count += 1;
        *bytes += file.bytes;
    }
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let in_use = files.iter().filter(|file| file.in_use).count();
    if args.json {
        let kinds: BTreeMap<_, _> = kinds
            .iter()
            .map(|(kind, (files, bytes))| (kind, json!({"files": files, "bytes": bytes})))
            .collect();
        let path = folder.path();
        let all = json!({"path": path, "files": files.len(), "bytes": bytes,
            "inUse": in_use, "kinds": kinds});
        println!("{all:#}");
        return;
    }
    println!("{}", folder.path().display());
    if files.is_empty() {
        println!("  nothing is kept there yet");
        return;
    }
    for (kind, (count, bytes)) in kinds {
        println!("  {kind:<12} {count:>7} files {:>12}", size(bytes));
    }
    println!(
        "  {:<12} {:>7} files {:>12}",
        "together",
        files.len(),
        size(bytes)
    );
    if in_use > 0 {
        println!("  {in_use} of them are open in mounts");
    }
}

fn verify(folder: &CacheFolder) -> anyhow::Result<()> {
    let files = folder.files();
    let bar = bar(files.iter().map(|file| file.bytes).sum());
    let (mut damaged, mut right) = (0, 0);
    for file in &files {
        bar.set_message(file.place.name().to_owned());
        let mut hash = Sha256::new();
        let checked = folder.check(file, |bytes| {
            hash.update(bytes);
            bar.inc(bytes.len() as u64);
        });
        let wrong = match checked {
            Ok(checked) => {
                right += checked.right;
                // An original proves itself by its name.
                let original = file.complete && checked.whole && !file.place.name().contains('.');
                let id = object_of(file).filter(|_| original);
                let proved = id.is_none_or(|id| id.matches(&hash.finalize().into()));
                (checked.damaged > 0)
                    .then(|| format!("{} are damaged", size(checked.damaged)))
                    .or_else(|| (!proved).then(|| "its hash is not its id".to_owned()))
            }
            // Removed, or completed, by a mount meanwhile.
            Err(_) if !folder.files().iter().any(|now| now.place == file.place) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(wrong) = wrong {
            damaged += 1;
            let done = if folder.remove(file) {
                "removed"
            } else {
                "a mount has it open, and will find out when it is read"
            };
            bar.println(format!("{}: {wrong}; {done}", file.place.path().display()));
            if !std::io::stderr().is_terminal() {
                println!("{}: {wrong}; {done}", file.place.path().display());
            }
        }
    }
    bar.finish_and_clear();
    println!("{} files, {} are right", files.len(), size(right));
    if damaged > 0 {
        bail!("{damaged} files were damaged; what is read of them is fetched again");
    }
    Ok(())
}

fn evict(folder: &CacheFolder, args: &EvictArgs) {
    let mut files = folder.files();
    if args.objects.is_empty() {
        let mut left: u64 = files.iter().map(|file| file.bytes).sum();
        let bound = args.to.unwrap_or(u64::MAX);
        files.retain(|file| {
            let over = left > bound && !file.in_use;
            if over {
                left -= file.bytes;
            }
            over
        });
    } else {
        files.retain(|file| object_of(file).is_some_and(|id| args.objects.contains(&id)));
    }
    remove(folder, &files);
}

fn remove(folder: &CacheFolder, files: &[FolderFile]) {
    let (gone, kept): (Vec<&FolderFile>, Vec<&FolderFile>) =
        files.iter().partition(|file| folder.remove(file));
    let freed = gone.iter().map(|file| file.bytes).sum();
    println!("removed {} files, {}", gone.len(), size(freed));
    if !kept.is_empty() {
        println!("{} files are open in mounts and stay", kept.len());
    }
}

fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// A bar for so many bytes, shown on a terminal only.
pub(super) fn bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {wide_msg}";
    bar.with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
