//! Tests that the parser accepts every `icosfs` command shown in the book, the
//! README and the help texts.

use std::fs;

use crate::demo_portal::SEED;
use icos_demo::DemoRepository;
use icos_portal::ObjectId;

/// The commands of icosfs in the fenced blocks and `code` of `text`.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    // A backslash continues a command on the next line.
    for line in text.replace("\\\n", " ").lines() {
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
    let words = words(command);
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

/// The words of `command`; single quotes join several.
fn words(command: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, part) in command.split('\'').enumerate() {
        if at % 2 == 1 {
            found.push(part.to_owned());
        } else {
            found.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    found
}

/// The README, the pages of the book and the examples of the help texts, with their names.
fn documents() -> Vec<(String, String)> {
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
    texts
}

/// The words of `text` that are ids of objects.
fn ids(text: &str) -> impl Iterator<Item = ObjectId> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split(move |c| !is_part(c));
    let words =
        words.filter(|word| word.len() == 24 && word.contains(|c: char| c.is_ascii_digit()));
    let mixed = words.filter(|word| word.contains(|c: char| c.is_ascii_uppercase()));
    mixed.filter_map(|word| word.parse().ok())
}

#[test]
fn ids_in_all_documents_exist_in_the_demo() {
    let demo = DemoRepository::plausible(SEED);
    let co2 = demo
        .find("ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip")
        .unwrap();
    let mut found = 0;
    for (source, text) in documents() {
        for id in ids(&text) {
            assert!(demo.csv(&id).is_some(), "{source}: {id}; a table is {co2}");
            found += 1;
        }
    }
    assert!(found > 10, "only {found}");
}

#[test]
fn every_documented_command_parses() {
    let mut parsed = 0;
    for (source, text) in documents() {
        for command in commands(&text) {
            if let Err(error) = check_parses(&command) {
                panic!("{source}: {command}\n{error}");
            }
            parsed += 1;
        }
    }
    assert!(parsed > 40, "only {parsed} commands are shown");
}
