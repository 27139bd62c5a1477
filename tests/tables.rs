//! Tables as CSV, Parquet or columns: the same data, downloaded once.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, Fault, FaultRule};
use icos_portal::ObjectId;
use icosfs::catalog::Representation::{Cpb, Csv, Parquet};
use icosfs::content::{ByteSource, FileSize};

use crate::support::{
    TestContents, TestMount, co2, eventually, get, interpreter, portal, python_script, slices,
};

/// The built-in repository with a table of 24 MB, too long to be downloaded by a
/// short read.
fn with_a_long_table() -> (DemoPortal, ObjectId) {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("long.csv", 30, 192_000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    (portal, id)
}

#[test]
fn cpb_file_equals_the_portals_file_at_any_range() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let contents = TestContents::of(&portal, &folder);
    for name in [
        "every_format.csv",
        "every_format_no_row.csv",
        "every_format_one_row.csv",
        "11SS20230410_SOOP_OTC.csv",
        "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip",
    ] {
        let id = portal.repository().find(name).unwrap();
        let file = portal.repository().cpb(&id).unwrap();
        let len = file.len();
        assert_eq!(
            contents.size(id, Cpb),
            FileSize::Exact(len as u64),
            "{name}"
        );
        for (from, to) in [
            (len - 1, len),
            (len / 3 + 1, len / 2),
            (len.saturating_sub(12), len + 5),
            (len + 1, len + 2),
            (1, 2),
            (0, len),
        ] {
            let found = contents.read_at(id, Cpb, from as u64, to - from);
            let expected = &file[from.min(len)..to.min(len)];
            assert!(found == expected, "{name}, {from} to {to}");
        }
    }
}

#[test]
fn cpb_file_read_sequentially_is_one_download_and_stays_cached() {
    let (portal, id) = with_a_long_table();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let expected = portal.repository().cpb(&id).unwrap();
    assert!(contents.read(id, Cpb) == expected);
    assert_eq!(slices(&portal), 1);
    let format = contents.object(id).spec().unwrap().format().to_owned();
    let kept = contents.cached(&format!("dataAppStorage/{format}/{id}.cpb"));
    // The file gets its name after it is written to disk; readers do not wait for
    // that.
    assert!(eventually(Duration::from_secs(10), || kept.exists()));
    assert!(fs::read(kept).unwrap() == expected);
}

#[test]
fn one_column_of_a_long_table_downloads_that_column_only() {
    let (portal, id) = with_a_long_table();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let file = portal.repository().cpb(&id).unwrap();
    // The first column has times, eight bytes each.
    let len = 4 * 192_000;
    for start in [2 * len, 9 * len] {
        let mut column = Vec::new();
        while column.len() < len {
            let (at, left) = ((start + column.len()) as u64, len - column.len());
            column.extend(contents.read_at(id, Cpb, at, left.min(128 << 10)));
        }
        assert!(column == file[start..start + len]);
    }
    let requests = portal.requests();
    let fetched: Vec<u64> = (requests.iter().filter(|r| r.path == "/cpb"))
        .map(|r| r.bytes)
        .collect();
    assert_eq!(fetched, [len as u64; 2]);
}

#[test]
fn reading_the_start_of_a_long_cpb_file_does_not_download_all_of_it() {
    let (portal, id) = with_a_long_table();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    contents.read_at(id, Cpb, 0, 100);
    let fetched = || portal.requests().iter().map(|r| r.bytes).sum::<u64>();
    // A later reader of other rows does not wait for a reader that has ended.
    assert!(fetched() < 20 << 20, "{}", fetched());
    contents.exact_size(id, Csv).unwrap();
    assert_eq!(slices(&portal), 1, "what was under way went on to its end");
}

