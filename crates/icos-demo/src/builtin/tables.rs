//! The built-in tables.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::builder::RepositoryBuilder;
use crate::cells;
use crate::content::OriginalContent;
use crate::object::{ColumnContent, DemoObject, Kind, TableMetadata};
use crate::random::{column_salt, object_salt};
use crate::values::{CellFormat, CellValue, ColumnValues};
use icos_portal::ObjectId;

const HOUR: i64 = 3_600_000;
const HALF_HOUR: i64 = HOUR / 2;

/// 2023-01-01, where most tables start.
const NEW_YEAR: i64 = 1_672_531_200_000;

pub(super) fn add(builder: &mut RepositoryBuilder) {
    atmosphere(builder);
    ecosystem(builder);
    ocean(builder);
    odd(builder);
}

/// Hourly gases, some in several versions.
fn atmosphere(builder: &mut RepositoryBuilder) {
    let mut previous = Vec::new();
    for (release, submitted, rows) in [
        ("2022-1", "2022-07-09T10:00:12.104Z", 4000),
        ("2023-1", "2023-07-14T08:11:02.877Z", 6000),
        ("2024-1", "2024-09-12T09:05:38.471Z", 8760),
    ] {
        // The first two versions share a file name, like 180 real objects.
        let label = if release == "2024-1" {
            "2024.1"
        } else {
            "2023.1"
        };
        let id = gas(
            builder,
            &GasTable {
                name: format!("ICOS_ATC_L2_L2-{label}_HTM_150.0_CTS.CO2.zip"),
                title: "co2",
                station: "AS_HTM",
                height: "150.0",
                rows,
                submitted,
                previous,
            },
        );
        previous = vec![id];
    }
    let co2 = previous;
    let mut members = co2;
    for (station, height, gas_name, spec_rows) in [
        ("AS_HTM", "150.0", "ch4", 8760),
        ("AS_HTM", "30.0", "co", 2000),
        ("AS_SVB", "150.0", "co2", 8760),
        ("AS_SVB", "150.0", "ch4", 3000),
    ] {
        members.push(gas(
            builder,
            &GasTable {
                name: format!(
                    "ICOS_ATC_L2_L2-2024.1_{}_{height}_CTS.{}.zip",
                    &station[3..],
                    gas_name.to_uppercase()
                ),
                title: gas_name,
                station,
                height,
                rows: spec_rows,
                submitted: "2024-09-12T09:10:00Z",
                previous: Vec::new(),
            },
        ));
    }
    builder.atmosphere = members;
}

struct GasTable {
    name: String,
    title: &'static str,
    station: &'static str,
    height: &'static str,
    rows: u64,
    submitted: &'static str,
    previous: Vec<ObjectId>,
}

fn gas(builder: &mut RepositoryBuilder, gas: &GasTable) -> ObjectId {
    let (spec, mean, season, noise) = match gas.title {
        "co2" => ("atcCo2L2DataObject", 421.0, 8.0, 4.0),
        "ch4" => ("atcCh4L2DataObject", 1980.0, 20.0, 15.0),
        _ => ("atcCoL2DataObject", 130.0, 30.0, 10.0),
    };
    let wave = |mean, season, noise, decimals| ColumnValues::Wave {
        mean,
        season,
        day: season / 4.0,
        noise,
        decimals,
        gaps: 40,
        step: HOUR,
    };
    let column = |name, format, values| ColumnContent {
        name: Cow::Borrowed(name),
        format,
        values,
    };
    let flags = "OUR\0NKHX".encode_utf16().collect();
    let columns = vec![
        column("TIMESTAMP", CellFormat::DateTime, clock(HOUR)),
        column(gas.title, CellFormat::Float32, wave(mean, season, noise, 3)),
        column("Stdev", CellFormat::Float32, wave(0.4, 0.1, 0.2, 3)),
        column("NbPoints", CellFormat::Int32, wave(50.0, 0.0, 9.0, 0)),
        column("Flag", CellFormat::BmpChar, ColumnValues::Flags(flags)),
    ];
    let kind = Kind::Series {
        spec,
        station: gas.station,
        time: ["2023-01-01T00:00:00Z", "2023-12-31T23:00:00Z"],
        height: Some(gas.height),
    };
    let mut item = table(
        builder,
        &gas.name,
        kind,
        columns,
        gas.rows,
        gas.submitted,
        Compression::Zip,
    );
    item.previous.clone_from(&gas.previous);
    builder.add(item)
}

