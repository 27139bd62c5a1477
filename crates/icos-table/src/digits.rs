//! Splits a number into eight decimal digits within one 64-bit register.

/// Returns the digits of a number below 10^8 as eight bytes 0 to 9, the last
/// digit in the lowest byte. Splits the number into halves, quarters and eighths
/// in parallel; divisions are multiplications by the reciprocal.
#[inline]
pub(super) fn eight(number: u32) -> u64 {
    let number = u64::from(number);
    let high = (number * 109_951_163) >> 40;
    // Each multiplication keeps the remainder in the lower half and adds the
    // quotient to the upper half.
    let fours = number + high * ((1 << 32) - 10_000);
    let hundreds = (fours * 10_486) >> 20 & 0x0000_007f_0000_007f;
    let twos = fours + hundreds * ((1 << 16) - 100);
    let tens = (twos * 103) >> 10 & 0x000f_000f_000f_000f;
    twos + tens * ((1 << 8) - 10)
}

/// The bits that turn bytes 0 to 9 into their ASCII digits.
pub(super) const ASCII: u64 = 0x3030_3030_3030_3030;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_returns_the_decimal_digits() {
        let sample = (0..100_000_000).step_by(997);
        for number in sample.chain([9999, 10_000, 99_999_999, 99_990_000]) {
            let text = format!("{number:08}");
            let digits = eight(number);
            assert_eq!((digits | ASCII).to_be_bytes(), text.as_bytes(), "{number}");
        }
    }
}
