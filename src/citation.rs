//! Citations: what a landing page says of how to cite an object or a collection, in the
//! formats of reference managers.
//!
//! The portal's own BibTeX and RIS are used as they are, with two exceptions. The key of a
//! BibTeX entry is made of the id, so that it never changes and no two are the same. The
//! tags of RIS get the second space that the format demands, and the portal leaves out.

use std::fmt::Write as _;

use icos_portal::is_terminal_command;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The citation of an object or a collection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Citation {
    /// One line of text.
    pub text: String,
    /// A BibTeX entry.
    pub bibtex: String,
    /// A RIS record.
    pub ris: String,
    /// A CSL-JSON item.
    pub csl: Value,
}

impl Citation {
    /// The citation on the landing page `page` of `id`; `None` if the page has none.
    #[must_use]
    pub fn of_page(id: &str, page: &Value) -> Option<Self> {
        let references = page.get("references")?;
        let given = |key: &str| {
            let text = references.get(key)?.as_str()?.trim();
            let lines = text.lines().map(on_one_line);
            (!text.is_empty()).then(|| lines.collect::<Vec<_>>().join("\n"))
        };
        let text = on_one_line(&given("citationString")?);
        let facts = Facts::of(id, page, references);
        Some(Self {
            bibtex: match given("citationBibTex") {
                Some(bibtex) => with_key(&bibtex, &facts.key()),
                None => facts.bibtex(&text),
            },
            ris: given("citationRis").map_or_else(|| facts.ris(), |ris| with_spaces(&ris)),
            csl: facts.csl(&text),
            text,
        })
    }
}

/// `text` without line breaks, which could begin another field, and without other
/// characters that a terminal takes for commands: it is from any submitter.
fn on_one_line(text: &str) -> String {
    text.replace(is_terminal_command, " ")
}

/// Replaces the key of a BibTeX entry. Text that is not an entry stays as it is.
fn with_key(bibtex: &str, key: &str) -> String {
    let found = bibtex.split_once('{').and_then(|(kind, rest)| {
        let (_, fields) = rest.split_once([',', '}'])?;
        let end = rest.as_bytes()[rest.len() - fields.len() - 1];
        kind.starts_with('@').then_some((kind, end, fields))
    });
    match found {
        Some((kind, end, fields)) => format!("{kind}{{{key}{}{fields}", char::from(end)),
        None => bibtex.to_owned(),
    }
}

/// Separates tags and values by two spaces and a hyphen, as programs expect it.
fn with_spaces(ris: &str) -> String {
    let line = |line: &str| match line.split_once(" -") {
        Some((tag, value)) if tag.trim_end().len() == 2 => {
            format!("{}  - {}", tag.trim_end(), value.trim_start())
        }
        _ => line.to_owned(),
    };
    ris.lines().map(line).collect::<Vec<_>>().join("\r\n")
}

/// An author: family name and given names, or one name.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Author {
    Person { family: String, given: String },
    Organization(String),
}

/// What citations are made of.
struct Facts {
    id: String,
    title: Option<String>,
    authors: Vec<Author>,
    doi: Option<String>,
    url: Option<String>,
    /// When it was submitted or published.
    date: Option<String>,
    publisher: &'static str,
}

impl Facts {
    fn of(id: &str, page: &Value, references: &Value) -> Self {
        let text = |pointer: &str| Some(on_one_line(page.pointer(pointer)?.as_str()?));
        let authors = references.get("authors").and_then(Value::as_array);
        let name = |author: &Value, key: &str| Some(on_one_line(author.get(key)?.as_str()?));
        let author = |author: &Value| match (name(author, "lastName"), name(author, "firstName")) {
            (Some(family), Some(given)) => Some(Author::Person { family, given }),
            _ => Some(Author::Organization(name(author, "name")?)),
        };
        let doi = text("/doi");
        let handle = || Some(format!("https://hdl.handle.net/{}", text("/pid")?));
        let own = || text("/res");
        Self {
            id: id.to_owned(),
            title: text("/references/title")
                .or_else(|| text("/title"))
                .or_else(|| text("/fileName")),
            authors: authors.into_iter().flatten().filter_map(author).collect(),
            url: (doi.as_ref())
                .map(|doi| format!("https://doi.org/{doi}"))
                .or_else(handle)
                .or_else(own),
            doi,
            date: text("/specificInfo/productionInfo/dateTime")
                .or_else(|| text("/submission/stop"))
                .filter(|date| date.parse::<Timestamp>().is_ok()),
            publisher: "Carbon Portal",
        }
    }

