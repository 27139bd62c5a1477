//! Finds data types and stations by the names that people give them, and explains
//! names that nothing has.

use std::sync::Arc;

use super::spelling::{UnknownName, country_names, fold, similar};
use super::vocabulary::{Spec, Station, Vocabulary, last_segment};
use super::{ObjectSelection, Search};

impl Station {
    /// The English name of its country; the code, if the code is unknown.
    #[must_use]
    pub fn country(&self) -> &str {
        let code = &self.row().country;
        let name: Option<&str> = country_names(code).next();
        name.unwrap_or(code)
    }

    /// Whether `folded` is its id, its IRI, or the end of the IRI.
    fn has_id(&self, folded: &str) -> bool {
        let ids = [&*self.row().code, self.iri(), self.segment(), self.name()];
        ids.iter().any(|own| fold(own) == folded)
    }

    fn has_country(&self, folded: &str) -> bool {
        let code = &self.row().country;
        fold(code) == folded || country_names(code).any(|name| fold(name) == folded)
    }

    /// Whether its id, its name or a name of its country contains `folded`.
    fn is_like(&self, folded: &str) -> bool {
        let row = self.row();
        let contains = |own: &str| fold(own).contains(folded);
        contains(&row.code) || contains(&row.name) || country_names(&row.country).any(contains)
    }
}

impl Spec {
    fn has_name(&self, folded: &str) -> bool {
        let names = [self.name(), self.label(), self.iri()];
        names.iter().any(|own| fold(own) == folded)
    }

    /// Whether `folded` is the name of its theme, or a part of the label.
    pub(super) fn has_theme(&self, folded: &str) -> bool {
        is_or_contains(self.theme(), self.theme_iri(), folded)
    }

    /// The same for its project.
    pub(super) fn has_project(&self, folded: &str) -> bool {
        is_or_contains(self.project(), self.project_iri(), folded)
    }
}

/// Whether `folded` is an IRI, the end of it, or a part of its label.
fn is_or_contains(label: Option<&str>, iri: Option<&str>, folded: &str) -> bool {
    label.is_some_and(|label| fold(label).contains(folded))
        || iri.is_some_and(|iri| fold(iri) == folded || fold(last_segment(iri)) == folded)
}

impl Vocabulary {
    /// The repository's stations that `name` denotes: an id, an IRI or the end of one;
    /// else a station's name; else the code or English name of a country. Case and
    /// accents do not matter.
    #[must_use]
    pub fn stations_named(&self, name: &str) -> Vec<&Arc<Station>> {
        let folded = fold(name);
        let by = |is: &dyn Fn(&Station) -> bool| -> Vec<_> {
            self.stations().filter(|station| is(station)).collect()
        };
        let ids = by(&|station| station.has_id(&folded));
        if !ids.is_empty() {
            return ids;
        }
        let names = by(&|station| fold(&station.row().name) == folded);
        if !names.is_empty() {
            return names;
        }
        by(&|station| station.has_country(&folded))
    }

    /// The stations that `text` denotes, or else those with this text in the id, the
    /// name or the country.
    #[must_use]
    pub fn stations_like(&self, text: &str) -> Vec<&Arc<Station>> {
        let named = self.stations_named(text);
        if !named.is_empty() {
            return named;
        }
        let folded = fold(text);
        let stations = self.stations();
        stations.filter(|one| one.is_like(&folded)).collect()
    }

    /// The listed data types that `name` denotes: by name, label or IRI.
    #[must_use]
    pub fn specs_named(&self, name: &str) -> Vec<&Arc<Spec>> {
        let folded = fold(name);
        self.specs().filter(|spec| spec.has_name(&folded)).collect()
    }

    /// The data types with this text in the name, the label, the theme, the project or
    /// a column.
    #[must_use]
    pub fn specs_like(&self, text: &str) -> Vec<&Arc<Spec>> {
        let folded = fold(text);
        let is_like = |spec: &&Arc<Spec>| {
            let columns = spec.columns().iter();
            let columns =
                columns.flat_map(|column| [Some(&*column.title), column.value.as_deref()]);
            let own = [Some(spec.name()), Some(spec.label()), Some(spec.iri())];
            let mut own = own.into_iter().chain(columns).flatten();
            own.any(|own| fold(own).contains(&folded))
                || spec.has_theme(&folded)
                || spec.has_project(&folded)
        };
        self.specs().filter(is_like).collect()
    }

    /// Checks that every name in `selection` denotes something.
    ///
    /// # Errors
    ///
    /// The first name that does not.
    pub fn check(&self, selection: &ObjectSelection) -> Result<(), UnknownName> {
        for name in &selection.stations {
            if self.stations_named(name).is_empty() {
                return Err(self.unknown_station(name));
            }
        }
        for name in &selection.datatypes {
            if self.specs_named(name).is_empty() {
                return Err(self.unknown_spec(name));
            }
        }
        Ok(())
    }

