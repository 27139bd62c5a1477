//! The command line: one file per command, raw flags turned into one checked
//! configuration. Nothing below sees clap.

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

mod auth;
mod background;
mod cache;
mod catalog_access;
mod config;
mod credentials;
mod data_folder;
mod datatypes;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
#[cfg(test)]
mod documented_commands;
mod example;
mod find;
mod get;
mod help_topics;
mod helper;
mod info;
mod log;
mod login;
mod manual_pages;
mod mount;
mod object_argument;
mod prefetch;
mod selection;
mod settings;
mod stations;
mod status;
mod storage;
mod terminal;
mod text_table;
mod unmount;
mod waiting;

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
Every command has -h, and more with --help.

Examples:
  icosfs mount --demo ~/icos        try it: no login, no network
  icosfs login                      for data; metadata need none
  icosfs mount ~/icos               the ICOS repository; --portal sites, cities
  icosfs status                     what mounts do, what failed, and why
  icosfs unmount ~/icos

Options are settings, too: the environment and ~/.config/icosfs/config.toml can
give them (`icosfs config show`).

Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command line
or config.toml is wrong. Called by mount(8): 32 if the mount failed.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount the repository at a folder, in the background.
    Mount(mount::MountArgs),
    /// Write an object, or some of a table, to standard output or a file.
    Get(get::GetArgs),
    /// Take a mount away.
    Unmount(unmount::UnmountArgs),
    /// Show what mounts do, what failed, and why.
    Status(status::StatusArgs),
    /// Look at all that a mount needs, and say what mends what is wrong.
    Doctor(doctor::DoctorArgs),
    /// Make a running mount say more, or less.
    LogLevel(log::control::LogLevelArgs),
    /// Fetch files before they are needed, through a mount.
    Prefetch(prefetch::PrefetchArgs),
    /// Show, check or remove what is kept on this machine.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Find objects by what they are, where and when.
    Find(find::FindArgs),
    /// Show a page about an object.
    Info(info::InfoArgs),
    /// List the repository's stations.
    Stations(stations::StationsArgs),
    /// List the kinds of objects there are.
    Datatypes(datatypes::DatatypesArgs),
    /// Log in, for mounts and for the portal's Python library.
    Login(login::LoginArgs),
    /// Remove what `login` keeps.
    Logout(login::LogoutArgs),
    /// Show the login, or use it in a script.
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Show the settings, and where each comes from.
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

/// It was tried, and failed.
const FAILED: u8 = 1;
/// The command line is wrong, or the configuration.
const USAGE: u8 = 2;
/// What mount(8) expects of a helper that could not mount. (Wrong usage is 1
/// there.)
const MOUNT_FAILED: u8 = 32;

impl Command {
    /// Whether it works, though `config.toml` is broken: what must help in
    /// need, and what has nothing to do with settings.
    fn works_without_config(&self) -> bool {
        matches!(
            self,
            Command::Unmount(_)
                | Command::Status(_)
                | Command::Doctor(_)
                | Command::LogLevel(_)
                | Command::Completions(_)
                | Command::Man(_)
        )
    }
}

/// The parser, without what `config.toml` says.
fn command() -> clap::Command {
    help_topics::with_grouped_commands(config::with_settings_to_show(Cli::command()))
}

