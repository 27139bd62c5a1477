//! Completion of command lines in shells. The script of `icosfs completions` calls this
//! program with the words typed so far (the dynamic engine of `clap_complete`), so that values
//! are completed, too: stations, data types, ids, columns, mounts.
//!
//! Values come from the lists that mounts and commands have stored. Completion never
//! queries the portal, and creates no file.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _, Parser};
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _,
};
use clap_complete::env::Shells;

use super::exit::FAILED;
use super::output::print_text;
use super::settings::GlobalArgs;
use super::storage::require_private_cache;
use super::{config, output};
use crate::catalog::{StoredCatalog, Vocabulary, fold};
use crate::mount::mountinfo::{self, MountEntry};
use icos_portal::{ObjectId, Service, is_terminal_command};

/// The variable with which a shell's script calls this program.
pub(super) const VARIABLE: &str = "COMPLETE";
/// Maximum number of ids that are suggested.
const MAX_IDS: usize = 50;
/// The options that decide which lists are read.
const GLOBAL: [&str; 3] = ["--portal", "--meta-url", "--cache-dir"];

/// Answers a shell that asks for completions, and returns the exit code. `None` if this
/// is an ordinary call.
pub(super) fn answer(arguments: &[OsString]) -> Option<u8> {
    let shell = std::env::var(VARIABLE)
        .ok()
        .filter(|name| !name.is_empty())?;
    let words = words(arguments)?;
    let shells = Shells::builtins();
    let shell = shells.completer(&shell)?;
    let is_bash = shell.name() == "bash";
    let mut command = with_values(super::command());
    command.build();
    let typed = typed_word(&words);
    let mut text = Vec::new();
    let folder = std::env::current_dir().ok();
    let written = shell.write_complete(&mut command, words, folder.as_deref(), &mut text);
    // As the script of clap_complete tells the separator.
    let separator = std::env::var("_CLAP_IFS").unwrap_or("\n".to_owned());
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if !typed.starts_with('-') {
        text = without_options(&text, &separator);
    }
    if is_bash {
        text = plain_words(&text, &separator);
    }
    let printed = print_text!("{text}");
    Some(if written.is_ok() && printed.is_ok() {
        0
    } else {
        FAILED
    })
}

/// The word that is being completed: the last one, unless the shell says otherwise.
fn typed_word(words: &[OsString]) -> String {
    let index = std::env::var("_CLAP_COMPLETE_INDEX");
    let index = index.ok().and_then(|index| index.parse::<usize>().ok());
    let word = index.map_or(words.last(), |index| words.get(index));
    word.map_or_else(String::new, |word| word.to_string_lossy().into_owned())
}

/// The candidates that are no options, if there are any: values are looked for until a
/// hyphen is typed.
fn without_options(candidates: &str, separator: &str) -> String {
    let all = || candidates.split(separator);
    let values: Vec<&str> = all().filter(|one| !one.starts_with('-')).collect();
    if values.iter().all(|one| one.is_empty()) {
        return candidates.to_owned();
    }
    values.join(separator)
}

/// The words of the command line that is completed: those after the first `--`.
fn words(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let at = arguments.iter().position(|word| word == "--")?;
    Some(arguments[at + 1..].to_vec())
}

/// Writes the script that makes `shell` call this program.
pub(super) fn script(shell: &str) -> std::io::Result<Vec<u8>> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let shell = shells
        .completer(shell)
        .ok_or(std::io::ErrorKind::NotFound)?;
    shell.write_registration(VARIABLE, "icosfs", "icosfs", "icosfs", &mut script)?;
    Ok(script)
}

