use std::collections::HashMap;

use proptest::prelude::*;

use super::header::{self, header};
use super::*;
use crate::schema::ColumnMetadata;

/// A reader of NetCDF-3 files, written from the specification.
struct NetCdfReader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_cdf5: bool,
}

#[derive(Debug)]
struct ReadVariable {
    dimensions: Vec<usize>,
    attributes: HashMap<String, (u32, Vec<u8>)>,
    kind: u32,
    vsize: u64,
    begin: u64,
}

#[derive(Debug)]
struct ReadFile {
    dimensions: Vec<(String, u64)>,
    attributes: HashMap<String, (u32, Vec<u8>)>,
    names: Vec<String>,
    variables: HashMap<String, ReadVariable>,
    header_end: usize,
}

impl<'a> NetCdfReader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        taken
    }

    fn int(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn long(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    fn count(&mut self) -> u64 {
        if self.is_cdf5 {
            self.long()
        } else {
            self.int().into()
        }
    }

    fn padded(&mut self, len: usize) -> Vec<u8> {
        let taken = self.take(len).to_vec();
        assert!(
            self.take(len.next_multiple_of(4) - len)
                .iter()
                .all(|&byte| byte == 0)
        );
        taken
    }

    fn name(&mut self) -> String {
        let len = self.count();
        String::from_utf8(self.padded(usize::try_from(len).unwrap())).unwrap()
    }

    fn list<T>(&mut self, tag: u32, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let (found, count) = (self.int(), self.count());
        assert_eq!(found, if count == 0 { 0 } else { tag });
        (0..count).map(|_| element(self)).collect()
    }

    fn attributes(&mut self) -> HashMap<String, (u32, Vec<u8>)> {
        let attributes = self.list(12, |reader| {
            let (name, kind) = (reader.name(), reader.int());
            let width = [0, 1, 1, 2, 4, 4, 8][kind as usize];
            let count = usize::try_from(reader.count()).unwrap();
            (name, (kind, reader.padded(count * width)))
        });
        let count = attributes.len();
        let attributes: HashMap<_, _> = attributes.into_iter().collect();
        assert_eq!(attributes.len(), count, "an attribute twice");
        attributes
    }

    fn read(bytes: &'a [u8]) -> ReadFile {
        assert_eq!(&bytes[..3], b"CDF");
        let is_cdf5 = match bytes[3] {
            2 => false,
            5 => true,
            other => panic!("version {other}"),
        };
        let mut reader = NetCdfReader {
            bytes,
            at: 4,
            is_cdf5,
        };
        assert_eq!(reader.count(), 0, "records");
        let dimensions = reader.list(10, |reader| (reader.name(), reader.count()));
        let attributes = reader.attributes();
        let variables = reader.list(11, |reader| {
            let name = reader.name();
            let variable = ReadVariable {
                dimensions: {
                    let count = reader.count();
                    (0..count)
                        .map(|_| usize::try_from(reader.count()).unwrap())
                        .collect()
                },
                attributes: reader.attributes(),
                kind: reader.int(),
                vsize: reader.count(),
                begin: reader.long(),
            };
            (name, variable)
        });
        let names: Vec<String> = variables.iter().map(|(name, _)| name.clone()).collect();
        let count = names.len();
        let variables: HashMap<_, _> = variables.into_iter().collect();
        assert_eq!(variables.len(), count, "a variable twice");
        // The NetCDF library refuses a file whose variables are not in order, without
        // records as well. Regression: a table without rows could not be opened.
        let mut end = reader.at as u64;
        for name in &names {
            let variable = &variables[name];
            assert!(
                variable.begin >= end,
                "{name} begins within what is before it"
            );
            let lens = variable
                .dimensions
                .iter()
                .map(|&at| dimensions[at].1.max(1));
            let width = [0, 1, 1, 2, 4, 4, 8][variable.kind as usize];
            end = variable.begin + lens.product::<u64>() * width;
        }
        ReadFile {
            dimensions,
            attributes,
            names,
            variables,
            header_end: reader.at,
        }
    }
}

/// The complete file.
fn assemble(layout: &NetCdfLayout, header: &[u8], columns: &[(ValueFormat, Vec<u8>)]) -> Vec<u8> {
    let mut file = header.to_vec();
    for (placed, source) in layout.columns.iter().zip(layout.sources()) {
        file.resize(usize::try_from(placed.begin).unwrap(), 0);
        let (format, cells) = &columns[source];
        file.extend_from_slice(&encode(*format, cells));
    }
    file.resize(usize::try_from(layout.file_len()).unwrap(), 0);
    file
}

/// What a lazy reader returns for `bytes` of the file.
fn draw(
    layout: &NetCdfLayout,
    header: &[u8],
    columns: &[(ValueFormat, Vec<u8>)],
    bytes: Range<u64>,
) -> Vec<u8> {
    let at = |offset: u64| usize::try_from(offset).unwrap();
    let sources: Vec<usize> = layout.sources().collect();
    let mut drawn = Vec::new();
    let mut begin = None;
    for part in layout.cover(bytes.clone()) {
        let lies = part.bytes();
        begin.get_or_insert(lies.start);
        assert_eq!(begin.unwrap() + drawn.len() as u64, lies.start, "a gap");
        match part {
            NetCdfPart::Header { bytes } => drawn.extend(&header[at(bytes.start)..at(bytes.end)]),
            NetCdfPart::Padding { bytes } => {
                drawn.resize(drawn.len() + at(bytes.end - bytes.start), 0);
            }
            NetCdfPart::Cells {
                column,
                rows,
                bytes,
            } => {
                let (format, cells) = &columns[sources[column]];
                let stored = format.width() as u64;
                let cells = &cells[at(rows.start * stored)..at(rows.end * stored)];
                let encoded = encode(*format, cells);
                assert_eq!(encoded.len() as u64, bytes.end - bytes.start);
                drawn.extend_from_slice(&encoded);
            }
        }
    }
    let end = bytes.end.min(layout.file_len());
    let Some(begin) = begin else {
        assert!(bytes.start >= end);
        return drawn;
    };
    let (skipped, end) = (at(bytes.start - begin), at(end - begin));
    assert!(skipped < 8 && drawn.len() - end < 8);
    drawn[skipped..end].to_vec()
}

fn any_table() -> impl Strategy<Value = (u64, Vec<(ValueFormat, Vec<u8>)>)> {
    let served: Vec<_> = ValueFormat::ALL
        .into_iter()
        .filter(|&format| format != ValueFormat::String)
        .collect();
    let formats = prop::collection::vec(prop::sample::select(served), 1..8);
    (0..50_usize, formats).prop_flat_map(|(rows, formats)| {
        let columns: Vec<_> = formats
            .into_iter()
            .map(|format| {
                (
                    Just(format),
                    prop::collection::vec(any::<u8>(), rows * format.width()),
                )
            })
            .collect();
        (Just(rows as u64), columns)
    })
}

fn named(columns: &[(ValueFormat, Vec<u8>)]) -> Vec<Column> {
    let column = |(at, (format, _)): (usize, &(ValueFormat, _))| {
        Column::new(format!("c {}", at % 6), *format)
    };
    columns.iter().enumerate().map(column).collect()
}

proptest! {
    #[test]
    fn any_range_equals_that_of_the_whole_file_which_an_independent_reader_reads(
        (rows, columns) in any_table(), start in 0..60_000_u64, len in 0..60_000_u64,
    ) {
        let described = named(&columns);
        let layout = NetCdfLayout::new(&described, rows, Spacing::Lazy).unwrap();
        let header = header(&layout, &described, &facts());
        prop_assert_eq!(header.len() as u64, layout.header_len());
        let file = assemble(&layout, &header, &columns);
        prop_assert_eq!(file.len() as u64, layout.file_len());
        let end = file.len();
        let range = |from: usize, to: usize| from.min(end)..to.min(end);
        for (from, to) in [(start, start + len), (0, start), (start % file.len() as u64, u64::MAX)] {
            let (first, last) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap_or(usize::MAX));
            let drawn = draw(&layout, &header, &columns, from..to);
            prop_assert!(drawn == file[range(first, last.max(first))]);
        }

        let read = NetCdfReader::read(&file);
        for (at, (format, cells)) in columns.iter().enumerate().take(6) {
            // The names of both files are the same: `c 1` is not a valid name.
            let variable = &read.variables[&format!("c_{at}")];
            prop_assert_eq!(variable.kind, type_of(*format) as u32);
            prop_assert_eq!(&variable.dimensions, &[0]);
            prop_assert_eq!(read.dimensions[0].1, rows);
            let values = encode(*format, cells);
            let begin = usize::try_from(variable.begin).unwrap();
            prop_assert!(rows == 0 || *values == file[begin..begin + values.len()]);
            let one = rows.max(1) * width(*format);
            prop_assert_eq!(variable.vsize, one.next_multiple_of(4));
        }
    }

    #[test]
    fn any_range_of_a_long_file_does_not_panic(start: u64, end: u64, rows in 0..i32::MAX as u64) {
        let columns = [
            Column::new("a", ValueFormat::Float64),
            Column::new("b", ValueFormat::BmpChar),
        ];
        let layout = NetCdfLayout::new(&columns, rows, Spacing::Lazy).unwrap();
        prop_assert!(layout.cover(start..end).count() <= 6);
    }
}

