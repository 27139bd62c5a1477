//! An example to show when a command lacks a required argument.

use std::ffi::OsString;

use clap::Command;

/// The first example in the help of the command named in `arguments`.
pub(super) fn of(command: &Command, arguments: &[OsString]) -> Option<String> {
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
    use super::*;

    #[test]
    fn every_command_with_required_arguments_has_an_example() {
        let command = crate::cli::command();
        let example = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            of(&command, &words)
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
