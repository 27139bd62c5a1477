//! Which objects a mount shows, and how.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::catalog::Selection;
use icos_portal::lists::Versions;

/// Options that choose among objects. All others are there by their ids.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which objects are listed")]
pub(super) struct SelectionArgs {
    /// Of these levels: 0 is raw, 3 elaborated
    #[arg(
        long,
        value_name = "LEVEL",
        value_delimiter = ',',
        default_value = "1,2,3",
        value_parser = clap::value_parser!(u8).range(0..=3),
        env = "ICOSFS_LEVEL"
    )]
    level: Vec<u8>,
    /// Of these data types only: their folders' names, labels or IRIs
    #[arg(
        long,
        value_name = "TYPE",
        value_delimiter = ',',
        env = "ICOSFS_DATATYPE"
    )]
    datatype: Vec<String>,
    /// Of these stations only, e.g. HTM
    #[arg(
        long,
        value_name = "STATION",
        value_delimiter = ',',
        env = "ICOSFS_STATION"
    )]
    station: Vec<String>,
    /// Submitted at this time or later, e.g. 2024-01-31
    #[arg(long, value_name = "TIME", value_parser = time, env = "ICOSFS_SINCE")]
    since: Option<Timestamp>,
    /// Superseded versions, too
    #[arg(long, env = "ICOSFS_INCLUDE_DEPRECATED")]
    include_deprecated: bool,
}

/// What files look like.
#[derive(Args, Clone, Debug)]
pub(super) struct FilesArgs {
    /// Who owns the files; whoever mounts, without
    #[arg(long, value_name = "UID", env = "ICOSFS_UID")]
    pub(super) uid: Option<u32>,
    /// Their group
    #[arg(long, value_name = "GID", env = "ICOSFS_GID")]
    pub(super) gid: Option<u32>,
    /// No extended attributes
    #[arg(long, env = "ICOSFS_NO_XATTR")]
    pub(super) no_xattr: bool,
}

impl SelectionArgs {
    pub(super) fn selection(self) -> Selection {
        let Self {
            level,
            datatype,
            station,
            since,
            include_deprecated,
        } = self;
        Selection {
            levels: level,
            datatypes: datatype,
            stations: station,
            since,
            versions: if include_deprecated {
                Versions::All
            } else {
                Versions::Current
            },
        }
    }
}

/// Reads a date, or a moment in time.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let midnight = text
        .parse::<Date>()
        .ok()
        .and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    midnight
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| "expected a date such as 2024-01-31, or 2024-01-31T12:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_moments_are_times() {
        assert_eq!(time("1970-01-02").unwrap().as_second(), 86400);
        assert_eq!(time("1970-01-01T01:00:00Z").unwrap().as_second(), 3600);
        assert!(time("yesterday").is_err());
    }
}