/// Returns `command` with completers of the values.
fn with_values(command: Command) -> Command {
    let by_names = |names: fn(&Vocabulary) -> Vec<CompletionCandidate>| {
        ArgValueCompleter::new(move |current: &OsStr| {
            let all = catalog().map(|catalog| names(&catalog.vocabulary()));
            starting_with(all.unwrap_or_default(), current)
        })
    };
    let stations = || by_names(stations);
    let types = || by_names(types);
    let objects = || ArgValueCompleter::new(objects);
    let mounts = || ArgValueCompleter::new(mounts);
    let columns = || ArgValueCompleter::new(columns);
    command
        .mut_arg("portal", |arg| arg.add(ArgValueCandidates::new(portals)))
        .mut_subcommand("find", |find| {
            find.mut_arg("station", |arg| arg.add(stations()))
                .mut_arg("datatype", |arg| arg.add(types()))
                .mut_arg("theme", |arg| arg.add(by_names(themes)))
                .mut_arg("project", |arg| arg.add(by_names(projects)))
                .mut_arg("variable", |arg| arg.add(by_names(variables)))
                .mut_arg("level", |arg| arg.add(ArgValueCandidates::new(levels)))
                .mut_arg("paths", |arg| arg.add(mounts()))
        })
        .mut_subcommand("mount", |mount| {
            mount
                .mut_arg("station", |arg| arg.add(stations()))
                .mut_arg("datatype", |arg| arg.add(types()))
                .mut_arg("level", |arg| arg.add(ArgValueCandidates::new(levels)))
        })
        .mut_subcommand("prefetch", |prefetch| {
            prefetch
                .mut_arg("station", |arg| arg.add(stations()))
                .mut_arg("datatype", |arg| arg.add(types()))
                .mut_arg("items", |arg| arg.add(objects()))
                .mut_arg("mount", |arg| arg.add(mounts()))
        })
        .mut_subcommand("stations", |one| {
            one.mut_arg("text", |arg| arg.add(stations()))
        })
        .mut_subcommand("datatypes", |one| {
            one.mut_arg("text", |arg| arg.add(types()))
        })
        .mut_subcommand("info", |info| {
            info.mut_arg("object", |arg| arg.add(objects()))
        })
        .mut_subcommand("plot", |plot| {
            plot.mut_arg("object", |arg| arg.add(objects()))
                .mut_arg("columns", |arg| arg.add(columns()))
        })
        .mut_subcommand("cite", |cite| {
            cite.mut_arg("objects", |arg| arg.add(objects()))
                .mut_arg("read", |arg| arg.add(mounts()))
        })
        .mut_subcommand("get", |get| {
            get.mut_arg("object", |arg| arg.add(objects()))
                .mut_arg("columns", |arg| arg.add(columns()))
        })
        .mut_subcommand("cache", |cache| {
            let complete = |arg: Arg| arg.add(ArgValueCompleter::new(self::objects));
            cache
                .mut_subcommand("pin", |one| one.mut_arg("items", complete))
                .mut_subcommand("unpin", |one| one.mut_arg("items", complete))
                .mut_subcommand("evict", |one| one.mut_arg("objects", complete))
        })
        .mut_subcommand("unmount", |one| {
            one.mut_arg("mountpoint", |arg| arg.add(mounts()))
        })
        .mut_subcommand("status", |one| {
            one.mut_arg("mountpoint", |arg| arg.add(mounts()))
        })
        .mut_subcommand("refresh", |one| {
            one.mut_arg("mountpoint", |arg| arg.add(mounts()))
        })
        .mut_subcommand("log-level", |one| {
            one.mut_arg("mountpoint", |arg| arg.add(mounts()))
                .mut_arg("level", |arg| arg.add(ArgValueCandidates::new(log_levels)))
        })
}

/// The plain levels of the log.
fn log_levels() -> Vec<CompletionCandidate> {
    let names = ["error", "warn", "info", "debug", "trace"];
    names.map(CompletionCandidate::new).into()
}

/// The options that decide which lists are read.
#[derive(Debug, Parser)]
struct GlobalOnly {
    #[command(flatten)]
    global: GlobalArgs,
}

