//! Numbers as Java 21 prints them (`Double.toString`, `Float.toString`).
//!
//! The rule (Javadoc of `Double.toString` since JDK 19): among the decimals
//! that read back as the number, those with the fewest digits, but at least
//! two; of these the nearest. Plain notation for magnitudes from 1e-3 to below
//! 1e7, else `1.0E7`.
//!
//! Simple rather than fast. It relies on the standard library for exact rounding
//! and parsing, and for the least number of digits. The client has its own
//! implementation; the two share no code, so that the tests can compare them.

use std::fmt::LowerExp;
use std::str::FromStr;

/// Formats `x` as Java prints a `double`.
pub(crate) fn double(x: f64) -> String {
    signed(x, || shortest(x.abs()))
}

/// Formats `x` as Java prints a `float`.
pub(crate) fn float(x: f32) -> String {
    signed(x.into(), || shortest(x.abs()))
}

fn signed(x: f64, magnitude: impl Fn() -> Decimal) -> String {
    let magnitude = match x.abs() {
        x if x.is_nan() => return "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        0.0 => "0.0".to_owned(),
        _ => layout(&magnitude()),
    };
    let sign = if x.is_sign_negative() { "-" } else { "" };
    format!("{sign}{magnitude}")
}

/// Returns the shortest decimal of at least two digits that reads back as `x`.
///
/// The nearest one of this length is preferred, but next to a power of two, where
/// the numbers below are denser than those above, it may not read back while the
/// standard library's does (2^-44 is 5.684341886080802E-14).
fn shortest<N: Copy + FromStr + LowerExp + PartialEq>(x: N) -> Decimal {
    let shortest = format!("{x:e}");
    let digits = Decimal::read(&shortest).digits.len().max(2);
    let nearest = format!("{:.*e}", digits - 1, x);
    let reads_back = nearest.parse().is_ok_and(|read: N| read == x);
    Decimal::read(if reads_back { &nearest } else { &shortest })
}

/// Significant digits without a point, and the power of ten of the first.
struct Decimal {
    digits: String,
    exponent: i32,
}

impl Decimal {
    /// Reads `d.ddde-n`, Rust's scientific notation.
    fn read(text: &str) -> Self {
        let (digits, exponent) = text.split_once('e').expect("`{:e}` writes an exponent");
        Self {
            digits: digits.replace('.', ""),
            exponent: exponent.parse().expect("`{:e}` writes a whole exponent"),
        }
    }
}

