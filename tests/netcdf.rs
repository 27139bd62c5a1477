//! Tables as NetCDF: the values of the CSV in the programs that people use, drawn from
//! as few bytes as possible.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService};
use icos_portal::ObjectId;
use icosfs::catalog::Representation::{Cpb, Csv, NetCdf};
use icosfs::content::FileSize;

use crate::support::{TestContents, TestMount, co2, portal, python_script, slices};

/// Tables of the built-in repository, of all value formats.
const TABLES: [&str; 5] = [
    "every_format_one_row.csv",
    "ICOSETC_SE-Htm_FLUXES_L2",
    "ICOSETC_SE-Htm_FLUXES_L2.csv",
    "11SS20230410_SOOP_OTC.csv",
    "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip",
];

/// The built-in repository with a table of this shape.
fn with_a_table(columns: usize, rows: u64) -> (DemoPortal, ObjectId) {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("wide.csv", columns, rows);
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    (portal, id)
}

fn printed(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (scripts/setup tests)"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// The lengths of the responses with columns.
fn fetched(portal: &DemoPortal) -> Vec<u64> {
    let requests = portal.requests();
    let columns = requests.iter().filter(|request| request.path == "/cpb");
    columns.map(|request| request.bytes).collect()
}

#[test]
fn netcdf_has_the_values_of_the_csv_in_netcdf4() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let mut files = Vec::new();
    for name in TABLES {
        let Some(id) = portal.repository().find(name) else {
            continue;
        };
        for ending in ["csv", "nc"] {
            files.push(mount.path(&format!("objects/{id}.{ending}")));
        }
    }
    assert!(files.len() >= 8, "{files:?}");
    python_script("netcdf_equals_csv.py", &files);
}

#[test]
fn ncdump_and_r_read_values_units_and_times() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let file = mount.path(&format!("objects/{}.nc", co2(&portal)));
    let header = printed("ncdump", &["-h"], &file);
    for line in [
        "TIMESTAMP = 8760 ;",
        "double TIMESTAMP(TIMESTAMP) ;",
        "TIMESTAMP:units = \"milliseconds since 1970-01-01 00:00:00\" ;",
        "co2:units = \"umol mol-1\" ;",
        "co2:units_portal = \"\u{b5}mol mol-1\" ;",
        "co2:ancillary_variables = \"Flag\" ;",
        "co2:_FillValue = NaNf ;",
        "Flag:flag_values = \"O R U\" ;",
        "latitude:units = \"degrees_north\" ;",
        ":Conventions = \"CF-1.8\" ;",
        ":featureType = \"timeSeries\" ;",
        ":license = \"ICOS CCBY4 Data Licence",
        ":citation = \"",
    ] {
        assert!(header.contains(line), "no {line} in\n{header}");
    }
    let script = "file <- ncdf4::nc_open(commandArgs(TRUE)[1]); \
        co2 <- ncdf4::ncvar_get(file, 'co2'); \
        cat(length(co2), sum(is.na(co2)), ncdf4::ncvar_get(file, 'TIMESTAMP')[2])";
    let csv = mount.read(&format!("objects/{}.csv", co2(&portal)));
    let csv = String::from_utf8(csv).unwrap();
    let missing = csv
        .lines()
        .filter(|line| line.split(',').nth(1) == Some(""))
        .count();
    let shown = printed("Rscript", &["-e", script], &file);
    assert_eq!(shown, format!("8760 {missing} 1.672535e+12"));
}

#[test]
fn header_is_readable_without_a_login_and_without_a_data_request() {
    let portal = portal();
    let mount = TestMount::anonymous(&portal);
    for name in [
        "every_format_no_row.csv",
        "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip",
    ] {
        let id = portal.repository().find(name).unwrap();
        let header = printed("ncdump", &["-h"], &mount.path(&format!("objects/{id}.nc")));
        assert!(header.contains(":Conventions"), "{header}");
    }
    // Regression: it was called "time instant, UTC", as the portal's metadata have it.
    let local = TABLES.iter().find_map(|name| {
        let is_local = name.contains("FLUXES");
        is_local.then(|| portal.repository().find(name)).flatten()
    });
    let local = mount.path(&format!("objects/{}.nc", local.expect("a table")));
    let header = printed("ncdump", &["-h"], &local);
    assert!(
        header.contains("TIMESTAMP:long_name = \"local time of the station"),
        "{header}"
    );
    let requests = portal.requests();
    let data: Vec<_> = (requests.iter())
        .filter(|request| request.service == DemoService::Data && request.route != "whoami")
        .map(|request| &request.path)
        .collect();
    assert!(data.is_empty(), "{data:?}");
}

