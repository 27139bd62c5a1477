//! The shortest decimal of an `f32` with 1e-3 <= abs < 2^20, computed exactly in
//! 64-bit integers.
//!
//! Most measurements are in that range. There a float is `m / 2^s` with
//! `m < 2^24` and `4 <= s <= 33`, so the search needs only integers below 2^61
//! and never rounds. This is the search of Schubfach (Giulietti, "The Schubfach
//! way to render doubles") without its approximations, and several times as fast
//! as a general one. All other numbers are left to zmij.
//!
//! The search has no branches. Whether a measurement needs its last digit is
//! unpredictable, and one mispredicted branch would cost as much as all the rest.

/// A decimal: `digits / 10^places`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct FloatDecimal {
    /// Below 2 * 10^8; below 10^8 if `places` is 8. May end in zeros.
    pub(super) digits: u32,
    /// From 2 to 10; at least 8 if and only if the number is below 1.
    pub(super) places: u32,
}

/// Bits of the smallest float that is at least 1e-3.
const LOW: u32 = 0x3a83_126f;
/// Bits of 2^20.
const HIGH: u32 = 0x4980_0000;

/// One unit of the last place, in the units of the search.
const ONE: u64 = 1 << 34;

/// Constants of the floats of one binary exponent.
#[derive(Clone, Copy)]
struct Scale {
    /// One unit of `m`, in units of `2^-33 * 10^-places`: `10^places * 2^33 /
    /// 2^s`, an integer of at least 2^33 and below 10 * 2^33.
    unit: u64,
    places: u32,
}

/// Indexed by `s`, of which 4 to 33 are used.
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

/// Returns the shortest decimal that parses to the float of these bits (without
/// sign); of several, the closest to the float's exact value. `None` unless
/// 1e-3 <= value < 2^20.
#[inline]
pub(super) fn shortest(bits: u32) -> Option<FloatDecimal> {
    if !(LOW..HIGH).contains(&bits) {
        return None;
    }
    // The value is m / 2^s, of 24 bits.
    let s = 150 - (bits >> 23);
    let m = u64::from((bits & 0x007f_ffff) | 0x0080_0000);
    let Scale { unit, places } = SCALES[s as usize & 63];

    // Decimals that parse to this float lie between m - 1/2 and m + 1/2. The ends
    // are odd multiples of 2^-(s+1) and thus not decimals of `places` places. The
    // interval is at least 1 and less than 10 times 10^-places long, so it
    // contains the nearest decimal of `places` places and at most one with fewer
    // places. (At a power of two the lower half is shorter; a test checks all 29
    // powers in the range.) All values are in units of 2^-34 * 10^-places and
    // below 2^62.
    let highest = unit * (2 * m + 1);
    let span = 2 * unit;

    // The highest decimal of fewer places, and the distance of the upper end.
    let tens = highest / ONE / 10;
    let above = highest - tens * (10 * ONE);
    // All ones if that decimal is below the interval.
    let too_low = (span.wrapping_sub(above).cast_signed() >> 63).cast_unsigned();
    // If so, add the distance (less than 10) to the nearest decimal; a tie goes
    // to the even one.
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
    fn shortest_returns_none_outside_the_range() {
        assert_eq!(LOW, 1e-3_f32.to_bits());
        assert_eq!(HIGH, 2_f32.powi(20).to_bits());
        assert_eq!(shortest(LOW - 1), None);
        assert!(shortest(LOW).is_some());
        assert!(shortest(HIGH - 1).is_some());
        assert_eq!(shortest(HIGH), None);
        assert_eq!(shortest(u32::MAX), None);
    }

    #[test]
    fn shortest_round_trips_a_sample_of_the_range() {
        // A prime step covers all last digits and exponents.
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
    fn shortest_round_trips_powers_of_two() {
        for exponent in -9..=19 {
            let power = 2_f32.powi(exponent);
            let decimal = shortest(power.to_bits()).unwrap();
            assert_eq!(read_back(decimal).to_bits(), power.to_bits());
        }
    }
}