#[test]
fn table_read_in_many_representations_at_once_is_downloaded_once() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let contents = TestContents::of(&portal, &folder);
    let id = co2(&portal);
    // So that only requests for the table are counted.
    contents.object(id);
    portal.clear_requests();
    let contents = &contents;
    std::thread::scope(|scope| {
        for seen_as in [Csv, Parquet, Cpb] {
            for _ in 0..4 {
                scope.spawn(move || {
                    contents.exact_size(id, seen_as).unwrap();
                    contents.read(id, seen_as)
                });
            }
        }
    });
    assert_eq!(slices(&portal), 1);
    let csv = contents.read(id, Csv);
    assert!(csv == portal.repository().csv(&id).unwrap().as_bytes());
    assert!(contents.read(id, Cpb) == portal.repository().cpb(&id).unwrap());
}

/// pandas asks for the size, reads a few ranges, then maps the file and reads it
/// at several offsets at the same time. Regression: the text rendered for the
/// size was rendered again then, in other chunks of rows.
#[test]
fn text_rendered_for_its_length_is_not_rendered_again() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("mapped.csv", 7, 80_000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let text = portal.repository().csv(&id).unwrap().into_bytes();
    let len = contents.exact_size(id, Csv).unwrap();
    assert_eq!(len, text.len() as u64);
    assert!(len > 4 << 20, "several chunks, and far between: {len}");
    let size = 300_000;
    for eighth in [4, 0, 6, 2, 7, 1, 5, 3] {
        let at = len / 8 * eighth + 7;
        let (found, origin) = contents.read_from(id, Csv, at, size);
        let from = usize::try_from(at).unwrap();
        assert!(found == text[from..text.len().min(from + size)], "{at}");
        assert_eq!(origin, ByteSource::Memory, "{at}");
    }
    assert_eq!(slices(&portal), 1);
}

/// Regression: without memory for all text, each chunk was evicted just before it
/// was read, in favour of chunks already read.
#[test]
fn text_longer_than_its_memory_is_rendered_again_only_for_the_surplus() {
    let mut repository = DemoRepository::builtin(1);
    let tables = ["longer.csv", "mapped.csv"].map(|name| repository.add_table(name, 7, 200_000));
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    // Sequentially, and as the kernel reads for two threads that map the file.
    for (id, (readers, size)) in tables.into_iter().zip([(1, 128 << 10), (2, 1 << 20)]) {
        let text = portal.repository().csv(&id).unwrap().into_bytes();
        contents.exact_size(id, Csv).unwrap();
        let share = text.len().div_ceil(readers);
        let mut draws = 0;
        for step in (0..share).step_by(size) {
            for from in (0..readers).map(|reader| reader * share + step) {
                let (found, origin) = contents.read_from(id, Csv, from as u64, size);
                draws += usize::from(origin != ByteSource::Memory);
                assert!(found == text[from..text.len().min(from + size)], "{from}");
            }
        }
        // An eighth of the memory is for text, a chunk is a little less than a
        // megabyte; of two chunks rendered concurrently, either may stay longer.
        let surplus = (text.len() - (8 << 20)) / 1_000_000;
        assert!((surplus..=surplus + 5).contains(&draws), "{draws} draws");
    }
    assert_eq!(slices(&portal), 2);
}

/// Waiting for the size renders many chunks concurrently, beside the readers.
#[test]
fn long_table_measured_and_read_concurrently_is_downloaded_once() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("crowded.csv", 7, 60_000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let text = portal.repository().csv(&id).unwrap().into_bytes();
    let (contents, text) = (&contents, &text);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            scope.spawn(move || {
                let at = text.len() / 4 * reader;
                assert_eq!(contents.exact_size(id, Csv).unwrap(), text.len() as u64);
                let found = contents.read_at(id, Csv, at as u64, 100_000);
                assert!(found == text[at..text.len().min(at + 100_000)]);
            });
            scope.spawn(move || assert!(&contents.read(id, Csv) == text));
        }
    });
    assert!(slices(&portal) <= 2, "{} requests", slices(&portal));
}