fn layout(decimal: &Decimal) -> String {
    let digits = decimal.digits.trim_end_matches('0');
    match decimal.exponent {
        exponent @ 0..=6 => {
            let whole = usize::try_from(exponent).expect("0 to 6") + 1;
            let padded = format!("{digits:0<whole$}");
            let (whole, fraction) = padded.split_at(whole);
            format!(
                "{whole}.{}",
                if fraction.is_empty() { "0" } else { fraction }
            )
        }
        exponent @ -3..=-1 => {
            let zeros = usize::try_from(-exponent - 1).expect("0 to 2");
            format!("0.{}{digits}", "0".repeat(zeros))
        }
        exponent => {
            let (first, rest) = digits.split_at(1);
            let rest = if rest.is_empty() { "0" } else { rest };
            format!("{first}.{rest}E{exponent}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Decimal {
        fn text(&self) -> String {
            let (first, rest) = self.digits.split_at(1);
            format!("{first}.{rest}e{}", self.exponent)
        }

        /// The next decimals of the same length below and above.
        fn neighbours(&self) -> Vec<Self> {
            let length = self.digits.len();
            let number: u64 = self.digits.parse().expect("at most 17 digits");
            [number - 1, number + 1]
                .into_iter()
                .map(|number| number.to_string())
                .filter_map(|digits| {
                    let grown = digits.len().checked_sub(length)?;
                    Some(Self {
                        digits: digits[..length].to_owned(),
                        exponent: self.exponent + i32::from(grown == 1),
                    })
                })
                .collect()
        }
    }

    /// Searches the shortest decimal that reads back as the number: a model. It has at least `fewest` digits; `nearest` returns the
    /// nearest decimal of a length.
    ///
    /// Next to a power of two, the numbers below are denser than those above, so
    /// that the nearest decimal may not read back while the next one does (2^-44 is
    /// 5.684341886080802E-14).
    fn searched(
        fewest: usize,
        nearest: impl Fn(usize) -> String,
        reads_back: impl Fn(&str) -> bool,
    ) -> Decimal {
        for digits in fewest.max(2)..=17 {
            let nearest = Decimal::read(&nearest(digits));
            if reads_back(&nearest.text()) {
                return nearest;
            }
            let neighbours = nearest.neighbours().into_iter();
            if let Some(other) = neighbours.into_iter().find(|d| reads_back(&d.text())) {
                return other;
            }
        }
        unreachable!("17 digits tell any two doubles apart")
    }

    #[test]
    fn doubles_are_formatted_as_in_javadoc_and_jdk_19_notes() {
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (0.001, "0.001"),
            (0.000_999, "9.99E-4"),
            (9_999_999.0, "9999999.0"),
            (1.0e7, "1.0E7"),
            (-12_345_678.9, "-1.23456789E7"),
            (2.0e23, "2.0E23"),
            (4.9e-324, "4.9E-324"),
            (1.0e23, "1.0E23"),
            (8.41e21, "8.41E21"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (f64::MAX, "1.7976931348623157E308"),
            (5.684_341_886_080_802e-14, "5.684341886080802E-14"),
            (0.1 + 0.2, "0.30000000000000004"),
            (9.007_199_254_740_993e15, "9.007199254740992E15"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(x), text);
        }
    }

    #[test]
    fn floats_are_formatted_with_float_precision() {
        for (x, text) in [
            (0.1_f32, "0.1"),
            (413.27, "413.27"),
            (1.0e10, "1.0E10"),
            (1.4e-45, "1.4E-45"),
            (3.402_823_5e38, "3.4028235E38"),
            (-0.0, "-0.0"),
            (16_777_216.0, "1.6777216E7"),
            (2.0_f32.powi(-24), "5.9604645E-8"),
            // 8589973504: both 8.589973E9 and 8.589974E9 read back.
            (8.589_973e9, "8.589974E9"),
            // 2489828.25, between ...8.2 and ...8.3: the even digit is taken.
            (2_489_828.2, "2489828.2"),
        ] {
            assert_eq!(float(x), text);
        }
    }

    #[test]
    fn number_with_two_digits_is_preferred_if_nearer() {
        // 2E-323 would read back, but 2.0E-323 (two digits) is nearest.
        assert_eq!(double(f64::from_bits(4)), "2.0E-323");
        assert_eq!(double(f64::from_bits(3)), "1.5E-323");
    }

    #[test]
    fn shortest_text_has_at_least_as_many_digits_as_std() {
        let mut bits: u64 = 1;
        for _ in 0..5_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let x = f64::from_bits(bits >> 1);
            if x.is_finite() && x != 0.0 {
                let nearest = |digits| format!("{:.*e}", digits - 1, x);
                let from_two = searched(2, nearest, |text| text.parse() == Ok(x));
                assert_eq!(double(x), layout(&from_two));
            }
            let x = f32::from_bits((bits >> 33) as u32);
            if x.is_finite() && x != 0.0 {
                let nearest = |digits| format!("{:.*e}", digits - 1, x);
                let from_two = searched(2, nearest, |text| text.parse() == Ok(x));
                assert_eq!(float(x), layout(&from_two));
            }
        }
    }

    #[test]
    fn formatted_numbers_read_back() {
        let mut bits: u64 = 0x9E37_79B9_7F4A_7C15;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let x = f64::from_bits(bits);
            if x.is_finite() {
                assert_eq!(double(x).parse(), Ok(x));
            }
            let x = f32::from_bits((bits >> 32) as u32);
            if x.is_finite() {
                assert_eq!(float(x).parse(), Ok(x));
            }
        }
    }
}