    /// A key that is valid in BibTeX and RIS, and stable.
    fn key(&self) -> String {
        format!("cp_{}", self.id)
    }

    fn year(&self) -> Option<&str> {
        self.date.as_deref()?.get(..4)
    }

    fn bibtex(&self, text: &str) -> String {
        let authors: Vec<String> = (self.authors.iter())
            .map(|author| match author {
                Author::Person { family, given } => format!("{family}, {given}"),
                Author::Organization(name) => format!("{{{name}}}"),
            })
            .collect();
        let title = self.title.clone().unwrap_or_else(|| text.to_owned());
        let fields = [
            (
                "author",
                (!authors.is_empty()).then(|| authors.join(" and ")),
            ),
            ("title", Some(title)),
            ("year", self.year().map(str::to_owned)),
            ("doi", self.doi.clone()),
            ("url", self.url.clone()),
            ("publisher", Some(self.publisher.to_owned())),
        ];
        let mut entry = format!("@misc{{{}", self.key());
        for (name, value) in fields {
            if let Some(value) = value {
                let _ = write!(entry, ",\n  {name} = {{{value}}}");
            }
        }
        entry.push_str("\n}");
        entry
    }

    fn ris(&self) -> String {
        let mut lines = vec![("TY", "DATA".to_owned()), ("ID", self.key())];
        lines.extend(self.title.clone().map(|title| ("T1", title)));
        lines.extend(self.authors.iter().map(|author| {
            let name = match author {
                Author::Person { family, given } => format!("{family}, {given}"),
                Author::Organization(name) => name.clone(),
            };
            ("AU", name)
        }));
        lines.extend(self.year().map(|year| ("PY", year.to_owned())));
        lines.extend(self.doi.clone().map(|doi| ("DO", doi)));
        lines.extend(self.url.clone().map(|url| ("UR", url)));
        lines.push(("PB", self.publisher.to_owned()));
        lines.push(("ER", String::new()));
        let lines = lines.iter().map(|(tag, value)| format!("{tag}  - {value}"));
        lines.collect::<Vec<_>>().join("\r\n")
    }