#[test]
fn parquet_is_built_once_and_cached() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let id = co2(&portal);
    let contents = TestContents::of(&portal, &folder);
    let estimate = contents.size(id, Parquet);
    assert!(matches!(estimate, FileSize::Estimate(_)), "{estimate:?}");
    let exact = contents.exact_size(id, Parquet).unwrap();
    assert_eq!(contents.size(id, Parquet), FileSize::Exact(exact));
    let file = contents.read(id, Parquet);
    assert_eq!(file.len() as u64, exact);
    let kept = contents.cached(&format!("views/{id}.parquet"));
    assert!(fs::read(kept).unwrap() == file);

    drop(contents);
    portal.clear_requests();
    let later = TestContents::of(&portal, &folder);
    assert!(later.read(id, Parquet) == file);
    assert!(portal.requests().iter().all(|r| r.path == "/sparql"));
}

#[test]
fn corrupt_parquet_is_built_again() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let id = co2(&portal);
    let contents = TestContents::of(&portal, &folder);
    let file = contents.read(id, Parquet);
    let kept = contents.cached(&format!("views/{id}.parquet"));
    let mut damaged = file.clone();
    damaged[file.len() / 2] ^= 1;
    fs::write(&kept, damaged).unwrap();
    assert!(contents.read(id, Parquet) == file);
}

#[test]
fn table_with_string_columns_has_no_cpb_and_no_parquet_and_reports_why() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let contents = TestContents::of(&portal, &folder);
    let id = portal
        .repository()
        .find("11SS20230912_SOOP_OTC.csv")
        .unwrap();
    for seen_as in [Csv, Parquet, Cpb] {
        assert!(matches!(contents.size(id, seen_as), FileSize::Estimate(_)));
        let error = contents.try_read_at(id, seen_as, 0, 10).unwrap_err();
        let reason = error.to_string();
        assert!(reason.contains("\"Remark\" holds strings"), "{reason}");
    }
    // The portal's CSV was requested once, not repeatedly.
    let asked = || {
        let asked = portal.requests().into_iter().map(|request| request.path);
        asked.filter(|path| path.starts_with("/csv")).count()
    };
    let before = asked();
    assert!(before > 0);
    contents.try_read_at(id, Csv, 0, 10).unwrap_err();
    assert_eq!(asked(), before);
}

#[test]
fn table_that_only_the_portal_can_render_is_its_csv_and_cached() {
    let mut repository = DemoRepository::builtin(1);
    let listed = repository.add_hostile_table("listed.csv", 3000, true);
    let unlisted = repository.add_hostile_table("unlisted.csv", 3000, false);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    // Without quotes, as in the portal's CSV.
    let text = portal.repository().csv(&listed).unwrap().into_bytes();
    assert!(text.starts_with(b"TIME,STAMP,say \"x\", 'y',line\nbreak\n"));
    assert!(contents.read(listed, Csv) == text);

    let text = portal.repository().csv(&unlisted).unwrap().into_bytes();
    portal.clear_requests();
    let found = contents.read_at(unlisted, Csv, text.len() as u64 - 700, 1000);
    assert!(found == text[text.len() - 700..]);
    assert!(contents.read(unlisted, Csv) == text);
    let asked = |portal: &DemoPortal| {
        let asked = portal.requests().into_iter().map(|request| request.path);
        asked
            .filter(|path| !path.contains("sparql"))
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(&portal).len(), 1, "{:?}", asked(&portal));
    for seen_as in [Parquet, Cpb] {
        let error = contents.try_read_at(unlisted, seen_as, 0, 10).unwrap_err();
        assert!(error.to_string().contains("TIME,STAMP"), "{error}");
    }
    drop(contents);
    portal.clear_requests();
    let later = TestContents::of(&portal, &folder);
    assert_eq!(
        later.size(unlisted, Csv),
        FileSize::Exact(text.len() as u64)
    );
    assert!(later.read(unlisted, Csv) == text);
    assert!(asked(&portal).is_empty(), "{:?}", asked(&portal));

    // The size is remembered after the file is evicted, without a request.
    drop(later);
    fs::remove_file(folder.path().join(format!("csv/{unlisted}.csv"))).unwrap();
    let later = TestContents::of(&portal, &folder);
    let exact = later.exact_size(unlisted, Csv).unwrap();
    assert_eq!(exact, text.len() as u64);
    assert!(asked(&portal).is_empty(), "{:?}", asked(&portal));
    assert!(later.read(unlisted, Csv) == text);
    assert_eq!(later.size(unlisted, Csv), FileSize::Exact(exact));
}

