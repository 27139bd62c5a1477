//! Programs that rely on the size of a file: archives, copies, file systems over the
//! mount. What they get by default, and with `--exact-size always`.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use icos_demo::{DemoPortal, DemoService, Fault, FaultRule};

use crate::support::{TestMount, co2, interpreter, portal, said};

/// Programs that put files of the folder `$SRC` into an archive and extract it in `$OUT`,
/// or copy them. The first ones rely on the size that they get before they open a file.
const PROGRAMS: [&str; 10] = [
    "bsdtar -cf $OUT.tar -C $SRC \"$@\"; bsdtar -xf $OUT.tar -C $OUT",
    "$PYTHON -c 'import os, sys, tarfile\n\
     os.chdir(os.environ[\"SRC\"])\n\
     with tarfile.open(os.environ[\"OUT\"] + \".tar\", \"w\") as tar:\n    \
         for name in sys.argv[1:]: tar.add(name)\n\
     ' \"$@\"; tar -xf $OUT.tar -C $OUT",
    "(cd $SRC; printf '%s\\n' \"$@\" | cpio -o -H newc --quiet) > $OUT.cpio; \
     cd $OUT; cpio -id --quiet < $OUT.cpio",
    "busybox tar -cf $OUT.tar -C $SRC \"$@\"; tar -xf $OUT.tar -C $OUT",
    "$PYTHON -c 'import os, sys\n\
     for name in sys.argv[1:]:\n    \
         path = os.path.join(os.environ[\"SRC\"], name)\n    \
         size = os.path.getsize(path)\n    \
         bytes = open(path, \"rb\").read(size)\n    \
         open(os.path.join(os.environ[\"OUT\"], name), \"wb\").write(bytes)\n\
     ' \"$@\"",
    "(cd $SRC; zip -q $OUT.zip \"$@\"); unzip -q $OUT.zip -d $OUT",
    "(cd $SRC; 7z a -bd $OUT.7z \"$@\"); 7z x -o$OUT $OUT.7z",
    "tar -cf $OUT.tar -C $SRC \"$@\"; tar -xf $OUT.tar -C $OUT",
    "cd $SRC; rsync -a \"$@\" $OUT",
    "cd $SRC; cp \"$@\" $OUT",
];

fn mount_with(portal: &DemoPortal, options: &[&str]) -> TestMount {
    TestMount::with(portal, options, &[("ICOSFS_TOKEN", &portal.token())])
}

/// Runs one of the programs on `names` in the folder of objects, and returns its output.
fn run(program: &str, mount: &TestMount, names: &[String], out: &Path) -> std::process::Output {
    std::fs::create_dir(out).expect("a folder");
    Command::new("bash")
        .args(["-euc", program, "bash"])
        .args(names)
        .env("PYTHON", interpreter().get_program())
        .env("SRC", mount.path("objects"))
        .env("OUT", out)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs")
}

/// One file of each kind.
fn names(portal: &DemoPortal) -> Vec<String> {
    let table = co2(portal);
    let original = portal.repository().find("demo_inversion_2023.nc").unwrap();
    vec![
        format!("{table}.csv"),
        format!("{table}.parquet"),
        format!("{table}.json"),
        format!("{original}.nc"),
        format!("{original}.json"),
    ]
}

/// Regression: bsdtar, tarfile and others archived as many bytes as an estimate said. A
/// JSON of 124 272 bytes was cut off after 65 536, a CSV padded, with exit code 0.
#[test]
fn archives_and_copies_are_right_with_exact_size_always_fresh_and_after_the_ttl() {
    let portal = portal();
    let names = names(&portal);
    for program in PROGRAMS {
        let mount = mount_with(&portal, &["--exact-size=always", "--metadata-ttl=1"]);
        let folder = tempfile::tempdir().unwrap();
        for state in ["fresh", "after"] {
            let out = folder.path().join(state);
            let output = run(program, &mount, &names, &out);
            assert!(output.status.success(), "{program}: {}", said(&output));
            for name in &names {
                let copy = std::fs::read(out.join(name)).unwrap();
                let right = mount.read(&format!("objects/{name}"));
                assert!(
                    copy == right,
                    "{program}, {state}: {name} has {} bytes, not {}",
                    copy.len(),
                    right.len()
                );
            }
            std::thread::sleep(Duration::from_millis(1200));
        }
    }
}

/// Regression: the estimate of a JSON was 64 KiB, that of a Parquet file the length of
/// its columns. Programs that read no further than the size cut off longer files.
#[test]
fn estimated_size_is_not_below_the_true_size() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    for name in mount.list("objects") {
        let path = format!("objects/{name}");
        if !mount.path(&path).is_file() || portal_writes(&name, &portal) {
            continue;
        }
        let estimate = mount.path(&path).metadata().unwrap().len();
        if let Ok(bytes) = mount.try_read(&path) {
            let len = bytes.len() as u64;
            assert!(len <= estimate, "{name}: {len} bytes, not {estimate}");
        }
    }
}

