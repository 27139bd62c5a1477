//! Help texts: the commands grouped by topic, and the example that is shown when a
//! command lacks a required argument.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::StyledStr;
use clap::{Arg, Command};

/// Headings, the commands under each that `-h` describes, and those that it only names.
const TOPICS: [(&str, &[&str], &[&str]); 4] = [
    (
        "Mounts",
        &["mount", "unmount", "status", "doctor"],
        &["prefetch", "refresh", "log-level"],
    ),
    (
        "Find data",
        &["find", "info", "stations", "cite"],
        &["datatypes", "collections", "sparql"],
    ),
    (
        "Read data without a mount",
        &["get", "plot", "serve"],
        &["cache", "cluster"],
    ),
    (
        "Login and this program",
        &["login"],
        &["logout", "auth", "config", "demo", "completions", "man"],
    ),
];

/// Returns `command` with a list of its commands for `-h`, which fits one screen.
pub(super) fn with_short_list(command: Command) -> Command {
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}{SHORT_OPTIONS}",
        listed(&command, false)
    );
    command.help_template(template)
}

/// What follows the list in `-h`.
const SHORT_OPTIONS: &str = "
Options:
      --portal <PORTAL>  icos (default), sites, cities or demo ($ICOSFS_PORTAL)
  -h, --help             Print this, or more with --help

Try it without a login: icosfs mount --demo ~/icos";

/// Returns `command` with the list of its commands for `--help`.
fn with_long_list(command: Command) -> Command {
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}\n{{options}}\n\n{{after-help}}",
        listed(&command, true)
    );
    command.help_template(template)
}

/// The commands by topic, all with descriptions and apart from each other if `is_long`.
fn listed(command: &Command, is_long: bool) -> String {
    let all: Vec<&Command> = (command.get_subcommands())
        .filter(|sub| !sub.is_hide_set())
        .collect();
    let named = |name: &str| all.iter().copied().find(|sub| sub.get_name() == name);
    let mut text = String::new();
    for (topic, described, others) in TOPICS {
        let _ = writeln!(text, "{topic}:");
        let also: &[&str] = if is_long { others } else { &[] };
        for sub in described.iter().chain(also).filter_map(|name| named(name)) {
            let about = sub.get_about().map(ToString::to_string);
            let (name, about) = (sub.get_name(), about.unwrap_or_default());
            let _ = writeln!(text, "  {name:<12} {about}");
        }
        if is_long {
            text.push('\n');
            continue;
        }
        let others = others.iter().filter_map(|name| named(name));
        let others: Vec<&str> = others.map(Command::get_name).collect();
        if !others.is_empty() {
            let _ = writeln!(text, "  also: {}", others.join(", "));
        }
    }
    text
}

/// The heading of the options that all commands have.
const GLOBAL_OPTIONS: &str = "Options of all commands";

/// Returns `command` with the options that all commands have in one group, which only
/// `--help` shows.
pub(super) fn with_global_options_last(command: Command) -> Command {
    command
        .mut_args(|arg| {
            if arg.is_global_set() {
                arg.help_heading(GLOBAL_OPTIONS).hide_short_help(true)
            } else {
                arg
            }
        })
        .mut_subcommands(with_global_options_last)
}

/// Returns `command` with the prose below the options as paragraphs of one line each, which
/// the parser wraps at the width of the terminal. Lines that are indented stay as they are.
pub(super) fn with_flowing_prose(command: Command) -> Command {
    let command = match command.get_after_help().map(ToString::to_string) {
        Some(text) => command.after_help(flowing(&text)),
        None => command,
    };
    let command = match command.get_after_long_help().map(ToString::to_string) {
        Some(text) => command.after_long_help(flowing(&text)),
        None => command,
    };
    command.mut_subcommands(with_flowing_prose)
}

fn flowing(text: &str) -> String {
    let paragraph = |text: &str| {
        if text.lines().any(|line| line.starts_with(' ')) {
            return text.to_owned();
        }
        text.lines().collect::<Vec<_>>().join(" ")
    };
    let paragraphs: Vec<String> = text.split("\n\n").map(paragraph).collect();
    paragraphs.join("\n\n")
}

/// The text of `--help`: all options, but in the compact form that clap has for `-h`
/// only. Its long form takes five screens for `icosfs mount`. Manual pages have the
/// long descriptions.
pub(super) fn long_text(mut command: Command, arguments: &[OsString]) -> StyledStr {
    command.build();
    let is_whole_program = |named: &Command| named.get_name() == "icosfs";
    let named = named_mut(&mut command, arguments).clone();
    let mut named = if is_whole_program(&named) {
        with_long_list(named.mut_args(|arg| arg.hide_short_help(false)))
    } else {
        with_named_global_options(named)
    };
    if let Some(after) = named.get_after_long_help().cloned() {
        named = named.after_help(after);
    }
    named.render_help()
}

/// Returns a subcommand that describes its own options and `--portal`, and names the
/// others that all commands have.
fn with_named_global_options(command: Command) -> Command {
    let is_described = |arg: &Arg| !arg.is_global_set() || arg.get_id() == "portal";
    let others: Vec<String> = (command.get_arguments())
        .filter(|arg| !is_described(arg) && !arg.is_hide_set())
        .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
        .collect();
    let mut named = String::new();
    if !others.is_empty() {
        named = format!("Also (see icosfs --help): {}", others.join(", "));
    }
    if let Some(after) = command.get_after_help() {
        named = format!("{named}\n\n{after}");
    }
    command
        .mut_args(|arg| {
            let is_described = is_described(&arg);
            let arg = arg.hide_short_help(!is_described);
            if is_described { arg } else { arg.hide(true) }
        })
        .after_help(named)
}