    /// Checks that theme and project of `search` denote something.
    ///
    /// # Errors
    ///
    /// The first name that does not.
    pub fn check_search(&self, search: &Search) -> Result<(), UnknownName> {
        type Names = fn(&Spec) -> (Option<&str>, Option<&str>);
        let check = |what, wanted: &Option<String>, has: fn(&Spec, &str) -> bool, names: Names| {
            let Some(wanted) = wanted else {
                return Ok(());
            };
            let folded = fold(wanted);
            if self.specs().any(|spec| has(spec, &folded)) {
                return Ok(());
            }
            let labels = || self.specs().filter_map(|spec| names(spec).0);
            let iris = self.specs().filter_map(|spec| names(spec).1);
            let shown = labels().map(str::to_owned).collect();
            let ends = iris.map(last_segment);
            let all = labels()
                .chain(ends)
                .map(|name| (name.to_owned(), name.to_owned()));
            Err(UnknownName::new(what, wanted, all).or_all(shown))
        };
        check("theme", &search.theme, Spec::has_theme, |spec| {
            (spec.theme(), spec.theme_iri())
        })?;
        check("project", &search.project, Spec::has_project, |spec| {
            (spec.project(), spec.project_iri())
        })
    }

    /// Names of stations and countries that are similar to `name`.
    #[must_use]
    pub fn stations_similar_to(&self, name: &str) -> Vec<String> {
        self.unknown_station(name).suggestions
    }

    /// Names, themes and projects of data types that are similar to `name`.
    #[must_use]
    pub fn specs_similar_to(&self, name: &str) -> Vec<String> {
        let names = self.specs().flat_map(|spec| {
            let own = [Some(spec.name()), spec.theme(), spec.project()];
            let own = own.into_iter().flatten();
            own.map(|name| (name.to_owned(), name.to_owned()))
                .collect::<Vec<_>>()
        });
        similar(name, names)
    }

    /// Names of stations, countries, data types and columns that are similar to a word of
    /// a search; none if one of them contains the word.
    #[must_use]
    pub fn words_similar_to(&self, word: &str) -> Vec<String> {
        if !self.stations_like(word).is_empty() || !self.specs_like(word).is_empty() {
            return Vec::new();
        }
        let stations = self.stations().flat_map(|station| {
            let row = station.row();
            [
                row.code.clone(),
                row.name.clone(),
                station.country().to_owned(),
            ]
        });
        let columns = self.specs().flat_map(|spec| spec.columns());
        let columns = columns
            .filter(|column| !column.regex)
            .map(|column| column.title.clone());
        similar(
            word,
            stations.chain(columns).map(|name| (name.clone(), name)),
        )
    }

    fn unknown_station(&self, name: &str) -> UnknownName {
        let names = self.stations().flat_map(|station| {
            let row = station.row();
            let shown = match row.name.as_str() {
                "" => row.code.clone(),
                name => format!("{} ({name})", row.code),
            };
            let country = station.country().to_owned();
            [
                (row.code.clone(), shown.clone()),
                (row.name.clone(), shown),
                (country.clone(), country),
            ]
        });
        UnknownName::new("station", name, names)
    }

    fn unknown_spec(&self, name: &str) -> UnknownName {
        let names = self.specs().flat_map(|spec| {
            let shown = spec.name().to_owned();
            [
                (shown.clone(), shown.clone()),
                (spec.label().to_owned(), shown),
            ]
        });
        UnknownName::new("data type", name, names)
    }

    /// The error for a variable that no table has.
    #[must_use]
    pub fn unknown_variable(&self, name: &str) -> UnknownName {
        let columns = self.specs().flat_map(|spec| spec.columns());
        let names = columns
            .filter(|column| !column.regex)
            .flat_map(|column| [Some(&column.title), column.value.as_ref()])
            .flatten()
            .map(|name| (name.clone(), name.clone()));
        UnknownName::new("table with a column or quantity", name, names)
    }

    /// Whether a column that a listed data type may have, or its quantity, contains
    /// `name`.
    #[must_use]
    pub fn has_variable(&self, name: &str) -> bool {
        let folded = fold(name);
        let mut columns = self.specs().flat_map(|spec| spec.columns());
        // A column that a pattern describes.
        let may_match = |pattern: &str| {
            let literal = pattern
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next();
            literal.is_some_and(|start| !start.is_empty() && folded.starts_with(&fold(start)))
        };
        columns.any(|column| {
            if column.regex && may_match(&column.title) {
                return true;
            }
            let names = [Some(&column.title), column.value.as_ref()];
            let mut names = names.into_iter().flatten();
            names.any(|own| fold(own).contains(&folded))
        })
    }
}