#[test]
fn size_is_exact_before_any_request_and_stays_the_same() {
    let portal = portal();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let mut tables = 0;
    for id in portal.repository().objects() {
        if portal.repository().cpb(&id).is_none() {
            continue;
        }
        portal.clear_requests();
        let FileSize::Exact(size) = contents.size(id, NetCdf) else {
            continue;
        };
        let requests = portal.requests();
        assert!(requests.iter().all(|request| request.path == "/sparql"));
        if let Ok(read) = contents.exact_size(id, NetCdf) {
            assert_eq!(read, size);
            assert_eq!(contents.read(id, NetCdf).len() as u64, size);
            assert_eq!(contents.size(id, NetCdf), FileSize::Exact(size));
            tables += 1;
        }
    }
    assert!(tables > 5, "{tables}");
}

#[test]
fn any_range_equals_that_of_the_whole_file_whatever_is_cached() {
    // One is downloaded at once, the other one variable by variable.
    for (columns, rows) in [(5, 3_000), (12, 40_000)] {
        let (portal, id) = with_a_table(columns, rows);
        let folder = tempfile::tempdir().unwrap();
        let whole = TestContents::of(&portal, &folder).read(id, NetCdf);
        let other = tempfile::tempdir().unwrap();
        let contents = TestContents::of(&portal, &other);
        let len = whole.len();
        for (from, to) in [
            (len - 1, len),
            (len / 3 + 1, len / 2),
            (len / 7 * 6 - 1, len / 7 * 6 + 300_000),
            (len.saturating_sub(12), len + 5),
            (len + 1, len + 2),
            (1, 2),
            (0, len),
        ] {
            let found = contents.read_at(id, NetCdf, from as u64, to - from);
            assert!(found == whole[from.min(len)..to.min(len)], "{from} to {to}");
        }
    }
}

#[test]
fn one_variable_in_xarray_downloads_it_and_the_times_only() {
    // Each column of 350 000 rows is longer than what the kernel reads ahead.
    let (portal, id) = with_a_table(40, 350_000);
    for engine in ["netcdf4", "scipy"] {
        let mount = TestMount::of(&portal);
        let file = mount.path(&format!("objects/{id}.nc"));
        fs::metadata(&file).unwrap();
        portal.clear_requests();
        let arguments = [engine, file.to_str().unwrap(), "V_17"].map(PathBuf::from);
        let shown = python_script("netcdf_in_xarray.py", &arguments);
        assert!(shown.contains("1970-01-01T00:00"), "{shown}");
        let fetched = fetched(&portal);
        let needed = 350_000 * (8 + 4);
        let sum: u64 = fetched.iter().sum();
        assert!(sum <= needed + needed / 20, "{engine}: {fetched:?}");
        assert!(fetched.len() <= 3, "{engine}: {fetched:?}");
        assert!(
            portal.requests().len() <= 4,
            "{engine}: {}",
            portal.requests().len()
        );
        // The kernel's readahead was refused, which no program notices.
        assert_eq!(mount.read(".icosfs/errors"), b"");
    }
}

#[test]
fn copy_of_a_wide_file_takes_few_requests() {
    let (portal, id) = with_a_table(120, 30_000);
    let mount = TestMount::of(&portal);
    let copied = mount.home().path().join("copy.nc");
    let file = mount.path(&format!("objects/{id}.nc"));
    fs::copy(&file, &copied).unwrap();
    // Requests become larger as long as reads arrive in order, which the kernel's read-ahead
    // does not always do.
    assert!(slices(&portal) <= 20, "{:?}", fetched(&portal));
    let total: u64 = fetched(&portal).iter().sum();
    // A response that ends early may have brought a part of a block.
    let values = 30_000 * (8 + 119 * 4);
    assert!(
        (values..=values + values / 50).contains(&total),
        "each value once: {total}"
    );
    assert_eq!(
        fs::metadata(&copied).unwrap().len(),
        fs::metadata(&file).unwrap().len()
    );
    let csv = mount.path(&format!("objects/{id}.csv"));
    python_script("netcdf_equals_csv.py", &[csv, copied]);
}

#[test]
fn memory_map_has_the_bytes_of_the_file() {
    let (portal, id) = with_a_table(30, 60_000);
    let mount = TestMount::of(&portal);
    let file = mount.path(&format!("objects/{id}.nc"));
    let script = "import mmap, sys; file = open(sys.argv[1], 'rb'); \
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ); \
        at = len(mapped) // 3; middle = mapped[at:at + 3_000_000]; \
        sys.stdout.buffer.write(middle)";
    let mut python = crate::support::interpreter();
    let output = python.args(["-c", script]).arg(&file).output().unwrap();
    assert!(output.status.success());
    let whole = mount.read(&format!("objects/{id}.nc"));
    let at = whole.len() / 3;
    assert!(output.stdout == whole[at..at + 3_000_000]);
}

#[test]
fn file_that_was_read_is_readable_without_the_portal_and_the_same() {
    let portal = portal();
    let folder = tempfile::tempdir().unwrap();
    let id = co2(&portal);
    let file = TestContents::of(&portal, &folder).read(id, NetCdf);
    portal.clear_requests();
    let later = TestContents::of(&portal, &folder);
    assert!(later.read(id, NetCdf) == file);
    let asked = portal.requests();
    assert!(asked.iter().all(|request| request.path == "/sparql"));
}

