//! Any bytes as any columns: rendered at once, row by row, and as Parquet.

#![no_main]

use std::num::NonZeroU32;

use icos_table::schema::Column;
use icos_table::{CsvWriter, GoodFlags, ParquetWriter, RowIndex, ValueFormat};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    columns: Vec<(String, u8)>,
    every: NonZeroU32,
    good: Vec<String>,
    bytes: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let columns: Vec<Column> = input
        .columns
        .into_iter()
        .take(20)
        .map(|(label, format)| {
            let format = ValueFormat::ALL[usize::from(format) % ValueFormat::ALL.len()];
            Column::new(label, format)
        })
        .collect();
    let width: usize = columns.iter().map(|column| column.format.width()).sum();
    let rows = input.bytes.len().checked_div(width).unwrap_or(0);
    let mut rest = input.bytes.as_slice();
    let mut window = Vec::new();
    for column in &columns {
        let (own, later) = rest.split_at(rows * column.format.width());
        window.push(own.to_vec());
        rest = later;
    }
    if let [values, flags, ..] = &mut window[..] {
        GoodFlags::new(&input.good)
            .clear_bad_values(columns[0].format, values, columns[1].format, flags)
            .expect("both have all rows");
    }
    let window: Vec<&[u8]> = window.iter().map(Vec::as_slice).collect();

    let writer = CsvWriter::new(&columns);
    let mut whole = writer.header().to_vec();
    let mut index = RowIndex::new(whole.len() as u64, input.every);
    writer.render_indexed(rows, &window, &mut whole, &mut index).expect("the window fits");
    assert!(whole.len() as u64 <= writer.size_bound(rows as u64));
    assert_eq!(index.text_len(), whole.len() as u64);
    if rows > 0 {
        let span = index.locate(0..u64::MAX).expect("there are rows");
        assert_eq!(span.rows, 0..rows as u64);
    }

    let mut apart = writer.header().to_vec();
    for row in 0..rows {
        let cells: Vec<&[u8]> = columns
            .iter()
            .zip(&window)
            .map(|(column, bytes)| &bytes[row * column.format.width()..][..column.format.width()])
            .collect();
        writer.render(1, &cells, &mut apart).expect("the window fits");
    }
    assert_eq!(apart, whole);

    let mut parquet = ParquetWriter::new(Vec::new(), &columns, &[]).expect("any columns will do");
    parquet.write(rows, &window).expect("the window fits");
    parquet.finish().expect("memory takes all");
});