/// The stored lists of the portal that the command line, the environment and
/// `config.toml` select.
fn catalog() -> Option<StoredCatalog> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let words = words(&arguments)?;
    let mut given = vec![OsString::from("icosfs")];
    for (at, word) in words.iter().enumerate() {
        let text = word.to_string_lossy();
        if GLOBAL.contains(&&*text) {
            given.extend([word.clone(), words.get(at + 1)?.clone()]);
        } else if GLOBAL
            .iter()
            .any(|option| text.starts_with(&format!("{option}=")))
        {
            given.push(word.clone());
        }
    }
    let command = GlobalOnly::command();
    let file = config::FileSettings::load(&super::command()).unwrap_or_default();
    let matches = file.apply(command).try_get_matches_from(given).ok()?;
    let GlobalOnly { global } = GlobalOnly::from_arg_matches(&matches).ok()?;
    let global = global.resolved().ok()?;
    let folder = global.cache_dir().ok()?;
    let folder = folder.join(global.services().ok()?.host_name(Service::Meta));
    if !folder.exists() {
        return None;
    }
    require_private_cache(&folder).ok()?;
    StoredCatalog::open(&folder)
}

/// Whether a shell takes `value` for one word as it is. Names come from the portal and
/// from other users, and a shell would run what is in `$(...)`.
fn is_plain_word(value: &str) -> bool {
    value
        .chars()
        .all(|c| c.is_alphanumeric() || "._-/:@%+,=~".contains(c))
}

/// The plain words among `candidates`, which bash inserts without quoting them. If there
/// are none, bash itself completes the names of files, and quotes them.
fn plain_words(candidates: &str, separator: &str) -> String {
    let words = candidates.split(separator);
    let plain: Vec<&str> = words.filter(|word| is_plain_word(word)).collect();
    plain.join(separator)
}

fn candidate(value: &str, help: &str) -> CompletionCandidate {
    let help = super::text_table::blank_control(help);
    let help = Some(help).filter(|help| !help.is_empty());
    CompletionCandidate::new(value).help(help.map(Into::into))
}

/// The candidates that begin with `current`, without regard to case.
fn starting_with(all: Vec<CompletionCandidate>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = fold(&current.to_string_lossy());
    let mut found = all;
    found.retain(|one| {
        let value = one.get_value().to_string_lossy();
        is_plain_word(&value) && fold(&value).starts_with(&current)
    });
    found
}

/// Ids of stations, and names of one word.
fn stations(vocabulary: &Vocabulary) -> Vec<CompletionCandidate> {
    let mut found = Vec::new();
    for station in vocabulary.stations() {
        let row = station.row();
        let help = format!("{}, {}", row.name, station.country());
        found.push(candidate(&row.code, &help));
        if !row.name.is_empty() && !row.name.contains(',') {
            found.push(candidate(&row.name, station.country()));
        }
    }
    distinct(found)
}

fn types(vocabulary: &Vocabulary) -> Vec<CompletionCandidate> {
    let specs = vocabulary.specs();
    specs
        .map(|spec| candidate(spec.name(), spec.label()))
        .collect()
}

fn themes(vocabulary: &Vocabulary) -> Vec<CompletionCandidate> {
    let specs = vocabulary.specs();
    named(specs.map(|spec| (spec.theme_iri(), spec.theme())))
}

fn projects(vocabulary: &Vocabulary) -> Vec<CompletionCandidate> {
    let specs = vocabulary.specs();
    named(specs.map(|spec| (spec.project_iri(), spec.project())))
}

/// The ends of IRIs, with their labels.
fn named<'a>(
    all: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>,
) -> Vec<CompletionCandidate> {
    let named = all.filter_map(|(iri, label)| {
        let name = iri?.rsplit('/').next()?;
        Some(candidate(name, label.unwrap_or_default()))
    });
    distinct(named.collect())
}

fn variables(vocabulary: &Vocabulary) -> Vec<CompletionCandidate> {
    let columns = vocabulary.specs().flat_map(|spec| spec.columns());
    let columns = columns.filter(|column| !column.regex);
    let named =
        columns.map(|column| candidate(&column.title, column.value.as_deref().unwrap_or_default()));
    distinct(named.collect())
}

fn distinct(mut all: Vec<CompletionCandidate>) -> Vec<CompletionCandidate> {
    all.sort_by(|one, other| one.get_value().cmp(other.get_value()));
    all.dedup_by(|one, other| one.get_value() == other.get_value());
    all
}

