//! `config.toml`, and `icosfs config show`.
//!
//! A setting is any option that also has an `ICOSFS_*` variable; its key is the long
//! name of the option. Thus the parser is the only list of settings. It checks the
//! values in the file, which then become its defaults. Hence the precedence:
//! flags, environment, file, built-in defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Subcommand};
use directories::{BaseDirs, ProjectDirs};
use serde_json::json;
use toml::{Table, Value};

use super::failure::argument_of;
use super::output::{self, print_json, print_line};
use super::text_table::TextTable;

/// The variable with the path of another file. If it is empty, no file is read.
const PATH_VARIABLE: &str = "ICOSFS_CONFIG";

/// Maximum length of the file, in bytes.
const MAX_LEN: u64 = 1 << 20;

/// Subcommands of `icosfs config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show each setting and its source
    #[command(after_help = "\
A setting comes from its option, else from its environment variable, else from \
config.toml, else it has its default. Add any option to see its effect, as in \
`icosfs config show --portal sites`.")]
    Show {
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

/// The checked settings of `config.toml`.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    path: Option<PathBuf>,
    values: BTreeMap<String, Vec<String>>,
}

impl ConfigFile {
    /// Reads the file, if it exists. The options of `command` are its valid keys.
    pub(super) fn load(command: &Command) -> anyhow::Result<Self> {
        let Some(path) = config_path() else {
            return Ok(Self::default());
        };
        let read = icos_files::read_with_metadata(&path, MAX_LEN).and_then(|(content, found)| {
            // It decides where a login is sent, and which files are written.
            if icos_files::is_changeable_by_others(&found) {
                let reason = format!(
                    "expected settings that only you or root can change, found a file of user {} with mode {:04o}; `chmod go-w` it, copy it to a file of your own, or set {PATH_VARIABLE} to nothing to read no file",
                    found.uid(),
                    found.mode() & 0o7777
                );
                return Err(std::io::Error::other(reason));
            }
            String::from_utf8(content)
                .map_err(|_| std::io::Error::other("expected UTF-8, found other bytes"))
        });
        let text = match read {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if std::env::var_os(PATH_VARIABLE).is_some() {
                    bail!(
                        "there is no file {}, which {PATH_VARIABLE} names; correct the variable, or set it to nothing to read no file",
                        path.display()
                    );
                }
                String::new()
            }
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        Self::parse(path, &text, command)
    }

    /// Parses `text`, the content of the file at `path`.
    pub(super) fn parse(path: PathBuf, text: &str, command: &Command) -> anyhow::Result<Self> {
        let shown = path.display();
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let quoted = error.span().and_then(|span| quoted_value(text, span.start));
            match quoted {
                Some((number, line)) => {
                    anyhow!("{shown} is not TOML: line {number}: a text needs quotes: {line}")
                }
                None => anyhow!(error).context(format!("{shown} is not TOML")),
            }
        })?;
        let settings = settings(command);
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let Some(setting) = settings.get(&key) else {
                let nearest = nearest(&key, settings.keys().map(String::as_str));
                let suggestion = nearest.map(|name| format!("; did you mean `{name}`?"));
                bail!(
                    "{shown}: no setting is called `{key}`{}; `icosfs config show` lists them",
                    suggestion.unwrap_or_default()
                );
            };
            match check(setting, &key, &value) {
                Ok(checked) => values.insert(key, checked),
                Err(reason) => bail!("{shown}: invalid `{key}`: {reason}"),
            };
        }
        Ok(Self {
            path: Some(path),
            values,
        })
    }

    /// Returns `command` with the settings of the file as its defaults.
    pub(super) fn apply(&self, command: Command) -> Command {
        command
            .mut_args(|arg| {
                let Some(name) = setting_name(&arg) else {
                    return arg;
                };
                let arg = ignore_empty_variable(arg);
                match self.values.get(&name) {
                    Some(values) => arg.default_values(values),
                    None => arg,
                }
            })
            .mut_subcommands(|sub| self.apply(sub))
    }
}

/// Returns `command` with all settings as options of `config show`.
pub(super) fn with_settings_to_show(command: Command) -> Command {
    let all: Vec<Arg> = settings(&command)
        .into_values()
        .filter(|arg| !arg.is_global_set())
        .collect();
    hide_variables(command.mut_subcommand("config", |config| {
        config.mut_subcommand("show", |show| show.args(all))
    }))
}

/// Hides the variables in all help texts, which would double them: a variable has the
/// name of its option, and `config show` lists them with their values.
fn hide_variables(command: Command) -> Command {
    command
        .mut_args(|arg| arg.hide_env(true))
        .mut_subcommands(hide_variables)
}

