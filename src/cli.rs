//! The command line: one file per command, raw flags turned into one checked
//! configuration. Nothing below sees clap.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

mod auth;
mod background;
mod browse;
mod cache;
mod config;
mod data_path;
mod datatypes;
#[cfg(feature = "demo")]
mod demo;
mod find;
mod info;
mod login;
mod mount;
mod prefetch;
mod provider;
mod selection;
mod settings;
mod stations;
mod status;
mod table;
mod target;
mod unmount;

/// Mounts a Carbon Portal repository (ICOS, SITES or ICOS Cities) as plain
/// files.
#[derive(Debug, Parser)]
#[command(name = "icosfs", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: settings::GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount the repository at a folder, in the background.
    Mount(mount::MountArgs),
    /// Take a mount away.
    Unmount(unmount::UnmountArgs),
    /// Show what a mount is doing: login, last errors and their reasons.
    Status(status::StatusArgs),
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
    /// Log in to the portal, and keep the login for mounts and for the portal's
    /// Python library.
    Login(login::LoginArgs),
    /// Remove what `login` keeps.
    Logout(login::LogoutArgs),
    /// Show the login, or use it in a script.
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Show the settings, and where each comes from.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Run a demo portal on this machine, without a mount.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
}

/// The command line is wrong, or the configuration.
const USAGE: u8 = 2;

impl Command {
    /// Whether it works, though `config.toml` is broken: what must help in
    /// need, and what has nothing to do with settings.
    fn is_for_need(&self) -> bool {
        matches!(self, Command::Unmount(_) | Command::Status(_))
    }
}

/// The parser, without what `config.toml` says.
fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let loaded = config::ConfigFile::load(&command());
    let (file, broken) = match loaded {
        Ok(file) => (file, None),
        Err(error) => (config::ConfigFile::default(), Some(error)),
    };
    let matches = file.apply(command()).get_matches();
    let Cli { global, command } = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if let Some(error) = broken
        && !command.is_for_need()
    {
        eprintln!("icosfs: {error}");
        return ExitCode::from(USAGE);
    }
    global.start_log();
    let result = match command {
        Command::Mount(args) => mount::run(&global, args),
        Command::Unmount(args) => unmount::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Prefetch(args) => prefetch::run(&global, &args),
        Command::Cache(command) => cache::run(&global, command),
        Command::Find(args) => find::run(&global, args),
        Command::Info(args) => info::run(&global, &args),
        Command::Stations(args) => stations::run(&global, &args),
        Command::Datatypes(args) => datatypes::run(&global, &args),
        Command::Login(args) => login::run(&global, args),
        Command::Logout(args) => login::log_out(&global, args),
        Command::Auth(command) => auth::run(&global, command),
        Command::Config(command) => config::run(&command, &matches, &file),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("icosfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