#[test]
fn parquet_equals_the_csv_with_types_in_four_readers() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    for name in [
        "every_format.csv",
        "every_format_no_row.csv",
        "every_format_one_row.csv",
        "11SS20230410_SOOP_OTC.csv",
        "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip",
        "ICOSETC_SE-Htm_FLUXES_L2.csv",
    ] {
        let id = portal.repository().find(name).unwrap();
        let path = |ending| mount.path(&format!("objects/{id}.{ending}"));
        python_script("parquet_equals_csv.py", &[path("csv"), path("parquet")]);
    }
}

/// Returns the value of an extended attribute, if it exists.
fn attribute(path: &Path, name: &str) -> Option<String> {
    let script = "import os, sys\nprint(os.getxattr(sys.argv[1], sys.argv[2]).decode())";
    let output = interpreter()
        .args(["-c", script])
        .args([path.as_os_str(), name.as_ref()])
        .output()
        .expect("Python runs");
    let said = String::from_utf8(output.stdout).expect("text");
    output.status.success().then(|| said.trim().to_owned())
}

#[test]
fn exact_size_is_never_forgotten() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let token = portal.token();
    let mount = || TestMount::with(&portal, &[&cache_dir], &[("ICOSFS_TOKEN", &token)]);
    // The last has its column order from the portal's header.
    let tables = [
        co2(&portal),
        portal
            .repository()
            .find("11SS20230410_SOOP_OTC.csv")
            .unwrap(),
    ];
    let size = |mount: &TestMount, id| {
        let path = mount.path(&format!("objects/{id}.csv"));
        let said = attribute(&path, "user.icosfs.size").unwrap();
        (path.metadata().unwrap().len(), said)
    };
    let first = mount();
    for id in tables {
        let text = portal.repository().csv(&id).unwrap();
        let (bound, said) = size(&first, id);
        assert!(bound > text.len() as u64 && said == "estimate", "{said}");
        let output = first.run("wc", &["-c", &format!("objects/{id}.csv")]);
        assert!(output.stdout.starts_with(text.len().to_string().as_bytes()));
        assert_eq!(size(&first, id), (text.len() as u64, "exact".to_owned()));
    }
    drop(first);

    let later = mount();
    later.list("objects");
    portal.clear_requests();
    for id in tables {
        let text = portal.repository().csv(&id).unwrap();
        assert_eq!(size(&later, id), (text.len() as u64, "exact".to_owned()));
        let tail = later.run("tail", &["-n", "1", &format!("objects/{id}.csv")]);
        assert!(text.as_bytes().ends_with(&tail.stdout) && tail.stdout.len() > 10);
    }
    let asked: Vec<_> = portal.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(asked, [""; 0], "nothing");
}

#[test]
fn extended_attributes_can_be_listed_and_unknown_ones_are_absent() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let path = mount.path(&format!("objects/{}.csv", co2(&portal)));
    let listed = "import os, sys; print(*os.listxattr(sys.argv[1]))";
    let output = interpreter()
        .args(["-c", listed])
        .arg(&path)
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(
        listed
            .split_whitespace()
            .any(|name| name == "user.icosfs.size"),
        "{listed}"
    );
    assert_eq!(attribute(&path, "user.nothing"), None);
    assert_eq!(attribute(&path, "security.capability"), None);
}

/// Returns the sizes that a cache remembers, each with its offset in the file.
fn remembered(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("lengths")).unwrap()
}

