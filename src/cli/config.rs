//! `config.toml`. `icosfs config show` is in [`show`].
//!
//! A setting is any option that also has an `ICOSFS_*` variable; its key is the long
//! name of the option. Thus the parser is the only list of settings. It checks the
//! values in the files, which then become its defaults. Hence the precedence:
//! flags, environment, the user's file, the machine's file, built-in defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::builder::{BoolishValueParser, Resettable};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, Subcommand};
use directories::{BaseDirs, ProjectDirs};
use toml::{Spanned, Value};

use super::failure::{argument_of, in_own_words};
use super::warning::warning;

pub(super) mod show;

/// The variable with the path of another file in place of the user's. If it is empty, no
/// file is read.
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

/// The settings of the whole machine. It is read only if it is root's.
const SYSTEM_PATH: &str = "/etc/icosfs/config.toml";

/// A setting in a file.
#[derive(Debug)]
struct SettingInFile {
    values: Vec<String>,
    file: Arc<Path>,
}

/// The checked settings of the files: that of the machine, then that of the user.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    values: BTreeMap<String, SettingInFile>,
}

/// The errors in the files, in the order of their lines.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n"))]
pub(super) struct FileErrors(pub(super) Vec<anyhow::Error>);

impl FileSettings {
    /// Reads the files, as far as they exist. The options of `command` are the valid keys.
    ///
    /// # Errors
    ///
    /// [`FileErrors`].
    pub(super) fn load(command: &Command) -> anyhow::Result<Self> {
        let variable = std::env::var_os(PATH_VARIABLE);
        let Some(user) = UserFile::of_variable(variable) else {
            return Ok(Self::default());
        };
        Self::load_from(Path::new(SYSTEM_PATH), &user, command)
    }

    fn load_from(system: &Path, user: &UserFile, command: &Command) -> anyhow::Result<Self> {
        let settings = settings(command);
        let mut found = Self::default();
        let mut errors = Vec::new();
        if let Some(text) = read_system_file(system) {
            errors.extend(found.add(system, &text, &settings));
        }
        match user.read() {
            Ok(Some((path, text))) => errors.extend(found.add(&path, &text, &settings)),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
        if errors.is_empty() {
            return Ok(found);
        }
        Err(FileErrors(errors).into())
    }

    /// Parses `text`, the content of the file at `path`.
    ///
    /// # Errors
    ///
    /// [`FileErrors`].
    pub(super) fn parse(path: &Path, text: &str, command: &Command) -> anyhow::Result<Self> {
        let mut found = Self::default();
        let errors = found.add(path, text, &settings(command));
        if errors.is_empty() {
            return Ok(found);
        }
        Err(FileErrors(errors).into())
    }

    /// Adds the valid settings of `text`, the content of the file at `path`, and returns its
    /// errors.
    fn add(
        &mut self,
        path: &Path,
        text: &str,
        settings: &BTreeMap<String, Arg>,
    ) -> Vec<anyhow::Error> {
        let shown = path.display();
        let table: BTreeMap<String, Spanned<Value>> = match toml::from_str(text) {
            Ok(table) => table,
            Err(error) => {
                let start = error.span().map(|span| span.start);
                return vec![match start.and_then(|start| quoted_value(text, start)) {
                    Some((number, line)) => {
                        anyhow!("{shown}, line {number}: a text needs quotes: {line}")
                    }
                    None => anyhow!(error).context(format!("{shown} is not TOML")),
                }];
            }
        };
        let file: Arc<Path> = path.into();
        let mut errors = Vec::new();
        let mut table: Vec<_> = table.into_iter().collect();
        table.sort_by_key(|(_, value)| value.span().start);
        for (key, value) in table {
            let number = line_number(text, value.span().start);
            let Some(setting) = settings.get(&key) else {
                let nearest = nearest(&key, settings.keys().map(String::as_str));
                let suggestion = nearest.map(|name| format!("; did you mean `{name}`?"));
                errors.push(anyhow!(
                    "{shown}, line {number}: no setting is called `{key}`{}; `icosfs mount --help` and docs/reference.md list the settings",
                    suggestion.unwrap_or_default()
                ));
                continue;
            };
            match check(setting, &key, value.get_ref()) {
                Ok(values) => {
                    let file = Arc::clone(&file);
                    self.values.insert(key, SettingInFile { values, file });
                }
                Err(reason) => {
                    let error = format!("{shown}, line {number}: invalid `{key}`: {reason}");
                    errors.push(anyhow!(error));
                }
            }
        }
        errors
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
                    Some(setting) => arg.default_values(&setting.values),
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
/// name of its option, and `config show` lists them with their values. Variables of
/// switches may be `1` or `yes`, too.
fn hide_variables(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
            let arg = arg.hide_env(true);
            if is_switch && arg.get_env().is_some() {
                arg.value_parser(BoolishValueParser::new())
            } else {
                arg
            }
        })
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

/// Where the settings of the user are.
#[derive(Debug)]
enum UserFile {
    /// In the file that the variable names, which must exist.
    Named(PathBuf),
    /// In the usual place, if there is a home folder.
    Usual(Option<PathBuf>),
}

impl UserFile {
    /// `None` if the variable is empty: then no file is read.
    fn of_variable(variable: Option<OsString>) -> Option<Self> {
        match variable {
            Some(path) if path.is_empty() => None,
            Some(path) => Some(Self::Named(path.into())),
            None => {
                let dirs = ProjectDirs::from("", "", "icosfs");
                Some(Self::Usual(
                    dirs.map(|dirs| dirs.config_dir().join("config.toml")),
                ))
            }
        }
    }

    /// Returns the path and the content of the file, if it exists.
    fn read(&self) -> anyhow::Result<Option<(PathBuf, String)>> {
        let (Self::Named(path) | Self::Usual(Some(path))) = self else {
            return Ok(None);
        };
        let read = icos_files::read_with_metadata(path, MAX_LEN).and_then(|(content, found)| {
            // It decides where a login is sent, and which files are written.
            if icos_files::is_changeable_by_others(&found) {
                let reason = format!(
                    "expected settings that only you or root can change, found a file of user {} with mode {:04o}; `chmod go-w` it, copy it to a file of your own, or set {PATH_VARIABLE} to nothing to read no file",
                    found.uid(),
                    found.mode() & 0o7777
                );
                return Err(io::Error::other(reason));
            }
            utf8(content)
        });
        match (read, self) {
            (Ok(text), _) => Ok(Some((path.clone(), text))),
            (Err(error), Self::Named(_)) if error.kind() == io::ErrorKind::NotFound => bail!(
                "there is no file {}, which {PATH_VARIABLE} names; correct the variable, or set it to nothing to read no file",
                path.display()
            ),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            (Err(error), _) => {
                Err(error).with_context(|| format!("cannot read {}", path.display()))
            }
        }
    }
}

/// Reads the settings of the machine. A file that another user could have written is left
/// out, with a warning: its settings apply to all users, also to root.
fn read_system_file(path: &Path) -> Option<String> {
    match icos_files::read_file_of_root(path, MAX_LEN).and_then(utf8) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            warning!("{} is left out: {error}", path.display());
            None
        }
    }
}

