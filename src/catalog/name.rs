//! File names in the tree, made of untrusted names: one safe path component each.
//!
//! A name is a stem and an ending that begins with a dot. Objects of the same stem
//! in a folder are distinguished by an id at the end of the stem. Endings are from a
//! small set (see [`super::Object::ending`]). A stem that itself ends with such an
//! ending or with `~` and an id would be ambiguous, so it always gets the id of its
//! object.

use twox_hash::XxHash3_64;

use icos_portal::ObjectId;

/// Maximum length of a stem in bytes. With `~`, an id and an ending, a name stays
/// below 255.
const MAX_STEM: usize = 190;
/// Maximum length of a component that is not a file name, in characters.
const MAX_COMPONENT: usize = 60;

/// The extension of `file_name` with its dot, both extensions of a compressed text;
/// empty if it has none that is safe to use.
pub(super) fn extension(file_name: &str) -> &str {
    let split = |name| -> Option<(&str, &str)> {
        let (stem, ext) = str::rsplit_once(name, '.')?;
        let is_safe =
            (1..=10).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_alphanumeric());
        is_safe.then_some((stem, ext))
    };
    let Some((mut stem, last)) = split(file_name) else {
        return "";
    };
    // `x.csv.gz` and `x.csv.zip` are compressed CSVs; the extension of `v1.0.gz` is
    // `.gz`. A `.zip` may have anything in it: that of `x.CO2.zip` is `.zip`.
    if let Some((before, inner)) = split(stem)
        && match last {
            "gz" | "bz2" | "xz" | "zst" => !inner.bytes().all(|b| b.is_ascii_digit()),
            "zip" | "ZIP" => matches!(&*inner.to_ascii_lowercase(), "csv" | "tsv" | "txt"),
            _ => false,
        }
    {
        stem = before;
    }
    &file_name[stem.len()..]
}

/// The part before the ending of an object's names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stem {
    /// One safe path component.
    pub(super) text: String,
    /// Whether it always needs the id of its object.
    pub(super) needs_id: bool,
}

impl Stem {
    /// The stem of an object called `file_name`.
    pub(super) fn of(file_name: &str) -> Self {
        let stem = &file_name[..file_name.len() - extension(file_name).len()];
        let mut text: String = safe(stem).collect();
        text.truncate(text.floor_char_boundary(MAX_STEM));
        let needs_id = text.chars().all(|c| c == '.')
            || text.ends_with(".original")
            || text.ends_with(".contents")
            || text.ends_with(".good")
            // Names of other entries.
            || matches!(&*text, "datatype" | "collection")
            || id_of_stem(&text).is_some();
        Self { text, needs_id }
    }

    /// The hash by which the database finds it.
    pub(super) fn key(&self) -> i64 {
        key(&self.text)
    }

    /// The stem with the id of its object.
    pub(super) fn with(&self, id: ObjectId) -> String {
        format!("{}~{id}", self.text)
    }
}

/// The hash by which the database finds `text`.
pub(super) fn key(text: &str) -> i64 {
    XxHash3_64::oneshot(text.as_bytes()).cast_signed()
}

/// The id at the end of a stem that has one.
pub(super) fn id_of_stem(stem: &str) -> Option<ObjectId> {
    let (_, id) = stem.rsplit_once('~')?;
    (id.len() == ObjectId::SYMBOLS).then(|| id.parse().ok())?
}

/// The possible stems of a file name: all of it, or the part before one of the last
/// three dots. The rest of the name is its ending.
pub fn stems(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.rmatch_indices('.').map(|(at, _)| at).take(3);
    std::iter::once(name.len())
        .chain(dots)
        .map(|at| &name[..at])
}

/// Replaces characters that end a path component, or that make a name look like
/// another one.
fn safe(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| match c {
        '/' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '_',
        c if c.is_control() => '_',
        c => c,
    })
}

/// `text` as the name of a link: one safe path component, longer than that of a folder.
#[must_use]
pub fn link_name(text: &str) -> String {
    let mut name: String = safe(text.trim()).collect();
    name.truncate(name.floor_char_boundary(MAX_STEM));
    if name.chars().all(|c| c == '.') {
        name.push('_');
    }
    name
}

/// `text` as one safe path component.
pub(super) fn component(text: &str) -> String {
    let mut text: String = safe(text).take(MAX_COMPONENT).collect();
    if text.chars().all(|c| c == '.') {
        text.push('_');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_is_empty_unless_it_is_safe() {
        for (name, ending) in [
            ("a.zip", ".zip"),
            ("L2-2024.1_HTM.CO2.csv.gz", ".csv.gz"),
            ("v1.0.gz", ".gz"),
            ("a.csv.zip", ".csv.zip"),
            ("a.CSV.ZIP", ".CSV.ZIP"),
            ("ICOS_ATC_HTM_150.0_CTS.CO2.zip", ".zip"),
            ("README", ""),
            ("a.", ""),
            ("evil./../../etc", ""),
            ("x.pdf\n", ""),
            ("x.verylongextension", ""),
        ] {
            assert_eq!(extension(name), ending, "{name:?}");
        }
    }

    #[test]
    fn stems_are_safe_and_ambiguous_ones_need_an_id() {
        let id = ObjectId::of_content(b"");
        for (name, text, needs_id) in [
            ("a b.csv", "a b", false),
            ("../../etc/passwd", "../../etc/passwd", false),
            ("", "", true),
            (".", ".", true),
            ("..", "..", true),
            ("...csv", "..", true),
            ("x.original.csv", "x.original", true),
            ("x.good.csv", "x.good", true),
            // Regression: a name of as many characters as an id was marked.
            (
                "ICOSETC_SE-Htm_FLUXES_L2.zip",
                "ICOSETC_SE-Htm_FLUXES_L2",
                false,
            ),
            ("a\0b\u{202e}c\n", "a_b_c_", false),
        ] {
            let stem = Stem::of(name);
            assert_eq!(stem.text, text.replace('/', "_"), "{name:?}");
            assert_eq!(stem.needs_id, needs_id, "{name:?}");
        }
        assert!(Stem::of(&format!("a~{id}.csv")).needs_id);
        assert!(Stem::of(&"\u{e9}".repeat(300)).text.len() <= MAX_STEM);
    }
}
