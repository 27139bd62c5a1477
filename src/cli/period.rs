//! Times on the command line: a year, a month, a day or an instant. A year, month or
//! day stands for its start or its end, as the option needs.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};

use super::exit::EndedEarly;

/// The parts of `text`: a start, and the start of what follows.
fn bounds(text: &str) -> Option<(Timestamp, Timestamp)> {
    let utc = |date: Date| Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp());
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some((time, time.checked_add(SignedDuration::from_millis(1)).ok()?));
    }
    let parts: Vec<&str> = text.split('-').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if parts.iter().all(is_number) {
        let day = |year: &str, month: &str, day: &str| {
            let (year, month, day) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
            Date::new(year, month, day).ok()
        };
        let (start, next) = match parts[..] {
            [year] if year.len() == 4 => {
                let start = day(year, "1", "1")?;
                (start, start.checked_add(1.year()).ok()?)
            }
            [year, month] if year.len() == 4 => {
                let start = day(year, month, "1")?;
                (start, start.checked_add(1.month()).ok()?)
            }
            [year, month, of_month] if year.len() == 4 => {
                let start = day(year, month, of_month)?;
                (start, start.checked_add(1.day()).ok()?)
            }
            _ => return None,
        };
        return Some((utc(start)?, utc(next)?));
    }
    let time: DateTime = text.parse().ok()?;
    let time = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some((time, time.checked_add(SignedDuration::from_millis(1)).ok()?))
}

const EXPECTED: &str = "expected a year, month, day or time in UTC, such as 2021, 2021-03, \
    2021-03-31 or 2021-03-31T12:00:00Z";

/// Parses the time at which a period starts.
pub(super) fn start(text: &str) -> Result<Timestamp, String> {
    bounds(text)
        .map(|(start, _)| start)
        .ok_or_else(|| EXPECTED.to_owned())
}

/// Parses the last millisecond of a period.
pub(super) fn end(text: &str) -> Result<Timestamp, String> {
    let last =
        |(_, next): (Timestamp, Timestamp)| next.checked_sub(SignedDuration::from_millis(1)).ok();
    bounds(text)
        .and_then(last)
        .ok_or_else(|| EXPECTED.to_owned())
}

/// Refuses a period that ends before it starts.
pub(super) fn check(from: Option<Timestamp>, to: Option<Timestamp>) -> anyhow::Result<()> {
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(EndedEarly::usage(
            "--from exceeds --to, so nothing can match; exchange them",
        ));
    }
    Ok(())
}

/// The period that a word such as `2023` or `2023-05` denotes, if it is one of a time
/// in which there can be data.
pub(super) fn of_word(word: &str) -> Option<(Timestamp, Timestamp)> {
    let (start, next) = bounds(word)?;
    let year = start.to_zoned(TimeZone::UTC).date();
    let plausible = date(1900, 1, 1)..date(2100, 1, 1);
    let last = next.checked_sub(SignedDuration::from_millis(1)).ok()?;
    plausible.contains(&year).then_some((start, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_have_a_start_and_an_end() {
        for (text, first, last) in [
            ("2021", "2021-01-01T00:00:00Z", "2021-12-31T23:59:59.999Z"),
            (
                "2020-02",
                "2020-02-01T00:00:00Z",
                "2020-02-29T23:59:59.999Z",
            ),
            (
                "2021-03-31",
                "2021-03-31T00:00:00Z",
                "2021-03-31T23:59:59.999Z",
            ),
            (
                "2021-03-31T12:00:00Z",
                "2021-03-31T12:00:00Z",
                "2021-03-31T12:00:00Z",
            ),
            (
                "2021-03-31T12:00+02:00",
                "2021-03-31T10:00:00Z",
                "2021-03-31T10:00:00Z",
            ),
            (
                "2021-03-31T12:00",
                "2021-03-31T12:00:00Z",
                "2021-03-31T12:00:00Z",
            ),
        ] {
            assert_eq!(start(text).unwrap().to_string(), first, "{text}");
            assert_eq!(end(text).unwrap().to_string(), last, "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "21",
            "2021-13",
            "2021-02-30",
            "-2021",
            "2021-1-",
            "99999",
        ] {
            assert!(start(bad).is_err() && end(bad).is_err(), "{bad}");
        }
        assert!(of_word("2023").is_some() && of_word("0150").is_none());
    }
}
