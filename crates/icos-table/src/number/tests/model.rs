//! Reference model of the number writer, for tests: the rule of the Javadoc of
//! `Double.toString` (since 19), applied to exact decimal expansions.
//!
//! The model is slow and shares no code with the writer. It relies only on the
//! standard library's exact formatting and correct parsing.

/// A binary floating-point number with the operations of the rule.
pub(super) trait Binary: Copy {
    /// All digits of the number's magnitude, and the exponent of the first digit.
    fn expansion(self) -> (Vec<u8>, i32);
    /// Whether the decimal `d1.d2d3... * 10^exponent` rounds to the magnitude.
    fn is_read_from(self, digits: &[u8], exponent: i32) -> bool;
    fn sign(self) -> &'static str;
    fn special(self) -> Option<&'static str>;
}

macro_rules! binary {
    ($float:ty) => {
        impl Binary for $float {
            fn expansion(self) -> (Vec<u8>, i32) {
                // No number has more than 767 digits.
                let text = format!("{:.800e}", self.abs());
                let (mantissa, exponent) = text.split_once('e').unwrap();
                let digits = mantissa.bytes().filter(|&c| c != b'.').collect();
                (digits, exponent.parse().unwrap())
            }

            fn is_read_from(self, digits: &[u8], exponent: i32) -> bool {
                let digits = std::str::from_utf8(digits).unwrap();
                let last = exponent + 1 - i32::try_from(digits.len()).unwrap();
                format!("{digits}e{last}").parse() == Ok(self.abs())
            }

            fn sign(self) -> &'static str {
                if self.is_sign_negative() { "-" } else { "" }
            }

            fn special(self) -> Option<&'static str> {
                match self.abs() {
                    _ if self.is_nan() => Some(""),
                    <$float>::INFINITY => Some("Infinity"),
                    0.0 => Some("0.0"),
                    _ => None,
                }
            }
        }
    };
}
binary!(f32);
binary!(f64);

/// The number as Java writes it; empty for NaN.
pub(super) fn text<F: Binary>(number: F) -> String {
    if let Some(special) = number.special() {
        let sign = if special.is_empty() {
            ""
        } else {
            number.sign()
        };
        return format!("{sign}{special}");
    }
    let (digits, exponent) = decimal(number);
    format!("{}{}", number.sign(), notation(&digits, exponent))
}

/// "Let R be the set of all decimals that round to x; let m be the minimal
/// length over R with length at least 2; T is the set of all decimals in R
/// with length m (or 1 or 2, if m is 2); the closest to x in T, or, if there
/// are two, the one with the even significand."
fn decimal<F: Binary>(number: F) -> (Vec<u8>, i32) {
    let (exact, exponent) = number.expansion();
    for length in 2.. {
        let (below, rest) = exact.split_at(length);
        let (above, above_exponent) = next(below, exponent);
        let fits = (
            number.is_read_from(below, exponent),
            number.is_read_from(&above, above_exponent),
        );
        let half = std::iter::once(b'5').chain(std::iter::repeat(b'0'));
        let choose_above = match fits {
            (false, false) => continue,
            (true, false) => false,
            (false, true) => true,
            (true, true) => match rest.iter().copied().cmp(half.take(rest.len())) {
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal => below[length - 1] % 2 == 1,
                std::cmp::Ordering::Greater => true,
            },
        };
        return if choose_above {
            (above, above_exponent)
        } else {
            (below.to_vec(), exponent)
        };
    }
    unreachable!("17 digits always suffice")
}

/// The next larger decimal of the same length.
fn next(digits: &[u8], exponent: i32) -> (Vec<u8>, i32) {
    let mut digits = digits.to_vec();
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return (digits, exponent);
        }
        *digit = b'0';
    }
    digits[0] = b'1';
    (digits, exponent + 1)
}

/// Plain notation if 1e-3 <= x < 1e7, else computerized scientific notation.
fn notation(digits: &[u8], exponent: i32) -> String {
    let mut digits = String::from_utf8(digits.to_vec()).unwrap();
    let significant = digits.trim_end_matches('0').len();
    digits.truncate(significant);
    let point = match exponent {
        -3..0 => {
            digits.insert_str(0, &"0".repeat(usize::try_from(-exponent).unwrap()));
            1
        }
        0..7 => 1 + usize::try_from(exponent).unwrap(),
        _ => 1,
    };
    while digits.len() < point + 1 {
        digits.push('0');
    }
    digits.insert(point, '.');
    match exponent {
        -3..7 => digits,
        _ => format!("{digits}E{exponent}"),
    }
}
