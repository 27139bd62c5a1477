//! Reads written files back with the `parquet` crate's reader; the integration
//! tests use other readers.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int32Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use arrow_array::{Array as _, ArrayRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::RowGroupMetaData;
use proptest::prelude::*;

use super::*;
use crate::CsvWriter;
use crate::schema::ColumnMetadata;

/// The Parquet file of one window.
fn written(columns: &[Column], rows: usize, window: &[&[u8]]) -> Vec<u8> {
    let about = [("pid".to_owned(), "11676/abc".to_owned())];
    let mut writer = ParquetWriter::new(Vec::new(), columns, &about).unwrap();
    writer.write(rows, window).unwrap();
    writer.finish().unwrap()
}

fn read(file: Vec<u8>) -> (ParquetRecordBatchReaderBuilder<bytes::Bytes>, RecordBatch) {
    let file = bytes::Bytes::from(file);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap();
    let mut batches = reader.with_batch_size(rows.max(1)).build().unwrap();
    let empty = RecordBatch::new_empty(Arc::clone(builder.schema()));
    let batch = batches.next().map_or(empty, Result::unwrap);
    assert!(batches.next().is_none());
    (builder, batch)
}

/// One column, written and read back.
fn column(format: ValueFormat, bytes: &[u8]) -> ArrayRef {
    let columns = [Column::new("x", format)];
    let file = written(&columns, bytes.len() / format.width(), &[bytes]);
    Arc::clone(read(file).1.column(0))
}

/// Regression test: the I/O error of the last write was once lost in a text, so
/// that a full disk looked like an error in the table.
#[test]
fn error_of_the_underlying_writer_is_returned_by_into_io() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let columns = [Column::new("x", ValueFormat::Int32)];
    let written = ParquetWriter::new(Full, &columns, &[]).and_then(|mut writer| {
        writer.write(1, &[&[0; 4]])?;
        writer.finish()
    });
    let error = written.err().expect("nothing can be written");
    assert_eq!(error.into_io().unwrap().kind(), io::ErrorKind::StorageFull);

    let mut writer = ParquetWriter::new(Vec::new(), &columns, &[]).unwrap();
    let error = writer.write(2, &[&[0; 4]]).unwrap_err();
    error.into_io().unwrap_err();
}

#[test]
fn every_format_has_the_documented_type_and_null() {
    let ints = |values: [i32; 3]| values.map(i32::to_be_bytes).concat();
    let doubles = |values: [f64; 3]| values.map(f64::to_be_bytes).concat();
    let null = i32::MIN;

    let x = column(ValueFormat::Int32, &ints([null, 0, -7]));
    assert!(
        x.as_primitive::<Int32Type>()
            .iter()
            .eq([None, Some(0), Some(-7)])
    );
    let x = column(
        ValueFormat::Float32,
        &[f32::NAN, 412.37, f32::INFINITY]
            .map(f32::to_be_bytes)
            .concat(),
    );
    let expected = [None, Some(412.37), Some(f32::INFINITY)];
    assert!(x.as_primitive::<Float32Type>().iter().eq(expected));
    let x = column(ValueFormat::Float64, &doubles([f64::NAN, 0.1, -1e300]));
    let expected = [None, Some(0.1), Some(-1e300)];
    assert!(x.as_primitive::<Float64Type>().iter().eq(expected));
    let x = column(ValueFormat::Boolean, &[0x80, 1, 0]);
    assert!(x.as_boolean().iter().eq([None, Some(true), Some(false)]));

    for format in [ValueFormat::Iso8601Date, ValueFormat::EtcDate] {
        let x = column(format, &ints([null, 0, -1]));
        assert!(
            x.as_primitive::<Date32Type>()
                .iter()
                .eq([None, Some(0), Some(-1)])
        );
    }
    let x = column(
        ValueFormat::Iso8601Month,
        &ints([null, 1970 * 12 + 1, i32::MAX]),
    );
    // The last month, 178956970-08, is out of range of date32.
    assert!(
        x.as_primitive::<Date32Type>()
            .iter()
            .eq([None, Some(31), None])
    );
    let x = column(ValueFormat::Iso8601TimeOfDay, &ints([null, 86_400, 5400]));
    let expected = [None, Some(0), Some(5_400_000)];
    assert!(
        x.as_primitive::<Time32MillisecondType>()
            .iter()
            .eq(expected)
    );

    let stamps = doubles([f64::NAN, 0.0, 1_577_836_800_000.0]);
    let expected = [None, Some(0), Some(1_577_836_800_000)];
    for (format, zone) in [
        (ValueFormat::Iso8601DateTime, Some("UTC".into())),
        (ValueFormat::IsoLikeLocalDateTime, None),
        (ValueFormat::EtcLocalDateTime, None),
    ] {
        let x = column(format, &stamps);
        assert_eq!(
            x.data_type(),
            &DataType::Timestamp(TimeUnit::Millisecond, zone)
        );
        assert!(
            x.as_primitive::<TimestampMillisecondType>()
                .iter()
                .eq(expected)
        );
    }

    let x = column(
        ValueFormat::BmpChar,
        &[0, u16::from(b'U'), 0xd83d].map(u16::to_be_bytes).concat(),
    );
    let flags = x
        .as_dictionary::<Int32Type>()
        .downcast_dict::<arrow_array::StringArray>();
    assert!(flags.unwrap().into_iter().eq([None, Some("U"), Some("?")]));
}

