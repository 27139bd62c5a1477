//! Numbers as Java 21 writes them (`Float.toString`, `Double.toString`).
//!
//! The rule, from the Javadoc: of the decimals that read back as the same
//! number, those of the fewest digits; of these the closest to the number's
//! true value. Only, one digit is no gain over two: if one would do, the
//! closest of at most two is taken (so `4.9E-324`, not `5E-324`). The decimal
//! is written plain if 1e-3 <= abs < 1e7, else with one digit before the point
//! and an exponent; always with a digit after the point.
//!
//! The digits are zmij's. It differs in the second sentence, which matters
//! only for the smallest subnormals, and in the writing.

/// Room for any cell.
pub(super) const SLOT: usize = 32;
/// A cell's text, from the start.
pub(super) type Slot = [u8; SLOT];

/// Longest text of an `i32`: `-2147483648`.
pub(super) const INT_MAX: usize = 11;
/// Longest text of an `f32`: `-1.17549435E-38`.
pub(super) const FLOAT_MAX: usize = 15;
/// Longest text of an `f64`: `-2.2250738585072014E-308`.
pub(super) const DOUBLE_MAX: usize = 24;

/// Below this many units in the last place, the closest decimal of two digits
/// need not end in 0 when one digit would do: half a unit is then more than
/// half a step of two-digit decimals (1/200 of the number).
const COARSE: u64 = 100;

/// Writes a number; returns the length.
pub(super) fn int(slot: &mut Slot, value: i32) -> usize {
    let mut buffer = itoa::Buffer::new();
    put(slot, buffer.format(value).as_bytes())
}

/// Writes a number, nothing for NaN; returns the length.
pub(super) fn float(slot: &mut Slot, value: f32) -> usize {
    if !value.is_finite() {
        return not_finite(slot, f64::from(value));
    }
    let magnitude = value.abs();
    if u64::from(magnitude.to_bits()) < COARSE && magnitude > 0.0 {
        return scientific(slot, &format!("{value:.1e}"));
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if (1e-3..1e7).contains(&magnitude) || magnitude == 0.0 {
        put(slot, text.as_bytes())
    } else {
        scientific(slot, text)
    }
}

/// Writes a number, nothing for NaN; returns the length.
pub(super) fn double(slot: &mut Slot, value: f64) -> usize {
    if !value.is_finite() {
        return not_finite(slot, value);
    }
    let magnitude = value.abs();
    if magnitude.to_bits() < COARSE && magnitude > 0.0 {
        return scientific(slot, &format!("{value:.1e}"));
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if (1e-3..1e7).contains(&magnitude) || magnitude == 0.0 {
        put(slot, text.as_bytes())
    } else {
        scientific(slot, text)
    }
}

fn put(slot: &mut Slot, text: &[u8]) -> usize {
    slot[..text.len()].copy_from_slice(text);
    text.len()
}

fn not_finite(slot: &mut Slot, value: f64) -> usize {
    match value {
        _ if value.is_nan() => 0,
        _ if value > 0.0 => put(slot, b"Infinity"),
        _ => put(slot, b"-Infinity"),
    }
}

/// Rewrites a decimal, in whatever notation, in Java's scientific one.
fn scientific(slot: &mut Slot, text: &str) -> usize {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (plain, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let mut digits = [0_u8; SLOT];
    let mut count = 0;
    let mut leading_zeros = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if count == 0 && digit == b'0' {
            leading_zeros += 1;
        } else {
            digits[count] = digit;
            count += 1;
        }
    }
    while count > 2 && digits[count - 1] == b'0' {
        count -= 1;
    }
    if count < 2 {
        digits[1] = b'0';
        count = 2;
    }
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let point = i32::try_from(whole.len()).unwrap_or(0) - 1 - leading_zeros;

    let mut at = put(slot, sign.as_bytes());
    slot[at] = digits[0];
    slot[at + 1] = b'.';
    slot[at + 2..at + 1 + count].copy_from_slice(&digits[1..count]);
    at += 1 + count;
    slot[at] = b'E';
    let mut buffer = itoa::Buffer::new();
    let exponent = buffer.format(exponent + point).as_bytes();
    slot[at + 1..=at + exponent.len()].copy_from_slice(exponent);
    at + 1 + exponent.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float_text(value: f32) -> String {
        let mut slot = [0; SLOT];
        let len = float(&mut slot, value);
        assert!(len <= FLOAT_MAX, "{value:e}");
        String::from_utf8(slot[..len].to_vec()).unwrap()
    }

    fn double_text(value: f64) -> String {
        let mut slot = [0; SLOT];
        let len = double(&mut slot, value);
        assert!(len <= DOUBLE_MAX, "{value:e}");
        String::from_utf8(slot[..len].to_vec()).unwrap()
    }

    #[test]
    fn doubles_are_written_as_java_writes_them() {
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
            // JDK-4511638 opened with this one: 2.2E-322 had been 2.0E-322.
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
    fn floats_are_written_as_java_writes_them() {
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
    fn ints_are_written_in_full() {
        let mut slot = [0; SLOT];
        for (value, text) in [(0, "0"), (-1, "-1"), (i32::MIN, "-2147483648")] {
            let len = int(&mut slot, value);
            assert_eq!(&slot[..len], text.as_bytes());
            assert!(len <= INT_MAX);
        }
    }
}
