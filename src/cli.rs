//! The command line: one file per command. Each command converts its raw flags
//! into one checked configuration; no module below `cli` uses clap.
//!
//! [`main`] parses the arguments, combines them with `config.toml`, runs one
//! command, and maps its result to an exit code.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use failure::Failure;

mod auth;
mod background;
mod cache;
mod catalog_access;
mod cite;
mod cluster;
mod collections;
mod completion;
mod config;
mod credentials;
mod daemon;
mod datatypes;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod exit;
mod failure;
mod find;
mod get;
mod help;
mod helper;
mod info;
mod link;
mod log;
mod login;
mod manual_pages;
#[cfg(feature = "fuse")]
mod mount;
#[cfg(not(feature = "fuse"))]
mod mount {
    pub(super) mod mountpoint;
}
mod mount_context;
mod object_argument;
mod output;
mod output_file;
mod period;
mod pins;
mod plot;
mod prefetch;
mod process_limits;
#[cfg(test)]
mod reference;
mod refresh;
mod selection;
mod serve;
mod serving;
mod settings;
mod shared_cache;
mod signals;
mod sparql;
mod stations;
mod status;
mod storage;
mod subject;
mod target;
mod terminal;
#[cfg(test)]
mod tests;
mod text_table;
mod unmount;
mod waiting;
mod warning;

/// Mounts a Carbon Portal repository (ICOS, SITES or ICOS Cities) as plain
/// files.
#[derive(Debug, Parser)]
#[command(
    name = "icosfs",
    version,
    arg_required_else_help = true,
    after_help = AFTER_HELP,
)]
struct Cli {
    #[command(flatten)]
    global: settings::GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Every command has a short help (-h) and a long one (--help).

Examples:
  icosfs mount --demo ~/icos        try it without login or network
  icosfs login                      needed for data, not for metadata
  icosfs mount ~/icos               mount ICOS (or --portal sites, cities)
  icosfs status                     show activity and failures of mounts
  icosfs unmount ~/icos

Options can also be set by environment variables, such as ICOSFS_PORTAL=sites, and
in ~/.config/icosfs/config.toml (see `icosfs config show`).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount a repository at a folder, in the background.
    #[cfg(feature = "fuse")]
    Mount(mount::MountArgs),
    /// Write an object or part of a table to standard output or a file.
    Get(get::GetArgs),
    /// Serve a repository over HTTP and WebDAV, without a mount.
    Serve(serve::ServeArgs),
    /// Unmount a repository.
    #[command(alias = "umount")]
    Unmount(unmount::UnmountArgs),
    /// Show the activity and recent failures of mounts and servers.
    Status(status::StatusArgs),
    /// Check everything that a mount needs, and suggest fixes.
    Doctor(doctor::DoctorArgs),
    /// Change the log level of a running mount or server.
    LogLevel(log::control::LogLevelArgs),
    /// Download files into the cache before they are needed.
    Prefetch(prefetch::PrefetchArgs),
    /// Download the lists of mounts and servers again.
    Refresh(refresh::RefreshArgs),
    /// Show, verify or remove cached data.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Make and clean what machines of a cluster share.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Find objects by words, type, place and time.
    #[command(visible_alias = "search")]
    Find(find::FindArgs),
    /// Show the metadata of an object, a collection or a station.
    Info(info::InfoArgs),
    /// Draw a table's columns over time.
    Plot(plot::PlotArgs),
    /// Show how to cite objects and collections.
    Cite(cite::CiteArgs),
    /// Run a SPARQL query of the portal's metadata.
    Sparql(sparql::SparqlArgs),
    /// List the repository's stations.
    Stations(stations::StationsArgs),
    /// List the repository's data types.
    Datatypes(datatypes::DatatypesArgs),
    /// List the repository's collections.
    Collections(collections::CollectionsArgs),
    /// Log in, for mounts and the portal's Python library.
    Login(login::LoginArgs),
    /// Remove the saved login.
    Logout(login::LogoutArgs),
    /// Show the login, or print its token.
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Show the settings and the source of each.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print completions for a shell.
    Completions(manual_pages::CompletionsArgs),
    /// Write the manual pages.
    Man(manual_pages::ManArgs),
    /// Run a demo portal on this machine, without a mount.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
}

