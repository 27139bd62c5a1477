//! The shortest decimal of an everyday `f32`, exactly, in 64-bit integers.
//!
//! For 1e-3 <= abs < 2^20, what measurements mostly are, a float is `m / 2^s`
//! with `m < 2^24` and `4 <= s <= 33`, so all that the search needs are integers
//! below 2^61: no rounding, no error to bound. This is Schubfach's search
//! (Giulietti, "The Schubfach way to render doubles") without its
//! approximations, and several times as fast as a general one; all other
//! numbers are left to zmij.
//!
//! Written without branches: whether a measurement needs its last digit is
//! chance, and a wrongly foreseen branch costs as much as the rest.

/// A decimal: `digits / 10^places`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct FloatDecimal {
    /// Below 2 * 10^8, and below 10^8 if places are 8. May end in zeros.
    pub(super) digits: u32,
    /// From 2 to 10; at least 8 just if the number is below 1.
    pub(super) places: u32,
}

/// Bits of the smallest float that is at least 1e-3.
const LOW: u32 = 0x3a83_126f;
/// Bits of 2^20.
const HIGH: u32 = 0x4980_0000;

/// One unit of the last place, in what the search counts in.
const ONE: u64 = 1 << 34;

/// What the floats of one binary exponent share.
#[derive(Clone, Copy)]
struct Scale {
    /// A unit of `m` is this many 2^33ths of `10^-places`: `10^places * 2^33 /
    /// 2^s`, which is whole, at least 2^33 and below 10 * 2^33.
    unit: u64,
    places: u32,
}

/// By `s`, of which 4 to 33 are in use.
const SCALES: [Scale; 64] = {
    let mut scales = [Scale { unit: 0, places: 0 }; 64];
    let (mut tens, mut places) = (1_u64, 0);
    let mut s = 0;
    while s <= 33 {
        if tens < 1 << s {
            tens *= 10;
            places += 1;
        }
        scales[s] = Scale {
            unit: tens << (33 - s),
            places,
        };
        s += 1;
    }
    scales
};

/// The shortest decimal that reads back as the float of these bits (without
/// sign), the closest of them to its true value, if it is from 1e-3 to below
/// 2^20.
#[inline]
pub(super) fn shortest(bits: u32) -> Option<FloatDecimal> {
    if !(LOW..HIGH).contains(&bits) {
        return None;
    }
    // The value is m / 2^s, of 24 bits.
    let s = 150 - (bits >> 23);
    let m = u64::from((bits & 0x007f_ffff) | 0x0080_0000);
    let Scale { unit, places } = SCALES[s as usize & 63];

    // What reads back as it is between m - 1/2 and m + 1/2; the ends, odd
    // multiples of 2^-(s+1), are no decimals of so few places. That spans at
    // least 1 and less than 10 times 10^-places: the nearest decimal of so
    // many places, and at most one of fewer. (Below a power of two it spans
    // less. The 29 powers in question are tested one by one.) All in halves of
    // 2^-33 of 10^-places, below 2^62.
    let highest = unit * (2 * m + 1);
    let span = 2 * unit;

    // The highest of fewer places, and how far the end is above it.
    let tens = highest / ONE / 10;
    let above = highest - tens * (10 * ONE);
    // All ones if that is more than the span.
    let too_low = (span.wrapping_sub(above).cast_signed() >> 63).cast_unsigned();
    // If so, the nearest is less than 10 higher. Halfway between two it is the
    // even one.
    let exact = above.wrapping_sub(unit);
    let rounded = exact.wrapping_add(ONE / 2 - 1 + ((exact / ONE) & 1)) / ONE;
    let last = rounded & too_low;
    #[expect(clippy::cast_possible_truncation, reason = "below 10 * 2^24")]
    Some(FloatDecimal {
        digits: (10 * tens + last) as u32,
        places,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(decimal: FloatDecimal) -> f32 {
        let FloatDecimal { digits, places } = decimal;
        format!("{digits}e-{places}").parse().unwrap()
    }

    #[test]
    fn exactly_the_plain_range_is_served() {
        assert_eq!(LOW, 1e-3_f32.to_bits());
        assert_eq!(HIGH, 2_f32.powi(20).to_bits());
        assert_eq!(shortest(LOW - 1), None);
        assert!(shortest(LOW).is_some());
        assert!(shortest(HIGH - 1).is_some());
        assert_eq!(shortest(HIGH), None);
        assert_eq!(shortest(u32::MAX), None);
    }

    #[test]
    fn a_sample_of_all_everyday_floats_reads_back() {
        // A prime step, so that all last digits and exponents are met.
        for bits in (LOW..HIGH).step_by(4099) {
            let decimal = shortest(bits).unwrap();
            assert_eq!(read_back(decimal).to_bits(), bits, "{decimal:?}");
            let FloatDecimal { digits, places } = decimal;
            assert!(digits < 200_000_000 && (2..=10).contains(&places));
            assert_eq!(places >= 8, bits < 1_f32.to_bits());
            assert!(places != 8 || digits < 100_000_000);
        }
    }

    #[test]
    fn powers_of_two_are_whole() {
        for exponent in -9..=19 {
            let power = 2_f32.powi(exponent);
            let decimal = shortest(power.to_bits()).unwrap();
            assert_eq!(read_back(decimal).to_bits(), power.to_bits());
        }
    }
}
