//! Renders the cells of one column as text.

use crate::ValueFormat;
use crate::number::{self, CellText, low_byte};
use crate::time::{self, Instants};

/// Writes each big-endian value of a column to its buffer in `texts`, and the
/// length of the text to `lens`; a null has length 0. Strings, which the portal
/// does not serve, are written as nulls.
pub(super) fn render(format: ValueFormat, bytes: &[u8], texts: &mut [CellText], lens: &mut [u8]) {
    match format {
        ValueFormat::Int32 => ints(bytes, texts, lens, number::int),
        ValueFormat::Iso8601Date | ValueFormat::EtcDate => ints(bytes, texts, lens, time::date),
        ValueFormat::Iso8601Month => ints(bytes, texts, lens, time::month),
        ValueFormat::Iso8601TimeOfDay => ints(bytes, texts, lens, time::time_of_day),
        ValueFormat::Float32 => number::floats(bytes.as_chunks().0, texts, lens),
        ValueFormat::Float64 => each(bytes, texts, lens, |text, cell| {
            number::double(text, f64::from_be_bytes(cell))
        }),
        ValueFormat::Iso8601DateTime
        | ValueFormat::IsoLikeLocalDateTime
        | ValueFormat::EtcLocalDateTime => {
            let mut instants = Instants::new();
            each(bytes, texts, lens, |text, cell| {
                instants.write(text, f64::from_be_bytes(cell))
            });
        }
        ValueFormat::BmpChar => each(bytes, texts, lens, |text, cell| {
            character(text, u16::from_be_bytes(cell))
        }),
        ValueFormat::Boolean => each(bytes, texts, lens, |text, cell| {
            match i8::from_be_bytes(cell) {
                i8::MIN => 0,
                value => number::int(text, value.into()),
            }
        }),
        ValueFormat::String => lens.fill(0),
    }
}

/// Upper bound of the length of a cell in bytes.
pub(super) fn max_len(format: ValueFormat) -> usize {
    match format {
        ValueFormat::Int32 => number::INT_MAX,
        ValueFormat::Float32 => number::FLOAT_MAX,
        ValueFormat::Float64 => number::DOUBLE_MAX,
        // The UTF-8 of one code unit.
        ValueFormat::BmpChar => 3,
        // `-127`.
        ValueFormat::Boolean => 4,
        ValueFormat::String => 0,
        ValueFormat::Iso8601Date | ValueFormat::EtcDate => time::DATE_MAX,
        ValueFormat::Iso8601Month => time::MONTH_MAX,
        ValueFormat::Iso8601TimeOfDay => time::TIME_MAX,
        ValueFormat::Iso8601DateTime
        | ValueFormat::IsoLikeLocalDateTime
        | ValueFormat::EtcLocalDateTime => time::INSTANT_MAX,
    }
}

fn ints(
    bytes: &[u8],
    texts: &mut [CellText],
    lens: &mut [u8],
    write: impl Fn(&mut CellText, i32) -> usize,
) {
    each(bytes, texts, lens, |text, cell| {
        match i32::from_be_bytes(cell) {
            i32::MIN => 0,
            value => write(text, value),
        }
    });
}

fn each<const WIDTH: usize>(
    bytes: &[u8],
    texts: &mut [CellText],
    lens: &mut [u8],
    mut write: impl FnMut(&mut CellText, [u8; WIDTH]) -> usize,
) {
    let cells = bytes.as_chunks::<WIDTH>().0;
    for ((&cell, text), len) in cells.iter().zip(texts).zip(lens) {
        *len = low_byte(write(text, cell));
    }
}

/// Writes a UTF-16 code unit as UTF-8. Half of a surrogate pair becomes `?`, as
/// in Java.
fn character(text: &mut CellText, unit: u16) -> usize {
    match unit {
        0 => 0,
        unit => char::from_u32(u32::from(unit))
            .unwrap_or('?')
            .encode_utf8(text)
            .len(),
    }
}