impl Command {
    /// Whether the command uses the portal or its cache.
    fn uses_portal(&self) -> bool {
        match self {
            #[cfg(feature = "fuse")]
            Command::Mount(_) => false,
            Command::Serve(_)
            | Command::Unmount(_)
            | Command::Status(_)
            | Command::LogLevel(_)
            | Command::Refresh(_)
            | Command::Config(_)
            | Command::Cluster(_)
            | Command::Completions(_)
            | Command::Man(_) => false,
            #[cfg(feature = "demo")]
            Command::Demo(_) => false,
            Command::Get(_)
            | Command::Doctor(_)
            | Command::Prefetch(_)
            | Command::Cache(_)
            | Command::Find(_)
            | Command::Info(_)
            | Command::Plot(_)
            | Command::Cite(_)
            | Command::Sparql(_)
            | Command::Stations(_)
            | Command::Datatypes(_)
            | Command::Collections(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Auth(_) => true,
        }
    }

    /// Whether the command runs even though `config.toml` is invalid: commands
    /// for diagnosis and cleanup, and commands that use no settings.
    fn works_without_config(&self) -> bool {
        matches!(
            self,
            Command::Unmount(_)
                | Command::Status(_)
                | Command::Doctor(_)
                | Command::LogLevel(_)
                | Command::Refresh(_)
                | Command::Cluster(_)
                | Command::Completions(_)
                | Command::Man(_)
        )
    }
}

/// The parser with built-in defaults, before `config.toml` is applied.
fn command() -> clap::Command {
    let command = Cli::command().after_long_help(format!("{AFTER_HELP}\n\n{}", exit::table()));
    let command = help::with_global_options_last(config::with_settings_to_show(command));
    let command = help::with_flowing_prose(command);
    help::with_short_list(command)
}

/// The names of all commands and subcommands, such as `["cache", "info"]`, for tests
/// that must cover each.
#[doc(hidden)]
#[must_use]
pub fn command_names() -> Vec<Vec<String>> {
    fn add(command: &clap::Command, parents: &[String], names: &mut Vec<Vec<String>>) {
        for sub in command.get_subcommands() {
            let name = [parents, &[sub.get_name().to_owned()]].concat();
            add(sub, &name, names);
            names.push(name);
        }
    }
    let mut names = Vec::new();
    add(&command(), &[], &mut names);
    names
}

/// Parses and applies a `config.toml`, for [`crate::fuzzing`]. The file consists
/// of `settings` (the number of a setting, and the text after the equals sign)
/// followed by arbitrary `text`.
pub(crate) fn read_config(settings: &[(u8, String)], text: &str) {
    // One command with all settings: cloning and dropping all twenty commands
    // would dominate the fuzzer's time.
    static COMMAND: LazyLock<clap::Command> = LazyLock::new(|| {
        clap::Command::new("icosfs").args(config::settings(&command()).into_values())
    });
    let names: Vec<&str> = COMMAND
        .get_arguments()
        .filter_map(|a| a.get_long())
        .collect();
    let line = |(number, value): &(u8, String)| {
        let name = names[usize::from(*number) % names.len()];
        format!("{name} = {value}\n")
    };
    let text = settings.iter().map(line).collect::<String>() + text;
    if let Ok(file) = config::FileSettings::parse(Path::new("config.toml"), &text, &COMMAND) {
        let read = file.apply(COMMAND.clone()).try_get_matches_from(["icosfs"]);
        assert!(
            read.is_ok(),
            "accepted by parse, refused by apply: {read:?}"
        );
    }
}

/// Runs the command given by the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    // Before the daemon opens files of its own, such as its log.
    if background::is_daemon() {
        background::close_inherited_files();
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = completion::answer(&arguments) {
        return ExitCode::from(code);
    }
    let arguments: Vec<OsString> =
        object_argument::escape_leading_hyphens(arguments.into_iter()).collect();
    let (arguments, failure, usage) = match helper::rewritten(&arguments) {
        Some(Ok(rewritten)) => (rewritten, exit::MOUNT_FAILED, exit::FAILED),
        Some(Err(reason)) => return report_error(&reason, exit::FAILED),
        None => (arguments, exit::FAILED, exit::USAGE),
    };
    let (file, broken) = match config::FileSettings::load(&command()) {
        Ok(file) => (file, None),
        Err(error) => (config::FileSettings::default(), Some(error)),
    };
    let (matches, cli) = match parse(&file, &arguments) {
        Ok(parsed) => parsed,
        Err(reason) => return report_error(&reason, usage),
    };
    if let Some(error) = &broken
        && !cli.command.works_without_config()
    {
        return report_error(error, usage);
    }
    match run(cli, &arguments, &matches, &file, broken) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match exit::code_of(&error, failure) {
            (code, true) => report_error(&error, code),
            (code, false) => ExitCode::from(code),
        },
    }
}

/// Prints `error` to standard error and returns the exit code `code`.
fn report_error(error: &anyhow::Error, code: u8) -> ExitCode {
    match error.downcast_ref() {
        Some(config::FileErrors(all)) => {
            for error in all {
                Failure::of_error(error).print();
            }
        }
        None => Failure::of_error(error).print(),
    }
    ExitCode::from(code)
}

