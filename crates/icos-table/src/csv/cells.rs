//! The cells of one column as text.

use crate::ValueFormat;
use crate::number::{self, CellText, low_byte};
use crate::time::{self, Instants};

/// Writes a column's big-endian values each to its slot, and the lengths to
/// `lens`, 0 for a null. Strings, which are not served, are taken for nulls.
pub(super) fn render(format: ValueFormat, bytes: &[u8], slots: &mut [CellText], lens: &mut [u8]) {
    match format {
        ValueFormat::Int32 => ints(bytes, slots, lens, number::int),
        ValueFormat::Iso8601Date | ValueFormat::EtcDate => ints(bytes, slots, lens, time::date),
        ValueFormat::Iso8601Month => ints(bytes, slots, lens, time::month),
        ValueFormat::Iso8601TimeOfDay => ints(bytes, slots, lens, time::time_of_day),
        ValueFormat::Float32 => number::floats(bytes.as_chunks().0, slots, lens),
        ValueFormat::Float64 => each(bytes, slots, lens, |slot, cell| {
            number::double(slot, f64::from_be_bytes(cell))
        }),
        ValueFormat::Iso8601DateTime
        | ValueFormat::IsoLikeLocalDateTime
        | ValueFormat::EtcLocalDateTime => {
            let mut instants = Instants::new();
            each(bytes, slots, lens, |slot, cell| {
                instants.write(slot, f64::from_be_bytes(cell))
            });
        }
        ValueFormat::BmpChar => each(bytes, slots, lens, |slot, cell| {
            character(slot, u16::from_be_bytes(cell))
        }),
        ValueFormat::Boolean => each(bytes, slots, lens, |slot, cell| {
            match i8::from_be_bytes(cell) {
                i8::MIN => 0,
                value => number::int(slot, value.into()),
            }
        }),
        ValueFormat::String => lens.fill(0),
    }
}

/// The longest cell of a format, in bytes.
pub(super) fn max_len(format: ValueFormat) -> usize {
    match format {
        ValueFormat::Int32 => number::INT_MAX,
        ValueFormat::Float32 => number::FLOAT_MAX,
        ValueFormat::Float64 => number::DOUBLE_MAX,
        // A code unit's UTF-8; a byte's `-127`.
        ValueFormat::BmpChar => 3,
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
    slots: &mut [CellText],
    lens: &mut [u8],
    write: impl Fn(&mut CellText, i32) -> usize,
) {
    each(bytes, slots, lens, |slot, cell| {
        match i32::from_be_bytes(cell) {
            i32::MIN => 0,
            value => write(slot, value),
        }
    });
}

fn each<const WIDTH: usize>(
    bytes: &[u8],
    slots: &mut [CellText],
    lens: &mut [u8],
    mut write: impl FnMut(&mut CellText, [u8; WIDTH]) -> usize,
) {
    let cells = bytes.as_chunks::<WIDTH>().0;
    for ((&cell, slot), len) in cells.iter().zip(slots).zip(lens) {
        *len = low_byte(write(slot, cell));
    }
}

/// Writes a UTF-16 code unit in UTF-8, half of a surrogate pair as Java's `?`.
fn character(slot: &mut CellText, unit: u16) -> usize {
    match unit {
        0 => 0,
        unit => char::from_u32(u32::from(unit))
            .unwrap_or('?')
            .encode_utf8(slot)
            .len(),
    }
}