#[test]
fn wrong_remembered_size_is_detected_and_forgotten() {
    for wrong in [-1_i64, 1, 5_000_000, -200_000] {
        let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
        let id = co2(&portal);
        let text = portal.repository().csv(&id).unwrap();
        TestContents::of(&portal, &folder)
            .exact_size(id, Csv)
            .unwrap();

        // As if another version had rendered the text differently.
        let mut notes = remembered(folder.path());
        assert_eq!(notes.len(), 24);
        let length = u64::from_le_bytes(notes[8..16].try_into().unwrap());
        assert_eq!(length, text.len() as u64);
        let told = length.checked_add_signed(wrong).unwrap();
        notes[8..16].copy_from_slice(&told.to_le_bytes());
        let seed = u64::from_le_bytes(*b"icosfs1\n");
        let sum = twox_hash::XxHash3_64::oneshot_with_seed(seed, &notes[..16]);
        notes[16..].copy_from_slice(&sum.to_le_bytes());
        fs::write(folder.path().join("lengths"), notes).unwrap();

        let contents = TestContents::of(&portal, &folder);
        assert_eq!(contents.size(id, Csv), FileSize::Exact(told));
        let mut end = 0;
        let error = loop {
            match contents.try_read_at(id, Csv, end, 128 << 10) {
                Ok(bytes) => end += bytes.len() as u64,
                Err(error) => break error,
            }
            assert!(end < told, "read to a wrong end without an error");
        };
        assert!(error.to_string().contains("open the file again"), "{error}");
        assert!(contents.read(id, Csv) == text.as_bytes());
        assert_eq!(contents.size(id, Csv), FileSize::Exact(length));
    }
}

#[test]
fn corrupt_or_missing_row_index_is_rebuilt() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let id = co2(&portal);
    let text = portal.repository().csv(&id).unwrap();
    let index = folder.path().join(format!("views/{id}.rows"));
    for strike in [
        |bytes: &mut Vec<u8>| bytes.clear(),
        |bytes: &mut Vec<u8>| bytes[40] ^= 1,
        |bytes: &mut Vec<u8>| bytes.truncate(50),
    ] {
        TestContents::of(&portal, &folder)
            .exact_size(id, Csv)
            .unwrap();
        let contents = TestContents::of(&portal, &folder);
        contents.read(id, Csv);
        // It is written in the background, perhaps in place of the damaged one.
        let is_stored = || fs::metadata(&index).is_ok_and(|found| found.len() > 50);
        assert!(eventually(Duration::from_secs(10), is_stored));
        let mut bytes = fs::read(&index).unwrap();
        strike(&mut bytes);
        fs::write(&index, bytes).unwrap();
        let contents = TestContents::of(&portal, &folder);
        let at = text.len() - 1000;
        assert!(contents.read_at(id, Csv, at as u64, 500) == text.as_bytes()[at..at + 500]);
    }
}

/// The built-in repository with this many tables of half a megabyte of text.
fn with_tables(count: u64) -> (DemoPortal, Vec<ObjectId>) {
    let mut repository = DemoRepository::builtin(1);
    let ids = (0..count)
        .map(|n| repository.add_table(&format!("table_{n}.csv"), 7, 5000 + n))
        .collect();
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    (portal, ids)
}