fn utf8(content: Vec<u8>) -> io::Result<String> {
    String::from_utf8(content).map_err(|_| io::Error::other("expected UTF-8, found other bytes"))
}

/// The number of the line in which `at` is, from 1.
fn line_number(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
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
        .map_err(|error| anyhow!(reason(&error, &values.join(","))))?;
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

/// Returns what the parser expects instead of `value`, without the name of the option and
/// the usage text.
fn reason(error: &clap::Error, value: &str) -> String {
    if let Some(ContextValue::Strings(all)) = error.get(ContextKind::ValidValue) {
        return format!("expected {}, found {value:?}", all.join(", "));
    }
    let text = match std::error::Error::source(error) {
        Some(reason) => reason.to_string(),
        None => error.to_string(),
    };
    let lines = text.lines().take_while(|line| !line.is_empty());
    let lines: Vec<&str> = lines.map(str::trim).collect();
    let message = in_own_words(&lines.join(" "));
    // Advice follows what is wrong.
    let (what, advice) = match message.split_once("; ") {
        Some((what, advice)) => (what, format!("; {advice}")),
        None => (&*message, String::new()),
    };
    format!("{what}, found {value:?}{advice}")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<FileSettings> {
        FileSettings::parse(Path::new("config.toml"), text, &super::super::command())
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
        assert_eq!(file.values["cache-size"].values, ["20G"]);
        assert_eq!(file.values["metadata-ttl"].values, ["60"]);
        for (text, expected) in [
            (
                "portal = \"icso\"",
                "`portal`: expected icos, sites, cities, demo, or the folder of a mount such as ./icos, found \"icso\"; did you mean icos?",
            ),
            (
                "metadata-ttl = \"soon\"",
                "`metadata-ttl`: expected a number of seconds, or indefinite, found \"soon\"",
            ),
            (
                "timeout = \"soon\"",
                "`timeout`: expected a whole number of seconds, found \"soon\"",
            ),
            (
                "exact-size = \"sometimes\"",
                "`exact-size`: expected always, when-open, never, found \"sometimes\"",
            ),
            (
                "no-usage-report = \"yes\"",
                "`no-usage-report`: expected true or false",
            ),
            (
                "cache-size = true",
                "`cache-size`: expected a string or a number, found boolean",
            ),
        ] {
            let message = parse(&format!("# Mine\n{text}")).unwrap_err().to_string();
            assert_eq!(message, format!("config.toml, line 2: invalid {expected}"));
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
            assert_eq!(message, format!("config.toml, {line}"));
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

    /// Regression: only the first error in the file was shown, without its line.
    #[test]
    fn all_errors_of_the_file_are_shown_with_their_lines() {
        let error = parse("portal = \"foo\"\n\ncachesize = 1\ntimeout = 0\n").unwrap_err();
        let errors = &error.downcast_ref::<FileErrors>().unwrap().0;
        let lines: Vec<String> = (errors.iter())
            .map(|error| error.to_string().chars().take(19).collect())
            .collect();
        assert_eq!(
            lines,
            [
                "config.toml, line 1",
                "config.toml, line 3",
                "config.toml, line 4"
            ]
        );
    }

    #[test]
    fn user_file_takes_precedence_over_that_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("system"), "contact = \"it@example.org\"\ntimeout = 7").unwrap();
        std::fs::write(path("user"), "timeout = 8").unwrap();
        let command = super::super::command();
        let load = || {
            let user = UserFile::Named(path("user"));
            FileSettings::load_from(&path("system"), &user, &command).unwrap()
        };
        let found = load();
        assert_eq!(found.values["timeout"].values, ["8"]);
        assert_eq!(*found.values["timeout"].file, path("user"));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(found.values["contact"].values, ["it@example.org"]);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o664);
            std::fs::set_permissions(path("system"), mode).unwrap();
        }
        // Not root's, or writable for others.
        assert!(!load().values.contains_key("contact"));
    }
}
