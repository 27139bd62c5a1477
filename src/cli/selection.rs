//! Options that select which objects a mount lists, and how its files appear.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::catalog::ObjectSelection;
use icos_portal::lists::Versions;

/// Options that select the listed objects. Objects that are not listed can
/// still be opened by id.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which objects are listed")]
pub(super) struct SelectionArgs {
    /// Objects of these levels: 0 is raw data, 3 elaborated products
    #[arg(
        long,
        value_name = "LEVEL",
        value_delimiter = ',',
        default_value = "1,2,3",
        value_parser = clap::value_parser!(u8).range(0..=3),
        env = "ICOSFS_LEVEL"
    )]
    level: Vec<u8>,
    /// Only objects of these data types, given by folder name, label or IRI
    #[arg(
        long,
        value_name = "TYPE",
        value_delimiter = ',',
        env = "ICOSFS_DATATYPE"
    )]
    datatype: Vec<String>,
    /// Only objects of these stations, e.g. HTM
    #[arg(
        long,
        value_name = "STATION",
        value_delimiter = ',',
        env = "ICOSFS_STATION"
    )]
    station: Vec<String>,
    /// Only objects submitted at this time or later, e.g. 2024-01-31
    #[arg(long, value_name = "TIME", value_parser = time, env = "ICOSFS_SINCE")]
    since: Option<Timestamp>,
    /// Include superseded versions
    #[arg(long, env = "ICOSFS_INCLUDE_DEPRECATED")]
    include_deprecated: bool,
}

/// Programs that are known to open every file: those of GNOME, KDE and Xfce, the
/// thumbnailers that they start, Recoll, and virus scanners.
const CRAWLERS: &str = "tracker-miner-fs-3,tracker-extract-3,tracker-extract,\
    localsearch-3,localsearch-extractor-3,baloo_file,baloo_file_extractor,tumblerd,\
    gdk-pixbuf-thumbnailer,evince-thumbnailer,papers-thumbnailer,\
    totem-video-thumbnailer,ffmpegthumbnailer,recollindex,\
    clamd,clamscan,clamonacc,wdavdaemon";

/// Options for the attributes of files.
#[derive(Args, Clone, Debug)]
pub(super) struct FilesArgs {
    /// Owner of the files [default: the mounting user]
    #[arg(long, value_name = "UID", env = "ICOSFS_UID")]
    pub(super) uid: Option<u32>,
    /// Group of the files [default: the group of the mounting user]
    #[arg(long, value_name = "GID", env = "ICOSFS_GID")]
    pub(super) gid: Option<u32>,
    /// Inode numbers of at most 32 bits, for programs that cannot use longer ones
    #[arg(long, env = "ICOSFS_INODE32")]
    pub(super) inode32: bool,
    /// Disable extended attributes
    #[arg(long, env = "ICOSFS_NO_XATTR")]
    pub(super) no_xattr: bool,
    /// Programs that open every file which they find: indexers, thumbnailers, virus
    /// scanners. They may open only files in the cache; none of them if empty
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = CRAWLERS,
        env = "ICOSFS_CRAWLERS",
        hide_short_help = true
    )]
    pub(super) crawlers: Vec<String>,
}

impl SelectionArgs {
    pub(super) fn selection(self) -> ObjectSelection {
        let Self {
            level,
            datatype,
            station,
            since,
            include_deprecated,
        } = self;
        ObjectSelection {
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

/// Parses a date (midnight UTC) or a timestamp.
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
    fn dates_and_timestamps_are_parsed() {
        assert_eq!(time("1970-01-02").unwrap().as_second(), 86400);
        assert_eq!(time("1970-01-01T01:00:00Z").unwrap().as_second(), 3600);
        assert!(time("yesterday").is_err());
    }
}
