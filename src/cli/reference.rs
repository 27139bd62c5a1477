//! Generates docs/reference.md from the parser, and checks that the page is current.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::{Arg, Command};

use super::config;

const PAGE: &str = "docs/reference.md";
/// Set it to write the page instead of checking it.
const UPDATE: &str = "ICOSFS_UPDATE_REFERENCE";

/// Variables that are no settings, with their meanings.
const VARIABLES: [(&str, &str); 18] = [
    (
        "ICOSFS_CONFIG",
        "another `config.toml` than `~/.config/icosfs/config.toml`; if empty, no file is read",
    ),
    ("ICOSFS_TOKEN", "a login token; nothing is saved"),
    ("ICOSFS_USER", "log in as this user, with `ICOSFS_PASSWORD`"),
    ("ICOSFS_PASSWORD", "the password of `ICOSFS_USER`"),
    (
        "ICOSFS_PROGRAM",
        "the program that the Python package runs, instead of the one installed with it",
    ),
    (
        "PORTAL_DATA_PATH_ICOS",
        "the default of `data-path`; also `_SITES` and `_ICOSCITIES`, for these repositories",
    ),
    (
        "HTTPS_PROXY",
        "the proxy for requests; also `HTTP_PROXY` and `ALL_PROXY`",
    ),
    ("NO_PROXY", "hosts to reach without the proxy"),
    ("RUST_LOG", "the default of `log-level`"),
    ("NO_COLOR", "if not empty, no colours"),
    (
        "COLUMNS",
        "the width of tables where the terminal does not say it",
    ),
    (
        "XDG_CACHE_HOME",
        "the folder with the cache folder `icosfs`, by default `~/.cache`",
    ),
    (
        "XDG_CONFIG_HOME",
        "the folder with `icosfs/config.toml`, by default `~/.config`",
    ),
    (
        "XDG_RUNTIME_DIR",
        "the folder for sockets; else one below the cache",
    ),
    (
        "NOTIFY_SOCKET",
        "set by systemd, which is told once the mount is ready",
    ),
    ("COMPLETE", "set by the completion script of a shell"),
    (
        "AWS_ACCESS_KEY_ID",
        "the key of a shared cache on S3; also `AWS_SECRET_ACCESS_KEY`",
    ),
    (
        "AWS_ENDPOINT_URL",
        "the address of a store other than Amazon's; also `AWS_REGION` and `AWS_ALLOW_HTTP`",
    ),
];

/// The page.
fn page() -> String {
    let mut command = super::command();
    command.build();
    let mut text = String::from(INTRODUCTION);
    let mut settings = BTreeMap::new();
    add_settings(&command, &mut settings);
    text.push_str("| setting | default | commands | meaning |\n|---|---|---|---|\n");
    let users = users(&command);
    for (name, arg) in &settings {
        let commands = match users.get(name) {
            Some(users) if !arg.is_global_set() => users.iter().cloned().collect::<Vec<_>>(),
            _ => vec!["all".to_owned()],
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            with_value(name, arg),
            default(arg),
            commands.join(", "),
            meaning(arg)
        );
    }
    text.push_str("\n## Other variables\n\n| variable | meaning |\n|---|---|\n");
    for (name, meaning) in VARIABLES {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    text.push_str(
        "\n## Options of each command\n\nBeside the settings of the command and `--help`.\n",
    );
    commands(&command, "icosfs", &mut text);
    text
}

const INTRODUCTION: &str = "\
# Reference

A test generates this page from the program. [Settings](settings.md) explains files and
variables. The manual pages have the same texts, and `--help` has their first sentences.

## Settings

A setting `name` is the option `--name`, the variable `ICOSFS_NAME` (in capitals, with `_`
for each `-`), and the key `name` of `config.toml`; the first of these that is given counts.
A switch without a value is `true` in a variable or in the file. `icosfs config show` has
the values in use, and where each is from.

";

/// The settings of `command` and of those below it, with their long descriptions.
fn add_settings(command: &Command, settings: &mut BTreeMap<String, Arg>) {
    // `config show` has all settings, without these.
    if command.get_name() == "show" {
        return;
    }
    for arg in command
        .get_arguments()
        .filter(|arg| arg.get_env().is_some())
    {
        if let Some(name) = arg.get_long() {
            settings
                .entry(name.to_owned())
                .or_insert_with(|| arg.clone());
        }
    }
    for sub in command.get_subcommands() {
        add_settings(sub, settings);
    }
}

/// The commands that have each setting.
fn users(command: &Command) -> BTreeMap<String, BTreeSet<String>> {
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sub in command.get_subcommands() {
        let settings = sub.get_arguments().filter(|arg| arg.get_env().is_some());
        for name in settings.filter_map(Arg::get_long) {
            let of_setting = users.entry(name.to_owned()).or_default();
            of_setting.insert(format!("`{}`", sub.get_name()));
        }
    }
    users
}

/// A table for each command with options or arguments of its own.
fn commands(command: &Command, name: &str, text: &mut String) {
    for sub in command.get_subcommands() {
        let is_help = sub.get_name() == "help";
        let own: Vec<&Arg> = (sub.get_arguments())
            .filter(|arg| !arg.is_global_set() && !arg.is_hide_set())
            .filter(|arg| arg.get_env().is_none())
            .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
            .collect();
        let name = format!("{name} {}", sub.get_name());
        let is_group = sub.has_subcommands();
        if !is_help && (!is_group || !own.is_empty()) {
            let about = sub.get_about().map(ToString::to_string);
            let about = about.unwrap_or_default();
            let about = about.trim_end_matches('.');
            let _ = write!(text, "\n### {name}\n\n{about}.\n");
            if !own.is_empty() {
                text.push_str("\n| option | default | meaning |\n|---|---|---|\n");
            }
            for arg in own {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} |",
                    shown(arg),
                    default(arg),
                    meaning(arg)
                );
            }
        }
        if !is_help {
            commands(sub, &name, text);
        }
    }
}

