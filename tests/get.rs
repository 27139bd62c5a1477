//! `icosfs get`: objects and parts of tables, without a mount.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Output};

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService, Fault, FaultRule};
use icos_portal::ObjectId;

use crate::support::{
    Home, TestMount, co2, get, interpreter, portal, python_script, said, services_of, slices,
};

/// Prepares `icosfs get` as the portal's user, with its cache in `home`.
fn command(portal: &DemoPortal, home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.icosfs();
    command
        .env("ICOSFS_TOKEN", portal.token())
        .arg("get")
        .args(services_of(portal, &[]))
        .args(arguments);
    command
}

fn run(portal: &DemoPortal, home: &Home, arguments: &[&str]) -> Output {
    command(portal, home, arguments).output().expect("it runs")
}

/// Returns its standard output and asserts that standard error is empty.
fn written(portal: &DemoPortal, home: &Home, arguments: &[&str]) -> Vec<u8> {
    let output = run(portal, home, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    output.stdout
}

fn named(portal: &DemoPortal, file: &str) -> ObjectId {
    portal.repository().find(file).expect("it is built in")
}

#[test]
fn get_prints_a_table_as_the_portals_csv() {
    let (portal, home) = (portal(), Home::new());
    for file in [
        "every_format.csv",
        "every_format_no_row.csv",
        "11SS20230410_SOOP_OTC.csv",
    ] {
        let id = named(&portal, file).to_string();
        assert!(written(&portal, &home, &[&id]) == get(&portal, &format!("/csv/{id}")));
    }
}

#[test]
fn get_with_columns_and_rows_equals_the_portals_selection_and_downloads_only_it() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let selected = written(
        &portal,
        &home,
        &[&id, "--columns", "Flag,co2,Flag", "--rows", "1000..1100"],
    );
    let wire = portal.requests();
    let fetched: Vec<u64> = (wire.iter().filter(|r| r.path == "/cpb"))
        .map(|r| r.bytes)
        .collect();
    // Of each column, the block that has these rows.
    assert_eq!(fetched, [4096 * (2 + 4)], "one request for these cells");
    let query = format!("/csv/{id}?col=Flag&col=co2&col=Flag&offset=1000&limit=100");
    assert!(selected == get(&portal, &query));

    let last = written(&portal, &home, &[&id, "-r", "8759..99999", "-c", "co2"]);
    assert!(last == get(&portal, &format!("/csv/{id}?col=co2&offset=8759&limit=9")));
    let none = run(&portal, &home, &[&id, "-r", "9000..", "-c", "co2"]);
    assert_eq!((none.status.code(), &*none.stdout), (Some(3), &b""[..]));
    let notice = "the table has 8760 rows, none from 9000";
    assert!(said(&none).contains(notice), "{}", said(&none));
}

#[test]
fn get_of_a_period_has_the_rows_from_its_start_to_its_end_in_every_format() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let all = String::from_utf8(get(&portal, &format!("/csv/{id}?col=TIMESTAMP&col=co2"))).unwrap();
    let header = "TIMESTAMP,co2\n";
    let expected: String = (all.split_inclusive('\n'))
        .filter(|line| line.starts_with("2023-05-31") || line.starts_with("2023-06"))
        .collect();
    // Names of columns in any case; both ends of the period are included.
    let columns = ["--columns", "timestamp,CO2"];
    let period = ["--from", "2023-05-31", "--to", "2023-06"];
    let arguments = [&[id.as_str()][..], &columns, &period].concat();
    let found = String::from_utf8(written(&portal, &home, &arguments)).unwrap();
    assert_eq!(found, format!("{header}{expected}"));
    let rows = expected.lines().count();
    assert_eq!(rows, 31 * 24);
    let instant = [
        "--from",
        "2023-05-31T00:00:00Z",
        "--to",
        "2023-05-31T02:00:00Z",
    ];
    let three = [&[id.as_str()][..], &columns, &instant].concat();
    let three = String::from_utf8(written(&portal, &home, &three)).unwrap();
    assert_eq!(three.lines().count(), 1 + 3);
    for format in ["parquet", "netcdf", "cpb"] {
        let file = home.path().join(format);
        let output = ["--format", format, "--output", file.to_str().unwrap()];
        let by_time = [&arguments[..], &output].concat();
        assert!(run(&portal, &home, &by_time).status.success(), "{format}");
        let by_time = fs::read(&file).unwrap();
        let first = all
            .lines()
            .position(|line| line.starts_with("2023-05-31"))
            .unwrap()
            - 1;
        let range = format!("{first}..{}", first + rows);
        let by_rows = [&[id.as_str()][..], &columns, &["--rows", &range], &output].concat();
        assert!(run(&portal, &home, &by_rows).status.success(), "{format}");
        assert!(by_time == fs::read(&file).unwrap(), "{format}");
    }
    let failed = |arguments: &[&str]| {
        let output = run(&portal, &home, &[&[id.as_str()], arguments].concat());
        (output.status.code(), said(&output))
    };
    assert_eq!(
        failed(&["--from", "2030"]),
        (
            Some(3),
            "icosfs: no row is of the requested period\nhint: the table has rows from \
             2023-01-01T00:00:00Z to 2023-12-31T23:00:00Z\n"
                .to_owned()
        )
    );
    assert_eq!(
        failed(&["--from", "2023", "--to", "2022"]),
        (
            Some(2),
            "icosfs: --from exceeds --to, so nothing can match\nhint: exchange them\n".to_owned()
        )
    );
    assert_eq!(
        failed(&["--columns", "c02"]),
        (
            Some(3),
            "icosfs: the table has no column \"c02\"\nhint: did you mean co2?\n\
             hint: its columns are TIMESTAMP, co2, Stdev, NbPoints, Flag\n"
                .to_owned()
        )
    );
}

