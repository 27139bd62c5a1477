//! The text of cells in the portal's CSV (protocol page, section 3): the result
//! of `toString` of Java's time classes and boxed numbers.

use std::fmt::Write as _;

use super::number;
use super::values::{CellFormat, CellValue};

/// Appends `value` of a column of `format`; nothing if it is missing.
///
/// # Errors
///
/// [`OutOfCalendar`] where Java's time classes throw, which ends the portal's
/// stream.
pub(crate) fn write(
    out: &mut String,
    format: CellFormat,
    value: CellValue,
) -> Result<(), OutOfCalendar> {
    match (format, value) {
        (_, CellValue::Int(i32::MIN) | CellValue::Byte(i8::MIN) | CellValue::Char(0)) => {}
        (_, CellValue::Float(v)) if v.is_nan() => {}
        (_, CellValue::Double(v)) if v.is_nan() => {}
        (CellFormat::Date, CellValue::Int(days)) => date(out, days.into()),
        (CellFormat::Month, CellValue::Int(months)) => month(out, months)?,
        (CellFormat::TimeOfDay, CellValue::Int(seconds)) => time_of_day(out, seconds)?,
        (CellFormat::DateTime, CellValue::Double(millis)) => instant(out, millis),
        (_, CellValue::Int(v)) => out.push_str(&v.to_string()),
        (_, CellValue::Float(v)) => out.push_str(&number::float(v)),
        (_, CellValue::Double(v)) => out.push_str(&number::double(v)),
        (_, CellValue::Byte(v)) => out.push_str(&v.to_string()),
        // Half a surrogate pair cannot be encoded as UTF-8.
        (_, CellValue::Char(v)) => out.push(char::from_u32(v.into()).unwrap_or('?')),
    }
    Ok(())
}

/// The number is not a valid month or time of day.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct OutOfCalendar;

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's
/// `civil_from_days`).
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}

fn date(out: &mut String, days: i64) {
    let (y, m, d) = civil(days);
    let plus = if y > 9999 { "+" } else { "" };
    put(out, format_args!("{plus}{}-{m:02}-{d:02}", year(y)));
}

fn year(y: i64) -> String {
    if y < 0 {
        format!("-{:04}", -y)
    } else {
        format!("{y:04}")
    }
}

fn month(out: &mut String, months: i32) -> Result<(), OutOfCalendar> {
    let (y, m) = (months / 12, months % 12 + 1);
    if m < 1 {
        return Err(OutOfCalendar);
    }
    put(out, format_args!("{}-{m:02}", year(y.into())));
    Ok(())
}

fn time_of_day(out: &mut String, seconds: i32) -> Result<(), OutOfCalendar> {
    let seconds = seconds % 86_400;
    if seconds < 0 {
        return Err(OutOfCalendar);
    }
    put(
        out,
        format_args!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60),
    );
    if seconds % 60 != 0 {
        put(out, format_args!(":{:02}", seconds % 60));
    }
    Ok(())
}

fn instant(out: &mut String, millis: f64) {
    #[allow(clippy::cast_possible_truncation, reason = "Java's toLong does so")]
    let millis = millis as i64;
    date(out, millis.div_euclid(86_400_000));
    let in_day = millis.rem_euclid(86_400_000);
    let seconds = in_day / 1000;
    put(
        out,
        format_args!(
            "T{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
    );
    if in_day % 1000 != 0 {
        put(out, format_args!(".{:03}", in_day % 1000));
    }
    out.push('Z');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(format: CellFormat, value: CellValue) -> String {
        let mut out = String::new();
        write(&mut out, format, value).unwrap();
        out
    }

    #[test]
    fn cells_are_formatted_as_in_section_3() {
        for (format, value, text) in [
            (CellFormat::Int32, CellValue::Int(-7), "-7"),
            (CellFormat::Float32, CellValue::Float(1.0e7), "1.0E7"),
            (CellFormat::Float64, CellValue::Double(-0.0), "-0.0"),
            (CellFormat::BmpChar, CellValue::Char(u16::from(b'U')), "U"),
            (CellFormat::Boolean, CellValue::Byte(1), "1"),
            (CellFormat::Date, CellValue::Int(0), "1970-01-01"),
            (CellFormat::Date, CellValue::Int(-719_162), "0001-01-01"),
            (CellFormat::Date, CellValue::Int(2_932_896), "9999-12-31"),
            (CellFormat::Date, CellValue::Int(2_932_897), "+10000-01-01"),
            (CellFormat::Month, CellValue::Int(2020 * 12 + 1), "2020-02"),
            (CellFormat::TimeOfDay, CellValue::Int(86_400), "00:00"),
            (CellFormat::TimeOfDay, CellValue::Int(86_340), "23:59"),
            (CellFormat::TimeOfDay, CellValue::Int(61), "00:01:01"),
            (
                CellFormat::DateTime,
                CellValue::Double(1_577_836_800_000.0),
                "2020-01-01T00:00:00Z",
            ),
            (
                CellFormat::DateTime,
                CellValue::Double(-1.0),
                "1969-12-31T23:59:59.999Z",
            ),
        ] {
            assert_eq!(cell(format, value), text);
        }
    }

    #[test]
    fn missing_values_render_as_empty_cells() {
        for format in [
            CellFormat::Int32,
            CellFormat::Float32,
            CellFormat::Float64,
            CellFormat::BmpChar,
            CellFormat::Boolean,
            CellFormat::Date,
            CellFormat::Month,
            CellFormat::TimeOfDay,
            CellFormat::DateTime,
        ] {
            assert_eq!(cell(format, format.null()), "", "{format:?}");
        }
    }

    #[test]
    fn civil_dates_handle_leap_years() {
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(-25_509), (1900, 2, 28));
        assert_eq!(civil(-25_508), (1900, 3, 1));
    }
}
