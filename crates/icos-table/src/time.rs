//! Writes dates and times as `java.time` does, for all values of the stored
//! types.
//!
//! Dates are proleptic Gregorian. Years have at least four digits. Years above
//! 9999 have a `+` in dates and instants, but not in months.

use std::io::Write as _;

use super::digits;
use super::number::CellText;

/// Longest text of a date: `+5881580-07-11`.
pub(super) const DATE_MAX: usize = 14;
/// Longest text of a month: `-178956971-05`.
pub(super) const MONTH_MAX: usize = 13;
/// Longest text of a time of day: `23:59:59`.
pub(super) const TIME_MAX: usize = 8;
/// Longest text of an instant: `-292275055-05-16T16:47:04.192Z`.
pub(super) const INSTANT_MAX: usize = 30;

/// Seconds per day.
pub(super) const DAY_SECONDS: i32 = 86_400;
const DAY_MILLIS: i64 = 86_400_000;

/// Writes a date, given in days since 1970; returns the length.
pub(super) fn date(slot: &mut CellText, days: i32) -> usize {
    long_date(slot, i64::from(days))
}

fn long_date(slot: &mut CellText, days: i64) -> usize {
    let (year, month, day) = civil(days);
    let at = write_year(slot, year, "+");
    slot[at] = b'-';
    two_digits(slot, at + 1, month);
    slot[at + 3] = b'-';
    two_digits(slot, at + 4, day);
    at + 6
}

/// Writes a month, given as `year * 12 + month - 1`; returns the length. The
/// portal aborts its stream at a year below 0; here such years are written.
pub(super) fn month(slot: &mut CellText, months: i32) -> usize {
    let at = write_year(slot, i64::from(months.div_euclid(12)), "");
    slot[at] = b'-';
    two_digits(slot, at + 1, months.rem_euclid(12) + 1);
    at + 3
}

/// Writes a time of day, given in seconds modulo 24 hours (24:00 is written
/// `00:00`); returns the length. The portal aborts its stream at a negative time;
/// here it counts back from the end of the day.
pub(super) fn time_of_day(slot: &mut CellText, seconds: i32) -> usize {
    let seconds = seconds.rem_euclid(DAY_SECONDS);
    two_digits(slot, 0, seconds / 3600);
    slot[2] = b':';
    two_digits(slot, 3, seconds / 60 % 60);
    if seconds % 60 == 0 {
        return 5;
    }
    slot[5] = b':';
    two_digits(slot, 6, seconds % 60);
    8
}

/// Writes instants. Caches the date of the last one, since neighbouring rows
/// mostly have the same date.
#[derive(Debug)]
pub(super) struct Instants {
    day: i64,
    text: CellText,
    len: usize,
}

impl Instants {
    pub(super) fn new() -> Self {
        let mut text = CellText::default();
        let len = date(&mut text, 0);
        Instants { day: 0, text, len }
    }

    /// Writes an instant, given in milliseconds since 1970, or nothing for NaN;
    /// returns the length. Fractions are truncated and values outside the range
    /// of an `i64` saturate, as in Java.
    pub(super) fn write(&mut self, slot: &mut CellText, millis: f64) -> usize {
        if millis.is_nan() {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, as Java's cast does"
        )]
        let millis = millis as i64;
        let day = millis.div_euclid(DAY_MILLIS);
        if day != self.day {
            self.day = day;
            self.len = long_date(&mut self.text, day);
        }
        let of_day = millis.rem_euclid(DAY_MILLIS).unsigned_abs();
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        // `12034056` has the digits of 12:34:56 in their final positions.
        let clock = seconds / 3600 * 1_000_000 + seconds / 60 % 60 * 1000 + seconds % 60;
        let colons = u64::from_be_bytes(*b"00:00:00");
        let clock = digits::eight(small(clock)) | colons;

        let at = self.len;
        *slot = self.text;
        slot[at] = b'T';
        slot[at + 1..at + 9].copy_from_slice(&clock.to_be_bytes());
        let mut end = at + 9;
        if millis != 0 {
            let millis = digits::eight(small(millis)) | digits::ASCII;
            slot[end..end + 4].copy_from_slice(&millis.to_be_bytes()[4..]);
            slot[end] = b'.';
            end += 4;
        }
        slot[end] = b'Z';
        end + 1
    }
}

/// Converts a number that is known to fit.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// Year, month and day of a day given in days since 1970. Uses 400-year eras that
/// begin in March (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i32, i32) {
    const ERA_DAYS: i64 = 146_097;
    // Day 0 of era 0 is 0000-03-01.
    let days = days + 719_468;
    let era = days.div_euclid(ERA_DAYS);
    let of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let part = |n: i64| i32::try_from(n).unwrap_or(0);
    (year, part(month), part(day))
}

