//! One table, seen as CSV, Parquet or columns: the same data, fetched once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use icosfs::catalog::Representation::{Cpb, Csv, Parquet};
use icosfs::content::Size;
use icosfs::demo::{DemoOptions, DemoPortal, Repository};
use icosfs::portal::ObjectId;

use crate::support::{
    TestContents, TestMount, co2, eventually, interpreter, portal, python_script, slices,
};

/// The built-in repository with a table of 24 MB, too long to be fetched in
/// passing.
fn with_a_long_table() -> (DemoPortal, ObjectId) {
    let mut repository = Repository::builtin(1);
    let id = repository.add_table("long.csv", 30, 192_000);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    (portal, id)
}

#[test]
fn columns_are_the_portals_own_file_at_any_range() {
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
        assert_eq!(contents.size(id, Cpb), Size::Exact(len as u64), "{name}");
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
fn a_column_file_read_from_its_start_is_one_download_and_stays() {
    let (portal, id) = with_a_long_table();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let expected = portal.repository().cpb(&id).unwrap();
    assert!(contents.read(id, Cpb) == expected);
    assert_eq!(slices(&portal), 1);
    let format = contents.object(id).spec().unwrap().format().to_owned();
    let kept = contents.cached(&format!("dataAppStorage/{format}/{id}.cpb"));
    // It gets its name once it is on the disk, which no reader waits for.
    assert!(eventually(Duration::from_secs(10), || kept.exists()));
    assert!(fs::read(kept).unwrap() == expected);
}

#[test]
fn one_column_of_a_long_table_costs_one_column() {
    let (portal, id) = with_a_long_table();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let (start, len) = (7 * 4 * 192_000, 4 * 192_000_usize);
    let mut column = Vec::new();
    while column.len() < len {
        let at = start + column.len() as u64;
        column.extend(contents.read_at(id, Cpb, at, (128 << 10).min(len - column.len())));
    }
    let requests = portal.requests();
    let fetched: Vec<u64> = (requests.iter().filter(|r| r.path == "/cpb"))
        .map(|r| r.bytes)
        .collect();
    assert_eq!(fetched, [len as u64]);
}

#[test]
fn who_reads_the_start_of_a_long_column_file_does_not_fetch_it_all() {
    let (portal, id) = with_a_long_table();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    contents.read_at(id, Cpb, 0, 100);
    let fetched = || portal.requests().iter().map(|r| r.bytes).sum::<u64>();
    // Whoever wants rows then does not wait for a reader who has gone.
    assert!(fetched() < 20 << 20, "{}", fetched());
    contents.exact_size(id, Csv).unwrap();
    assert_eq!(slices(&portal), 1, "what was under way went on to its end");
}

#[test]
fn a_table_seen_in_many_ways_at_once_is_fetched_once() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let contents = TestContents::of(&portal, &folder);
    let id = co2(&portal);
    // So that what is counted is the table alone.
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

#[test]
fn parquet_is_built_once_and_lies_in_the_cache() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let id = co2(&portal);
    let contents = TestContents::of(&portal, &folder);
    let estimate = contents.size(id, Parquet);
    assert!(matches!(estimate, Size::Estimate(_)), "{estimate:?}");
    let exact = contents.exact_size(id, Parquet).unwrap();
    assert_eq!(contents.size(id, Parquet), Size::Exact(exact));
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
fn a_damaged_parquet_is_built_again() {
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
fn a_table_with_words_is_neither_columns_nor_parquet_and_says_why() {
    let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
    let contents = TestContents::of(&portal, &folder);
    let id = portal
        .repository()
        .find("11SS20230912_SOOP_OTC.csv")
        .unwrap();
    for seen_as in [Csv, Parquet, Cpb] {
        assert_eq!(contents.size(id, seen_as), Size::Estimate(0));
        let error = contents.try_read_at(id, seen_as, 0, 10).unwrap_err();
        let reason = error.to_string();
        assert!(reason.contains("\"Remark\" holds strings"), "{reason}");
    }
}

#[test]
fn parquet_is_the_csv_with_types_to_four_readers() {
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

/// What an extended attribute says, if it is there.
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
fn a_size_once_exact_is_exact_for_ever() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let token = portal.token();
    let mount = || TestMount::with(&portal, &[&cache_dir], &[("ICOSFS_TOKEN", &token)]);
    // The last has its columns' order from the portal's header.
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
fn attributes_of_files_can_be_listed_and_others_are_absent() {
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

/// The lengths that a cache remembers, each with its offset in the file.
fn remembered(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("lengths")).unwrap()
}

#[test]
fn a_length_remembered_wrongly_is_found_out_and_forgotten() {
    for wrong in [-1_i64, 1, 5_000_000, -200_000] {
        let (portal, folder) = (portal(), tempfile::tempdir().unwrap());
        let id = co2(&portal);
        let text = portal.repository().csv(&id).unwrap();
        TestContents::of(&portal, &folder)
            .exact_size(id, Csv)
            .unwrap();

        // As if the text had once been drawn by other rules.
        let mut notes = remembered(folder.path());
        assert_eq!(notes.len(), 24);
        let length = u64::from_le_bytes(notes[8..16].try_into().unwrap());
        assert_eq!(length, text.len() as u64);
        let told = length.checked_add_signed(wrong).unwrap();
        notes[8..16].copy_from_slice(&told.to_le_bytes());
        let seed = u64::from_le_bytes(*b"icosfs1\n");
        let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&notes[..16], seed);
        notes[16..].copy_from_slice(&sum.to_le_bytes());
        fs::write(folder.path().join("lengths"), notes).unwrap();

        let contents = TestContents::of(&portal, &folder);
        assert_eq!(contents.size(id, Csv), Size::Exact(told));
        let mut end = 0;
        let error = loop {
            match contents.try_read_at(id, Csv, end, 128 << 10) {
                Ok(bytes) => end += bytes.len() as u64,
                Err(error) => break error,
            }
            assert!(end < told, "read to a wrong end without an error");
        };
        assert!(error.to_string().contains("open it again"), "{error}");
        assert!(contents.read(id, Csv) == text.as_bytes());
        assert_eq!(contents.size(id, Csv), Size::Exact(length));
    }
}

#[test]
fn an_index_of_rows_that_is_damaged_or_gone_is_made_again() {
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
        assert!(eventually(Duration::from_secs(10), || index.exists()));
        let mut bytes = fs::read(&index).unwrap();
        strike(&mut bytes);
        fs::write(&index, bytes).unwrap();
        let contents = TestContents::of(&portal, &folder);
        let at = text.len() - 1000;
        assert!(contents.read_at(id, Csv, at as u64, 500) == text.as_bytes()[at..at + 500]);
    }
}
