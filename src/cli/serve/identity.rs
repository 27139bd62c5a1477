//! The identity of a server: a hash of its settings and of this run of the machine.
//! Processes of a machine with the same settings share a server.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use clap::ArgMatches;
use sha2::{Digest as _, Sha256};

/// Options that do not change what a server serves, or where.
const IRRELEVANT: [&str; 7] = [
    "background",
    "idle_timeout",
    "json",
    "log_file",
    "log_level",
    "reuse",
    "verbose",
];

/// Variables with a login, which are no options. That with a password is left out: guesses
/// of it must not be tested on the name of a file.
const LOGIN_VARIABLES: [&str; 2] = ["ICOSFS_TOKEN", "ICOSFS_USER"];

/// The number of hexadecimal digits of an identity.
const DIGITS: usize = 16;

/// The identity of a server with the settings of `matches`: of options, variables and
/// `config.toml`, and its cache folder.
pub(super) fn of(matches: &ArgMatches, cache_dir: &Path) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let matches = matches.subcommand_matches("serve").unwrap_or(matches);
    let command = crate::cli::command();
    let serve = command.find_subcommand("serve").unwrap_or(&command);
    // Not those of `matches`, which include groups of options that were given.
    let options = serve.get_arguments().chain(command.get_arguments());
    let mut names: Vec<&str> = options
        .map(|option| option.get_id().as_str())
        .filter(|name| !IRRELEVANT.contains(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let Ok(Some(values)) = matches.try_get_raw(name) else {
            continue;
        };
        add(name.as_bytes());
        for value in values {
            add(value.as_bytes());
        }
    }
    add(cache_dir.as_os_str().as_bytes());
    // Machines that share a home have servers of their own.
    add(std::fs::read("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .as_slice());
    for variable in LOGIN_VARIABLES {
        add(variable.as_bytes());
        add(std::env::var_os(variable).unwrap_or_default().as_bytes());
    }
    let mut digits = String::new();
    for byte in hash.finalize() {
        let _ = write!(digits, "{byte:02x}");
    }
    digits.truncate(DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(arguments: &[&str]) -> String {
        let arguments = [&["icosfs", "serve"], arguments].concat();
        let matches = crate::cli::command()
            .try_get_matches_from(arguments)
            .unwrap();
        of(&matches, Path::new("/cache"))
    }

    #[test]
    fn servers_with_the_same_settings_have_the_same_identity() {
        let plain = identity(&[]);
        for same in [
            &["--background"][..],
            &["--json", "--reuse", "--idle-timeout=5"],
            &["-vv"],
            &["--metadata-ttl=600"],
        ] {
            assert_eq!(identity(same), plain, "{same:?}");
        }
        for other in [
            &["--port=8080"][..],
            &["--portal=sites"],
            &["--station=HTM"],
            &["--level=1,2"],
            &["--memory=300M"],
            &["--include-deprecated"],
        ] {
            assert_ne!(identity(other), plain, "{other:?}");
        }
    }
}
