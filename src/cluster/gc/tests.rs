use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

const DAY: Duration = Duration::from_hours(24);
const OPTIONS: GcOptions = GcOptions {
    unused: Duration::from_hours(24 * 30),
    dry_run: false,
};

fn make(path: &Path, days: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "123456789").unwrap();
    let at = SystemTime::now() - days * DAY;
    let times = FileTimes::new().set_accessed(at).set_modified(at);
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(times).unwrap();
}

/// All files below `folder`; no link is followed.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap();
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.insert(path);
        }
    }
    found
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
        "v1/.new-2",
    ];
    for path in removed {
        make(&at(path), 40);
    }
    let kept = [
        "v1/h/original/old/notes.txt",
        "v1/h/original/used/1",
        "other/0",
        "0",
        // Where the format has no objects.
        "v1/0",
        "v1/h/0",
        "v1/h/original/manifest",
        "v1/h/cpb/old/c1/r0-5/more/0",
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
    let options = GcOptions {
        dry_run: true,
        ..OPTIONS
    };
    let counted = collect_garbage(dir.path(), options).unwrap();
    assert!(
        removed.iter().all(|path| at(path).exists()),
        "it only counts"
    );
    let report = collect_garbage(dir.path(), OPTIONS).unwrap();
    assert_eq!(report, counted);
    assert_eq!(
        (report.objects, report.unfinished, report.bytes),
        (2, 2, 54)
    );
    assert!(removed.iter().all(|path| !at(path).exists()));
    assert!(kept.iter().all(|path| at(path).exists()));
}

/// Regression: `v1`, or a folder below it, could be a link to any folder, whose files
/// with such names were removed with the rights of the caller.
#[test]
fn garbage_collection_follows_no_link() {
    for link in [
        "v1",
        "v1/h",
        "v1/h/original",
        "v1/h/original/id",
        "v1/h/original/id/7",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (shared, outside) = (dir.path().join("shared"), dir.path().join("outside"));
        for folder in ["", "h", "h/original", "h/original/id"] {
            for name in ["7", "manifest", "lease", ".new-x", ".claim-x"] {
                make(&outside.join(folder).join(name), 40);
            }
        }
        let before = files(&outside);
        let link = shared.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let target = if link.ends_with("7") {
            outside.join("7")
        } else {
            outside.clone()
        };
        symlink(target, &link).unwrap();
        let result = collect_garbage(&shared, OPTIONS);
        assert_eq!(files(&outside), before, "{}: {result:?}", link.display());
    }
}

/// Regression: a folder that another user exchanges for a link between the look at it
/// and its listing.
#[test]
fn garbage_collection_does_not_follow_a_link_that_takes_the_place_of_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    make(&at("outside/id/7"), 40);
    fs::create_dir_all(at("shared/v1/h/original/id")).unwrap();
    symlink(at("outside"), at("shared/v1/h/link")).unwrap();
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let exchange = || {
            let (a, b) = (at("shared/v1/h/original"), at("shared/v1/h/link"));
            while !stops.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            }
        };
        let thread = std::thread::Builder::new();
        thread.spawn_scoped(scope, exchange).unwrap();
        for _ in 0..1000 {
            let _ = collect_garbage(&at("shared"), OPTIONS);
        }
        stops.store(true, Ordering::Relaxed);
    });
    assert!(at("outside/id/7").exists());
}

#[test]
fn folder_without_a_shared_cache_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = collect_garbage(&dir.path().join("absent"), OPTIONS).unwrap_err();
    assert!(error.to_string().contains("there is no folder"), "{error}");
    let error = collect_garbage(dir.path(), OPTIONS).unwrap_err();
    assert!(error.to_string().contains("has no shared cache"), "{error}");
    fs::write(dir.path().join("v1"), "").unwrap();
    let error = collect_garbage(dir.path(), OPTIONS).unwrap_err();
    assert!(error.to_string().contains("expected a folder"), "{error}");
}

/// What the tree has at a path.
#[derive(Clone, Copy, Debug)]
enum Planted {
    OldFile,
    NewFile,
    Folder,
    LinkToFolder,
    LinkToFile,
    HardLink,
}

const PLANTED: [Planted; 8] = [
    Planted::OldFile,
    Planted::OldFile,
    Planted::OldFile,
    Planted::NewFile,
    Planted::Folder,
    Planted::LinkToFolder,
    Planted::LinkToFile,
    Planted::HardLink,
];
const NAMES: [&str; 9] = [
    "v1", "h", "id", "0", "12", "manifest", "note", ".new-1", ".claim-2",
];

/// Plants it, unless there is something already, or the path leads through a link.
fn plant(root: &Path, names: &[&str], planted: Planted) {
    let (last, above) = names.split_last().unwrap();
    let mut folder = root.to_owned();
    for name in above {
        folder.push(name);
        match folder.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return,
            Err(_) => fs::create_dir(&folder).unwrap(),
        }
    }
    let (path, outside) = (folder.join(last), root.with_file_name("outside"));
    if path.symlink_metadata().is_ok() {
        return;
    }
    match planted {
        Planted::OldFile => make(&path, 40),
        Planted::NewFile => make(&path, 0),
        Planted::Folder => fs::create_dir(path).unwrap(),
        Planted::LinkToFolder => symlink(outside, path).unwrap(),
        Planted::LinkToFile => symlink(outside.join("0"), path).unwrap(),
        Planted::HardLink => fs::hard_link(outside.join("0"), path).unwrap(),
    }
}

/// What is to be removed in `folder`, which is `depth` folders below `v1`.
fn model(folder: &Path, depth: usize) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut removed = BTreeSet::new();
    let (mut objects, mut is_unused) = (BTreeSet::new(), true);
    for path in entries.map(|entry| entry.unwrap().path()) {
        let (found, name) = (path.symlink_metadata().unwrap(), path.file_name().unwrap());
        let name = name.to_str().unwrap();
        if found.is_dir() && depth < 5 {
            removed.extend(model(&path, depth + 1));
        }
        if !found.is_file() {
            continue;
        }
        let is_old = found.modified().unwrap() < SystemTime::now() - 30 * DAY;
        if name.starts_with('.') && is_old {
            removed.insert(path);
        } else if depth >= 3 && matches!(name, "0" | "12" | "manifest") {
            is_unused &= is_old;
            objects.insert(path);
        }
    }
    if is_unused {
        removed.extend(objects);
    }
    removed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn garbage_collection_agrees_with_its_model_on_any_tree(
        trees in vec((vec(select(&NAMES), 1..8), select(&PLANTED)), 0..24),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("shared");
        for name in ["0", "id/0", "h/id/0", "id/h/id/12", ".new-1"] {
            make(&dir.path().join("outside").join(name), 40);
        }
        fs::create_dir_all(&root).unwrap();
        for (names, planted) in trees {
            plant(&root, &names, planted);
            let names: Vec<&str> = ["v1"].into_iter().chain(names).collect();
            plant(&root, &names, planted);
        }
        let before = files(dir.path());
        let v1 = root.join("v1");
        let removed = match v1.symlink_metadata() {
            Ok(found) if found.is_dir() => model(&v1, 0),
            _ => BTreeSet::new(),
        };
        let _ = collect_garbage(&root, OPTIONS);
        let expected: BTreeSet<PathBuf> = before.difference(&removed).cloned().collect();
        prop_assert_eq!(files(dir.path()), expected);
    }
}
