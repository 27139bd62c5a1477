//! The list of commands in the top-level help, grouped by topic.

use std::fmt::Write as _;

use clap::Command;

/// Headings and the commands under each. Commands without a topic are listed
/// last, under [`OTHER_TOPIC`].
const TOPICS: [(&str, &[&str]); 4] = [
    (
        "Mounts",
        &["mount", "unmount", "status", "log-level", "doctor"],
    ),
    (
        "Data",
        &[
            "find",
            "info",
            "stations",
            "datatypes",
            "get",
            "prefetch",
            "cache",
        ],
    ),
    ("Login", &["login", "logout", "auth"]),
    ("Demo portal", &["demo"]),
];
const OTHER_TOPIC: &str = "This program";

/// Returns `command` with the grouped list in its help.
pub(super) fn with_grouped_commands(command: Command) -> Command {
    let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<(String, String)> {
        let about = |sub: &Command| sub.get_about().map(ToString::to_string).unwrap_or_default();
        command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set() && wanted(sub.get_name()))
            .map(|sub| (sub.get_name().to_owned(), about(sub)))
            .collect()
    };
    let mut text = String::new();
    let mut list = |heading: &str, commands: &[(String, String)]| {
        if commands.is_empty() {
            return;
        }
        let _ = writeln!(text, "{heading}:");
        for (name, about) in commands {
            let _ = writeln!(text, "  {name:<12} {about}");
        }
        text.push('\n');
    };
    for (heading, names) in TOPICS {
        list(heading, &of(&|name| names.contains(&name)));
    }
    let in_none = |name: &str| TOPICS.iter().all(|(_, names)| !names.contains(&name));
    list(OTHER_TOPIC, &of(&in_none));
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{text}Options:\n{{options}}\n\n{{after-help}}"
    );
    command.help_template(template)
}
