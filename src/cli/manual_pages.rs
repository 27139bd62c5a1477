//! `icosfs completions` and `icosfs man`: generated from the parser, so that
//! they always agree with it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;
use icos_files::SafeFolder;

use super::{completion, exit};

/// Arguments of `icosfs completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs completions bash > ~/.local/share/bash-completion/completions/icosfs
  icosfs completions zsh > ~/.zfunc/_icosfs          # a folder of $fpath
  icosfs completions fish > ~/.config/fish/completions/icosfs.fish

They complete names of stations, data types, columns, ids and mounts, too, from the
lists that earlier commands have stored; the portal is never asked.")]
pub(super) struct CompletionsArgs {
    /// The shell to generate completions for
    shell: Shell,
}

/// Arguments of `icosfs man`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs man ~/.local/share/man/man1     # then: man icosfs-mount")]
pub(super) struct ManArgs {
    /// The folder to write the pages to; created if missing
    folder: PathBuf,
}

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    completion::print_script(&args.shell.to_string())
}

/// Writes one manual page per command.
pub(super) fn pages(args: &ManArgs) -> anyhow::Result<()> {
    let folder = &args.folder;
    let opened = SafeFolder::create(folder, 0o777)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let mut command = super::command().disable_help_subcommand(true);
    // Gives the pages of subcommands their full names.
    command.build();
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let file = format!("{name}.1");
        let mut page = Vec::new();
        let rendered = Man::new(command.clone().name(name.to_owned())).render(&mut page);
        page.extend(exit_status().into_bytes());
        rendered
            .and_then(|()| opened.replace(file.as_ref(), ".page.new".as_ref(), 0o644, &page))
            .with_context(|| format!("cannot write {}", folder.join(&file).display()))?;
        commands.extend(
            command
                .get_subcommands()
                .filter(|c| !c.is_hide_set())
                .cloned(),
        );
    }
    Ok(())
}

/// The section on exit codes, which all pages have.
fn exit_status() -> String {
    let entry = |(code, meaning)| format!(".TP\n{code}\n{meaning}\n");
    let entries: String = exit::CODES.into_iter().map(entry).collect();
    format!(".SH \"EXIT STATUS\"\n{entries}")
}
