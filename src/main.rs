//! The `icosfs` command: parse, run one command, print an error for a person.

use std::process::ExitCode;

fn main() -> ExitCode {
    icosfs::cli::main()
}