/// Half-hourly fluxes with a flag for each, and soil sensors.
fn ecosystem(builder: &mut RepositoryBuilder) {
    let mut ids = Vec::new();
    for (station, rows) in [("ES_SE-Htm", 17_520), ("ES_FI-Sii", 5000)] {
        let series = |spec| Kind::Series {
            spec,
            station,
            time: ["2022-12-31T23:00:00Z", "2023-12-31T23:00:00Z"],
            height: None,
        };
        let code = &station[3..];
        let submitted = "2024-02-01T07:13:21Z";
        let name = format!("ICOSETC_{code}_FLUXES_L2.csv");
        let fluxes = table(
            builder,
            &name,
            series("etcL2Fluxes"),
            fluxes(),
            rows,
            submitted,
            Compression::Plain,
        );
        ids.push(builder.add(fluxes));
        let name = format!("ICOSETC_{code}_METEOSENS_L2.csv.gz");
        let sensors = table(
            builder,
            &name,
            series("etcL2Meteosens"),
            sensors(),
            2000,
            submitted,
            Compression::Gzip,
        );
        ids.push(builder.add(sensors));
    }
    builder.ecosystem = ids;
}

fn fluxes() -> Vec<ColumnContent> {
    let flux = |name, format, mean, day| ColumnContent {
        name: Cow::Borrowed(name),
        format,
        values: ColumnValues::Wave {
            mean,
            season: -mean / 2.0,
            day,
            noise: 5.0,
            decimals: 6,
            gaps: 9,
            step: HALF_HOUR,
        },
    };
    let flag = |name| ColumnContent {
        name: Cow::Borrowed(name),
        format: CellFormat::BmpChar,
        values: ColumnValues::Flags("012".encode_utf16().collect()),
    };
    vec![
        time_column("TIMESTAMP", CellFormat::DateTime),
        flux("FC", CellFormat::Float64, -2.0, 8.0),
        flag("FC_QC"),
        flux("LE", CellFormat::Float32, 40.0, -60.0),
        flag("LE_QC"),
        flux("H", CellFormat::Float32, 20.0, -70.0),
        flag("H_QC"),
        flux("TA", CellFormat::Float32, 7.0, -5.0),
    ]
}

/// The ingestion accepts the last column, since it searches the pattern in the
/// name; landing pages do not, since they match complete names. The last but
/// one is unknown to both.
fn sensors() -> Vec<ColumnContent> {
    let soil = |name| ColumnContent {
        name: Cow::Borrowed(name),
        format: CellFormat::Float32,
        values: ColumnValues::Wave {
            mean: 8.0,
            season: -9.0,
            day: 0.4,
            noise: 0.05,
            decimals: 2,
            gaps: 100,
            step: HALF_HOUR,
        },
    };
    vec![
        time_column("TIMESTAMP", CellFormat::DateTime),
        soil("TS_1_1_1"),
        soil("TS_2_1_1"),
        soil("TA"),
        soil("TS_1_2_1"),
        soil("BATTERY"),
        soil("TS_1_1_1_SD"),
    ]
}

/// Cruises: dates, times of day and positions. One has a column of strings, so
/// that the portal cannot serve it as a table.
fn ocean(builder: &mut RepositoryBuilder) {
    let mut ids = Vec::new();
    for (expedition, remarks, rows) in [("11SS20230410", false, 1500), ("11SS20230912", true, 300)]
    {
        let kind = Kind::Series {
            spec: "icosOtcL2Product",
            station: "OS_11SS",
            time: ["2023-04-10T06:00:00Z", "2023-04-14T18:00:00Z"],
            height: None,
        };
        let mut columns = cruise(rows);
        if remarks {
            columns.push(ColumnContent {
                name: Cow::Borrowed("Remark"),
                format: CellFormat::Text,
                values: ColumnValues::Noise,
            });
        }
        let name = format!("{expedition}_SOOP_OTC.csv");
        let submitted = "2024-03-05T14:00:00Z";
        let mut item = table(
            builder,
            &name,
            kind,
            columns,
            rows,
            submitted,
            Compression::Plain,
        );
        if let Some(table) = &mut item.table {
            // Without names in the metadata, the columns are the mandatory
            // ones, in an order that the metadata does not show.
            table.named = remarks;
        }
        ids.push(builder.add(item));
    }
    builder.ocean = ids;
}