#[test]
fn columns_keep_their_order_without_repeats() {
    let columns = [
        Column::new("z", ValueFormat::Boolean),
        Column::new("a", ValueFormat::Boolean),
        Column::new("z", ValueFormat::Boolean),
    ];
    let (_, batch) = read(written(&columns, 1, &[&[1], &[0], &[1]]));
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["z", "a"]);
    assert!(batch.column(0).as_boolean().value(0));
}

#[test]
fn metadata_of_columns_and_table_is_in_the_file() {
    let co2 = Column {
        metadata: ColumnMetadata {
            model: Some("http://meta/co2".into()),
            unit: Some("\u{b5}mol mol-1".into()),
            description: Some("CO2 mixing ratio".into()),
            quantity: Some("portion".into()),
            is_flag_for: vec![],
        },
        ..Column::new("co2", ValueFormat::Float32)
    };
    let flag = Column {
        metadata: ColumnMetadata {
            is_flag_for: vec!["http://meta/co2".into(), "http://meta/unused".into()],
            ..ColumnMetadata::default()
        },
        ..Column::new("Flag", ValueFormat::BmpChar)
    };
    let (builder, batch) = read(written(&[co2, flag], 0, &[&[], &[]]));
    let schema = batch.schema();
    let known = |column: usize, key: &str| {
        let metadata = schema.field(column).metadata();
        metadata.get(key).map(String::as_str)
    };
    assert_eq!(known(0, "unit"), Some("\u{b5}mol mol-1"));
    assert_eq!(known(0, "description"), Some("CO2 mixing ratio"));
    assert_eq!(known(0, "value_format"), Some("float32"));
    assert_eq!(known(0, "flag_for"), None);
    assert_eq!(known(1, "flag_for"), Some("co2"));
    assert_eq!(known(1, "unit"), None);

    let file = builder.metadata().file_metadata();
    assert!(file.created_by().unwrap().starts_with("icosfs version "));
    let about = file.key_value_metadata().unwrap();
    let pid = about.iter().find(|pair| pair.key == "pid").unwrap();
    assert_eq!(pid.value.as_deref(), Some("11676/abc"));
    assert_eq!(
        schema.metadata().get("pid").map(String::as_str),
        Some("11676/abc")
    );
}

#[test]
fn long_table_has_several_row_groups_with_statistics() {
    let columns = [Column::new("x", ValueFormat::Boolean)];
    let mut writer = ParquetWriter::new(Vec::new(), &columns, &[]).unwrap();
    let window = vec![1; 400_000];
    for _ in 0..3 {
        writer.write(window.len(), &[&window]).unwrap();
    }
    let file = writer.finish().unwrap();
    assert!(file.len() < 10_000);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    let groups = reader.metadata().row_groups();
    let rows: Vec<i64> = groups.iter().map(RowGroupMetaData::num_rows).collect();
    assert_eq!(rows, [1 << 20, 1_200_000 - (1 << 20)]);
    let statistics = groups[1].column(0).statistics().unwrap();
    assert_eq!(statistics.null_count_opt(), Some(0));
    assert_eq!(statistics.min_bytes_opt(), Some(&[1][..]));
}

#[test]
fn write_of_mismatched_window_returns_error() {
    let columns = [Column::new("x", ValueFormat::Int32)];
    let mut writer = ParquetWriter::new(Vec::new(), &columns, &[]).unwrap();
    assert!(matches!(
        writer.write(1, &[&[0; 3]]),
        Err(ParquetError::Window(TableError::WindowLength { .. }))
    ));
    assert!(writer.write(1, &[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nulls match the CSV's empty cells; numbers equal those parsed from its
    /// text.
    #[test]
    fn any_bytes_give_the_values_of_the_csv(
        format in prop::sample::select(&ValueFormat::ALL[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        prop_assume!(format != ValueFormat::String);
        let rows = bytes.len() / format.width();
        let bytes = &bytes[..rows * format.width()];
        let mut text = Vec::new();
        CsvWriter::new(&[Column::new("x", format)]).render(rows, &[bytes], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let cells: Vec<&str> = text.split_terminator('\n').collect();

        let array = column(format, bytes);
        prop_assert_eq!(array.len(), rows);
        // A character may be a line feed, which splits the line.
        if cells.len() == rows {
            for (row, cell) in cells.iter().enumerate() {
                let beyond_dates = format == ValueFormat::Iso8601Month;
                prop_assert!(array.is_null(row) == cell.is_empty() || beyond_dates);
                if array.is_null(row) {
                    continue;
                }
                match format {
                    ValueFormat::Int32 => prop_assert_eq!(
                        cell.parse(), Ok(array.as_primitive::<Int32Type>().value(row))
                    ),
                    ValueFormat::Float32 => prop_assert_eq!(
                        cell.parse(), Ok(array.as_primitive::<Float32Type>().value(row))
                    ),
                    ValueFormat::Float64 => prop_assert_eq!(
                        cell.parse(), Ok(array.as_primitive::<Float64Type>().value(row))
                    ),
                    _ => {}
                }
            }
        }
    }
}
