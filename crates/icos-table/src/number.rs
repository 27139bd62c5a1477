//! Writes numbers as Java 21 does (`Float.toString`, `Double.toString`).
//!
//! The rule, from the Javadoc: of the decimals that parse to the same number,
//! take those with the fewest digits; of these, the closest to the number's exact
//! value. One digit does not count as shorter than two: if one digit suffices,
//! the closest decimal of at most two digits is taken (so `4.9E-324`, not
//! `5E-324`). The notation is plain if 1e-3 <= abs < 1e7; otherwise it has one
//! digit before the point and an exponent. There is always a digit after the
//! point.
//!
//! [`decimal`] finds the digits of floats in the usual range of measurements,
//! zmij those of all other numbers. zmij differs from the rule in two ways, which
//! this module corrects: it prefers one digit over two, which matters only for
//! the smallest subnormals, and its notation is different.

use super::decimal::{self, FloatDecimal};
use super::digits;

/// Size in bytes of the buffer of a cell; at least the longest text.
pub(super) const CELL_SIZE: usize = 32;
/// Buffer of a cell's text, which begins at the first byte.
pub(super) type CellText = [u8; CELL_SIZE];

/// Longest text of an `i32`: `-2147483648`.
pub(super) const INT_MAX: usize = 11;
/// Longest text of an `f32`: `-1.17549435E-38`.
pub(super) const FLOAT_MAX: usize = 15;
/// Longest text of an `f64`: `-2.2250738585072014E-308`.
pub(super) const DOUBLE_MAX: usize = 24;

/// Smallest number of which the shortest decimal of one digit is also the closest
/// of two digits. For numbers below 100 units in the last place a decimal of two
/// digits may be closer: half a unit is then more than half a step between
/// decimals of two digits, which is 1/200 of the number. This bound is 700 units
/// of the smallest `f32` and far more units of the smallest `f64`, for which a
/// bound that is too high is harmless.
const ONE_DIGIT_MIN: f64 = 1e-42;

/// Writes an integer; returns the length.
pub(super) fn int(slot: &mut CellText, value: i32) -> usize {
    let mut buffer = itoa::Buffer::new();
    put(slot, buffer.format(value).as_bytes())
}

/// Writes each number to its buffer in `texts` and the length to `lens`; NaN
/// becomes an empty text.
///
/// Works in two short loops over a few numbers at a time, so that the processor
/// can overlap the work on several numbers.
pub(super) fn floats(cells: &[[u8; 4]], texts: &mut [CellText], lens: &mut [u8]) {
    const STEP: usize = 64;
    let mut decimals = [FloatDecimal::default(); STEP];
    let texts = texts.chunks_mut(STEP);
    for ((cells, texts), lens) in cells.chunks(STEP).zip(texts).zip(lens.chunks_mut(STEP)) {
        for (decimal, &cell) in decimals.iter_mut().zip(cells) {
            *decimal = decimal::shortest(u32::from_be_bytes(cell) & !SIGN).unwrap_or_default();
        }
        for (((&cell, decimal), slot), len) in cells.iter().zip(&decimals).zip(texts).zip(lens) {
            let sign = usize::from(cell[0] >> 7);
            slot[0] = b'-';
            *len = low_byte(if decimal.places == 0 {
                rare_float(slot, f32::from_be_bytes(cell))
            } else {
                plain(slot, sign, *decimal)
            });
        }
    }
}

/// The sign bit of an `f32`.
const SIGN: u32 = 1 << 31;

/// The low byte of a small number, such as a length.
pub(super) fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

/// Writes a decimal below 2^20 at offset `at`, which is 0 or 1; returns the
/// length of the text.
///
/// Leading and trailing zeros are both counted as trailing zero bits, since
/// counting leading zero bits is slow before x86-64-v3. A sentinel bit stops the
/// count at the decimal point.
#[inline]
fn plain(slot: &mut CellText, at: usize, decimal: FloatDecimal) -> usize {
    let FloatDecimal { digits, places } = decimal;
    let places = places as usize;
    // Nine digits: a first one, which is 0 or 1, and eight more.
    let first = digits >= 100_000_000;
    let backward = digits::eight(digits - 100_000_000 * u32::from(first));
    let forward = backward.swap_bytes();
    let text = forward | digits::ASCII;
    if places < 8 {
        // Skip leading zeros except one before the point.
        let whole = 8 * (8 - places);
        let zeros =
            (forward | u64::from(first) | 1 << (whole - 8)).trailing_zeros() as usize & 0x38;
        slot[at] = b'1';
        let at = at + usize::from(first);
        put_eight(slot, at, text >> zeros);
        let point = at + (whole - zeros) / 8;
        slot[point] = b'.';
        put_eight(slot, point + 1, text >> whole);
        // Drop trailing zeros except one after the point.
        let zeros = (backward | 1 << (8 * places - 8)).trailing_zeros() as usize / 8;
        point + 1 + places - zeros
    } else {
        let start = u64::from_le_bytes(*b"0.000000") | u64::from(first) << (8 * (places - 7));
        put_eight(slot, at, start);
        put_eight(slot, at + places - 6, text);
        let zeros = backward.trailing_zeros() as usize / 8;
        at + 2 + places - zeros
    }
}

