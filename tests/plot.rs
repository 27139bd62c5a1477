//! Charts and maps.

use std::process::Output;

use icos_demo::DemoPortal;

use crate::support::{Home, co2, portal, said, services_of, slices};

/// Runs `icosfs` with a login.
fn run(home: &Home, portal: &DemoPortal, arguments: &[&str]) -> Output {
    let mut command = home.icosfs();
    command
        .args(services_of(portal, &[]))
        .args(arguments)
        .env("ICOSFS_TOKEN", portal.token());
    command.output().unwrap()
}

#[test]
fn chart_of_a_year_downloads_times_and_the_column_with_its_flags_only() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let plot = |more: &[&str]| {
        let arguments = [&["plot", &id][..], more].concat();
        run(&home, &portal, &arguments)
    };
    let output = plot(&["co2"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let first = "co2 [\u{b5}mol mol-1]  Hyltemossa (HTM), 150 m, 2023-01-01 to 2023-12-31\n";
    assert!(text.starts_with(first), "{text}");
    assert!(
        text.ends_with("\ngood values, by their quality flag; times in UTC\n"),
        "{text}"
    );
    assert!(
        text.contains("2023-03") && text.contains("2023-11"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(slices(&portal) <= 3);
    let requests = portal.requests();
    let bytes: u64 = (requests.iter().filter(|r| r.path == "/cpb"))
        .map(|r| r.bytes)
        .sum();
    assert_eq!(bytes, 8760 * (8 + 4 + 2), "times, values, flags");
    // Regression: with a comma, the second column was left out, and the flags not mentioned.
    let both = said(&plot(&["co2,Stdev"]));
    assert!(both.contains("\nStdev ["), "{both}");
    assert!(
        both.contains("\ngood values, where they have a quality flag;"),
        "{both}"
    );
    let monthly = plot(&["co2", "--monthly", "--from", "2023-03", "--to", "2023-05"]);
    assert!(monthly.status.success(), "{}", said(&monthly));
    for (more, reason) in [
        (
            &["co2", "--from", "2030"][..],
            "no row is of the requested period\nhint: the table has rows from 2023-01-01T00:00:00Z to 2023-12-31T23:00:00Z\n",
        ),
        (
            &["co2", "--from", "1990", "--to", "1991"],
            "the table has rows from 2023-01-01T00:00:00Z to 2023-12-31T23:00:00Z",
        ),
        (
            &["nothing"],
            "the table has no column \"nothing\"\nhint: its columns are TIMESTAMP, co2,",
        ),
        (&["Flag"], "expected numbers to draw"),
        (
            &["co2", "-o", "x.jpg"],
            "ends with .svg or .png, found x.jpg",
        ),
    ] {
        let failed = plot(more);
        assert!(
            !failed.status.success() && said(&failed).contains(reason),
            "{}",
            said(&failed)
        );
    }
}

#[test]
fn chart_and_map_are_written_as_pictures() {
    let (portal, home) = (portal(), Home::new());
    let id = co2(&portal).to_string();
    let draw = |arguments: &[&str], name: &str| {
        let file = home.path().join(name);
        let arguments = [arguments, &["-o", file.to_str().unwrap()]].concat();
        let drawn = run(&home, &portal, &arguments);
        assert!(drawn.status.success(), "{}", said(&drawn));
        std::fs::read(file).unwrap()
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    // As in `get --columns`.
    let columns = ["plot", &id, "co2,Stdev", "--all-values"];
    let svg = text(draw(&columns, "co2.svg"));
    for part in [
        "co2 [\u{b5}mol mol-1], CO2 mixing ratio (dry mole fraction)</text>",
        "Hyltemossa (HTM), 150 m, 2023-01-01 to 2023-12-31</text>",
        "Stdev [\u{b5}mol mol-1], standard deviation",
        "all values, of any quality flag. ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip, ",
        ">2023-07</text>",
        ">UTC</text>",
    ] {
        assert!(svg.contains(part), "no {part}");
    }
    let svg = text(draw(&["stations", "--map"], "map.svg"));
    assert!(svg.contains("<title>HTM</title>") && svg.contains("Natural Earth"));
    for (arguments, height) in [(&columns[..], 930), (&["stations", "--map"], 1493)] {
        let png = draw(arguments, "picture.png");
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB`\x82"));
        let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((side(16), side(20)), (1600, height), "{arguments:?}");
    }
    let map = run(&home, &portal, &["stations", "--map"]);
    assert!(text(map.stdout).contains('\u{25cf}'));
}