/// Runs `script` with the file as `$1` and returns its output.
fn printed(script: &str, file: &Path, folder: &Path) -> Vec<u8> {
    let output = Command::new("bash")
        .args(["-ec", script, "bash"])
        .arg(file)
        .current_dir(folder)
        .env("PYTHON", interpreter().get_program())
        .output()
        .expect("bash runs");
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn programs_read_the_portals_csv_from_fresh_partial_and_cached_files() {
    let mapped = "import hashlib, mmap, sys\n\
        with open(sys.argv[1], 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as m:\n\
        \x20   print(len(m), hashlib.sha256(m[len(m) // 2:]).hexdigest(), hashlib.sha256(m).hexdigest())";
    let mapped = format!("\"$PYTHON\" -c \"{mapped}\" \"$1\"");
    let programs = [
        "cp \"$1\" copy; cat copy",
        "rsync \"$1\" copy; cat copy",
        "cp \"$1\" table; tar cf - table > a.tar; tar xOf a.tar",
        "tar cf a.tar --transform 's,.*,x,' -P \"$1\"; tar xOf a.tar",
        "wc -lc < \"$1\"",
        "tail -n 3 \"$1\"; tail -c 5000 \"$1\"",
        "grep -n 7.5 \"$1\"",
        "sha256sum < \"$1\"",
        &mapped,
    ];
    let states = ["true", "head -c 70000 \"$1\" > part", "cat \"$1\" > whole"];
    let (portal, ids) = with_tables((programs.len() * states.len()) as u64);
    let mount = TestMount::of(&portal);
    let folder = tempfile::tempdir().unwrap();
    let mut tables = ids.into_iter();
    for program in programs {
        for state in states {
            let id = tables.next().unwrap();
            let path = mount.path(&format!("objects/{id}.csv"));
            let exact = folder.path().join("exact");
            fs::write(&exact, portal.repository().csv(&id).unwrap()).unwrap();
            printed(state, &path, folder.path());
            let found = printed(program, &path, folder.path());
            let expected = printed(program, &exact, folder.path());
            assert!(found == expected, "{program} after {state}");
        }
    }
}

#[test]
fn head_of_a_wide_table_is_cheap_and_the_rest_is_one_more_request() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("wide.csv", 260, 6000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let mount = TestMount::of(&portal);
    mount.list("objects");
    portal.clear_requests();
    let text = portal.repository().csv(&id).unwrap();

    let head = mount.run("head", &["-n", "5", &format!("objects/{id}.csv")]);
    assert!(text.as_bytes().starts_with(&head.stdout) && head.stdout.ends_with(b"\n"));
    assert_eq!(head.stdout.split(|&b| b == b'\n').count(), 6);
    let asked = portal.requests();
    let bytes: u64 = asked.iter().map(|r| r.bytes).sum();
    assert!(
        asked.len() <= 2 && bytes <= 1 << 20,
        "{} requests, {bytes} bytes",
        asked.len()
    );

    let count = mount.run("wc", &["-c", &format!("objects/{id}.csv")]);
    assert!(count.stdout.starts_with(text.len().to_string().as_bytes()));
    assert!(slices(&portal) <= asked.len() + 1);
}

#[test]
fn streaming_a_table_needs_at_most_five_requests() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("streamed.csv", 7, 40_000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let mount = TestMount::of(&portal);
    let path = mount.path(&format!("objects/{id}.csv"));
    // Python does not ask for the size of a given descriptor.
    let stream = "import hashlib, os, sys\n\
        file, seen = os.open(sys.argv[1], os.O_RDONLY), hashlib.sha256()\n\
        while piece := os.read(file, 1 << 17): seen.update(piece)\n\
        print(seen.hexdigest())";
    let output = interpreter()
        .args(["-c", stream])
        .arg(&path)
        .output()
        .unwrap();
    let asked = slices(&portal);
    assert!((2..=5).contains(&asked), "{asked} requests");
    let exact = tempfile::NamedTempFile::new().unwrap();
    fs::write(&exact, get(&portal, &format!("/csv/{id}"))).unwrap();
    let expected = printed(
        "sha256sum < \"$1\" | cut -d ' ' -f 1",
        exact.path(),
        Path::new("/"),
    );
    assert_eq!(output.stdout, expected);
}

#[test]
fn parquet_contains_units_and_provenance() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal);
    let script = "import sys, pyarrow.parquet as pq\n\
        schema = pq.read_schema(sys.argv[1])\n\
        column = schema.field('co2').metadata\n\
        print(column[b'unit'].decode(), column[b'description'].decode(), sep='|')\n\
        print(schema.field('Flag').metadata[b'flag_for'].decode())\n\
        print(schema.metadata[b'pid'].decode(), b'citation' in schema.metadata)";
    let output = interpreter()
        .args(["-c", script])
        .arg(mount.path(&format!("objects/{id}.parquet")))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let expected =
        format!("\u{b5}mol mol-1|CO2 mixing ratio (dry mole fraction)\nco2\n11676/{id} True\n");
    assert_eq!(
        said,
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Regression: Parquet was unavailable without a writable cache.
#[test]
fn parquet_without_a_writable_cache_is_built_in_memory_or_fails_with_the_fix() {
    let mut repository = DemoRepository::builtin(1);
    let long = repository.add_table("long.csv", 30, 192_000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let id = co2(&portal);
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let kept = TestContents::of(&portal, &folders[0]).read(id, Parquet);
    let contents = TestContents::diskless(&portal, &folders[1], 64 << 20);
    assert_eq!(contents.exact_size(id, Parquet).unwrap(), kept.len() as u64);
    assert!(contents.read(id, Parquet) == kept);
    assert!(contents.read(id, Csv) == portal.repository().csv(&id).unwrap().as_bytes());

    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::diskless(&portal, &folder, 8 << 20);
    let error = contents.exact_size(long, Parquet).unwrap_err().to_string();
    assert!(
        error.contains("--cache-dir") && error.contains("--memory"),
        "{error}"
    );
    // Memory of the failed build is available again.
    assert!(contents.read(id, Parquet) == kept);
}

/// Reads at random offsets: before the start of a window, across several windows
/// and past the end.
fn places(len: usize, seed: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..=40).map(move |n| {
        let dice = (n + seed * 1000).wrapping_mul(2_654_435_761) >> 7;
        let from = match n % 8 {
            0 => len.saturating_sub(dice % 300),
            1 => dice % 3000,
            _ => dice % (len + 10),
        };
        let lengths = [1, 2, 97, 4096, 70_000, 131_072, 400_000];
        (from, lengths[dice / 13 % lengths.len()])
    })
}

#[test]
fn concurrent_readers_get_the_portals_bytes_at_any_range() {
    let mut repository = DemoRepository::builtin(1);
    let tables = [
        repository.add_table("long.csv", 7, 30_000),
        repository.add_table("wide.csv", 260, 700),
    ];
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    for id in tables {
        let text = portal.repository().csv(&id).unwrap().into_bytes();
        let file = portal.repository().cpb(&id).unwrap();
        let agree = |contents: &TestContents, seed: usize| {
            for (seen_as, expected) in [(Csv, &text), (Cpb, &file)] {
                for (from, len) in places(expected.len(), seed) {
                    let found = contents.read_at(id, seen_as, from as u64, len);
                    let end = expected.len().min(from + len);
                    let same = found == expected[from.min(end)..end];
                    assert!(same, "{id} as {seen_as:?}: {len} from {from}");
                }
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let together = |contents: &TestContents| {
            std::thread::scope(|scope| {
                (0..4).for_each(|seed| drop(scope.spawn(move || agree(contents, seed))));
            });
        };
        // Fresh, half cached, cached by an earlier run, and with a cache that holds
        // almost nothing.
        together(&TestContents::of(&portal, &folder));
        together(&TestContents::of(&portal, &folder));
        let folder = tempfile::tempdir().unwrap();
        let half = TestContents::of(&portal, &folder);
        half.read_at(id, Csv, 0, 100_000);
        together(&half);
        let folder = tempfile::tempdir().unwrap();
        agree(&TestContents::bounded(&portal, &folder, 300 << 10), 9);
        let folder = tempfile::tempdir().unwrap();
        agree(&TestContents::diskless(&portal, &folder, 8 << 20), 10);
    }
}

/// Regression: the kernel kept the estimate from before the open, since it reads
/// a file cached by an earlier mount by passthrough.
#[test]
fn parquet_cached_by_an_earlier_mount_has_its_exact_size_once_open() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let token = portal.token();
    let mount = || TestMount::with(&portal, &[&cache_dir], &[("ICOSFS_TOKEN", &token)]);
    let name = format!("objects/{}.parquet", co2(&portal));
    let first = mount();
    let file = first.read(&name);
    let kept = first.status()["cache"].as_str().unwrap().to_owned();
    drop(first);
    // So that there is no better estimate than the bound.
    fs::remove_file(std::path::Path::new(&kept).join("lengths")).unwrap();

    let later = mount();
    let path = later.path(&name);
    let guess = path.metadata().unwrap().len();
    assert_ne!(
        guess,
        file.len() as u64,
        "a guess, for this test to mean anything"
    );
    let opened = fs::File::open(&path).unwrap();
    assert_eq!(opened.metadata().unwrap().len(), file.len() as u64);
    let script =
        "import sys, pyarrow.parquet as pq\nprint(pq.read_table(sys.argv[1]).num_rows > 0)";
    let output = interpreter()
        .args(["-c", script])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(
        output.stdout,
        b"True\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn killed_readers_do_not_disturb_other_readers() {
    let (portal, ids) = with_tables(2);
    // A slow connection: a table takes about a second.
    portal.add_fault(
        FaultRule::always(Fault::Bandwidth {
            bytes_per_second: 300_000,
        })
        .on("cpb"),
    );
    let mount = TestMount::of(&portal);
    mount.list("objects");
    portal.clear_requests();
    for id in ids {
        let before = slices(&portal);
        let file = mount.path(&format!("objects/{id}.csv"));
        std::thread::scope(|scope| {
            for reader in 0..6 {
                let file = &file;
                scope.spawn(move || {
                    // During a read, while waiting for the size, or after both.
                    let after = ["0.05", "0.2", "0.5"][reader % 3];
                    let how = ["cat", "wc"][reader / 3];
                    let mut killed = Command::new("timeout");
                    killed.args(["-s", "KILL", after, how]).arg(file);
                    killed.output().expect("timeout runs");
                });
            }
            let text = portal.repository().csv(&id).unwrap();
            assert!(fs::read(&file).unwrap() == text.as_bytes());
        });
        let asked = slices(&portal) - before;
        assert!((1..=5).contains(&asked), "{asked} requests");
    }
}

#[test]
fn exact_size_never_returns_the_bound_at_once() {
    let (portal, ids) = with_tables(1);
    let token = portal.token();
    let mount = TestMount::with(
        &portal,
        &["--exact-size=never"],
        &[("ICOSFS_TOKEN", &token)],
    );
    let path = mount.path(&format!("objects/{}.csv", ids[0]));
    let bound = path.metadata().unwrap().len();
    portal.clear_requests();
    let text = portal.repository().csv(&ids[0]).unwrap();
    let mut file = fs::File::open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), bound);
    assert_eq!(slices(&portal), 0);
    assert!(bound > text.len() as u64);
    // It is still read to its true end, and its size is known from then on.
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut read).unwrap();
    assert!(read == text.as_bytes());
    drop(file);
    assert!(eventually(Duration::from_secs(5), || {
        path.metadata().unwrap().len() == text.len() as u64
    }));
}