/// Returns a hint if the value that the parser rejects comes from a variable, since
/// the parser does not say so.
pub(super) fn environment_hint(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let flag = argument_of(error)?.split(' ').next()?;
    let typed = (arguments.iter()).any(|argument| argument.to_string_lossy().starts_with(flag));
    let settings = settings(&super::command());
    let variable = settings.get(flag.strip_prefix("--")?)?.get_env()?;
    let set = std::env::var_os(variable).is_some();
    (set && !typed).then(|| format!("the variable {} has that value", variable.display()))
}

/// Removes the variable of `arg` if it is empty, which means "not set".
fn ignore_empty_variable(arg: Arg) -> Arg {
    let value = arg.get_env().and_then(std::env::var_os);
    if value.is_some_and(|value| value.is_empty()) {
        return arg.env(Resettable::Reset);
    }
    arg
}

/// Returns the path of the file, which need not exist.
fn config_path() -> Option<PathBuf> {
    match std::env::var_os(PATH_VARIABLE) {
        Some(path) if path.is_empty() => None,
        Some(path) => Some(path.into()),
        None => Some(
            ProjectDirs::from("", "", "icosfs")?
                .config_dir()
                .join("config.toml"),
        ),
    }
}

/// Returns all settings of `command` and its subcommands by name, without their
/// relations to other options.
pub(super) fn settings(command: &Command) -> BTreeMap<String, Arg> {
    let mut found = BTreeMap::new();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        for arg in command.get_arguments() {
            if let Some(name) = setting_name(arg) {
                found.entry(name).or_insert_with(|| without_relations(arg));
            }
        }
        commands.extend(command.get_subcommands());
    }
    found
}

/// Returns the name of the setting, if `arg` is one.
fn setting_name(arg: &Arg) -> Option<String> {
    arg.get_env()?;
    arg.get_long().map(str::to_owned)
}

/// Copies `arg` without its relations to other options.
fn without_relations(arg: &Arg) -> Arg {
    (arg.clone())
        .conflicts_with(Resettable::Reset)
        .requires(Resettable::Reset)
        .long_help(Resettable::Reset)
        .hide_short_help(false)
        .display_order(Resettable::Reset)
        .help_heading("Settings")
}

/// Returns the arguments for `value`, if the parser accepts them.
fn check(setting: &Arg, key: &str, value: &Value) -> anyhow::Result<Vec<String>> {
    if !setting.get_action().takes_values() {
        let switch = value.as_bool().context("expected true or false")?;
        return Ok(vec![switch.to_string()]);
    }
    let values = match value {
        Value::Array(values) => values.iter().map(text).collect::<Result<_, _>>()?,
        value => vec![text(value)?],
    };
    let arguments = values.iter().map(|value| format!("--{key}={value}"));
    Command::new("config")
        .no_binary_name(true)
        .arg(setting.clone().global(false).env(Resettable::Reset))
        .try_get_matches_from(arguments)
        .map_err(|error| anyhow!(reason(&error)))?;
    Ok(values)
}

/// Converts a TOML value to an argument.
fn text(value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(match (text.strip_prefix("~/"), BaseDirs::new()) {
            (Some(rest), Some(dirs)) => dirs.home_dir().join(rest).display().to_string(),
            _ => text.clone(),
        }),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        other => bail!("expected a string or a number, found {}", other.type_str()),
    }
}

/// Returns the number and the corrected form of the line at `at`, if it is a key and a
/// text without quotes.
fn quoted_value(text: &str, at: usize) -> Option<(usize, String)> {
    let before = text.get(..at)?;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next()?;
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.split('#').next()?.trim());
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:~@ ".contains(c);
    let is_text = !value.is_empty() && value.chars().all(is_plain);
    (is_text
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || c == '-' || c == '_'))
    .then(|| {
        (
            before.matches('\n').count() + 1,
            format!("{key} = \"{value}\""),
        )
    })
}

/// Returns the message of the parser without the usage text.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.is_empty());
    let lines: Vec<&str> = lines.map(str::trim).collect();
    let message = lines.join(" ");
    message
        .strip_prefix("error: ")
        .unwrap_or(&message)
        .to_owned()
}

/// Returns the name that is most similar to `typed`, if any is similar.
pub(super) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.replace('_', "-").to_ascii_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&typed, name), name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