fn cruise(rows: u64) -> Vec<ColumnContent> {
    let column = |name, format, values| ColumnContent {
        name: Cow::Borrowed(name),
        format,
        values,
    };
    let place = |from, to| ColumnValues::Track { from, to, rows };
    let wave = ColumnValues::Wave {
        mean: 380.0,
        season: 0.0,
        day: 12.0,
        noise: 6.0,
        decimals: 2,
        gaps: 25,
        step: 60_000,
    };
    vec![
        column("Date", CellFormat::Date, clock(60_000)),
        column("Time", CellFormat::TimeOfDay, clock(60_000)),
        column("Latitude", CellFormat::Float64, place(51.23, 51.71)),
        column("Longitude", CellFormat::Float64, place(2.92, 2.35)),
        column("fCO2 [uatm]", CellFormat::Float32, wave),
        column(
            "fCO2 [uatm] QC Flag",
            CellFormat::BmpChar,
            ColumnValues::Flags("2349".encode_utf16().collect()),
        ),
    ]
}

/// Tables for testing clients: each value format with its extreme values;
/// without rows; with a single row.
fn odd(builder: &mut RepositoryBuilder) {
    for (name, rows) in [
        ("every_format.csv", 240),
        ("every_format_no_row.csv", 0),
        ("every_format_one_row.csv", 1),
    ] {
        let kind = Kind::Series {
            spec: "everyFormat",
            station: "OS_OES",
            time: ["2023-01-01T00:00:00Z", "2023-01-06T00:00:00Z"],
            height: None,
        };
        let columns = every_format();
        let submitted = "2024-01-01T00:00:00Z";
        let mut item = table(
            builder,
            name,
            kind,
            columns,
            rows,
            submitted,
            Compression::Plain,
        );
        item.licence = (rows == 1).then_some("https://creativecommons.org/publicdomain/zero/1.0/");
        builder.add(item);
    }
}

/// Numbers that are difficult to format.
const ODD_FLOATS: [f32; 17] = [
    0.0,
    -0.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MIN_POSITIVE,
    f32::from_bits(1),
    f32::from_bits(0x7F_FFFF),
    f32::MAX,
    f32::MIN,
    0.1,
    1.0e-3,
    9.999_999e-4,
    9_999_999.0,
    1.0e7,
    16_777_216.0,
    3.0e10,
    413.271,
];

/// Numbers that are difficult to format.
const ODD_DOUBLES: [f64; 19] = [
    0.0,
    -0.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MIN_POSITIVE,
    f64::from_bits(1),
    f64::from_bits(4),
    f64::from_bits(0xF_FFFF_FFFF_FFFF),
    f64::MAX,
    f64::MIN,
    0.1 + 0.2,
    1.0e-3,
    9.999_999_999_999_999e-4,
    9_999_999.999_999_998,
    1.0e7,
    9_007_199_254_740_993.0,
    1.0e23,
    5.684_341_886_080_802e-14,
    2.0e-3,
];