#[test]
fn netcdf_shares_its_columns_with_the_other_representations() {
    let portal = portal();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let id = co2(&portal);
    contents.read(id, NetCdf);
    contents.read(id, Csv);
    contents.read(id, Cpb);
    assert_eq!(slices(&portal), 1);
}

#[test]
fn table_with_a_column_of_strings_says_why_it_has_no_netcdf() {
    let portal = portal();
    let folder = tempfile::tempdir().unwrap();
    let contents = TestContents::of(&portal, &folder);
    let id = portal
        .repository()
        .find("11SS20230912_SOOP_OTC.csv")
        .unwrap();
    let reason = contents
        .try_read_at(id, NetCdf, 0, 10)
        .unwrap_err()
        .to_string();
    assert!(reason.contains("\"Remark\" holds strings"), "{reason}");
}

#[test]
fn get_writes_selected_columns_and_rows_as_netcdf() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal).to_string();
    let folder = mount.home().path();
    for (name, options) in [
        ("all", &[][..]),
        (
            "part",
            &["--columns", "TIMESTAMP,co2", "--rows", "10..2000"],
        ),
        ("good", &["--good-only"]),
    ] {
        let files = [("netcdf", "nc"), ("csv", "csv")].map(|(format, ending)| {
            let file = folder.join(format!("{name}.{ending}"));
            let output = mount
                .icosfs()
                .arg("get")
                .args(crate::support::services_of(&portal, &[]))
                .env("ICOSFS_TOKEN", portal.token())
                .env("ICOSFS_CACHE_DIR", mount.cache())
                .args([&id, "--format", format, "--output"])
                .arg(&file)
                .args(options)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", crate::support::said(&output));
            file
        });
        let [nc, csv] = files;
        python_script("netcdf_equals_csv.py", &[csv, nc.clone()]);
        let header = printed("ncdump", &["-h"], &nc);
        assert_eq!(header.contains("NbPoints"), name != "part", "{header}");
        assert!(header.contains("co2:units = \"umol mol-1\""), "{header}");
    }
}

#[test]
fn cf_checker_finds_no_errors_in_tables_of_every_data_type() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let folder = mount.home().path();
    let mut copies = Vec::new();
    for id in mount.tables() {
        // Files with missing values or equal times in the coordinate are as the data are.
        let copy = folder.join(format!("{id}.nc"));
        if fs::copy(mount.path(&format!("objects/{id}.nc")), &copy).is_ok() {
            let header = printed("ncdump", &["-h"], &copy);
            if !header.contains("every_format") {
                copies.push(copy);
            }
        }
    }
    assert!(copies.len() > 7, "{copies:?}");
    python_script("cf_check.py", &copies);
}

/// The same with real metadata, and the comparison of all tables with their CSV.
#[cfg(feature = "shared-tests")]
mod shared {
    use std::collections::BTreeMap;

    use super::*;
    use crate::shared_rdf::real_metadata;

    /// The number of tables to compare; `ICOSFS_NETCDF_TABLES` names another one.
    const TABLES: usize = 60;

    #[test]
    fn netcdf_of_real_tables_equals_their_csv_and_conforms_to_cf() {
        let portal = real_metadata();
        let token = portal.token();
        let all = ["--include-deprecated", "--level=0,1,2,3"];
        let mount = TestMount::with(&portal, &all, &[("ICOSFS_TOKEN", &token)]);
        let wanted = std::env::var("ICOSFS_NETCDF_TABLES").ok();
        let wanted = wanted.map_or(TABLES, |count| count.parse().expect("a number"));
        let mut by_type: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for kind in mount.list("datatypes") {
            let folder = format!("datatypes/{kind}");
            let names = mount.list(&folder);
            let stems = names
                .iter()
                .filter_map(|name| name.strip_suffix(".parquet"));
            let tables = stems.map(|stem| format!("{folder}/{stem}"));
            by_type.entry(kind).or_default().extend(tables);
        }
        let longest = by_type.values().map(Vec::len).max().unwrap();
        let sample: Vec<&String> = (0..longest)
            .flat_map(|nth| by_type.values().filter_map(move |tables| tables.get(nth)))
            .take(wanted)
            .collect();
        assert!(sample.len() >= TABLES, "{}", sample.len());
        let mut checked = Vec::new();
        for tables in sample.chunks(20) {
            let mut arguments = vec![PathBuf::from("--rows"), PathBuf::from("2000")];
            for table in tables {
                let (csv, nc) = (format!("{table}.csv"), format!("{table}.nc"));
                let (csv, nc) = (mount.path(&csv), mount.path(&nc));
                // The portal serves no columns of tables with strings.
                if nc.metadata().unwrap().len() > 0 {
                    checked.push(nc.clone());
                    arguments.extend([csv, nc]);
                }
            }
            python_script("netcdf_equals_csv.py", &arguments);
        }
        checked.truncate(20);
        python_script("cf_check.py", &checked);
    }
}
