//! Tests that the parser accepts every `icosfs` command shown in the book, the
//! README and the help texts.

use std::fs;

/// The commands of icosfs in the fenced blocks and `code` of `text`.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            let parts = line.trim_start_matches("$ ").split(['|', ';', '&']);
            found.extend(parts.map(str::to_owned));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
        .into_iter()
        .filter_map(|command| {
            // Two spaces separate the command from its description.
            let command = command.trim().split("  ").next()?;
            let command = command.split(['<', '>', '#']).next()?.trim();
            command.starts_with("icosfs ").then(|| command.to_owned())
        })
        .collect()
}

fn check_parses(command: &str) -> Result<(), clap::Error> {
    // Commands in running text may omit required arguments.
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
        MissingRequiredArgument,
    };
    let words = command.split_whitespace();
    match super::command().try_get_matches_from(words) {
        Err(error)
            if !matches!(
                error.kind(),
                DisplayHelp
                    | DisplayHelpOnMissingArgumentOrSubcommand
                    | DisplayVersion
                    | MissingRequiredArgument
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

#[test]
fn every_documented_command_parses() {
    let mut texts = vec![(
        "README.md".to_owned(),
        fs::read_to_string("README.md").unwrap(),
    )];
    for entry in fs::read_dir("docs").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "md") {
            texts.push((
                path.display().to_string(),
                fs::read_to_string(path).unwrap(),
            ));
        }
    }
    let mut helps = vec![super::command()];
    while let Some(mut command) = helps.pop() {
        let help = command.render_long_help().to_string();
        let examples = help.split("Examples:").nth(1).unwrap_or_default();
        let examples = format!("```\n{}\n```", examples.replace("\n  ", "\n"));
        texts.push((format!("icosfs {} --help", command.get_name()), examples));
        helps.extend(command.get_subcommands().cloned());
    }
    let mut parsed = 0;
    for (source, text) in texts {
        for command in commands(&text) {
            if let Err(error) = check_parses(&command) {
                panic!("{source}: {command}\n{error}");
            }
            parsed += 1;
        }
    }
    assert!(parsed > 40, "only {parsed} commands are shown");
}