#[test]
fn get_takes_the_format_of_the_output_and_of_a_file_in_a_mount() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    let id = co2(&portal).to_string();
    for ending in ["csv", "good.csv", "json"] {
        let path = mount.path(&format!("objects/{id}.{ending}"));
        let output = run(&portal, mount.home(), &[path.to_str().unwrap()]);
        assert!(output.stdout == fs::read(&path).unwrap(), "{ending}");
    }
    let file = mount.home().path().join("table.parquet");
    let shown = file.to_str().unwrap();
    let csv = mount.path(&format!("objects/{id}.csv"));
    let output = run(&portal, mount.home(), &[csv.to_str().unwrap(), "-o", shown]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read(&file).unwrap()[..4], *b"PAR1");
    let refused = run(
        &portal,
        mount.home(),
        &[&id, "-o", shown, "--format", "csv"],
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        said(&refused).contains("--format csv contradicts the name"),
        "{}",
        said(&refused)
    );
}

#[test]
fn good_only_blanks_values_with_another_flag() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let good = written(&portal, &home, &[&id, "--good-only"]);
    let all = String::from_utf8(get(&portal, &format!("/csv/{id}"))).unwrap();
    let mut lost = 0;
    let expected: String = (all.lines().enumerate())
        .map(|(number, line)| {
            let mut cells: Vec<&str> = line.split(',').collect();
            // TIMESTAMP, co2, Stdev, NbPoints, Flag; the flag is co2's.
            if number > 0 && !["U", "R", "O"].contains(&cells[4]) {
                lost += usize::from(!cells[1].is_empty());
                cells[1] = "";
            }
            cells.join(",") + "\n"
        })
        .collect();
    assert!(lost > 100, "{lost}");
    assert!(good == expected.as_bytes());
    // The flag column is used although it is not selected.
    let column = written(&portal, &home, &[&id, "-g", "-c", "co2"]);
    let cells = expected.lines().map(|line| line.split(',').nth(1).unwrap());
    let expected: String = cells.flat_map(|cell| [cell, "\n"]).collect();
    assert!(column == expected.as_bytes());
}

#[test]
fn get_writes_every_format() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal);
    let name = id.to_string();
    let repository = portal.repository();
    let as_a = |format| written(&portal, &home, &[&name, "--format", format]);
    assert!(as_a("cpb") == repository.cpb(&id).unwrap());
    assert!(as_a("csv") == repository.csv(&id).unwrap().as_bytes());
    assert_eq!(slices(&portal), 1, "the second had the first's columns");
    assert!(as_a("original") == repository.original(&id).unwrap());
    let json: serde_json::Value = serde_json::from_slice(&as_a("json")).unwrap();
    assert!(json["hash"].as_str().unwrap().starts_with(&name));

    let file = |name: &str| home.path().join(name);
    let (csv, parquet) = (file("some.csv"), file("some.parquet"));
    for (path, format) in [(&csv, "csv"), (&parquet, "parquet")] {
        let path = path.to_str().unwrap();
        let some = ["-c", "Flag,TIMESTAMP", "-c", "co2", "-r", "..500"];
        let whole = [&[&*name, "-f", format, "-o", path], &some[..]].concat();
        assert_eq!(written(&portal, &home, &whole), b"");
    }
    python_script("parquet_equals_csv.py", &[csv, parquet]);

    let cells = written(
        &portal,
        &home,
        &[&name, "-f", "cpb", "-c", "co2", "-r", "5..7"],
    );
    let whole = repository.cpb(&id).unwrap();
    // Columns are stored by name: Flag and NbPoints (2 and 4 bytes) precede Stdev,
    // TIMESTAMP and co2.
    let before = 8760 * (2 + 4 + 4 + 8);
    assert_eq!(cells, whole[before + 5 * 4..before + 7 * 4]);
}

#[test]
fn get_writes_an_object_without_columns_as_submitted() {
    let (portal, home) = (portal(), Home::new());
    let id = (portal.repository().objects().into_iter())
        .find(|id| {
            portal.repository().cpb(id).is_none() && crate::support::serves_original(&portal, *id)
        })
        .unwrap();
    let name = id.to_string();
    assert_eq!(ObjectId::of_content(&written(&portal, &home, &[&name])), id);
    let output = run(&portal, &home, &[&name, "--format", "csv"]);
    assert!(!output.status.success() && said(&output).contains("--format original"));
    let output = run(&portal, &home, &[&name, "--rows", "1..2"]);
    assert!(!output.status.success() && said(&output).contains("of a table"));
}