/// The first day, in days since 1970, of a month given as
/// `year * 12 + month - 1`; `None` if it overflows.
pub(super) fn days_to_month(months: i32) -> Option<i32> {
    // The inverse of `civil`, for day 1.
    let from_march = i64::from(months) - 2;
    let year = from_march.div_euclid(12);
    let month = from_march.rem_euclid(12);
    let of_year = (153 * month + 2) / 5;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    i32::try_from(365 * year + leap_days + of_year - 719_468).ok()
}

/// Writes a year, with `plus` before years above 9999; returns the length.
#[inline]
fn write_year(slot: &mut CellText, year: i64, plus: &str) -> usize {
    match i32::try_from(year) {
        Ok(year @ 0..=9999) => {
            two_digits(slot, 0, year / 100);
            two_digits(slot, 2, year % 100);
            4
        }
        _ => write_long_year(slot, year, plus),
    }
}

fn write_long_year(slot: &mut CellText, year: i64, plus: &str) -> usize {
    let sign = if year < 0 { "-" } else { plus };
    let mut rest: &mut [u8] = slot;
    write!(rest, "{sign}{:04}", year.unsigned_abs()).expect("years have at most 9 digits");
    let left = rest.len();
    slot.len() - left
}

/// Writes a number below 100.
fn two_digits(slot: &mut CellText, at: usize, number: i32) {
    slot[at] = b'0' + low_byte(number / 10);
    slot[at + 1] = b'0' + low_byte(number % 10);
}

fn low_byte(number: i32) -> u8 {
    number.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::super::number::CELL_SIZE;
    use super::*;

    fn text(write: impl FnOnce(&mut CellText) -> usize, max: usize) -> String {
        let mut slot = [b'?'; CELL_SIZE];
        let len = write(&mut slot);
        assert!(len <= max, "{len}");
        String::from_utf8(slot[..len].to_vec()).unwrap()
    }

    #[test]
    fn dates_match_java() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (-719_162, "0001-01-01"),
            (-719_163, "0000-12-31"),
            (-719_529, "-0001-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
            (i32::MAX, "+5881580-07-11"),
            (i32::MIN + 1, "-5877641-06-24"),
        ] {
            assert_eq!(text(|slot| date(slot, days), DATE_MAX), expected);
        }
    }

    #[test]
    fn months_match_java() {
        for (months, expected) in [
            (2020 * 12 + 11, "2020-12"),
            (0, "0000-01"),
            (999 * 12, "0999-01"),
            (12_345 * 12, "12345-01"),
            (i32::MAX, "178956970-08"),
            (-1, "-0001-12"),
            (i32::MIN + 1, "-178956971-06"),
        ] {
            assert_eq!(text(|slot| month(slot, months), MONTH_MAX), expected);
        }
    }

    #[test]
    fn days_to_month_returns_the_first_day() {
        for months in (-30_000_i32..150_000).chain([5_000_000, -5_000_000]) {
            let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
            let days = days_to_month(months).unwrap();
            assert_eq!(civil(days.into()), (year.into(), month, 1));
        }
        assert_eq!(days_to_month(i32::MAX), None);
        assert_eq!(days_to_month(i32::MIN + 1), None);
    }

    #[test]
    fn times_of_day_match_java() {
        for (seconds, expected) in [
            (0, "00:00"),
            (86_399, "23:59:59"),
            (86_400, "00:00"),
            (86_401, "00:00:01"),
            (5400, "01:30"),
            (-60, "23:59"),
            (i32::MAX, "03:14:07"),
        ] {
            assert_eq!(text(|slot| time_of_day(slot, seconds), TIME_MAX), expected);
        }
    }

    #[test]
    fn instants_match_java() {
        let mut instants = Instants::new();
        for (millis, expected) in [
            (1_577_836_800_000.0, "2020-01-01T00:00:00Z"),
            (1_577_836_799_999.0, "2019-12-31T23:59:59.999Z"),
            (1_577_836_800_050.9, "2020-01-01T00:00:00.050Z"),
            (-0.0, "1970-01-01T00:00:00Z"),
            (-0.5, "1970-01-01T00:00:00Z"),
            (-1.0, "1969-12-31T23:59:59.999Z"),
            (-62_135_596_800_000.0, "0001-01-01T00:00:00Z"),
            (253_402_300_799_000.0, "9999-12-31T23:59:59Z"),
            (253_402_300_800_000.0, "+10000-01-01T00:00:00Z"),
            (f64::INFINITY, "+292278994-08-17T07:12:55.807Z"),
            (f64::NEG_INFINITY, "-292275055-05-16T16:47:04.192Z"),
            (f64::NAN, ""),
        ] {
            assert_eq!(
                text(|slot| instants.write(slot, millis), INSTANT_MAX),
                expected
            );
        }
    }
}
