//! Help texts: the commands grouped by topic, and the example that is shown when a
//! command lacks a required argument.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::Command;
use clap::builder::StyledStr;

/// Headings and the commands under each. Commands without a topic are listed
/// last, under [`OTHER_TOPIC`].
const TOPICS: [(&str, &[&str]); 4] = [
    (
        "Mounts",
        &[
            "mount",
            "unmount",
            "status",
            "refresh",
            "prefetch",
            "log-level",
            "doctor",
        ],
    ),
    (
        "Data without a mount",
        &[
            "find",
            "info",
            "plot",
            "cite",
            "sparql",
            "stations",
            "datatypes",
            "collections",
            "get",
            "serve",
            "cache",
            "cluster",
        ],
    ),
    ("Login", &["login", "logout", "auth"]),
    ("Demo portal", &["demo"]),
];
const OTHER_TOPIC: &str = "This program";

/// Returns `command` with the grouped list in its help.
pub(super) fn with_grouped_commands(command: Command) -> Command {
    let topics = TOPICS.iter().map(|(topic, _)| *topic).chain([OTHER_TOPIC]);
    let mut text = String::new();
    for topic in topics {
        let listed = |sub: &&Command| !sub.is_hide_set() && topic_of(sub.get_name()) == topic;
        let mut subcommands = command.get_subcommands().filter(listed).peekable();
        if subcommands.peek().is_none() {
            continue;
        }
        let _ = writeln!(text, "{topic}:");
        for sub in subcommands {
            let about = sub.get_about().map(ToString::to_string);
            let (name, about) = (sub.get_name(), about.unwrap_or_default());
            let _ = writeln!(text, "  {name:<12} {about}");
        }
        text.push('\n');
    }
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{text}Options:\n{{options}}\n\n{{after-help}}"
    );
    command.help_template(template)
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

/// The text of `--help`: all options, but in the compact form that clap has for `-h`
/// only. Its long form takes five screens for `icosfs mount`. Manual pages have the
/// long descriptions.
pub(super) fn long_text(mut command: Command, arguments: &[OsString]) -> StyledStr {
    command.build();
    let mut named = &mut command;
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        if named.find_subcommand(word).is_some() && word != "help" {
            named = named.find_subcommand_mut(word).expect("found just now");
        }
    }
    let mut named = named.clone().mut_args(|arg| arg.hide_short_help(false));
    if let Some(after) = named.get_after_long_help().cloned() {
        named = named.after_help(after);
    }
    named.render_help()
}

/// Whether `arguments` request the text of `--help` rather than that of `-h`.
pub(super) fn is_long(arguments: &[OsString]) -> bool {
    let options = arguments.iter().skip(1).take_while(|word| *word != "--");
    let mut words = options.filter_map(|word| word.to_str());
    words.any(|word| matches!(word, "--help" | "help"))
}

fn topic_of(name: &str) -> &'static str {
    let topic = TOPICS.iter().find(|(_, names)| names.contains(&name));
    topic.map_or(OTHER_TOPIC, |(topic, _)| topic)
}

/// The first example in the help of the command named in `arguments`.
pub(super) fn example(command: &Command, arguments: &[OsString]) -> Option<String> {
    let mut named = command;
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        named = named.find_subcommand(word).unwrap_or(named);
    }
    let help = named.get_after_help()?.to_string();
    let example = help.split_once("Examples:\n")?.1.lines().next()?;
    // Two spaces separate the command from its description.
    let example = example.trim_start().split("  ").next()?;
    Some(example.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Command;

    #[test]
    fn every_command_with_required_arguments_has_an_example() {
        let command = crate::cli::command();
        let example = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            super::example(&command, &words)
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
