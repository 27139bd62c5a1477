//! Removes what was not used for a while from a shared cache in a folder.
//!
//! Only files with the names of the format are removed, below `v1`, and no link is
//! followed. A machine that misses a segment downloads it again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file without its final name that is older than this belongs to a process that ended.
const MAX_UNFINISHED_AGE: Duration = Duration::from_hours(24);

/// What to remove.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// Remove objects that were neither read nor written for so long.
    pub unused: Duration,
    /// Whether to count only.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GcReport {
    /// Number of objects: originals, tables, or rows of some columns.
    pub objects: u64,
    /// Number of files that writers left unfinished.
    pub unfinished: u64,
    /// The bytes of both.
    pub bytes: u64,
    /// The bytes that remain.
    pub remaining: u64,
}

/// Removes what was not used for a while from the shared cache in `folder`.
///
/// A filesystem that is mounted with `noatime` does not tell when a file was read; then
/// the time counts at which it was written.
///
/// # Errors
///
/// If `folder` has no shared cache, or a folder in it cannot be read or changed.
pub fn collect_garbage(folder: &Path, options: GcOptions) -> io::Result<GcReport> {
    let (root, now) = (folder.join("v1"), SystemTime::now());
    let mut report = GcReport::default();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Another process may have removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder != root => continue,
            Err(error) => return Err(error),
        };
        let mut object = ObjectFiles::default();
        for entry in entries {
            let entry = entry?;
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if found.is_dir() {
                folders.push(entry.path());
            } else if found.is_file() {
                object.add(entry.path(), &found, now, &options, &mut report)?;
            }
        }
        object.remove_if_unused(&options, &mut report)?;
    }
    Ok(report)
}

/// The files of one object.
#[derive(Default)]
struct ObjectFiles {
    paths: Vec<PathBuf>,
    bytes: u64,
    /// How long ago one of them was used.
    unused: Option<Duration>,
}

impl ObjectFiles {
    fn add(
        &mut self,
        path: PathBuf,
        found: &fs::Metadata,
        now: SystemTime,
        options: &GcOptions,
        report: &mut GcReport,
    ) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        let age = age_of(found, now);
        let is_unfinished = name.starts_with(".new-") || name.starts_with(".claim-");
        let is_segment = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        if is_unfinished && age > MAX_UNFINISHED_AGE {
            report.unfinished += 1;
            report.bytes += found.len();
            return remove(&path, options);
        }
        if is_segment || name == "manifest" || name == "lease" {
            self.paths.push(path);
            self.bytes += found.len();
            self.unused = Some(self.unused.map_or(age, |unused| unused.min(age)));
        } else {
            report.remaining += found.len();
        }
        Ok(())
    }

    fn remove_if_unused(self, options: &GcOptions, report: &mut GcReport) -> io::Result<()> {
        if self.unused.is_none_or(|unused| unused < options.unused) {
            report.remaining += self.bytes;
            return Ok(());
        }
        report.objects += 1;
        report.bytes += self.bytes;
        self.paths.iter().try_for_each(|path| remove(path, options))
    }
}

/// How long ago a file was last read or written.
fn age_of(found: &fs::Metadata, now: SystemTime) -> Duration {
    let last = found.atime().max(found.mtime());
    let last = UNIX_EPOCH + Duration::from_secs(u64::try_from(last).unwrap_or(0));
    now.duration_since(last).unwrap_or_default()
}

fn remove(path: &Path, options: &GcOptions) -> io::Result<()> {
    if options.dry_run {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn make(path: &Path, days: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "123456789").unwrap();
        let at = SystemTime::now() - days * DAY;
        let times = FileTimes::new().set_accessed(at).set_modified(at);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_times(times)
            .unwrap();
    }

    #[test]
    fn unused_objects_and_unfinished_files_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let removed = [
            "v1/h/original/old/0",
            "v1/h/original/old/1",
            "v1/h/original/old/lease",
            "v1/h/cpb/old/c1/r0-5/0",
            "v1/h/original/new/.new-1",
        ];
        for path in removed {
            make(&at(path), 40);
        }
        let kept = [
            "v1/h/original/old/notes.txt",
            "v1/h/original/used/1",
            "other/0",
            "0",
        ];
        for path in kept {
            make(&at(path), 40);
        }
        for path in [
            "v1/h/original/used/0",
            "v1/h/original/new/0",
            "v1/h/original/new/.claim-1",
        ] {
            make(&at(path), 0);
        }
        let outside = at("outside");
        make(&outside.join("0"), 40);
        std::os::unix::fs::symlink(&outside, at("v1/h/original/link")).unwrap();
        let options = GcOptions {
            unused: 30 * DAY,
            dry_run: true,
        };
        let counted = collect_garbage(dir.path(), options).unwrap();
        assert!(
            removed.iter().all(|path| at(path).exists()),
            "it only counts"
        );
        let options = GcOptions {
            dry_run: false,
            ..options
        };
        let report = collect_garbage(dir.path(), options).unwrap();
        assert_eq!(report, counted);
        assert_eq!(
            (report.objects, report.unfinished, report.bytes),
            (2, 1, 45)
        );
        assert!(removed.iter().all(|path| !at(path).exists()));
        assert!(kept.iter().all(|path| at(path).exists()));
        assert!(outside.join("0").exists());
    }

    #[test]
    fn folder_without_a_shared_cache_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let options = GcOptions {
            unused: DAY,
            dry_run: false,
        };
        let error = collect_garbage(dir.path(), options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
