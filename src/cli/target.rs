//! What a command is about: an object, however it is named.

use std::ffi::OsString;

use anyhow::Context as _;

use crate::portal::ObjectId;

/// Where a mount has it, and what sets an id apart from an option.
const FOLDER: &str = "objects/";

/// The object that `text` names: by its id, in any spelling the portal takes.
pub(super) fn parse(text: &str) -> anyhow::Result<ObjectId> {
    text.strip_prefix(FOLDER)
        .unwrap_or(text)
        .parse()
        .with_context(|| format!("expected the id of an object, found {text:?}"))
}

/// Arguments as they were given, but for ids that begin with a hyphen (one of
/// 64 does): nobody means options by them.
pub(super) fn with_ids_apart(
    arguments: impl Iterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    arguments.map(|argument| {
        let id = argument
            .to_str()
            .filter(|text| text.starts_with('-') && text.parse::<ObjectId>().is_ok());
        match id {
            Some(id) => format!("{FOLDER}{id}").into(),
            None => argument,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_option_and_an_option_no_id() {
        let id = "-cABCDEFGHIJKLMNOPQRSTUV";
        let given = ["get", id, "--rows", "-vv", "-c", "--cache-dir"].map(OsString::from);
        let taken: Vec<_> = with_ids_apart(given.into_iter()).collect();
        assert_eq!(taken[0], "get");
        assert_eq!(parse(taken[1].to_str().unwrap()).unwrap().to_string(), id);
        assert_eq!(
            taken[2..],
            ["--rows", "-vv", "-c", "--cache-dir"].map(OsString::from)
        );
    }
}
