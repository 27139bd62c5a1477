//! The command line: one file per command, raw flags turned into one checked
//! configuration. Nothing below sees clap.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod auth;
mod background;
mod data_path;
#[cfg(feature = "demo")]
mod demo;
mod login;
mod mount;
mod provider;
mod selection;
mod settings;
mod status;
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
    /// Log in to the portal, and keep the login for mounts and for the portal's
    /// Python library.
    Login(login::LoginArgs),
    /// Remove what `login` keeps.
    Logout(login::LogoutArgs),
    /// Show the login, or use it in a script.
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Run a demo portal on this machine, without a mount.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    global.start_log();
    let result = match command {
        Command::Mount(args) => mount::run(&global, args),
        Command::Unmount(args) => unmount::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Login(args) => login::run(&global, args),
        Command::Logout(args) => login::log_out(&global, args),
        Command::Auth(command) => auth::run(&global, command),
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
