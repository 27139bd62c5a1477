//! Compares names as people type them: without regard to case, accents and the kind of
//! separator; knows the English names of countries, and suggests similar names.

use std::fmt;

/// Accented Latin letters, by the letters that people type in their place.
const PLAIN: [(&str, &str); 33] = [
    (
        "a",
        "\u{e0}\u{e1}\u{e2}\u{e3}\u{e4}\u{e5}\u{101}\u{103}\u{105}",
    ),
    ("ae", "\u{e6}"),
    ("c", "\u{e7}\u{107}\u{109}\u{10b}\u{10d}"),
    ("d", "\u{10f}\u{111}\u{f0}"),
    (
        "e",
        "\u{e8}\u{e9}\u{ea}\u{eb}\u{113}\u{115}\u{117}\u{119}\u{11b}",
    ),
    ("g", "\u{11d}\u{11f}\u{121}\u{123}"),
    ("h", "\u{125}\u{127}"),
    (
        "i",
        "\u{ec}\u{ed}\u{ee}\u{ef}\u{129}\u{12b}\u{12d}\u{12f}\u{131}",
    ),
    ("j", "\u{135}"),
    ("k", "\u{137}"),
    ("l", "\u{13a}\u{13c}\u{13e}\u{142}"),
    ("n", "\u{f1}\u{144}\u{146}\u{148}"),
    (
        "o",
        "\u{f2}\u{f3}\u{f4}\u{f5}\u{f6}\u{f8}\u{14d}\u{14f}\u{151}",
    ),
    ("oe", "\u{153}"),
    ("r", "\u{155}\u{157}\u{159}"),
    ("s", "\u{15b}\u{15d}\u{15f}\u{161}\u{219}"),
    ("ss", "\u{df}"),
    ("t", "\u{163}\u{165}\u{167}\u{21b}"),
    ("th", "\u{fe}"),
    (
        "u",
        "\u{f9}\u{fa}\u{fb}\u{fc}\u{169}\u{16b}\u{16d}\u{16f}\u{171}\u{173}",
    ),
    ("w", "\u{175}"),
    ("y", "\u{fd}\u{ff}\u{177}"),
    ("z", "\u{17a}\u{17c}\u{17e}"),
    // Subscripts and superscripts: CO2, m2.
    ("0", "\u{2080}\u{2070}"),
    ("1", "\u{2081}\u{b9}"),
    ("2", "\u{2082}\u{b2}"),
    ("3", "\u{2083}\u{b3}"),
    ("4", "\u{2084}\u{2074}"),
    ("'", "\u{2019}\u{2018}"),
    ("-", "\u{2010}\u{2011}\u{2013}\u{2014}"),
    ("u", "\u{b5}\u{3bc}"),
    ("\"", "\u{201c}\u{201d}"),
    // Combining accents.
    (
        "",
        "\u{300}\u{301}\u{302}\u{303}\u{304}\u{306}\u{307}\u{308}\u{30a}\u{30b}\u{30c}\u{327}\u{328}",
    ),
];

/// Codes of ISO 3166-1 with the English names of the countries, separated by `|`.
const COUNTRIES: &str = include_str!("countries.txt");

/// Similarity from which a name is suggested, by Jaro and Winkler.
const SIMILAR: f64 = 0.85;
/// Maximum number of suggestions.
const MAX_SUGGESTIONS: usize = 3;

/// Returns `text` in lower case and without accents.
#[must_use]
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for symbol in text.chars().flat_map(char::to_lowercase) {
        if symbol.is_ascii() {
            folded.push(symbol);
            continue;
        }
        match PLAIN.iter().find(|(_, accented)| accented.contains(symbol)) {
            Some((plain, _)) => folded.push_str(plain),
            None => folded.push(symbol),
        }
    }
    folded.trim().to_owned()
}

/// Returns the English names of the country with this code.
pub fn country_names(code: &str) -> impl Iterator<Item = &'static str> {
    let line = COUNTRIES.lines().find_map(|line| {
        let (own, names) = line.split_once(' ')?;
        own.eq_ignore_ascii_case(code).then_some(names)
    });
    line.into_iter().flat_map(|names| names.split('|'))
}

/// A name that nothing in the repository has.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct UnknownName {
    /// What the name should denote, e.g. `station`.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// Similar names, or all if they are few.
    pub suggestions: Vec<String>,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name) = (self.what, &self.name);
        write!(f, "the repository has no {what} {name:?}")?;
        f.write_str(&did_you_mean(&self.suggestions))
    }
}

