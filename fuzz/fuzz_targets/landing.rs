//! Untrusted landing pages, up to the Parquet file with their metadata.

#![no_main]

use icos_portal::landing::Landing;
use icos_table::schema::{Column, ColumnMetadata};
use icos_table::{GoodFlags, ParquetWriter, Schema, ValueFormat};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(page) = Landing::parse(json) else { return };
    let columns: Vec<Column> = page
        .columns()
        .iter()
        .take(20)
        .enumerate()
        .map(|(at, info)| Column {
            metadata: ColumnMetadata {
                model: info.model.as_ref().map(|model| model.uri.clone()),
                unit: info.value_type.as_ref().and_then(|value| value.unit.clone()),
                is_flag_for: info.is_flag_for.clone(),
                ..ColumnMetadata::default()
            },
            ..Column::new(&*info.label, ValueFormat::ALL[at % ValueFormat::ALL.len()])
        })
        .collect();
    let good = GoodFlags::new(page.good_flags());
    good.clear_bad_values(ValueFormat::Float32, &mut [0; 4], ValueFormat::BmpChar, &[0, 65])
        .expect("both have one row");
    if Schema::new(0, columns.clone()).is_ok() {
        let about = [("file_name".to_owned(), page.file_name)];
        let parquet = ParquetWriter::new(Vec::new(), &columns, &about);
        parquet.expect("any names are accepted").finish().expect("memory takes all");
    }
});
