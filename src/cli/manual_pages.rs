//! `icosfs completions` and `icosfs man`: generated from the parser, so that
//! they always agree with it.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command};
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
        let rendered = render(command.clone().name(name.to_owned()), &mut page);
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

/// Writes the page of a command.
fn render(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    // The help of options that `-h` leaves out would be left out here, too.
    let mut command = command.mut_args(|arg| arg.hide_short_help(false));
    let usage = command.render_usage().to_string();
    let after = command.get_after_help().map(ToString::to_string);
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command);
    man.render_title(page)?;
    man.render_name_section(page)?;
    writeln!(page, ".SH SYNOPSIS")?;
    let usage = usage.trim_start_matches("Usage: ");
    page.extend(preformatted(usage).into_bytes());
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if has_subcommands {
        man.render_subcommands_section(page)?;
    }
    if let Some(text) = after {
        let text = text.trim();
        let (title, text) = match text.strip_prefix("Examples:\n") {
            Some(examples) => ("EXAMPLES", examples),
            None => ("NOTES", text),
        };
        writeln!(page, ".SH {title}")?;
        page.extend(preformatted(text).into_bytes());
    }
    page.extend(exit_status().into_bytes());
    Ok(())
}

/// Text whose lines stay as they are.
fn preformatted(text: &str) -> String {
    let mut lines = String::from(".nf\n");
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // A line that begins so would be a command.
        if line.starts_with(['.', '\'']) {
            lines.push_str("\\&");
        }
        lines.push_str(&line);
        lines.push('\n');
    }
    lines + ".fi\n"
}

/// The section on exit codes, which all pages have.
fn exit_status() -> String {
    let entry = |(code, meaning): (u8, &str)| {
        let meaning = meaning.replace('-', "\\-");
        format!(".TP\n{code}\n{meaning}\n")
    };
    let entries: String = exit::CODES.into_iter().map(entry).collect();
    format!(".SH \"EXIT STATUS\"\n{entries}")
}