fn facts() -> FileFacts {
    FileFacts {
        attributes: vec![("title".to_owned(), "a \u{b5}title".to_owned())],
        station: Some(StationFacts {
            id: "HTM".to_owned(),
            name: "Hyltemossa".to_owned(),
            latitude: 56.1,
            longitude: 13.4,
            altitude: Some(115.0),
            sampling_height: None,
        }),
        good_flags: vec!["O".to_owned(), "U".to_owned(), "long".to_owned()],
        utc_offset: Some(1),
    }
}

/// A header as long as the limits allow: every attribute, and names and texts beyond
/// their limits.
fn longest(columns: usize, rows: u64) -> (NetCdfLayout, Vec<Column>, FileFacts) {
    let long = "\u{b5}x ".repeat(2000);
    let column = |at: usize| Column {
        metadata: ColumnMetadata {
            model: Some(format!("m{at}")),
            unit: Some("m ".repeat(3000)),
            description: Some(long.clone()),
            quantity: Some(long.clone()),
            is_flag_for: if at.is_multiple_of(2) {
                vec![format!("m{}", at + 1), format!("m{at}")]
            } else {
                vec![]
            },
        },
        ..Column::new(
            format!("{}{at}", "a very long name ".repeat(100)),
            [
                ValueFormat::Int32,
                ValueFormat::EtcLocalDateTime,
                ValueFormat::Float64,
                ValueFormat::Iso8601Month,
            ][at % 4],
        )
    };
    let columns: Vec<Column> = (0..columns).map(column).collect();
    let facts = FileFacts {
        attributes: (0..1000)
            .map(|at| {
                (
                    if at == 0 {
                        "citation".to_owned()
                    } else {
                        format!("{at}{long}")
                    },
                    long.clone(),
                )
            })
            .collect(),
        station: Some(StationFacts {
            id: long.clone(),
            name: long.clone(),
            sampling_height: Some(1.5),
            ..facts().station.unwrap()
        }),
        good_flags: (0..100).map(|at| (i32::MIN + at).to_string()).collect(),
        utc_offset: Some(i32::MIN),
    };
    (
        NetCdfLayout::new(&columns, rows, Spacing::Lazy).unwrap(),
        columns,
        facts,
    )
}