fn put_eight(slot: &mut CellText, at: usize, text: u64) {
    slot[at..at + 8].copy_from_slice(&text.to_le_bytes());
}

/// Writes a float outside the range of [`decimal`].
#[inline(never)]
fn rare_float(slot: &mut CellText, value: f32) -> usize {
    if value.is_finite() {
        let mut buffer = zmij::Buffer::new();
        as_java(slot, buffer.format_finite(value), f64::from(value))
    } else {
        not_finite(slot, f64::from(value))
    }
}

/// Writes a number, or nothing for NaN; returns the length.
pub(super) fn double(slot: &mut CellText, value: f64) -> usize {
    if value.is_finite() {
        let mut buffer = zmij::Buffer::new();
        as_java(slot, buffer.format_finite(value), value)
    } else {
        not_finite(slot, value)
    }
}

fn not_finite(slot: &mut CellText, value: f64) -> usize {
    match value {
        _ if value.is_nan() => 0,
        _ if value > 0.0 => put(slot, b"Infinity"),
        _ => put(slot, b"-Infinity"),
    }
}

/// Converts zmij's text of a finite number to Java's notation. Where Java uses
/// plain notation, zmij's text is identical.
#[inline]
fn as_java(slot: &mut CellText, text: &str, value: f64) -> usize {
    let magnitude = value.abs();
    if (1e-3..1e7).contains(&magnitude) || magnitude == 0.0 {
        return put(slot, text.as_bytes());
    }
    let sign = usize::from(value < 0.0);
    let text = text.as_bytes();
    let Some(e) = text.iter().rposition(|&c| c == b'e') else {
        return scientific(slot, &text[..sign], &text[sign..]);
    };
    if e == sign + 1 && magnitude < ONE_DIGIT_MIN {
        return two_digits(slot, value);
    }
    let mut at = put(slot, &text[..e]);
    if e == sign + 1 {
        at += put_at(slot, at, b".0");
    }
    let exponent = &text[e + 1..];
    at += put_at(slot, at, b"E");
    at + put_at(slot, at, exponent.strip_prefix(b"+").unwrap_or(exponent))
}

/// Writes the closest decimal of two digits of a very small number.
#[cold]
fn two_digits(slot: &mut CellText, value: f64) -> usize {
    let text = format!("{value:.1E}");
    put(slot, text.as_bytes())
}

/// Writes a plain decimal other than 0 in Java's scientific notation.
fn scientific(slot: &mut CellText, sign: &[u8], plain: &[u8]) -> usize {
    let point = plain.iter().position(|&c| c == b'.').unwrap_or(plain.len());
    let first = plain
        .iter()
        .position(|c| (b'1'..=b'9').contains(c))
        .unwrap_or(0);
    let last = plain
        .iter()
        .rposition(|c| (b'1'..=b'9').contains(c))
        .unwrap_or(0);

    let mut at = put(slot, sign);
    at += put_at(slot, at, &plain[first..=first]);
    at += put_at(slot, at, b".");
    if first == last {
        at += put_at(slot, at, b"0");
    }
    for &digit in plain[first + 1..=last.max(first)]
        .iter()
        .filter(|&&c| c != b'.')
    {
        at += put_at(slot, at, &[digit]);
    }
    at += put_at(slot, at, b"E");
    let exponent = if first < point {
        point - first - 1
    } else {
        at += put_at(slot, at, b"-");
        first - point
    };
    at + put_at(slot, at, itoa::Buffer::new().format(exponent).as_bytes())
}

fn put(slot: &mut CellText, text: &[u8]) -> usize {
    put_at(slot, 0, text)
}

