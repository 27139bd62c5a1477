//! `icosfs prefetch`: downloads files into the cache before they are needed,
//! e.g. before a journey. It reads the files through a mount, which caches
//! them. Cached files cost no download, so an interrupted run can be repeated.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use self::download::download;
use super::catalog_access;
use super::exit::EndedEarly;
use super::find::unknown;
use super::mount_context::MountContext;
use super::object_argument::{self, ObjectArgument};
use super::pins;
use super::settings::{Clients, GlobalArgs};
use super::status::read_status;
use super::subject::no_such;
use super::waiting::block_on_while;
use crate::catalog::{Catalog, ObjectSelection};
use crate::mount::absolute;
use crate::mount::mountinfo::{self, MountEntry};
use icos_portal::ObjectId;
use icos_portal::meta::Subject;

mod cached;
mod download;

/// Arguments of `icosfs prefetch`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs prefetch ~/icos/stations/HTM
  icosfs prefetch --station hyltemossa --datatype atcCo2L2DataObject
  icosfs prefetch --pin wutiYS2ccUslON67rA30gK0z

Of a table, the CSV is downloaded, and the original only with --originals.
Cached files are not downloaded again: repeat the command to continue an
interrupted one.")]
pub(super) struct PrefetchArgs {
    /// Files and folders in a mount, or whatever names an object, a collection or a station
    #[arg(value_name = "PATH|OBJECT", required_unless_present_any = ["station", "datatype", "collection"])]
    items: Vec<String>,
    /// All files of this collection: its id, DOI, landing page or folder
    #[arg(long, value_name = "COLLECTION")]
    collection: Option<String>,
    /// All files of these stations, by id, name or country, e.g. HTM
    #[arg(long)]
    station: Option<String>,
    /// All files of this data type, by name, label or IRI
    #[arg(long)]
    datatype: Option<String>,
    /// Download the originals of tables, too
    #[arg(long)]
    originals: bool,
    /// Keep the files from eviction (`icosfs cache unpin` allows it again)
    #[arg(long)]
    pin: bool,
    /// The mount to use, if the portal is mounted more than once
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
}

pub(super) fn run(global: &GlobalArgs, args: &PrefetchArgs) -> anyhow::Result<()> {
    let mut files = Vec::new();
    let collected = if args.originals {
        Collected::WithOriginals
    } else {
        Collected::Useful
    };
    for item in &args.items {
        let path = Path::new(item);
        if path.exists() {
            let shown = path.display();
            let absolute = absolute(path).with_context(|| format!("cannot prefetch {shown}"))?;
            ensure!(
                mountinfo::is_in_mount(&absolute)?,
                "expected a file or folder in a mount, or an object; {shown} is neither"
            );
            collect(path, collected, &mut files)?;
            continue;
        }
        let argument = object_argument::parse(item)?;
        let mount = mount_of(global, args)?;
        match subject_in(&mount, global, &argument)? {
            Subject::Object(id) => files.push(of_object(&mount, id)?),
            Subject::Collection(id) => {
                collect(&collection_in(&mount, id), collected, &mut files)?;
            }
            Subject::Station(segment) => {
                let folder = station_in(&mount, global, &segment)?;
                collect(&folder, collected, &mut files)?;
            }
        }
    }
    if args.station.is_some() || args.datatype.is_some() {
        let mount = mount_of(global, args)?;
        for folder in folders(global, args, &mount)? {
            collect(&folder, collected, &mut files)?;
        }
    }
    if let Some(collection) = &args.collection {
        let mount = mount_of(global, args)?;
        let argument = object_argument::parse(collection)?;
        let (clients, catalog) = portal_of(&mount, global)?;
        let id = block_on_while("requesting the portal's lists", async {
            argument.collection(&catalog, &clients.meta).await
        })?;
        collect(&collection_in(&mount, id), collected, &mut files)?;
    }
    if args.pin {
        pins::pin_files(&files)?;
    }
    if files.is_empty() {
        return Err(EndedEarly::no_match("files", Vec::new()));
    }
    download(&files)
}

/// The folders of the stations and data types that the options name.
fn folders(global: &GlobalArgs, args: &PrefetchArgs, mount: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let vocabulary = catalog_access::vocabulary(&settings_of(mount, global)?)?;
    let selection = ObjectSelection {
        stations: args.station.iter().cloned().collect(),
        datatypes: args.datatype.iter().cloned().collect(),
        ..ObjectSelection::default()
    };
    vocabulary
        .check(&selection)
        .map_err(|name| unknown(&name))?;
    let types: Vec<&str> = match &args.datatype {
        Some(name) => (vocabulary.specs_named(name).into_iter())
            .map(|spec| spec.name())
            .collect(),
        None => Vec::new(),
    };
    let Some(station) = &args.station else {
        let folder = mount.join("datatypes");
        return Ok(types.into_iter().map(|name| folder.join(name)).collect());
    };
    let stations = vocabulary.stations_named(station).into_iter();
    let stations = stations.map(|station| mount.join("stations").join(station.name()));
    Ok(match &types[..] {
        [] => stations.collect(),
        types => stations
            .flat_map(|folder| types.iter().map(move |name| folder.join(name)))
            // A station need not have every data type.
            .filter(|folder| folder.exists())
            .collect(),
    })
}

