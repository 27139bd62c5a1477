//! `icosfs config show`: the settings in effect, and where each is from.
//!
//! Some defaults depend on the machine, the user or the portal, and are found by the
//! modules that use them, as when a command runs.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};
use std::num::{NonZeroU32, NonZeroU64};

use anyhow::Context as _;

use super::{ConfigCommand, FileSettings, settings};
use crate::cache::default_limit;
use crate::cli::output::print_json;
use crate::cli::settings::GlobalArgs;
use crate::cli::terminal::size;
use crate::cli::text_table::TextTable;
use crate::cli::{command, log};
use icos_portal::{Service, Services};

/// Runs the command.
pub(in crate::cli) fn run(
    subcommand: &ConfigCommand,
    global: &GlobalArgs,
    matches: &ArgMatches,
    files: &FileSettings,
) -> anyhow::Result<()> {
    let ConfigCommand::Show { json } = subcommand;
    let matches = matches
        .subcommand_matches("config")
        .and_then(|config| config.subcommand_matches("show"))
        .context("expected the command `config show`")?;
    let defaults = Defaults::new(global);
    let shown = (settings(&command()).into_iter())
        .map(|(name, setting)| ShownSetting::new(name, &setting, matches, files, &defaults));
    if *json {
        let all: serde_json::Map<_, _> = shown
            .map(|s| (s.name, json!({"value": s.value, "source": s.source})))
            .collect();
        return print_json(&all);
    }
    let rows = shown.map(|setting| vec![setting.name, setting.text, setting.source]);
    TextTable::new(&["SETTING", "VALUE", "SOURCE"], rows).print()
}

/// One line of the output.
#[derive(Debug)]
struct ShownSetting {
    name: String,
    /// As the user gives it; `-` for none.
    text: String,
    /// As JSON: sizes in bytes, `null` for none.
    value: Value,
    source: String,
}

impl ShownSetting {
    fn new(
        name: String,
        setting: &Arg,
        matches: &ArgMatches,
        files: &FileSettings,
        defaults: &Defaults,
    ) -> Self {
        let id = setting.get_id().as_str();
        let raw = matches.try_get_raw(id).ok().flatten();
        let raw: Option<Vec<String>> = raw.map(|values| {
            values
                .map(|v| without_password(&v.to_string_lossy()))
                .collect()
        });
        let source = match (matches.value_source(id), setting.get_env()) {
            (Some(ValueSource::CommandLine), _) => format!("--{name}"),
            (Some(ValueSource::EnvVariable), Some(variable)) => variable.to_string_lossy().into(),
            _ => match files.values.get(&name) {
                Some(setting) => setting.file.display().to_string(),
                None => return Self::of_default(name, setting, matches, raw, defaults),
            },
        };
        Self::of_values(name, setting, matches, raw, source)
    }

    fn of_default(
        name: String,
        setting: &Arg,
        matches: &ArgMatches,
        raw: Option<Vec<String>>,
        defaults: &Defaults,
    ) -> Self {
        match defaults.of(&name) {
            Some(Default {
                text,
                value,
                source,
            }) => Self {
                name,
                text,
                value,
                source,
            },
            None => Self::of_values(name, setting, matches, raw, "default".to_owned()),
        }
    }

    fn of_values(
        name: String,
        setting: &Arg,
        matches: &ArgMatches,
        raw: Option<Vec<String>>,
        source: String,
    ) -> Self {
        let text = match &raw {
            None => "-".to_owned(),
            // As a list, it is empty.
            Some(values) if values.iter().all(String::is_empty) => "-".to_owned(),
            Some(values) => values.join(","),
        };
        let value = typed(setting, matches, raw);
        Self {
            name,
            text,
            value,
            source,
        }
    }
}