    fn csl(&self, text: &str) -> Value {
        let authors: Vec<Value> = (self.authors.iter())
            .map(|author| match author {
                Author::Person { family, given } => json!({"family": family, "given": given}),
                Author::Organization(name) => json!({"literal": name}),
            })
            .collect();
        let date = self.date.as_deref().and_then(|date| date.get(..10));
        let parts: Option<Vec<u16>> =
            date.and_then(|date| date.split('-').map(|part| part.parse().ok()).collect());
        let title = self.title.clone().unwrap_or_else(|| text.to_owned());
        let known = [
            ("id", Some(json!(self.key()))),
            ("type", Some(json!("dataset"))),
            ("title", Some(json!(title))),
            ("author", (!authors.is_empty()).then(|| json!(authors))),
            ("issued", parts.map(|parts| json!({"date-parts": [parts]}))),
            ("DOI", self.doi.as_ref().map(|doi| json!(doi))),
            ("URL", self.url.as_ref().map(|url| json!(url))),
            ("publisher", Some(json!(self.publisher))),
        ];
        let known = known.into_iter();
        let item: Map<String, Value> = known
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect();
        Value::Object(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(references: &Value) -> Value {
        json!({
            "pid": "11676/abc",
            "doi": "10.18160/XYZ",
            "submission": {"stop": "2024-09-12T09:05:39.771Z"},
            "references": references,
        })
    }

    #[test]
    fn portals_own_formats_are_kept_but_for_the_key() {
        let page = page(&json!({
            "citationString": "Heliasz, M. (2024). CO2.",
            "citationBibTex": "@misc{some-key,\n  title={CO2, dry},\n}",
            "citationRis": "TY - DATA\r\nER - \r\n",
        }));
        let citation = Citation::of_page("abc", &page).unwrap();
        assert_eq!(citation.text, "Heliasz, M. (2024). CO2.");
        assert_eq!(citation.bibtex, "@misc{cp_abc,\n  title={CO2, dry},\n}");
        assert_eq!(citation.ris, "TY  - DATA\r\nER  - ");
    }

    /// Regression: they reached the terminal, and a line break in a title began a field.
    #[test]
    fn terminal_commands_and_line_breaks_of_metadata_are_not_in_citations() {
        let hostile = "CO2\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\r\nUR  - http://evil.example";
        for given in [Value::Null, json!(hostile)] {
            let page = page(&json!({
                "citationString": hostile,
                "citationBibTex": given,
                "citationRis": given,
                "title": hostile,
                "authors": [{"firstName": hostile, "lastName": hostile}, {"name": hostile}],
            }));
            let citation = Citation::of_page("abc", &page).unwrap();
            let csl = citation.csl.to_string();
            let all = [&citation.text, &citation.bibtex, &citation.ris, &csl];
            for text in all {
                let is_bad = |c: char| is_terminal_command(c) && !matches!(c, '\r' | '\n');
                assert!(!text.contains(is_bad), "{text:?}");
            }
            assert!(!citation.text.contains('\n'));
            if given.is_null() {
                assert!(!citation.ris.contains("\nUR  - http://evil"));
                assert!(!csl.contains("\\n"), "{csl}");
            }
        }
    }

    #[test]
    fn missing_formats_are_written_from_authors_title_and_identifiers() {
        let page = page(&json!({
            "citationString": "text",
            "title": "CO2",
            "authors": [
                {"firstName": "Michal", "lastName": "Heliasz"},
                {"name": "ICOS ATC"},
            ],
        }));
        let citation = Citation::of_page("abc", &page).unwrap();
        assert_eq!(
            citation.bibtex,
            "@misc{cp_abc,\n  author = {Heliasz, Michal and {ICOS ATC}},\n  title = {CO2},\n  \
             year = {2024},\n  doi = {10.18160/XYZ},\n  url = {https://doi.org/10.18160/XYZ},\n  \
             publisher = {Carbon Portal}\n}"
        );
        assert!(
            citation
                .ris
                .starts_with("TY  - DATA\r\nID  - cp_abc\r\nT1  - CO2\r\n")
        );
        assert!(
            citation
                .ris
                .contains("\r\nAU  - Heliasz, Michal\r\nAU  - ICOS ATC\r\nPY  - 2024\r\n")
        );
        assert_eq!(
            citation.csl["issued"]["date-parts"][0],
            json!([2024, 9, 12])
        );
        assert_eq!(citation.csl["author"][1]["literal"], "ICOS ATC");
        assert_eq!(citation.csl["DOI"], "10.18160/XYZ");
    }

    #[test]
    fn pages_without_a_citation_have_none_and_odd_bibtex_stays() {
        assert_eq!(Citation::of_page("abc", &json!({})), None);
        assert_eq!(Citation::of_page("abc", &page(&json!({}))), None);
        for odd in ["", "no entry", "@misc", "misc{a,b}", "@misc{"] {
            assert_eq!(with_key(odd, "key"), odd);
        }
        assert_eq!(with_key("@misc{}", "key"), "@misc{key}");
    }
}
