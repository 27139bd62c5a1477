//! Compares tables of all value formats as rendered by icos-table and by this
//! portal (section 3).

use proptest::prelude::*;

use super::super::cells;
use super::super::values::{CellFormat, CellValue};
use icos_table::{Column, CsvWriter, ValueFormat};

const SERVED: [(ValueFormat, CellFormat); 12] = [
    (ValueFormat::Int32, CellFormat::Int32),
    (ValueFormat::Float32, CellFormat::Float32),
    (ValueFormat::Float64, CellFormat::Float64),
    (ValueFormat::BmpChar, CellFormat::BmpChar),
    (ValueFormat::Boolean, CellFormat::Boolean),
    (ValueFormat::Iso8601Date, CellFormat::Date),
    (ValueFormat::EtcDate, CellFormat::Date),
    (ValueFormat::Iso8601Month, CellFormat::Month),
    (ValueFormat::Iso8601TimeOfDay, CellFormat::TimeOfDay),
    (ValueFormat::Iso8601DateTime, CellFormat::DateTime),
    (ValueFormat::IsoLikeLocalDateTime, CellFormat::DateTime),
    (ValueFormat::EtcLocalDateTime, CellFormat::DateTime),
];

/// Random values and values that are difficult to format; months and times of
/// day are those that the portal can write.
#[expect(
    clippy::cast_precision_loss,
    reason = "instants fit, and rounded measurements are measurements"
)]
fn values(format: CellFormat) -> BoxedStrategy<CellValue> {
    let ints = |odd: &'static [i32], any: std::ops::RangeInclusive<i32>| {
        prop_oneof![prop::sample::select(odd), any].prop_map(CellValue::Int)
    };
    match format {
        CellFormat::Int32 | CellFormat::Text => {
            ints(&[0, -1, i32::MAX, i32::MIN + 1], i32::MIN..=i32::MAX).boxed()
        }
        // Years 1, 9999 and 10 000; the first and the last possible day.
        CellFormat::Date => prop_oneof![
            3 => -800_000..3_000_000_i32,
            1 => prop::sample::select(&[0, -719_162, 2_932_896, 2_932_897, i32::MAX, i32::MIN + 1][..]),
        ]
        .prop_map(CellValue::Int)
        .boxed(),
        CellFormat::Month => ints(&[0, 12, 9999 * 12 + 11, 10_000 * 12, i32::MAX], 0..=150_000).boxed(),
        CellFormat::TimeOfDay => ints(&[0, 59, 60, 86_399, 86_400, i32::MAX], 0..=86_400).boxed(),
        CellFormat::Float32 => prop_oneof![
            any::<u32>().prop_map(f32::from_bits),
            (0..400_u32).prop_map(f32::from_bits),
            (-50_000_000..50_000_000_i32).prop_map(|n| n as f32 / 1000.0),
            prop::sample::select(
                &[0.0, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX, 1e7, 1e-3][..]
            ),
        ]
        .prop_map(CellValue::Float)
        .boxed(),
        CellFormat::Float64 => prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (0..400_u64).prop_map(f64::from_bits),
            (-50_000_000..50_000_000_i32).prop_map(|n| f64::from(n) / 1000.0),
            prop::sample::select(
                &[0.0, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX, 1e7, 1e-3][..]
            ),
        ]
        .prop_map(CellValue::Double)
        .boxed(),
        CellFormat::DateTime => prop_oneof![
            3 => (-62_135_596_800_000_i64..253_402_300_800_000).prop_map(|ms| ms as f64),
            1 => (0..4_000_000_000_000_i64).prop_map(|ms| (ms / 1000 * 1000) as f64),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => prop::sample::select(
                &[0.0, -0.0, -1.0, 0.5, f64::NAN, f64::INFINITY, -62_135_596_800_000.0][..]
            ),
        ]
        .prop_map(CellValue::Double)
        .boxed(),
        CellFormat::BmpChar => prop_oneof![any::<u16>(), 0..200_u16].prop_map(CellValue::Char).boxed(),
        CellFormat::Boolean => prop_oneof![
            4 => prop::sample::select(&[0, 1][..]),
            1 => any::<i8>(),
        ]
        .prop_map(CellValue::Byte)
        .boxed(),
    }
}

/// Columns with a tenth of their values missing.
fn table() -> impl Strategy<Value = (usize, Vec<(ValueFormat, CellFormat, Vec<CellValue>)>)> {
    let rows = prop_oneof![1 => 0..2_usize, 4 => 2..150_usize];
    (
        rows,
        prop::collection::vec(prop::sample::select(&SERVED[..]), 1..14),
    )
        .prop_flat_map(|(rows, formats)| {
            let columns: Vec<_> = formats
                .into_iter()
                .map(|(named, format)| {
                    let value = prop_oneof![1 => Just(format.null()), 9 => values(format)];
                    let values = prop::collection::vec(value, rows);
                    (Just(named), Just(format), values)
                })
                .collect();
            (Just(rows), columns)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whole_tables_are_drawn_as_this_portal_draws_them(
        (rows, columns) in table(), cuts in prop::collection::vec(0..150_usize, 0..4),
    ) {
        let mut expected = String::new();
        for row in 0..rows {
            for (at, (_, format, values)) in columns.iter().enumerate() {
                expected.push_str(if at > 0 { "," } else { "" });
                cells::write(&mut expected, *format, values[row]).unwrap();
            }
            expected.push('\n');
        }

        let named: Vec<_> = columns.iter().map(|(named, _, _)| Column::new("c", *named)).collect();
        let writer = CsvWriter::new(&named);
        let mut drawn = Vec::new();
        // In windows, as a reader requests them.
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(rows)).collect();
        cuts.extend([0, rows]);
        cuts.sort_unstable();
        for window in cuts.windows(2) {
            let cells: Vec<Vec<u8>> = columns
                .iter()
                .map(|(_, _, values)| {
                    let mut bytes = Vec::new();
                    values[window[0]..window[1]].iter().for_each(|value| value.store(&mut bytes));
                    bytes
                })
                .collect();
            let cells: Vec<&[u8]> = cells.iter().map(Vec::as_slice).collect();
            writer.render(window[1] - window[0], &cells, &mut drawn).unwrap();
        }
        prop_assert_eq!(String::from_utf8(drawn).unwrap(), expected);
    }
}