/// Copies a short text; returns its length. Copies the first and last eight
/// bytes, which may overlap: this is much faster than a `memcpy` of variable
/// length.
#[inline]
fn put_at(slot: &mut CellText, at: usize, text: &[u8]) -> usize {
    let place = &mut slot[at..at + text.len()];
    match (text.len(), text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (..=16, Some(first), Some(last)) => {
            place[..8].copy_from_slice(first);
            place[text.len() - 8..].copy_from_slice(last);
        }
        (17.., ..) => place.copy_from_slice(text),
        _ => {
            for (place, &c) in place.iter_mut().zip(text) {
                *place = c;
            }
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    mod model;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn any_float_matches_the_model(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assert_eq!(float_text(value), model::text(value));
        }

        #[test]
        fn any_double_matches_the_model(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assert_eq!(double_text(value), model::text(value));
        }

        #[test]
        fn decimal_measurements_match_the_model(digits: i32, places in 0..12) {
            let value = f64::from(digits) / 10_f64.powi(places);
            prop_assert_eq!(double_text(value), model::text(value));
            #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest float")]
            let value = value as f32;
            prop_assert_eq!(float_text(value), model::text(value));
        }
    }

    #[test]
    fn every_binary_exponent_matches_the_model() {
        // Numbers just below a power of two are closer together than those above.
        for exponent in 0..=u32::from(u8::MAX) {
            for step in -2..=2 {
                let value = f32::from_bits((exponent << 23).wrapping_add_signed(step));
                assert_eq!(float_text(value), model::text(value), "{value:e}");
            }
        }
        for exponent in 0..=2047_u64 {
            for step in -1..=1 {
                let value = f64::from_bits((exponent << 52).wrapping_add_signed(step));
                assert_eq!(double_text(value), model::text(value), "{value:e}");
            }
        }
    }

    #[test]
    fn smallest_numbers_match_the_model() {
        // Here one digit may suffice although two digits are closer.
        for bits in 0..500 {
            let value = f32::from_bits(bits);
            assert_eq!(float_text(value), model::text(value), "{value:e}");
            let value = f64::from_bits(bits.into());
            assert_eq!(double_text(value), model::text(value), "{value:e}");
        }
    }

    fn float_text(value: f32) -> String {
        let (mut texts, mut lens) = ([[0; CELL_SIZE]; 1], [0; 1]);
        floats(&[value.to_be_bytes()], &mut texts, &mut lens);
        let len = usize::from(lens[0]);
        assert!(len <= FLOAT_MAX, "{value:e}");
        String::from_utf8(texts[0][..len].to_vec()).unwrap()
    }

    fn double_text(value: f64) -> String {
        let mut slot = [0; CELL_SIZE];
        let len = double(&mut slot, value);
        assert!(len <= DOUBLE_MAX, "{value:e}");
        String::from_utf8(slot[..len].to_vec()).unwrap()
    }

    #[test]
    fn doubles_match_java() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-412.37, "-412.37"),
            (0.001, "0.001"),
            (0.000_999_9, "9.999E-4"),
            (9_999_999.999_999_998, "9999999.999999998"),
            (1e7, "1.0E7"),
            (12_345_678.0, "1.2345678E7"),
            (1e23, "1.0E23"),
            // Neighbours of 1e23, which lies halfway between it and the next.
            (
                f64::from_bits(1e23_f64.to_bits() - 1),
                "9.999999999999997E22",
            ),
            (
                f64::from_bits(1e23_f64.to_bits() + 1),
                "1.0000000000000001E23",
            ),
            (9_007_199_254_740_992.0, "9.007199254740992E15"),
            (2e-3, "0.002"),
            // The first example of JDK-4511638, which older JDKs write as 2.0E-322.
            (2.2e-322, "2.2E-322"),
            (2.0e23, "2.0E23"),
            (8.41e21, "8.41E21"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (-f64::MIN_POSITIVE, "-2.2250738585072014E-308"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::from_bits(1), "4.9E-324"),
            (f64::from_bits(2), "9.9E-324"),
            (f64::from_bits(3), "1.5E-323"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, ""),
        ] {
            assert_eq!(double_text(value), text);
        }
    }

    #[test]
    fn floats_match_java() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (412.37, "412.37"),
            (16_777_216.0, "1.6777216E7"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (1.0e10, "1.0E10"),
            (3.3e-4, "3.3E-4"),
            (2e-3, "0.002"),
            (f32::MIN_POSITIVE, "1.1754944E-38"),
            (-1.175_494_5e-38, "-1.1754945E-38"),
            (1.000_000_75e-36, "1.00000075E-36"),
            (f32::MAX, "3.4028235E38"),
            (f32::from_bits(1), "1.4E-45"),
            (f32::from_bits(2), "2.8E-45"),
            (f32::from_bits(3), "4.2E-45"),
            (f32::INFINITY, "Infinity"),
            (f32::NEG_INFINITY, "-Infinity"),
            (f32::NAN, ""),
        ] {
            assert_eq!(float_text(value), text);
        }
    }

    #[test]
    fn ints_match_java() {
        let mut slot = [0; CELL_SIZE];
        for (value, text) in [(0, "0"), (-1, "-1"), (i32::MIN, "-2147483648")] {
            let len = int(&mut slot, value);
            assert_eq!(&slot[..len], text.as_bytes());
            assert!(len <= INT_MAX);
        }
    }
}