fn every_format() -> Vec<ColumnContent> {
    let column = |name, format: CellFormat, odd: Vec<CellValue>| ColumnContent {
        name: Cow::Borrowed(name),
        format,
        values: ColumnValues::Listed(Arc::from([vec![format.null()], odd].concat())),
    };
    let int = |values: &[i32]| values.iter().map(|v| CellValue::Int(*v)).collect();
    let dates = int(&[0, -1, 18_262, -719_162, 2_932_896, 11_016]);
    let millis = |values: &[f64]| values.iter().map(|v| CellValue::Double(*v)).collect();
    let times = [
        0.0,
        -1.0,
        1_577_836_800_000.0,
        1_577_836_800_123.0,
        -62_135_596_800_000.0,
        253_402_300_799_999.0,
        1_700_000_000_500.0,
    ];
    let chars = "OUR,\"; \u{E5}\u{3B1}\u{4E2D}\t"
        .encode_utf16()
        .map(CellValue::Char);
    vec![
        column("iso8601dateTime", CellFormat::DateTime, millis(&times)),
        column(
            "int32",
            CellFormat::Int32,
            int(&[0, 1, -1, i32::MAX, i32::MIN + 1, 1234]),
        ),
        column(
            "float32",
            CellFormat::Float32,
            ODD_FLOATS.map(CellValue::Float).to_vec(),
        ),
        column(
            "float64",
            CellFormat::Float64,
            ODD_DOUBLES.map(CellValue::Double).to_vec(),
        ),
        column("bmpChar", CellFormat::BmpChar, chars.collect()),
        column(
            "boolean",
            CellFormat::Boolean,
            vec![CellValue::Byte(0), CellValue::Byte(1)],
        ),
        column("iso8601date", CellFormat::Date, dates),
        column("etcDate", CellFormat::Date, int(&[19_000, -25_508, 1])),
        column(
            "iso8601month",
            CellFormat::Month,
            int(&[2020 * 12 + 1, 12, 9999 * 12 + 11]),
        ),
        column(
            "iso8601timeOfDay",
            CellFormat::TimeOfDay,
            int(&[0, 1, 59, 60, 1800, 43_200, 86_399, 86_400]),
        ),
        column(
            "isoLikeLocalDateTime",
            CellFormat::DateTime,
            millis(&times[2..]),
        ),
        column(
            "etcLocalDateTime",
            CellFormat::DateTime,
            millis(&times[..3]),
        ),
    ]
}

fn clock(step: i64) -> ColumnValues {
    ColumnValues::Clock {
        start: NEW_YEAR,
        step,
    }
}

fn time_column(name: &'static str, format: CellFormat) -> ColumnContent {
    ColumnContent {
        name: Cow::Borrowed(name),
        format,
        values: clock(HALF_HOUR),
    }
}

/// How an original is compressed.
#[derive(Clone, Copy)]
enum Compression {
    Plain,
    Zip,
    Gzip,
}

/// A table whose original contains the same values as text.
fn table(
    builder: &RepositoryBuilder,
    name: &str,
    kind: Kind,
    columns: Vec<ColumnContent>,
    rows: u64,
    submitted: &'static str,
    packing: Compression,
) -> DemoObject {
    let text = original_text(builder.seed, name, submitted, &columns, rows);
    let memory = "a vector takes what is written";
    let bytes = match packing {
        Compression::Plain => text.into_bytes(),
        Compression::Zip => {
            let inner = name.trim_end_matches(".zip");
            super::files::zip_of(&[(inner, text.as_bytes())])
        }
        Compression::Gzip => {
            let level = flate2::Compression::fast();
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), level);
            packer.write_all(text.as_bytes()).expect(memory);
            packer.finish().expect(memory)
        }
    };
    DemoObject {
        submitted,
        published: Some(submitted),
        table: Some(TableMetadata { rows, named: true }),
        columns,
        ..DemoObject::new(name, kind, OriginalContent::Bytes(Bytes::from(bytes)))
    }
}

fn original_text(
    seed: u64,
    name: &str,
    submitted: &str,
    columns: &[ColumnContent],
    rows: u64,
) -> String {
    let names: Vec<_> = columns.iter().map(|c| &*c.name).collect();
    let mut text = format!("# {name}\n# made by the demo portal\n# {submitted}\n");
    text.push_str(&(names.join(";") + "\n"));
    let salt = object_salt(seed, name, submitted);
    for row in 0..rows {
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                text.push(';');
            }
            match column
                .values
                .at(column.format, column_salt(salt, &column.name), row)
            {
                // The station's own notation, which may differ from Java's.
                CellValue::Float(v) => write!(text, "{v}").expect("a string takes any text"),
                CellValue::Double(v) if column.format == CellFormat::Float64 => {
                    write!(text, "{v}").expect("a string takes any text");
                }
                value => cells::write(&mut text, column.format, value)
                    .expect("clocks and lists stay within the calendar; a test draws all"),
            }
        }
        text.push('\n');
    }
    text
}