impl UnknownName {
    /// Creates the error with the most similar of `names`. Each is a pair of a name to
    /// compare, and the text to suggest.
    pub(crate) fn new(
        what: &'static str,
        name: &str,
        names: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self {
            what,
            name: name.to_owned(),
            suggestions: similar(name, names),
        }
    }

    /// Suggests `all` if no name is similar and they are few.
    #[must_use]
    pub(super) fn or_all(mut self, mut all: Vec<String>) -> Self {
        all.sort();
        all.dedup();
        if self.suggestions.is_empty() && all.len() <= 8 {
            self.suggestions = all;
        }
        self
    }
}

/// The most similar of `names` to `name`. Each is a pair of a name to compare, and the
/// text to suggest.
pub(crate) fn similar(
    name: &str,
    names: impl IntoIterator<Item = (String, String)>,
) -> Vec<String> {
    let folded = fold(name);
    let mut similar: Vec<(f64, String)> = names
        .into_iter()
        .map(|(candidate, shown)| (likeness(&folded, &fold(&candidate)), shown))
        .filter(|(likeness, _)| *likeness > SIMILAR)
        .collect();
    similar.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.cmp(y)));
    let mut suggestions: Vec<String> = Vec::new();
    for (_, shown) in similar {
        if !suggestions.contains(&shown) {
            suggestions.push(shown);
        }
    }
    suggestions.truncate(MAX_SUGGESTIONS);
    suggestions
}

/// `suggestions` as the end of a message; empty if there are none.
pub(crate) fn did_you_mean(suggestions: &[String]) -> String {
    match suggestions {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        [first @ .., last] => format!("; did you mean {} or {last}?", first.join(", ")),
    }
}

/// The similarity of a typed name to another one, or to one of its words, from 0 to 1.
fn likeness(typed: &str, name: &str) -> f64 {
    let words = name.split([' ', '-', '_']).filter(|word| word.len() > 3);
    let by_letters = (std::iter::once(name).chain(words))
        .map(|word| strsim::jaro_winkler(typed, word))
        .fold(0.0, f64::max);
    // A part of a name, such as co2 of atcCo2L2DataObject; or a short name with one wrong
    // letter, such as c02, which the measure above takes for too different.
    let is_part = typed.len() >= 3 && name.contains(typed);
    let is_short = (3..=4).contains(&typed.len());
    let is_near = is_short && strsim::osa_distance(typed, name) == 1;
    if is_part || is_near {
        by_letters.max(SIMILAR + 0.01)
    } else {
        by_letters
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accents_and_case_are_folded() {
        for (text, folded) in [
            ("\u{d6}sterg\u{e5}rnsholm", "ostergarnsholm"),
            ("O\u{308}stra", "ostra"),
            (" Stra\u{df}e ", "strasse"),
            ("S\u{f8}r\u{f8} \u{c6}ON", "soro aeon"),
            ("CO\u{2082}", "co2"),
            ("SE-Htm", "se-htm"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }

    #[test]
    fn each_country_has_a_code_of_two_letters_and_a_name() {
        let lines: Vec<_> = COUNTRIES.lines().collect();
        assert_eq!(lines.len(), 249);
        assert!(lines.is_sorted());
        for line in lines {
            let (code, names) = line.split_once(' ').unwrap();
            assert!(code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()));
            assert!(names.split('|').all(|name| name.len() > 1), "{line}");
            assert_eq!(names, fold_case_only(names), "{line}");
        }
        assert!(country_names("se").eq(["Sweden"]));
        assert_eq!(country_names("XX").count(), 0);
    }

    /// The file is ASCII, so that folding changes case only.
    fn fold_case_only(names: &str) -> String {
        assert_eq!(fold(names), names.to_lowercase());
        names.to_owned()
    }

    #[test]
    fn similar_names_are_suggested_best_first() {
        let names = ["Atmospheric data", "Ocean data", "Hyltemossa"];
        let names = || names.map(|name| (name.to_owned(), name.to_owned()));
        let error = UnknownName::new("theme", "Hyltemosa", names());
        assert_eq!(
            error.to_string(),
            "the repository has no theme \"Hyltemosa\"; did you mean Hyltemossa?"
        );
        let error = UnknownName::new("theme", "foo", names());
        assert_eq!(error.to_string(), "the repository has no theme \"foo\"");
        let error = error.or_all(vec!["b".to_owned(), "a".to_owned()]);
        assert_eq!(error.suggestions, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing_more(text in "\\PC{0,20}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }
    }
}