/// Reads a `config.toml` and applies it, for [`crate::fuzzing`]: of settings by
/// their numbers, with what stands behind the equals sign, and of other text.
pub(crate) fn read_config(settings: &[(u8, String)], text: &str) {
    // All settings of one command: to copy and to drop twenty commands takes
    // longer than all the rest.
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
    if let Ok(file) = config::ConfigFile::parse("config.toml".into(), &text, &COMMAND) {
        let read = file.apply(COMMAND.clone()).try_get_matches_from(["icosfs"]);
        assert!(read.is_ok(), "checked, and then refused: {read:?}");
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    // Before it has files of its own, such as its log.
    if background::is_daemon() {
        background::leave_terminal();
    }
    let arguments: Vec<OsString> =
        object_argument::escape_leading_hyphens(std::env::args_os()).collect();
    let (arguments, failure, usage) = match helper::rewritten(&arguments) {
        Some(Ok(rewritten)) => (rewritten, MOUNT_FAILED, FAILED),
        Some(Err(reason)) => return wrong(&reason, FAILED),
        None => (arguments, FAILED, USAGE),
    };
    let (file, broken) = match config::ConfigFile::load(&command()) {
        Ok(file) => (file, None),
        Err(error) => (config::ConfigFile::default(), Some(error)),
    };
    let (matches, cli) = match parse(&file, &arguments) {
        Ok(parsed) => parsed,
        Err(reason) => return wrong(&reason, usage),
    };
    if let Some(error) = &broken
        && !cli.command.works_without_config()
    {
        return wrong(error, usage);
    }
    match run(cli, &arguments, &matches, &file, broken) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if get::is_broken_pipe(&error) => ExitCode::from(get::BROKEN_PIPE),
        Err(error) => wrong(&format_args!("{error:#}"), failure),
    }
}

fn wrong(reason: &dyn Display, code: u8) -> ExitCode {
    eprintln!("icosfs: {}", terminal::escape_control(&reason.to_string()));
    ExitCode::from(code)
}

/// Parses `arguments`, and once more with what -o stands for. Prints help and
/// usage errors by itself, and ends.
fn parse(file: &config::ConfigFile, arguments: &[OsString]) -> Result<(ArgMatches, Cli), String> {
    let parser = || file.apply(command());
    let read = |arguments: &[OsString]| {
        let matches = parser()
            .try_get_matches_from(arguments)
            .unwrap_or_else(|error| {
                let _ = error.print();
                if let Some(hint) = config::blame_environment(&error, arguments) {
                    eprintln!("\n{hint}");
                }
                if error.kind() == ErrorKind::MissingRequiredArgument
                    && let Some(example) = example::of(&command(), arguments)
                {
                    eprintln!("For example: {example}");
                }
                std::process::exit(error.exit_code())
            });
        let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        (matches, cli)
    };
    let (matches, cli) = read(arguments);
    match &cli.command {
        Command::Mount(args) if !args.options.is_empty() => {
            let flags = helper::flags(&args.options, &command())?;
            Ok(read(&helper::with_flags(arguments.to_vec(), flags)))
        }
        _ => Ok((matches, cli)),
    }
}

fn run(
    cli: Cli,
    arguments: &[OsString],
    matches: &ArgMatches,
    file: &config::ConfigFile,
    broken: Option<config::ConfigError>,
) -> anyhow::Result<()> {
    let Cli { global, command } = cli;
    global.start_log(matches!(command, Command::Mount(_)))?;
    match command {
        // The daemon reads them anew.
        Command::Mount(args) => mount::run(&global, args, arguments.get(1..).unwrap_or_default()),
        Command::Get(args) => get::run(&global, args),
        Command::Unmount(args) => unmount::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Doctor(args) => doctor::run(&global, args, broken.map(|error| error.to_string())),
        Command::LogLevel(args) => log::control::run(&args),
        Command::Completions(args) => {
            manual_pages::completions(&args);
            Ok(())
        }
        Command::Man(args) => manual_pages::pages(&args),
        Command::Prefetch(args) => prefetch::run(&global, &args),
        Command::Cache(command) => cache::run(&global, command),
        Command::Find(args) => find::run(&global, args),
        Command::Info(args) => info::run(&global, &args),
        Command::Stations(args) => stations::run(&global, &args),
        Command::Datatypes(args) => datatypes::run(&global, &args),
        Command::Login(args) => login::run(&global, args),
        Command::Logout(args) => login::log_out(&global, args),
        Command::Auth(command) => auth::run(&global, command),
        Command::Config(command) => config::run(&command, matches, file),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(&args),
    }
}