#[test]
fn longest_header_fits_with_all_attributes() {
    for (columns, rows) in [(1, 1), (2, 0), (5, 600_000_000), (300, 10_000)] {
        let (layout, columns, facts) = longest(columns, rows);
        let bytes = header(&layout, &columns, &facts);
        assert_eq!(bytes.len() as u64, layout.header_len());
        let read = NetCdfReader::read(&bytes);
        assert!(
            read.attributes.contains_key("citation"),
            "attributes were left out"
        );
        assert!(
            read.variables
                .values()
                .all(|v| v.attributes.contains_key("long_name"))
        );
        assert_eq!(bytes[3] == 5, rows > 500_000_000, "CDF-5 above 4 GiB");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn attributes_follow_the_cf_conventions() {
    let described = |label: &str, format, description: &str, unit: &str| Column {
        metadata: ColumnMetadata {
            model: Some(label.to_owned()),
            description: Some(description.to_owned()),
            unit: (!unit.is_empty()).then(|| unit.to_owned()),
            ..ColumnMetadata::default()
        },
        ..Column::new(label, format)
    };
    let mut flag = described("Flag", ValueFormat::BmpChar, "quality flag", "");
    flag.metadata.is_flag_for = vec!["co2".to_owned()];
    let columns = [
        described(
            "co2",
            ValueFormat::Float32,
            "CO2 mixing ratio (dry mole fraction)",
            "\u{b5}mol mol-1",
        ),
        flag,
        described(
            "TIMESTAMP",
            ValueFormat::Iso8601DateTime,
            "time instant, UTC",
            "",
        ),
        described(
            "LOCAL",
            ValueFormat::EtcLocalDateTime,
            "time instant, local",
            "",
        ),
        described("lat [deg]", ValueFormat::Float64, "latitude", "\u{b0}"),
        described("ok", ValueFormat::Boolean, "", ""),
        described("co2", ValueFormat::Float32, "the same again", ""),
    ];
    let layout = NetCdfLayout::new(&columns, 3, Spacing::Lazy).unwrap();
    let read = NetCdfReader::read(&header(&layout, &columns, &facts()));
    assert_eq!(
        read.names,
        [
            "latitude",
            "longitude",
            "altitude",
            "station_id",
            "station_name",
            "co2",
            "Flag",
            "TIMESTAMP",
            "LOCAL",
            "lat_deg",
            "ok",
        ]
    );
    assert_eq!(read.dimensions[0], ("TIMESTAMP".to_owned(), 3));
    let text = |variable: &str, attribute: &str| {
        let (kind, bytes) = read.variables[variable].attributes.get(attribute)?;
        assert_eq!(*kind, 2, "{variable}.{attribute}");
        Some(String::from_utf8(bytes.clone()).unwrap())
    };
    for (variable, attribute, value) in [
        (
            "co2",
            "standard_name",
            "mole_fraction_of_carbon_dioxide_in_air",
        ),
        ("co2", "long_name", "CO2 mixing ratio (dry mole fraction)"),
        ("co2", "units", "umol mol-1"),
        ("co2", "units_portal", "\u{b5}mol mol-1"),
        ("co2", "ancillary_variables", "Flag"),
        (
            "co2",
            "coordinates",
            "latitude longitude altitude station_id station_name",
        ),
        ("Flag", "standard_name", "quality_flag"),
        ("Flag", "flag_values", "O U"),
        ("Flag", "flag_meanings", "good_O good_U"),
        (
            "TIMESTAMP",
            "units",
            "milliseconds since 1970-01-01 00:00:00",
        ),
        ("TIMESTAMP", "standard_name", "time"),
        (
            "LOCAL",
            "comment",
            "local time of the station, UTC+1, without daylight saving time",
        ),
        ("lat_deg", "column_name", "lat [deg]"),
        ("lat_deg", "units", "degrees_north"),
        ("station_id", "cf_role", "timeseries_id"),
        ("ok", "flag_meanings", "false true"),
    ] {
        assert_eq!(
            text(variable, attribute).as_deref(),
            Some(value),
            "{variable}.{attribute}"
        );
    }
    assert_eq!(
        text("TIMESTAMP", "_FillValue"),
        None,
        "a coordinate has no missing values"
    );
    assert_eq!(text("TIMESTAMP", "comment"), None, "UTC");
    let fill = |variable: &str| &read.variables[variable].attributes["_FillValue"];
    assert_eq!(*fill("co2"), (5, f32::NAN.to_be_bytes().to_vec()));
    assert_eq!(*fill("ok"), (1, vec![0x80]));
    assert_eq!(read.attributes["featureType"].1, b"timeSeries");
    assert_eq!(read.attributes["title"].1, "a \u{b5}title".as_bytes());
    assert!(read.header_end < 16 << 10);
}

#[test]
fn dimension_has_the_name_of_the_first_column_that_tells_the_time() {
    for (formats, dimension) in [
        (
            &[ValueFormat::Iso8601Date, ValueFormat::Iso8601DateTime][..],
            "c1",
        ),
        (
            &[ValueFormat::Iso8601Month, ValueFormat::EtcLocalDateTime],
            "c1",
        ),
        (&[ValueFormat::Iso8601Month, ValueFormat::EtcDate], "c1"),
        (&[ValueFormat::Float32, ValueFormat::Iso8601Month], "c1"),
        // Many rows have the same date.
        (
            &[ValueFormat::Iso8601Date, ValueFormat::Iso8601TimeOfDay],
            "row",
        ),
        (&[ValueFormat::Float32], "row"),
    ] {
        let column = |(at, &format)| Column::new(format!("c{at}"), format);
        let columns: Vec<Column> = formats.iter().enumerate().map(column).collect();
        let layout = NetCdfLayout::new(&columns, 3, Spacing::Lazy).unwrap();
        let read = NetCdfReader::read(&header(&layout, &columns, &FileFacts::default()));
        assert_eq!(read.dimensions, [(dimension.to_owned(), 3)], "{formats:?}");
    }
}

/// Regression: the NetCDF library read parts of other variables, since HDF5 looks for its
/// signature at each power of two, and since it reads 4 MiB before it reads the header.
#[test]
fn libraries_read_no_values_of_long_tables_before_the_header() {
    let float = |at: usize| Column::new(at.to_string(), ValueFormat::Float32);
    let columns: Vec<Column> = (0..260).map(float).collect();
    for rows in [1, 100, 1_100, 17_520, 350_000, 4_000_000] {
        let layout = NetCdfLayout::new(&columns, rows, Spacing::Lazy).unwrap();
        assert_eq!(layout.is_long(), rows > 1_000);
        let first_read = if layout.is_long() {
            FIRST_READ
        } else {
            layout.header_len()
        };
        let probes = (9..40).map(|n| 1_u64 << n).map(|at| at..at + PROBE);
        for read in probes.chain(std::iter::once(0..first_read)) {
            let mut parts = layout.cover(read.clone());
            assert!(
                !parts.any(|part| matches!(part, NetCdfPart::Cells { .. })),
                "{read:?}"
            );
        }
        for lies in layout.column_ranges().filter(|_| layout.is_long()) {
            assert!(lies.start.is_multiple_of(ALIGNMENT));
        }
        let data = 260 * 4 * rows;
        assert!(layout.file_len() < FIRST_READ + data + data / 8 + 260 * 2 * ALIGNMENT);
    }
}

#[test]
fn columns_of_compact_files_follow_each_other() {
    let columns: Vec<Column> = (0..3)
        .map(|at| Column::new(at.to_string(), ValueFormat::BmpChar))
        .collect();
    for rows in [10, 9_999_999] {
        let layout = NetCdfLayout::new(&columns, rows, Spacing::Compact).unwrap();
        assert!(!layout.is_long());
        let lie: Vec<_> = layout.column_ranges().collect();
        assert_eq!(lie[0].start, layout.header_len());
        assert_eq!(lie[1].start, lie[0].end.next_multiple_of(4));
    }
}

#[test]
fn values_are_encoded_as_documented() {
    let ints = |values: &[i32]| {
        values
            .iter()
            .flat_map(|v| v.to_be_bytes())
            .collect::<Vec<u8>>()
    };
    for (format, cells, expected) in [
        (
            ValueFormat::Iso8601Month,
            ints(&[i32::MIN, 24_251, i32::MAX]),
            ints(&[i32::MIN, 18_597, i32::MIN]),
        ),
        (
            ValueFormat::Iso8601TimeOfDay,
            ints(&[i32::MIN, 86_400, 3600]),
            ints(&[i32::MIN, 0, 3600]),
        ),
        (
            ValueFormat::EtcDate,
            ints(&[i32::MIN, -1]),
            ints(&[i32::MIN, -1]),
        ),
        (
            ValueFormat::BmpChar,
            [0_u16, 0x55, 0xe4, 0x20ac].map(u16::to_be_bytes).concat(),
            vec![0, 0x55, 0xe4, b'?'],
        ),
    ] {
        assert_eq!(*encode(format, &cells), expected, "{format}");
    }
    let string = [Column::new("s", ValueFormat::String)];
    assert_eq!(
        NetCdfLayout::new(&string, 1, Spacing::Lazy),
        Err(TableError::StringColumn("s".to_owned()))
    );
    let float = [Column::new("f", ValueFormat::Float32)];
    assert!(NetCdfLayout::new(&float, u64::MAX, Spacing::Lazy).is_err());
    let _ = header::FileFacts::default();
}
