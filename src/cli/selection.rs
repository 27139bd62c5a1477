//! Options that select which objects a mount lists, and how its files appear.

use clap::Args;
use jiff::Timestamp;

use super::period;
use crate::catalog::ObjectSelection;
use icos_portal::lists::Versions;

/// Options that select the listed objects. Objects that are not listed can
/// still be opened by id.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which objects are listed")]
pub(super) struct SelectionArgs {
    /// Levels, 0 (raw) to 3 (elaborated)
    #[arg(
        long,
        value_name = "LEVEL",
        value_delimiter = ',',
        default_value = "1,2,3",
        value_parser = level,
        env = "ICOSFS_LEVEL"
    )]
    level: Vec<u8>,
    /// Only these data types, by folder name, label or IRI
    #[arg(
        long,
        value_name = "TYPE",
        value_delimiter = ',',
        env = "ICOSFS_DATATYPE"
    )]
    datatype: Vec<String>,
    /// Only these stations, by id, name or country
    #[arg(
        long,
        value_name = "STATION",
        value_delimiter = ',',
        env = "ICOSFS_STATION"
    )]
    station: Vec<String>,
    /// Only objects submitted since, e.g. 2024-01
    #[arg(long, value_name = "TIME", value_parser = period::start, env = "ICOSFS_SINCE")]
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
#[command(next_help_heading = "Files")]
pub(super) struct FilesArgs {
    /// Owner of the files [default: the mounting user]
    #[arg(long, value_name = "UID", env = "ICOSFS_UID")]
    pub(super) uid: Option<u32>,
    /// Group of the files [default: that of the mounting user]
    #[arg(long, value_name = "GID", env = "ICOSFS_GID")]
    pub(super) gid: Option<u32>,
    /// Inode numbers of at most 32 bits
    ///
    /// For programs that cannot use longer ones.
    #[arg(long, env = "ICOSFS_INODE32")]
    pub(super) inode32: bool,
    /// Disable extended attributes
    #[arg(long, env = "ICOSFS_NO_XATTR")]
    pub(super) no_xattr: bool,
    /// Programs that may only open files in the cache
    ///
    /// Those that open every file which they find: indexers, thumbnailers, virus
    /// scanners. If the list is empty, every program may open every file.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = CRAWLERS,
        env = "ICOSFS_CRAWLERS",
        hide_default_value = true,
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

/// Parses a level: `2` or `L2`.
pub(super) fn level(text: &str) -> Result<u8, String> {
    let digits = text.trim().trim_start_matches(['L', 'l']);
    (digits.parse().ok())
        .filter(|level| *level <= 3)
        .ok_or_else(|| {
            "expected a level from 0 (raw data) to 3 (elaborated products), such as 2 or L2"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_a_letter_or_not() {
        assert_eq!(
            (level("2"), level("L2"), level("l0")),
            (Ok(2), Ok(2), Ok(0))
        );
        for bad in ["", "4", "L", "NRT", "-1"] {
            assert!(level(bad).is_err(), "{bad}");
        }
    }
}