fn levels() -> Vec<CompletionCandidate> {
    [
        ("0", "raw data"),
        ("1", "near real time"),
        ("2", "final, quality-controlled"),
        ("3", "elaborated products"),
    ]
    .map(|(level, help)| candidate(level, help))
    .into()
}

fn portals() -> Vec<CompletionCandidate> {
    [
        ("icos", "Integrated Carbon Observation System"),
        ("sites", "Swedish Infrastructure for Ecosystem Science"),
        ("cities", "ICOS Cities"),
        ("demo", "the demo that is mounted"),
    ]
    .map(|(name, help)| candidate(name, help))
    .into()
}

/// Ids of objects, and paths.
fn objects(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    let paths = PathCompleter::any().complete(current);
    if typed.contains(['/', '.', '~']) {
        return paths;
    }
    let ids = catalog().map(|catalog| catalog.objects(&typed, MAX_IDS));
    let ids = ids.unwrap_or_default().into_iter();
    let ids = ids.map(|(id, name)| candidate(&id.to_string(), &name));
    paths.into_iter().chain(ids).collect()
}

/// The columns of the object on the command line, or else of all tables.
fn columns(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(catalog) = catalog() else {
        return Vec::new();
    };
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let id = words(&arguments)
        .unwrap_or_default()
        .iter()
        .find_map(|word| {
            let text = word.to_str()?;
            let name = text.rsplit('/').next()?;
            name.split('.').next()?.parse::<ObjectId>().ok()
        });
    let all = match id {
        Some(id) => (catalog.columns(id).iter())
            .map(|name| candidate(name, ""))
            .collect(),
        None => variables(&catalog.vocabulary()),
    };
    // The columns before the last comma stay.
    let typed = current.to_string_lossy();
    let (before, last) = match typed.rfind(',') {
        Some(comma) => typed.split_at(comma + 1),
        None => ("", &*typed),
    };
    let found = starting_with(all, OsStr::new(last)).into_iter();
    found.map(|one| one.add_prefix(before)).collect()
}

/// Mount points, or else folders.
fn mounts(current: &OsStr) -> Vec<CompletionCandidate> {
    let mounts = mountinfo::mounts_without_binds().unwrap_or_default();
    // The shells divide the candidates at line breaks.
    let is_one = |path: &PathBuf| !path.to_string_lossy().contains(is_terminal_command);
    let paths = (mounts.into_iter())
        .filter(MountEntry::is_trusted)
        .map(|mount| mount.mountpoint)
        .filter(is_one);
    let typed = PathBuf::from(current);
    let is_typed = |path: &PathBuf| {
        path.to_string_lossy()
            .starts_with(&*typed.to_string_lossy())
    };
    let found: Vec<_> = paths
        .filter(is_typed)
        .map(CompletionCandidate::new)
        .collect();
    if found.is_empty() {
        return PathCompleter::dir().complete(current);
    }
    found
}

/// Prints the script for a shell.
pub(super) fn print_script(shell: &str) -> anyhow::Result<()> {
    let script = script(shell)?;
    Ok(output::print(format_args!(
        "{}",
        String::from_utf8_lossy(&script)
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_offered_once_a_hyphen_is_typed_or_if_there_is_nothing_else() {
        assert_eq!(
            without_options("find:x\n--help:y\n-v\nget", "\n"),
            "find:x\nget"
        );
        assert_eq!(without_options("--help\n-v", "\n"), "--help\n-v");
    }

    #[test]
    fn only_plain_words_are_inserted_into_a_command_line() {
        let all = "HTM\u{b}$(id)\u{b}a;b\u{b}`id`\u{b}a b\u{b}\u{d8}stre\u{b}~/a-b_c.csv\u{b}x\u{1b}[0m\u{b}'\u{b}a\nb";
        let plain = plain_words(all, "\u{b}");
        assert_eq!(plain, "HTM\u{b}\u{d8}stre\u{b}~/a-b_c.csv");
    }

    #[test]
    fn completers_name_arguments_that_exist() {
        // It panics otherwise.
        with_values(crate::cli::command()).debug_assert();
    }
}