/// The values that were parsed from `raw`, as JSON.
fn typed(setting: &Arg, matches: &ArgMatches, raw: Option<Vec<String>>) -> Value {
    let id = setting.get_id().as_str();
    if !setting.get_action().takes_values() {
        return json!(matches.try_get_one::<bool>(id).ok().flatten().copied());
    }
    if setting.get_value_delimiter().is_some() {
        let all = raw.unwrap_or_default();
        let all = all.iter().flat_map(|value| value.split(','));
        return all
            .filter(|one| !one.is_empty())
            .map(number_or_text)
            .collect();
    }
    // Sizes: the texts have units.
    if let Ok(Some(number)) = matches.try_get_one::<u64>(id) {
        return json!(number);
    }
    if let Ok(Some(number)) = matches.try_get_one::<NonZeroU64>(id) {
        return json!(number);
    }
    if let Ok(Some(number)) = matches.try_get_one::<NonZeroU32>(id) {
        return json!(number);
    }
    let is_text = matches.try_get_one::<String>(id).is_ok();
    match raw.as_deref() {
        Some([text]) if is_text => json!(text),
        Some([text]) => number_or_text(text),
        _ => Value::Null,
    }
}

/// Such as the seconds of `--metadata-ttl`, which can also be `indefinite`.
fn number_or_text(text: &str) -> Value {
    match text.parse::<u64>() {
        Ok(number) => json!(number),
        Err(_) => json!(text),
    }
}

/// The value of a setting that is not given.
#[derive(Debug)]
struct Default {
    text: String,
    value: Value,
    source: String,
}

impl Default {
    fn text(text: String, source: impl Into<String>) -> Self {
        Self {
            value: json!(text),
            text,
            source: source.into(),
        }
    }

    fn number(number: u64, text: String, source: &str) -> Self {
        Self {
            text,
            value: json!(number),
            source: source.to_owned(),
        }
    }
}

/// Finds the defaults that the parser does not know.
#[derive(Debug)]
struct Defaults {
    /// With those of the mount that `--portal` names.
    global: GlobalArgs,
    /// The value of `--portal`.
    portal: String,
    /// None if `--portal` names a mount that does not exist.
    services: Option<Services>,
}

impl Defaults {
    fn new(global: &GlobalArgs) -> Self {
        let portal = global.portal_name();
        let global = global.clone().resolved().unwrap_or_else(|_| global.clone());
        Self {
            services: global.services().ok(),
            global,
            portal,
        }
    }

    fn of(&self, name: &str) -> Option<Default> {
        let services = self.services.as_ref();
        let url = |service| {
            let url = services?.base(service).to_string();
            Some(Default::text(url, format!("portal {}", self.portal)))
        };
        match name {
            "auth-url" => url(Service::Auth),
            "meta-url" => url(Service::Meta),
            "data-url" => url(Service::Data),
            "cache-dir" => {
                let folder = self.global.cache_dir().ok()?;
                Some(Default::text(folder.display().to_string(), "default"))
            }
            "cache-size" => {
                let folder = self.global.cache_dir().ok()?;
                let limit = default_limit(&folder.join(services?.cache_name()));
                Some(Default::number(limit, size(limit), "default (disk / 10)"))
            }
            "data-path" => {
                let variable = services?.envri().data_path_variable();
                let path = std::env::var(variable).ok().filter(|path| !path.is_empty());
                Some(Default::text(path?, variable))
            }
            "log-level" => {
                let (level, source) = log::default_level();
                Some(Default::text(level, source))
            }
            "uid" => {
                let uid = geteuid().as_raw();
                Some(Default::number(uid.into(), uid.to_string(), "default"))
            }
            "gid" => {
                let gid = getegid().as_raw();
                Some(Default::number(gid.into(), gid.to_string(), "default"))
            }
            _ => None,
        }
    }
}

/// `value` without the password of a URL in it: one that a command refuses is not to be
/// shown, either.
fn without_password(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((login, host)) if login.contains(':') => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_of_a_url_is_not_shown() {
        for (value, shown) in [
            ("redis://u:hidden@h:1/0", "redis://u:***@h:1/0"),
            ("redis://:hidden@a@h", "redis://:***@h"),
            ("redis://u@h:1", "redis://u@h:1"),
            ("http://h:1/a", "http://h:1/a"),
            ("a:b@c", "a:b@c"),
        ] {
            assert_eq!(without_password(value), shown);
        }
    }
}