/// The portal of `mount`, and its catalog.
fn portal_of(mount: &Path, global: &GlobalArgs) -> anyhow::Result<(Clients, Catalog)> {
    let settings = settings_of(mount, global)?;
    let (clients, cache_dir) = (settings.clients(None)?, settings.cache_dir()?);
    let selection = ObjectSelection::default();
    let catalog = catalog_access::open(&clients, &cache_dir, catalog_access::TTL, selection)?;
    Ok((clients, catalog))
}

/// What `argument` means in the repository of `mount`.
fn subject_in(
    mount: &Path,
    global: &GlobalArgs,
    argument: &ObjectArgument,
) -> anyhow::Result<Subject> {
    let (clients, catalog) = portal_of(mount, global)?;
    block_on_while("requesting the portal's lists", async {
        argument.resolve(&catalog, &clients.meta).await
    })
}

fn collection_in(mount: &Path, id: ObjectId) -> PathBuf {
    mount.join("collections").join(id.to_string())
}

/// The folder of the station whose IRI ends with `segment`.
fn station_in(mount: &Path, global: &GlobalArgs, segment: &str) -> anyhow::Result<PathBuf> {
    let vocabulary = catalog_access::vocabulary(&settings_of(mount, global)?)?;
    let mut stations = vocabulary.stations();
    let station = stations
        .find(|station| station.segment() == segment)
        .ok_or_else(|| no_such("station", segment))?;
    Ok(mount.join("stations").join(station.name()))
}

/// The settings of `mount`.
fn settings_of(mount: &Path, global: &GlobalArgs) -> anyhow::Result<GlobalArgs> {
    let settings = MountContext::of_path(mount)?.map(|context| context.apply(global));
    Ok(settings.transpose()?.unwrap_or_else(|| global.clone()))
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
    let mounts = mountinfo::mounts_without_binds()?.into_iter();
    let mut all: Vec<(PathBuf, bool)> = mounts
        .filter(MountEntry::is_trusted)
        .filter_map(|mount| {
            let status = read_status(&mount).ok()?;
            Some((mount.mountpoint, status.info.services.data == data))
        })
        .collect();
    // A single mount is meant, of whatever portal it is.
    if all.len() > 1 {
        all.retain(|(_, same_portal)| *same_portal);
    }
    let Some((mount, _)) = all.pop() else {
        bail!("{data} is not mounted; `icosfs mount FOLDER` mounts it");
    };
    ensure!(
        all.is_empty(),
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

/// Which files of an object are collected from a folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Collected {
    /// Tables as CSV, and originals of objects that are no tables.
    Useful,
    /// The originals of tables, too.
    WithOriginals,
}

/// Adds the files below `path` to `files`; of a table's representations, only the CSV,
/// and the original if wanted.
pub(super) fn collect(
    path: &Path,
    collected: Collected,
    files: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let failed = || format!("cannot read {}", path.display());
    if !fs::metadata(path).with_context(failed)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut names: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(failed)?;
    names.sort();
    let exists = |path: PathBuf| names.binary_search(&path).is_ok();
    for name in &names {
        let shown = name.file_name().unwrap_or_default().to_string_lossy();
        let stem = shown.split_once(".original.").map(|(stem, _)| stem);
        let original = stem.is_some_and(|stem| exists(name.with_file_name(format!("{stem}.csv"))));
        if original {
            if collected == Collected::WithOriginals {
                files.push(name.clone());
            }
            continue;
        }
        let ending = name.extension().and_then(|ending| ending.to_str());
        // The files in an archive come with the archive.
        let is_view = matches!(ending, Some("parquet" | "nc"))
            && exists(name.with_extension("csv"))
            || ending == Some("parquet")
            || ending == Some("contents");
        let mut table = name.as_os_str().to_owned();
        table.push(".csv");
        let is_table = exists(PathBuf::from(table))
            || exists(name.with_extension("csv")) && !matches!(ending, Some("csv" | "json"));
        if !is_view && !is_table {
            collect(name, collected, files)?;
        }
    }
    Ok(())
}