#[test]
fn output_file_is_complete_or_absent() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let path = home.path().join("table.csv");
    let target = path.to_str().unwrap();
    fs::write(&path, "before").unwrap();
    portal.accept_licence(false);
    let output = run(&portal, &home, &[&id, "-o", target]);
    assert!(
        !output.status.success() && said(&output).contains("licence"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read(&path).unwrap(), b"before");
    portal.accept_licence(true);
    written(&portal, &home, &[&id, "-o", target]);
    assert!(fs::read(&path).unwrap() == get(&portal, &format!("/csv/{id}")));
    let left: Vec<_> = (fs::read_dir(home.path()).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".part"))
        .collect();
    assert_eq!(left, [""; 0]);
    // A device is opened for writing, not replaced.
    written(&portal, &home, &[&id, "-o", "/dev/null"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn closed_pipe_ends_get_without_a_message() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let get = command(&portal, &home, &[&id]);
    let arguments: Vec<_> = get
        .get_args()
        .map(|a| a.to_str().unwrap().to_owned())
        .collect();
    let output = Command::new("bash")
        .args(["-c", "set -o pipefail; \"$@\" | head -n 1", "bash"])
        .arg(get.get_program())
        .args(arguments)
        .envs(
            get.get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .output()
        .unwrap();
    assert_eq!(said(&output), "TIMESTAMP,co2,Stdev,NbPoints,Flag\n");
    assert_eq!(output.status.code(), Some(141), "as of any program");
}

#[test]
fn id_starting_with_a_hyphen_is_not_an_option() {
    let (portal, home) = (portal(), Home::new());
    // The first three letters could be -c, -r and -o.
    for id in [
        "-cABCDEFGHIJKLMNOPQRSTUV",
        "-r__DEFGHIJKLMNOPQRSTUVW",
        "-oCDEFGHIJKLMNOPQRSTUVWX",
    ] {
        let output = run(&portal, &home, &[id, "--rows", "1..2"]);
        assert!(
            said(&output).contains(&format!("has no object {id}")),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn unknown_column_error_lists_the_existing_columns() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let unknown = ObjectId::of_content(b"unknown to the portal").to_string();
    for (arguments, words) in [
        (
            &[&*id, "-c", "co3"][..],
            "its columns are TIMESTAMP, co2, Stdev",
        ),
        (&[&*unknown], "has no object"),
        (
            &["x"],
            "the repository has no station and no file with the name",
        ),
        (&["x/y"], "there is no file x/y\nhint: expected an object"),
        (&[&*id, "-r", "7..5"], "expected rows such as"),
        (
            &[&*id, "-o", "/nowhere/at/all"],
            "cannot write to /nowhere/at/all",
        ),
    ] {
        let output = run(&portal, &home, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

/// What a command shows on a terminal.
fn on_terminal(get: &Command) -> String {
    let set = get
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let shown = interpreter()
        .args(["-c", spawn])
        .arg(get.get_program())
        .args(get.get_args())
        .envs(set)
        .env("TERM", "xterm")
        .output()
        .expect("Python runs");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{text}");
    text
}

/// Regression: the bar counted what was written, a mebibyte at a time, and promised that no
/// time was left.
#[test]
fn progress_of_an_original_follows_the_bytes_that_arrive() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_original("long.bin", 2 << 20).to_string();
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let slow = FaultRule::always(Fault::Bandwidth {
        bytes_per_second: 1_000_000,
    });
    portal.add_fault(slow.at(DemoService::Data));
    let home = Home::new();
    let file = home.path().join("long.bin");
    let get = command(&portal, &home, &[&id, "-o", file.to_str().unwrap()]);
    let text = on_terminal(&get);
    let before = text.split(" of 2.00 MiB");
    let shown: HashSet<&str> = before.filter_map(|text| text.rsplit("  ").next()).collect();
    assert!(shown.len() >= 4, "{shown:?} in {text:?}");
    assert!(!text.contains(" 0 B/s"), "{text:?}");
}

#[test]
fn get_shows_progress_on_a_terminal() {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_table("long.csv", 30, 60_000).to_string();
    let portal = DemoPortal::start(repository, DemoOptions::default()).expect("the demo starts");
    let home = Home::new();
    let file = home.path().join("table.csv");
    let slow = FaultRule::always(Fault::Bandwidth {
        bytes_per_second: 6_000_000,
    });
    portal.add_fault(slow.at(DemoService::Data));
    let get = command(&portal, &home, &[&id, "-o", file.to_str().unwrap()]);
    let text = on_terminal(&get);
    for stage in ["downloading", "writing"] {
        assert!(text.contains(stage), "no {stage:?} in {text:?}");
    }
    // Without a terminal it prints nothing: see `written`.
    assert!(fs::metadata(&file).unwrap().len() > 10 << 20);
}