fn with_value(name: &str, arg: &Arg) -> String {
    match arg.get_value_names() {
        Some(values) if arg.get_action().takes_values() => {
            format!("{name} {}", values.join(" "))
        }
        _ => name.to_owned(),
    }
}

fn shown(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("`-{short}`"));
    let long = arg
        .get_long()
        .map(|long| format!("`{}`", with_value(&format!("--{long}"), arg)));
    match (short, long) {
        (None, None) => {
            let names = arg.get_value_names().unwrap_or_default();
            format!("`{}`", names.join(" "))
        }
        (short, long) => short.into_iter().chain(long).collect::<Vec<_>>().join(", "),
    }
}

/// Defaults that are found when a command runs.
const FOUND_DEFAULTS: [(&str, &str); 5] = [
    ("cache-dir", "`~/.cache/icosfs`"),
    ("cache-size", "a tenth of the disk, at least `1G`"),
    ("auth-url", "that of the portal"),
    ("meta-url", "that of the portal"),
    ("data-url", "that of the portal"),
];

fn default(arg: &Arg) -> String {
    let mut found = FOUND_DEFAULTS.iter();
    if let Some((_, default)) = found.find(|(name, _)| arg.get_long() == Some(name)) {
        return (*default).to_owned();
    }
    let values = arg.get_default_values();
    if values.is_empty() || arg.is_hide_default_value_set() || !arg.get_action().takes_values() {
        return String::new();
    }
    let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
    format!("`{}`", values.join(","))
}

/// `before`, which may lack the full stop of a title, and then `next`.
fn sentences(before: &str, next: &str) -> String {
    format!("{}. {next}", before.trim_end_matches('.'))
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let paragraphs: Vec<String> = (help.split("\n\n"))
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let help = paragraphs
        .into_iter()
        .reduce(|before, next| sentences(&before, &next));
    let help = help.unwrap_or_default();
    let values: Vec<String> = (arg.get_possible_values().iter())
        .filter(|value| !value.is_hide_set() && arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let help = match &values[..] {
        [] => help,
        values => sentences(&help, &format!("Values: {}", values.join(", "))),
    };
    help.replace('|', "\\|").replace('<', "&lt;")
}

#[test]
fn reference_is_current_and_has_every_setting() {
    let page = page();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let settings = config::settings(&super::command());
    for (name, setting) in settings {
        assert!(
            page.contains(&format!("\n| `{}`", with_value(&name, &setting))),
            "{name}"
        );
    }
    let stored = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        stored == page,
        "{PAGE} is not current; run this test with {UPDATE}=1 to write it"
    );
}

#[test]
fn every_variable_of_the_sources_is_in_the_reference() {
    let page = page();
    let settings = config::settings(&super::command());
    let of_settings: BTreeSet<String> = (settings.values().filter_map(Arg::get_env))
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let internal = ["ICOSFS_BACKGROUND", "ICOSFS_SHARED", UPDATE];
    let mut found = 0;
    let mut folders = vec![Path::new("src").to_owned(), Path::new("python").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_source = path
                .extension()
                .is_some_and(|ending| ending == "rs" || ending == "py");
            if path.is_dir() {
                folders.push(path);
            } else if is_source {
                let text = fs::read_to_string(&path).unwrap();
                let literals = text.split('"').filter(|literal| {
                    literal.len() > "ICOSFS_".len()
                        && literal.starts_with("ICOSFS_")
                        && literal.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
                });
                for name in literals {
                    found += 1;
                    assert!(
                        of_settings.contains(name)
                            || internal.contains(&name)
                            || page.contains(&format!("`{name}`")),
                        "{}: {name}",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(found > 40, "only {found}");
}