/// Runs the command.
pub(super) fn run(
    command: &ConfigCommand,
    matches: &ArgMatches,
    file: &ConfigFile,
) -> anyhow::Result<()> {
    let ConfigCommand::Show { json } = command;
    let matches = matches
        .subcommand_matches("config")
        .and_then(|config| config.subcommand_matches("show"))
        .context("expected the command `config show`")?;
    let shown: Vec<ShownSetting> = (settings(&super::command()).into_iter())
        .map(|(name, setting)| ShownSetting::new(name, &setting, matches, file))
        .collect();
    if *json {
        let all: serde_json::Map<_, _> = (shown.into_iter())
            .map(|s| (s.name, json!({"value": s.value, "source": s.source})))
            .collect();
        return print_json(&all);
    }
    match &file.path {
        Some(path) if path.exists() => print_line!("# settings from {}", path.display()),
        Some(path) => print_line!("# settings; {} does not exist", path.display()),
        None => print_line!("# settings, no file"),
    }?;
    let value = |setting: &ShownSetting| setting.value.clone().unwrap_or("-".to_owned());
    if output::is_terminal() {
        let row = |setting: &ShownSetting| {
            vec![setting.name.clone(), value(setting), setting.source.clone()]
        };
        return TextTable::new(&["SETTING", "VALUE", "SOURCE"], shown.iter().map(row)).print();
    }
    let names = shown.iter().map(|setting| setting.name.len()).max();
    let values = shown.iter().map(|setting| value(setting).len()).max();
    let (names, values) = (names.unwrap_or(0), values.unwrap_or(0));
    for setting in &shown {
        let (name, value, source) = (&setting.name, value(setting), &setting.source);
        print_line!("{name:names$}  {value:values$}  {source}")?;
    }
    Ok(())
}

/// One line of `config show`.
struct ShownSetting {
    name: String,
    value: Option<String>,
    source: String,
}

impl ShownSetting {
    fn new(name: String, setting: &Arg, matches: &ArgMatches, file: &ConfigFile) -> Self {
        let id = setting.get_id().as_str();
        let raw = matches.try_get_raw(id).ok().flatten();
        let value = raw.map(|values| {
            let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            values.join(",")
        });
        let source = match (matches.value_source(id), setting.get_env(), &file.path) {
            (Some(ValueSource::CommandLine), ..) => format!("--{name}"),
            (Some(ValueSource::EnvVariable), Some(variable), _) => {
                variable.to_string_lossy().into()
            }
            (.., Some(path)) if file.values.contains_key(&name) => path.display().to_string(),
            _ => "default".to_owned(),
        };
        Self {
            name,
            value,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<ConfigFile> {
        ConfigFile::parse("config.toml".into(), text, &super::super::command())
    }

    #[test]
    fn setting_has_the_same_name_as_flag_variable_and_id() {
        let mut commands = vec![super::super::command()];
        while let Some(command) = commands.pop() {
            for arg in command.get_arguments() {
                let Some(name) = setting_name(arg) else {
                    continue;
                };
                let variable = format!("ICOSFS_{}", name.to_ascii_uppercase().replace('-', "_"));
                assert_eq!(arg.get_env().unwrap(), &*variable, "{}", command.get_name());
                assert_eq!(arg.get_id().as_str(), name.replace('-', "_"));
            }
            commands.extend(command.get_subcommands().cloned());
        }
        assert!(settings(&super::super::command()).len() > 5);
    }

    #[test]
    fn invalid_value_is_rejected_with_the_message_of_the_parser() {
        let file =
            parse("cache-size = \"20G\"\nmetadata-ttl = 60\nno-usage-report = true").unwrap();
        assert_eq!(file.values["cache-size"], ["20G"]);
        assert_eq!(file.values["metadata-ttl"], ["60"]);
        for (text, expected) in [
            ("portal = \"icso\"", "did you mean icos?"),
            ("metadata-ttl = \"soon\"", "expected a number of seconds"),
            ("exact-size = \"sometimes\"", "always, when-open, never"),
            ("no-usage-report = \"yes\"", "expected true or false"),
            (
                "cache-size = true",
                "expected a string or a number, found boolean",
            ),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with("config.toml: invalid `"), "{message}");
            assert!(
                message.contains(expected) && !message.contains("Usage"),
                "{message}"
            );
        }
        let message = parse("portal =").unwrap_err().to_string();
        assert!(message.starts_with("config.toml is not TOML"), "{message}");
    }

    #[test]
    fn text_without_quotes_gets_its_quoted_form_as_suggestion() {
        for (text, line) in [
            (
                "portal = sites",
                "line 1: a text needs quotes: portal = \"sites\"",
            ),
            (
                "memory = 1\ncache-size = 20G # for now\n",
                "line 2: a text needs quotes: cache-size = \"20G\"",
            ),
            (
                "cache-dir = ~/my cache",
                "line 1: a text needs quotes: cache-dir = \"~/my cache\"",
            ),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert_eq!(message, format!("config.toml is not TOML: {line}"));
        }
    }

    #[test]
    fn unknown_key_is_rejected_with_the_nearest_name() {
        for (key, nearest) in [
            ("cache_size", Some("cache-size")),
            ("metadata-tll", Some("metadata-ttl")),
            ("potal", Some("portal")),
            ("foreground", None),
            ("zzz", None),
        ] {
            let message = parse(&format!("{key} = 1")).unwrap_err().to_string();
            assert!(message.contains(&format!("`{key}`")), "{message}");
            match nearest {
                Some(name) => assert!(
                    message.contains(&format!("did you mean `{name}`?")),
                    "{message}"
                ),
                None => assert!(!message.contains("did you mean"), "{message}"),
            }
        }
    }
}
