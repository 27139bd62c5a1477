//! `icosfs cache pin`, `unpin` and `pins`, and `icosfs prefetch --pin`: objects whose
//! cached files are never evicted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;

use super::mount_context::mount_of;
use super::object_argument::id_of_file;
use super::output::{print_json, print_line};
use super::prefetch::{Collected, collect};
use super::settings::GlobalArgs;
use super::status::read_status;
use super::storage::require_private_cache;
use super::terminal::{counted, size};
use crate::cache::CacheFolder;
use crate::mount::absolute;
use crate::mount::mountinfo;
use icos_portal::ObjectId;

/// The examples of `icosfs cache pin`.
pub(super) const PIN_EXAMPLES: &str = "\
Examples:
  icosfs cache pin ~/icos/stations/HTM
  icosfs cache pin wutiYS2ccUslON67rA30gK0z

A pin is of an object: all of its cached files stay, now and when it is read later.
`icosfs prefetch --pin` downloads the files as well.";

/// The examples of `icosfs cache unpin`.
pub(super) const UNPIN_EXAMPLES: &str = "\
Examples:
  icosfs cache unpin ~/icos/stations/HTM";

/// Arguments of `icosfs cache pin` and `unpin`.
#[derive(Args, Debug)]
pub(super) struct PinArgs {
    /// Files and folders in a mount, or ids of objects
    #[arg(value_name = "PATH|ID", required = true)]
    items: Vec<String>,
}

/// Objects by the cache folder that has their files.
pub(super) type ObjectsByCache = BTreeMap<PathBuf, BTreeSet<ObjectId>>;

/// Pins the objects of `args`.
pub(super) fn pin(global: &GlobalArgs, args: &PinArgs) -> anyhow::Result<()> {
    for (cache, objects) in objects_of_items(global, &args.items)? {
        let pinned = pin_in(&cache, &objects)?;
        print_line!(
            "pinned {} in {}",
            counted(pinned, "object"),
            cache.display()
        )?;
    }
    Ok(())
}

/// Removes the pins of the objects of `args`.
pub(super) fn unpin(global: &GlobalArgs, args: &PinArgs) -> anyhow::Result<()> {
    for (cache, objects) in objects_of_items(global, &args.items)? {
        let ids = objects.iter().map(ToString::to_string);
        let folder = folder_at(&cache)?;
        let unpinned = folder.unpin(ids).with_context(|| cannot_store(&cache))?;
        print_line!(
            "unpinned {} in {}",
            counted(unpinned, "object"),
            cache.display()
        )?;
    }
    Ok(())
}

/// Pins the objects of files in mounts.
pub(super) fn pin_files(files: &[PathBuf]) -> anyhow::Result<()> {
    for (cache, objects) in objects_of_files(files)? {
        pin_in(&cache, &objects)?;
    }
    Ok(())
}

/// Lists the pinned objects with what the cache has of them.
pub(super) fn list(folder: &CacheFolder, json: bool) -> anyhow::Result<()> {
    let mut objects: BTreeMap<String, (usize, u64)> = folder
        .pins()
        .iter()
        .map(|id| (id.to_owned(), (0, 0)))
        .collect();
    for file in folder.files().iter().filter(|file| file.pinned) {
        let name = file.path.name();
        let mut pins = objects.iter_mut();
        if let Some((_, (files, bytes))) = pins.find(|(id, _)| name.starts_with(id.as_str())) {
            *files += 1;
            *bytes += file.bytes;
        }
    }
    if json {
        let all: Vec<_> = (objects.iter())
            .map(|(id, (files, bytes))| json!({"id": id, "files": files, "bytes": bytes}))
            .collect();
        return print_json(&all);
    }
    for (id, (files, bytes)) in &objects {
        print_line!("{id} {:>13} {:>12}", counted(*files, "file"), size(*bytes))?;
    }
    if objects.is_empty() {
        print_line!("nothing is pinned")?;
    }
    Ok(())
}

fn pin_in(cache: &Path, objects: &BTreeSet<ObjectId>) -> anyhow::Result<usize> {
    let ids = objects.iter().map(ToString::to_string);
    folder_at(cache)?
        .pin(ids)
        .with_context(|| cannot_store(cache))
}

fn cannot_store(cache: &Path) -> String {
    format!("cannot store pins in {}", cache.display())
}

pub(super) fn folder_at(cache: &Path) -> anyhow::Result<CacheFolder> {
    require_private_cache(cache)?;
    Ok(CacheFolder::at(cache.to_owned()))
}

pub(super) fn objects_of_items(
    global: &GlobalArgs,
    items: &[String],
) -> anyhow::Result<ObjectsByCache> {
    let (mut ids, mut files) = (BTreeSet::new(), Vec::new());
    for item in items {
        let path = Path::new(item);
        match item.parse::<ObjectId>() {
            Ok(id) if !path.exists() => {
                ids.insert(id);
            }
            _ => collect(path, Collected::Useful, &mut files)?,
        }
    }
    let mut objects = objects_of_files(&files)?;
    if !ids.is_empty() {
        let cache = global.cache_dir()?.join(global.services()?.cache_name());
        objects.entry(cache).or_default().extend(ids);
    }
    ensure!(!objects.is_empty(), "expected data objects, found none");
    Ok(objects)
}

/// The objects of files in mounts. Leaves out files that belong to none, such as
/// `station.json`.
fn objects_of_files(files: &[PathBuf]) -> anyhow::Result<ObjectsByCache> {
    let mounts = mountinfo::mounts()?;
    let mut caches: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut objects = ObjectsByCache::new();
    for file in files {
        let shown = file.display();
        let path = absolute(file).with_context(|| format!("cannot find {shown}"))?;
        let Some(mount) = mount_of(&mounts, &path) else {
            bail!("expected a file or folder in a mount, or an object's id; {shown} is neither");
        };
        let cache = if let Some(cache) = caches.get(&mount.mountpoint) {
            cache.clone()
        } else {
            read_status(&mount)?.info.cache
        };
        caches.insert(mount.mountpoint, cache.clone());
        if let Some(id) = id_of_file(&path) {
            objects.entry(cache).or_default().insert(id);
        }
    }
    Ok(objects)
}
