//! Free text search: an object matches if each word occurs in one of its texts. These
//! are its file name, title and keywords, the names of its columns, its station with
//! the country, and its data type with format, theme and project. A word that denotes a time,
//! such as `2023`, also matches objects with data of that time.

use std::collections::HashMap;

use jiff::Timestamp;

use super::database::query_all;
use super::spelling::{country_names, fold};
use super::{Catalog, CatalogError, CatalogList, Object, Spec, Station, Vocabulary, write};
use icos_portal::MetadataClient;
use icos_portal::lists::TextRow;

/// A word of a search.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SearchWord {
    /// The word as it was typed.
    pub text: String,
    /// Start and end of the time that it denotes, if it does.
    pub period: Option<(Timestamp, Timestamp)>,
}

/// The texts that words are searched in, folded.
#[derive(Debug)]
pub(super) struct Haystack {
    words: Vec<(String, Option<(Timestamp, Timestamp)>)>,
    stations: HashMap<i64, String>,
    specs: HashMap<i64, String>,
    /// Titles and keywords by the IRI of what has them; of objects, by the end of it.
    texts: HashMap<String, String>,
}

impl Haystack {
    pub(super) fn new(
        words: &[SearchWord],
        vocabulary: &Vocabulary,
        texts: HashMap<String, String>,
    ) -> Self {
        let folded = |word: &SearchWord| (fold(&word.text), word.period);
        let stations = vocabulary
            .stations()
            .map(|one| (one.key, text_of_station(one)));
        let specs = vocabulary.specs();
        let specs = specs
            .map(|spec| (spec.key, text_of_spec(spec, &texts)))
            .collect();
        Self {
            words: words.iter().map(folded).collect(),
            stations: stations.collect(),
            specs,
            texts,
        }
    }

    /// Whether each word occurs in a text of `object`.
    pub(super) fn contains_words(&self, object: &Object) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let station = object.station().and_then(|one| self.stations.get(&one.key));
        let spec = object.spec().and_then(|spec| self.specs.get(&spec.key));
        let own = self.texts.get(&object.id().to_string());
        let name = fold(object.file_name());
        let columns = object.column_names().map_or(&[][..], |names| names);
        self.words.iter().all(|(word, period)| {
            let contains = |text: &String| text.contains(word.as_str());
            let overlaps = |(from, to): (Timestamp, Timestamp)| {
                (object.span()).is_some_and(|(start, end)| start <= to && end >= from)
            };
            name.contains(word.as_str())
                || [station, spec, own].into_iter().flatten().any(contains)
                || period.is_some_and(overlaps)
                || columns
                    .iter()
                    .any(|column| fold(column).contains(word.as_str()))
                || object
                    .doi()
                    .is_some_and(|doi| fold(doi).contains(word.as_str()))
        })
    }
}

fn text_of_station(station: &Station) -> String {
    let row = station.row();
    let names = [&*row.code, &*row.name, station.iri()].into_iter();
    let names: Vec<String> = names
        .map(fold)
        .chain(country_names(&row.country).map(fold))
        .collect();
    names.join("\n")
}

fn text_of_spec(spec: &Spec, texts: &HashMap<String, String>) -> String {
    let own = [
        Some(spec.name()),
        Some(spec.label()),
        Some(spec.format()),
        spec.theme(),
        spec.theme_iri(),
        spec.project(),
        spec.project_iri(),
    ];
    let columns = spec.columns().iter();
    let columns = columns.flat_map(|column| [Some(&*column.title), column.value.as_deref()]);
    let names = own.into_iter().chain(columns).flatten().map(fold);
    let iris = [Some(spec.iri()), spec.project_iri()].into_iter().flatten();
    let keywords = iris.filter_map(|iri| texts.get(iri).cloned());
    names.chain(keywords).collect::<Vec<_>>().join("\n")
}

impl Catalog {
    /// The folded titles and keywords, by the IRI of what has them; of objects, by the
    /// id. Without the portal, the stored ones, which may be none.
    pub(super) async fn texts(&self) -> Result<HashMap<String, String>, CatalogError> {
        if let Err(error) = self.ensure(CatalogList::Texts).await {
            tracing::warn!(%error, "titles and keywords are not searched");
        }
        let query = "SELECT item, text FROM text";
        let rows: Vec<(String, String)> = (self.0.db)
            .read(|db| query_all(db, query, [], |row| Ok((row.get(0)?, row.get(1)?))))?;
        let mut texts: HashMap<String, String> = HashMap::new();
        for (item, text) in rows {
            let item = match item.split_once("/objects/") {
                Some((_, id)) => id.to_owned(),
                None => item,
            };
            let all = texts.entry(item).or_default();
            all.push_str(&fold(&text));
            all.push('\n');
        }
        Ok(texts)
    }

    pub(super) async fn download_texts(&self) -> Result<(), CatalogError> {
        let mut rows: Vec<TextRow> = Vec::new();
        loop {
            let page = self.0.meta.texts(rows.len()).await?;
            let sent = page.sent;
            rows.extend(page.rows);
            if sent < MetadataClient::MAX_ROWS {
                break;
            }
        }
        let state = CatalogList::Texts.key(&self.0.resolved_selection());
        self.write(move |db| {
            write::texts(db, &rows)?;
            write::set_state(db, &state, super::list_state::now())
        })
        .await
    }
}
