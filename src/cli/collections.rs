//! `icosfs collections`: lists the repository's collections.

use clap::Args;
use serde_json::json;

use super::catalog_access;
use super::exit::EndedEarly;
use super::settings::GlobalArgs;
use super::text_table::{TextTable, print_json_lines};
use super::waiting::block_on_while;
use crate::catalog::{CatalogList, Collection, ObjectSelection, fold, similar};
use icos_portal::Service;

/// Arguments of `icosfs collections`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs collections release 2024
  icosfs collections --json | jq -r 'select(.doi) | .title'")]
pub(super) struct CollectionsArgs {
    /// Show only collections with each of these words in the title, the DOI or the id
    #[arg(value_name = "TEXT")]
    words: Vec<String>,
    /// Print JSON, one collection per line
    #[arg(long)]
    json: bool,
}

/// Words of titles that are similar to the first of `words` that no title has.
fn similar_words(words: &[String], all: &[Collection]) -> Vec<String> {
    let titles: Vec<String> = all.iter().map(|one| fold(&one.title)).collect();
    let is_unknown = |word: &&String| !titles.iter().any(|title| title.contains(&fold(word)));
    let Some(word) = words.iter().find(is_unknown) else {
        return Vec::new();
    };
    let known = titles
        .iter()
        .flat_map(|title| title.split(|c: char| !c.is_alphanumeric()));
    let known = known.filter(|known| known.len() > 2);
    similar(
        word,
        known.map(|known| (known.to_owned(), known.to_owned())),
    )
}

pub(super) fn run(global: &GlobalArgs, args: &CollectionsArgs) -> anyhow::Result<()> {
    let clients = global.clients(None)?;
    let (cache_dir, selection) = (global.cache_dir()?, ObjectSelection::default());
    let catalog = catalog_access::open(&clients, &cache_dir, catalog_access::TTL, selection)?;
    block_on_while("requesting the portal's lists", async {
        Ok(catalog.ensure(CatalogList::Collections).await?)
    })?;
    let words: Vec<String> = args.words.iter().map(|word| fold(word)).collect();
    let has_words = |collection: &Collection| {
        let doi = collection.doi.as_deref().unwrap_or_default();
        let text = format!("{}\n{}\n{doi}", collection.title, collection.id);
        let text = fold(&text);
        words.iter().all(|word| text.contains(word))
    };
    let all = catalog.collections()?;
    let mut shown = all.clone();
    shown.retain(has_words);
    if shown.is_empty() {
        return Err(EndedEarly::no_match(
            "collections",
            similar_words(&args.words, &all),
        ));
    }
    if args.json {
        let base = clients.services.base(Service::Meta);
        return print_json_lines(shown.iter().map(|collection| {
            json!({
                "id": collection.id.to_string(),
                "uri": format!("{base}collections/{}", collection.id),
                "title": collection.title,
                "doi": collection.doi,
                "folder": format!("collections/{}", collection.id),
            })
        }));
    }
    let rows = shown.into_iter().map(|collection| {
        let Collection { id, title, doi } = collection;
        vec![id.to_string(), title, doi.unwrap_or_default()]
    });
    TextTable::new(&["ID", "TITLE", "DOI"], rows).print()
}