/// Whether only the portal can write this CSV: there is no bound of its length.
fn portal_writes(name: &str, portal: &DemoPortal) -> bool {
    let id = name.split('.').next().and_then(|id| id.parse().ok());
    name.ends_with(".csv") && id.is_none_or(|id| portal.repository().cpb(&id).is_none())
}

/// Regression: the size of a JSON was forgotten after the TTL, that of a Parquet file
/// with the mount.
#[test]
fn last_size_of_json_and_parquet_is_known_after_the_ttl_and_in_later_mounts() {
    let portal = portal();
    let cache = tempfile::tempdir().unwrap();
    let cache_dir = format!("--cache-dir={}", cache.path().display());
    let files = names(&portal);
    let len = |mount: &TestMount, name: &str| {
        let path = mount.path(&format!("objects/{name}"));
        path.metadata().unwrap().len()
    };
    let first = mount_with(&portal, &[&cache_dir, "--metadata-ttl=1"]);
    let read = |name: &String| {
        let bytes = first.read(&format!("objects/{name}"));
        (name.clone(), bytes.len() as u64)
    };
    let sizes: Vec<_> = files.iter().map(read).collect();
    std::thread::sleep(Duration::from_millis(1500));
    for (name, size) in &sizes {
        assert_eq!(len(&first, name), *size, "{name} after the TTL");
    }
    drop(first);
    portal.clear_requests();
    let later = mount_with(&portal, &[&cache_dir]);
    for (name, size) in &sizes {
        assert_eq!(len(&later, name), *size, "{name} in a later mount");
    }
    let data = portal.requests().into_iter();
    let data = data.filter(|r| r.service == DemoService::Data && r.path != "/whoami");
    assert_eq!(data.count(), 0);
}

#[test]
fn listing_with_exact_sizes_downloads_each_table_once() {
    let portal = portal();
    let mount = mount_with(&portal, &["--exact-size=always"]);
    let mut ls = Command::new("ls");
    ls.arg("-l").arg(mount.path("objects"));
    let output = ls.output().expect("coreutils are installed");
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let requests = portal.requests();
    let tables = requests.iter().filter(|r| r.path == "/cpb");
    let id = |body: &str| {
        body.split("tableId\":\"")
            .nth(1)
            .map(|id| id[..24].to_owned())
    };
    let mut downloaded: Vec<_> = tables.map(|r| id(&r.body)).collect();
    let count = downloaded.len();
    downloaded.sort();
    downloaded.dedup();
    assert!(count > 10 && downloaded.len() == count, "{count} requests");
    let mut exact = 0;
    for line in listing.lines().filter(|line| line.starts_with('-')) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [size, name] = [fields[4], fields[fields.len() - 1]];
        if size == "?" {
            // The portal serves no columns of strings.
            continue;
        }
        let bytes = mount.read(&format!("objects/{name}"));
        assert_eq!(size.parse(), Ok(bytes.len()), "{name}");
        exact += 1;
    }
    assert!(exact > 30, "{exact} sizes:\n{listing}");
}

/// As with programs that query the size of an open file: a folder is archived but for
/// what cannot be read.
#[test]
fn table_that_cannot_be_measured_is_left_out_of_an_archive() {
    let portal = portal();
    let names = names(&portal);
    let refused = Fault::Status {
        code: 400,
        retry_after: None,
    };
    portal.add_fault(FaultRule::always(refused).of(&co2(&portal)).on("cpb"));
    for program in [PROGRAMS[0], PROGRAMS[7], PROGRAMS[8]] {
        let mount = mount_with(&portal, &["--exact-size=always"]);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let program = program.replace(';', " ||:;");
        let output = run(&program, &mount, &names, &out);
        let mut found: Vec<_> = std::fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut expected = names[2..].to_vec();
        expected.sort();
        assert_eq!(found, expected, "{program}: {}", said(&output));
        for name in &expected {
            let copy = std::fs::read(out.join(name)).unwrap();
            assert!(copy == mount.read(&format!("objects/{name}")), "{name}");
        }
    }
}

/// Sizes that the kernel has cached before a file is open do not survive it.
#[test]
fn size_of_an_open_file_is_exact_with_exact_size_always() {
    let portal = portal();
    let mount = mount_with(&portal, &["--exact-size=always"]);
    let path = mount.path(&format!("objects/{}.csv", co2(&portal)));
    let exact = portal.repository().csv(&co2(&portal)).unwrap().len() as u64;
    let file = std::fs::File::open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().size(), exact);
    drop(file);
    assert_eq!(path.metadata().unwrap().size(), exact);
}
