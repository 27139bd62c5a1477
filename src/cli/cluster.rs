//! `icosfs cluster`: the key of a cluster that shares a cache.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;

use super::output::print_line;
use crate::cluster::ClusterKey;

/// Subcommands of `icosfs cluster`.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Make the key of a cluster: give all its machines the same file
    #[command(after_help = "\
The file is new, and only its owner can read it. Whoever has it can put data into the \
shared cache that all machines with the key believe.

Examples:
  icosfs cluster init ~/.config/icosfs/cluster.key
  icosfs mount --shared-cache file:///scratch/icosfs \
      --shared-key-file ~/.config/icosfs/cluster.key ~/icos")]
    Init {
        /// The new file
        file: PathBuf,
    },
}

/// Runs the command.
pub(super) fn run(command: &ClusterCommand) -> anyhow::Result<()> {
    let ClusterCommand::Init { file } = command;
    ClusterKey::create(file).with_context(|| {
        format!(
            "cannot make a key in {}; a file that exists is not overwritten",
            file.display()
        )
    })?;
    print_line!(
        "made a key in {}; copy it to all machines, readable by you alone, and name it with --shared-key-file",
        file.display()
    )?;
    Ok(())
}