#[test]
fn absurd_row_counts_cost_only_what_is_read() {
    let mut repository = DemoRepository::builtin(1);
    let absurd = repository.add_table("absurd.csv", 7, 1_000_000_000_000_000);
    // The largest row count of the portal: two terabytes.
    let tall = repository.add_table("tall.csv", 260, i32::MAX as u64);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    for seen_as in [Csv, Parquet, Cpb] {
        let error = contents.try_read_at(absurd, seen_as, 0, 10).unwrap_err();
        let reason = error.to_string();
        assert!(reason.contains("found 1000000000000000"), "{reason}");
    }
    let head = get(&portal, &format!("/csv/{tall}?limit=5"));
    portal.clear_requests();
    assert!(contents.read_at(tall, Csv, 0, head.len()) == head);
    let fetched: u64 = portal.requests().iter().map(|r| r.bytes).sum();
    assert!(fetched <= 1 << 20, "{fetched} bytes");
    let FileSize::Exact(len) = contents.size(tall, Cpb) else {
        panic!("the columns' length follows from the metadata");
    };
    assert_eq!(len, 2_147_483_647 * (8 + 259 * 4) + 10);
    let trailer = [0xac, 0xed, 0x00, 0x05, 0x77, 0x04, 0, 0, 0, 0];
    assert_eq!(contents.read_at(tall, Cpb, len - 10, 100), trailer);
}
