//! NetCDF files: headers of any metadata have their fixed length, and parts follow each
//! other to the end of the file.

#![no_main]

use std::ops::Range;

use icos_table::netcdf::{FileFacts, StationFacts, header};
use icos_table::schema::Column;
use icos_table::{NetCdfLayout, Spacing, ValueFormat};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    rows: u64,
    is_lazy: bool,
    columns: Vec<InputColumn>,
    attributes: Vec<(String, String)>,
    station: Option<(String, String, [f64; 2], Option<f64>)>,
    good_flags: Vec<String>,
    utc_offset: Option<i32>,
    bytes: Range<u64>,
}

#[derive(Arbitrary, Debug)]
struct InputColumn {
    label: String,
    format: u8,
    model: Option<String>,
    unit: Option<String>,
    description: Option<String>,
    quantity: Option<String>,
    is_flag_for: Vec<String>,
}

fuzz_target!(|input: Input| {
    let columns = input.columns.into_iter().map(|given| {
        let format = ValueFormat::ALL[usize::from(given.format) % ValueFormat::ALL.len()];
        let mut column = Column::new(given.label, format);
        column.metadata.model = given.model;
        column.metadata.unit = given.unit;
        column.metadata.description = given.description;
        column.metadata.quantity = given.quantity;
        column.metadata.is_flag_for = given.is_flag_for;
        column
    });
    let columns: Vec<Column> = columns.collect();
    let spacing = if input.is_lazy {
        Spacing::Lazy
    } else {
        Spacing::Compact
    };
    let Ok(layout) = NetCdfLayout::new(&columns, input.rows, spacing) else {
        return;
    };
    let facts = FileFacts {
        attributes: input.attributes,
        station: input.station.map(|(id, name, [latitude, longitude], metres)| StationFacts {
            id,
            name,
            latitude,
            longitude,
            altitude: metres,
            sampling_height: metres,
        }),
        good_flags: input.good_flags,
        utc_offset: input.utc_offset,
    };
    let bytes = header::header(&layout, &columns, &facts);
    assert_eq!(bytes.len() as u64, layout.header_len());
    assert!(bytes.starts_with(b"CDF"));
    let end = input.bytes.end.min(layout.file_len());
    let mut at = None;
    // A value at the edge is covered as a whole.
    for part in layout.cover(input.bytes.clone()) {
        let lies = part.bytes();
        assert!(lies.start < lies.end && lies.end <= layout.file_len());
        match at {
            None => assert!(lies.start <= input.bytes.start),
            Some(at) => assert_eq!(at, lies.start),
        }
        at = Some(lies.end);
    }
    match at {
        None => assert!(input.bytes.start >= end),
        Some(at) => assert!(end <= at),
    }
});