/// The command that `arguments` name: `command` or one below it.
pub(super) fn named_mut<'a>(command: &'a mut Command, arguments: &[OsString]) -> &'a mut Command {
    let mut named = command;
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        if named.find_subcommand(word).is_some() && word != "help" {
            named = named.find_subcommand_mut(word).expect("found just now");
        }
    }
    named
}

/// Whether `arguments` request the text of `--help` rather than that of `-h`.
pub(super) fn is_long(arguments: &[OsString]) -> bool {
    let options = arguments.iter().skip(1).take_while(|word| *word != "--");
    let mut words = options.filter_map(|word| word.to_str());
    words.any(|word| matches!(word, "--help" | "help"))
}

/// The first example in the help of `command`.
pub(super) fn example_of(command: &Command) -> Option<String> {
    let help = command.get_after_help()?.to_string();
    let example = help.split_once("Examples:\n")?.1.lines().next()?;
    // Two spaces separate the command from its description.
    let example = example.trim_start().split("  ").next()?;
    Some(example.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of `-h` or `--help` on a terminal of 80 columns.
    fn text(arguments: &[&str]) -> String {
        let words: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let mut command = crate::cli::command().term_width(80);
        if is_long(&words) {
            return long_text(command, &words).to_string();
        }
        command.build();
        named_mut(&mut command, &words).render_help().to_string()
    }

    #[test]
    fn short_help_fits_one_screen_and_names_every_command() {
        let text = text(&["icosfs", "-h"]);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        assert!(lines.len() <= 30, "{} lines:\n{text}", lines.len());
        assert!(lines.iter().all(|line| line.len() <= 80), "{text}");
        assert!(text.contains("--portal"), "{text}");
        let words: Vec<&str> = text
            .split(|c: char| !c.is_alphanumeric() && c != '-')
            .collect();
        for sub in crate::cli::command().get_subcommands() {
            assert!(words.contains(&sub.get_name()), "{}", sub.get_name());
        }
    }

    /// Regression: lines that were broken by hand were broken again on a terminal of 80
    /// columns, and examples could not be copied.
    #[test]
    fn examples_fit_80_columns_and_prose_has_no_line_breaks() {
        let mut left = vec![crate::cli::command()];
        while let Some(command) = left.pop() {
            let name = command.get_name().to_owned();
            let texts = [command.get_after_help(), command.get_after_long_help()];
            for text in texts.into_iter().flatten().map(ToString::to_string) {
                for paragraph in text.split("\n\n") {
                    let is_prose = !paragraph.lines().any(|line| line.starts_with(' '));
                    assert!(
                        !is_prose || paragraph.lines().count() <= 1,
                        "{name}: {paragraph}"
                    );
                    let longest = paragraph.lines().map(str::len).max();
                    assert!(
                        is_prose || longest.unwrap_or(0) <= 78,
                        "{name}: {paragraph}"
                    );
                }
            }
            let about = command.get_about().map(ToString::to_string);
            assert!(
                about.is_none_or(|about| name == "icosfs" || about.len() <= 160),
                "{name}"
            );
            left.extend(command.get_subcommands().cloned());
        }
        let listed = text(&["icosfs", "--help"]);
        let lines = listed.lines().take_while(|line| !line.contains("--portal"));
        for line in lines {
            assert!(line.len() <= 80, "{line}");
        }
    }

    #[test]
    fn help_describes_options_of_all_commands_in_one_place() {
        let all = text(&["icosfs", "--help"]);
        for option in [
            "--portal <PORTAL>",
            "--cache-dir <DIR>",
            "--log-file <FILE>",
        ] {
            assert!(all.contains(option), "no {option} in {all}");
        }
        let find = text(&["icosfs", "find", "--help"]);
        assert!(find.contains("--portal <PORTAL>"), "{find}");
        assert!(
            find.contains("Also (see icosfs --help): --auth-url, "),
            "{find}"
        );
        assert!(!find.contains("--cache-dir <DIR>"), "{find}");
        let short = text(&["icosfs", "find", "-h"]);
        assert!(!short.contains("--cache-dir"), "{short}");
    }

    #[test]
    fn help_of_mount_fits_two_screens_of_forty_lines() {
        let text = text(&["icosfs", "mount", "--help"]);
        let lines = text.trim_end().lines().count();
        assert!(lines <= 76, "{lines} lines:\n{text}");
    }

    #[test]
    fn every_command_with_required_arguments_has_an_example() {
        let command = crate::cli::command();
        let example = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            example_of(named_mut(&mut command.clone(), &words))
        };
        assert_eq!(
            example(&["icosfs", "--portal", "sites", "mount"]).unwrap(),
            "icosfs mount ~/icos"
        );
        let mut left: Vec<(Vec<&str>, &Command)> = vec![(vec!["icosfs"], &command)];
        while let Some((words, command)) = left.pop() {
            for sub in command.get_subcommands() {
                let words = [&words[..], &[sub.get_name()]].concat();
                let needs = sub.get_positionals().any(clap::Arg::is_required_set);
                let found = example(&words);
                assert!(found.is_some() || !needs, "{words:?}");
                let starts = words.join(" ");
                assert!(
                    found.is_none_or(|found| found.starts_with(&starts)),
                    "{words:?}"
                );
                left.push((words, sub));
            }
        }
    }
}