#[cfg_attr(not(feature = "fuse"), allow(clippy::unnecessary_wraps))]
/// Parses `arguments`; if they contain mount(8)'s `-o`, parses them again with
/// the flags that `-o` stands for. Prints help and usage errors and exits the
/// process.
fn parse(file: &config::FileSettings, arguments: &[OsString]) -> anyhow::Result<(ArgMatches, Cli)> {
    let parser = || file.apply(command());
    let read = |arguments: &[OsString]| {
        let matches = parser()
            .try_get_matches_from(arguments)
            .unwrap_or_else(|error| {
                if error.kind() == ErrorKind::DisplayHelp && help::is_long(arguments) {
                    std::process::exit(print_long_help(arguments));
                }
                print_error(&error, arguments);
                std::process::exit(error.exit_code())
            });
        let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        (matches, cli)
    };
    let (matches, cli) = read(arguments);
    match &cli.command {
        #[cfg(feature = "fuse")]
        Command::Mount(args) if !args.options.is_empty() => {
            let flags = helper::flags(&args.options, &command())?;
            Ok(read(&helper::with_flags(arguments.to_vec(), flags)))
        }
        _ => Ok((matches, cli)),
    }
}

/// Prints what the parser says: an error, or the text of a help option.
fn print_error(error: &clap::Error, arguments: &[OsString]) {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(
        error.kind(),
        DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion
    ) {
        let _ = error.print();
        return;
    }
    let mut command = command();
    command.build();
    // Without variables that are set, the parser prints the help itself.
    if error.kind() == ErrorKind::MissingSubcommand {
        let help = help::named_mut(&mut command, arguments).render_help();
        output::to_stderr(&help.to_string());
        return;
    }
    Failure::of_arguments(error, &mut command, arguments).print();
}

/// Prints the text of `--help`, and returns the exit code.
fn print_long_help(arguments: &[OsString]) -> i32 {
    let text = help::long_text(command(), arguments);
    let printed = if output::has_colours() {
        output::print(format_args!("{}", text.ansi()))
    } else {
        output::print(format_args!("{text}"))
    };
    let Err(error) = printed else {
        return 0;
    };
    let error = error.into();
    let (code, is_shown) = exit::code_of(&error, exit::FAILED);
    if is_shown {
        Failure::of_error(&error).print();
    }
    code.into()
}

fn run(
    cli: Cli,
    arguments: &[OsString],
    matches: &ArgMatches,
    file: &config::FileSettings,
    broken: Option<anyhow::Error>,
) -> anyhow::Result<()> {
    let Cli { global, command } = cli;
    let serves = match &command {
        #[cfg(feature = "fuse")]
        Command::Mount(_) => true,
        command => matches!(command, Command::Serve(_)),
    };
    global.start_log(serves)?;
    let global = if command.uses_portal() {
        global.resolved()?
    } else {
        global
    };
    match command {
        // The daemon parses the arguments again.
        #[cfg(feature = "fuse")]
        Command::Mount(args) => mount::run(&global, args, arguments.get(1..).unwrap_or_default()),
        Command::Serve(args) => {
            let arguments = arguments.get(1..).unwrap_or_default();
            serve::run(&global, args, arguments, matches)
        }
        Command::Get(args) => get::run(&global, args),
        Command::Unmount(args) => unmount::run(&global, &args),
        Command::Status(args) => status::run(&global, &args),
        Command::Doctor(args) => doctor::run(&global, args, broken),
        Command::LogLevel(args) => log::control::run(&global, &args),
        Command::Completions(args) => manual_pages::completions(&args),
        Command::Man(args) => manual_pages::pages(&args),
        Command::Prefetch(args) => prefetch::run(&global, &args),
        Command::Refresh(args) => refresh::run(&global, &args),
        Command::Cache(command) => cache::run(&global, command),
        Command::Cluster(command) => cluster::run(&command),
        Command::Find(args) => find::run(&global, args),
        Command::Info(args) => info::run(&global, &args),
        Command::Plot(args) => plot::run(&global, args),
        Command::Cite(args) => cite::run(&global, &args),
        Command::Sparql(args) => sparql::run(&global, &args),
        Command::Stations(args) => stations::run(&global, &args),
        Command::Datatypes(args) => datatypes::run(&global, &args),
        Command::Collections(args) => collections::run(&global, &args),
        Command::Login(args) => login::run(&global, args),
        Command::Logout(args) => login::log_out(&global, args),
        Command::Auth(command) => auth::run(&global, command),
        Command::Config(command) => config::show::run(&command, &global, matches, file),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(&args),
    }
}
