//! Converts the big-endian bytes of a column to an Arrow array.

use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int32Array,
    Time32MillisecondArray, TimestampMillisecondArray,
};

use crate::ValueFormat;
use crate::time::{DAY_SECONDS, days_to_month};

/// The values of a window of a column. Strings, which the portal does not serve,
/// become nulls.
pub(super) fn of(format: ValueFormat, bytes: &[u8]) -> ArrayRef {
    match format {
        ValueFormat::Int32 => Arc::new(ints(bytes).collect::<Int32Array>()),
        ValueFormat::Float32 => Arc::new(floats(bytes).collect::<Float32Array>()),
        ValueFormat::Float64 => Arc::new(doubles(bytes).collect::<Float64Array>()),
        ValueFormat::BmpChar | ValueFormat::String => characters(format, bytes),
        ValueFormat::Boolean => Arc::new(booleans(bytes).collect::<BooleanArray>()),
        ValueFormat::Iso8601Date | ValueFormat::EtcDate => {
            Arc::new(ints(bytes).collect::<Date32Array>())
        }
        ValueFormat::Iso8601Month => {
            let first_days = ints(bytes).map(|months| days_to_month(months?));
            Arc::new(first_days.collect::<Date32Array>())
        }
        ValueFormat::Iso8601TimeOfDay => {
            let millis = ints(bytes).map(|seconds| Some(seconds?.rem_euclid(DAY_SECONDS) * 1000));
            Arc::new(millis.collect::<Time32MillisecondArray>())
        }
        ValueFormat::Iso8601DateTime => Arc::new(instants(bytes).with_timezone("UTC")),
        ValueFormat::IsoLikeLocalDateTime | ValueFormat::EtcLocalDateTime => {
            Arc::new(instants(bytes))
        }
    }
}

fn cells<const WIDTH: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; WIDTH]> {
    bytes.as_chunks().0.iter().copied()
}

fn ints(bytes: &[u8]) -> impl Iterator<Item = Option<i32>> {
    cells(bytes)
        .map(i32::from_be_bytes)
        .map(|value| (value != i32::MIN).then_some(value))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = Option<f32>> {
    cells(bytes)
        .map(f32::from_be_bytes)
        .map(|value| (!value.is_nan()).then_some(value))
}

fn doubles(bytes: &[u8]) -> impl Iterator<Item = Option<f64>> {
    cells(bytes)
        .map(f64::from_be_bytes)
        .map(|value| (!value.is_nan()).then_some(value))
}

/// The portal writes 1 and 0; any other value except the null counts as true.
fn booleans(bytes: &[u8]) -> impl Iterator<Item = Option<bool>> {
    cells(bytes)
        .map(i8::from_be_bytes)
        .map(|value| (value != i8::MIN).then_some(value != 0))
}

fn instants(bytes: &[u8]) -> TimestampMillisecondArray {
    #[expect(clippy::cast_possible_truncation, reason = "as in the CSV")]
    let millis = doubles(bytes).map(|value| value.map(|value| value as i64));
    millis.collect()
}

/// Characters as a dictionary of strings. Half of a surrogate pair becomes `?`, as
/// in the CSV.
fn characters(format: ValueFormat, bytes: &[u8]) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<Int32Type>::new();
    match format {
        ValueFormat::BmpChar => {
            for unit in cells(bytes).map(u16::from_be_bytes) {
                if unit == 0 {
                    builder.append_null();
                } else {
                    let character = char::from_u32(u32::from(unit)).unwrap_or('?');
                    builder.append_value(character.encode_utf8(&mut [0; 4]));
                }
            }
        }
        _ => builder.append_nulls(bytes.len() / format.width()),
    }
    Arc::new(builder.finish())
}
