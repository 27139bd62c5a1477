//! The command lines of mount(8), fstab and autofs: `mount.icosfs SOURCE DIR -o
//! ...`, the same by the name `mount.fuse.icosfs`, and `icosfs SOURCE DIR -o ...`,
//! which mount.fuse(8) runs.
//!
//! All are rewritten to `icosfs mount`, and each option of `-o` to the flag of the
//! same name, so that the parser's flags are the only list of options.

#![cfg_attr(
    not(feature = "fuse"),
    allow(dead_code, reason = "most of it is for `icosfs mount`")
)]

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Command;

use super::config::nearest;
use icos_portal::Envri;

/// Options of mount(8) itself, which have no effect here.
const IGNORED_OPTIONS: [&str; 33] = [
    "_netdev",
    "async",
    "atime",
    "auto",
    "comment",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "group",
    "lazytime",
    "loud",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "noexec",
    "nofail",
    "norelatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "ro",
    "rw",
    "silent",
    "strictatime",
    "suid",
    "sync",
    "uhelper",
    "user",
    "users",
    "nonempty",
];

/// Rewrites a command line of mount(8) to that of `icosfs mount`. Returns `None` for
/// an ordinary command line.
///
/// # Errors
///
/// What is wrong with the command line.
pub(super) fn rewritten(arguments: &[OsString]) -> Option<anyhow::Result<Vec<OsString>>> {
    let name = Path::new(arguments.first()?).file_name()?.to_str()?;
    let by_name = name.starts_with("mount.");
    let by_source = || {
        let source = arguments.get(1).and_then(|argument| argument.to_str());
        let folder = arguments.get(2).map(Path::new);
        source.is_some_and(is_source) && folder.is_some_and(Path::is_absolute)
    };
    (by_name || by_source()).then(|| rewrite(&arguments[1..]))
}

fn is_source(text: &str) -> bool {
    text == "demo" || text.parse::<Envri>().is_ok()
}

fn rewrite(arguments: &[OsString]) -> anyhow::Result<Vec<OsString>> {
    let mut plain = Vec::new();
    let mut options = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            // -s (ignore unknown options) and -n (no entry in mtab) have no effect.
            Some("-s" | "-n") => {}
            Some("-v") => options.push("-v".into()),
            Some("-o") => {
                let value = arguments.next().context("expected options after -o")?;
                options.extend(["-o".into(), value.clone()]);
            }
            Some("-t") => {
                arguments.next();
            }
            Some("-h" | "--help" | "-V" | "--version") => options.push(argument.clone()),
            Some(other) if other.starts_with('-') => {
                bail!("expected SOURCE FOLDER [-o OPTIONS], found {other}");
            }
            _ => plain.push(argument.clone()),
        }
    }
    let mut command: Vec<OsString> = vec!["icosfs".into(), "mount".into()];
    match &plain[..] {
        [source, folder] => {
            match source.to_str() {
                Some("demo") => command.extend(["--demo".into(), "--device=demo".into()]),
                Some(source) if is_source(source) => {
                    command.push(format!("--portal={source}").into());
                    // `mount -a` finds the mounts of fstab by their sources.
                    command.push(format!("--device={source}").into());
                }
                _ => bail!(
                    "expected icos, sites, cities or demo as SOURCE, found {}",
                    source.display()
                ),
            }
            command.extend(options);
            command.extend(["--".into(), folder.clone()]);
        }
        [] if !options.is_empty() => command.extend(options),
        _ => bail!("expected SOURCE FOLDER [-o OPTIONS]"),
    }
    Ok(command)
}

/// Converts the options of `-o` to flags of `command`.
///
/// # Errors
///
/// The unknown option, or the missing or superfluous value.
pub(super) fn flags(options: &[String], command: &Command) -> anyhow::Result<Vec<OsString>> {
    let known = || {
        let mount = command.find_subcommand("mount");
        (mount.into_iter().chain([command])).flat_map(Command::get_arguments)
    };
    let mut flags = Vec::new();
    for option in options.iter().map(|option| option.trim()) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        if name == "remount" {
            bail!(
                "the options of a mount cannot be changed; unmount it and mount it again with the new options"
            );
        }
        let comment = name.starts_with("x-") || name.starts_with("X-");
        if name.is_empty() || comment || IGNORED_OPTIONS.contains(&name) {
            continue;
        }
        let long = name.replace('_', "-");
        let Some(flag) = known().find(|flag| flag.get_long() == Some(&long)) else {
            let names = known().filter_map(|flag| flag.get_long());
            let guess = match nearest(&long, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "see `icosfs mount --help`".to_owned(),
            };
            bail!("no option of -o is called `{name}`; {guess}");
        };
        flags.push(match (flag.get_action().takes_values(), value) {
            (true, Some(value)) => format!("--{long}={value}").into(),
            (false, None) => format!("--{long}").into(),
            (true, None) => bail!("expected a value: -o {name}=..."),
            (false, Some(_)) => bail!("expected no value: -o {name}"),
        });
    }
    Ok(flags)
}

/// Inserts `flags` into `arguments`, before a `--`.
pub(super) fn with_flags(mut arguments: Vec<OsString>, flags: Vec<OsString>) -> Vec<OsString> {
    let end = arguments
        .iter()
        .position(|argument| argument == OsStr::new("--"));
    let at = end.unwrap_or(arguments.len());
    arguments.splice(at..at, flags);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten_line(line: &str) -> Option<Result<String, String>> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let line = |all: Vec<OsString>| all.join(OsStr::new(" ")).into_string().unwrap();
        rewritten(&arguments).map(|result| result.map(line).map_err(|error| error.to_string()))
    }

    #[test]
    fn command_lines_of_mount_are_rewritten() {
        for (line, expected) in [
            (
                "/sbin/mount.icosfs icos /mnt/icos -o rw,noauto",
                "icosfs mount --portal=icos --device=icos -o rw,noauto -- /mnt/icos",
            ),
            (
                "mount.fuse.icosfs demo /m -s -n -v -t fuse.icosfs",
                "icosfs mount --demo --device=demo -v -- /m",
            ),
            (
                "icosfs sites /m -o ro",
                "icosfs mount --portal=sites --device=sites -o ro -- /m",
            ),
        ] {
            assert_eq!(
                rewritten_line(line),
                Some(Ok(expected.to_owned())),
                "{line}"
            );
        }
        for own in [
            "icosfs demo --port 0",
            "icosfs mount /m",
            "icosfs moutn /m",
            "icosfs",
        ] {
            assert_eq!(rewritten_line(own), None, "{own}");
        }
        for wrong in [
            "mount.icosfs",
            "mount.icosfs nas:/x /m",
            "mount.icosfs icos /m -X",
        ] {
            assert!(matches!(rewritten_line(wrong), Some(Err(_))), "{wrong}");
        }
    }

    #[test]
    fn option_becomes_the_flag_of_the_same_name() {
        let command = super::super::command();
        let flags = |text: &str| {
            let options: Vec<String> = text.split(',').map(str::to_owned).collect();
            flags(&options, &command)
        };
        assert_eq!(
            flags("rw,_netdev,x-systemd.automount,cache_size=2G,no-usage-report").unwrap(),
            ["--cache-size=2G", "--no-usage-report"]
        );
        for (wrong, expected) in [
            ("cache_sise=2G", "did you mean `cache-size`?"),
            ("cache_size", "expected a value"),
            ("remount,cache_size=2G", "unmount it and mount it again"),
            ("allow_other=1", "expected no value"),
        ] {
            let message = flags(wrong).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
