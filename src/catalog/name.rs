//! Names made of what strangers called their files: one safe path component
//! each.
//!
//! A name is a stem and an ending that begins with a dot. Endings are drawn
//! from a small set (see [`super::Object::ending`]), so a stem that ends as if
//! it had one, or as if it had been told apart by an id already, could be taken
//! for another's: such a stem always gets its object's id.

use twox_hash::XxHash3_64;

use icos_portal::ObjectId;

/// The longest stem in bytes: with an id, an ending and `~` a name stays below
/// 255.
const LONGEST: usize = 190;

/// The extension of `file_name` with its dot, or of a compressed file both;
/// empty if it has none that is safe to use.
pub(super) fn extension(file_name: &str) -> &str {
    let plain =
        |ext: &str| (1..=10).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_alphanumeric());
    let Some((stem, last)) = file_name.rsplit_once('.').filter(|(_, ext)| plain(ext)) else {
        return "";
    };
    // `x.csv.gz` is a compressed CSV, and says so.
    if matches!(last, "gz" | "bz2" | "xz" | "zst")
        && let Some((stem, inner)) = stem.rsplit_once('.')
        && plain(inner)
        && !inner.bytes().all(|b| b.is_ascii_digit())
    {
        return &file_name[stem.len()..];
    }
    &file_name[stem.len()..]
}

/// What stands before the ending in an object's names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stem {
    /// One safe path component, but for an ending it may list.
    pub(super) text: String,
    /// Whether it is always told apart by its object's id.
    pub(super) marked: bool,
}

impl Stem {
    /// The stem of an object called `file_name`.
    pub(super) fn of(file_name: &str) -> Self {
        let stem = &file_name[..file_name.len() - extension(file_name).len()];
        let mut text: String = stem
            .chars()
            .map(|c| if is_safe(c) { c } else { '_' })
            .collect();
        if text.len() > LONGEST {
            let cut = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at));
            text.truncate(cut.unwrap_or(0));
        }
        let marked = text.chars().all(|c| c == '.')
            || text.ends_with(".original")
            || text.ends_with(".contents")
            // Other entries may have these names.
            || matches!(&*text, "datatype" | "collection")
            || text.parse::<ObjectId>().is_ok()
            || marked_id(&text).is_some();
        Self { text, marked }
    }

    /// The number that stems are found by.
    pub(super) fn key(&self) -> i64 {
        key(&self.text)
    }

    /// The stem with the id of its object.
    pub(super) fn with(&self, id: ObjectId) -> String {
        format!("{}~{id}", self.text)
    }
}

/// The number that the stem `text` is found by.
pub(super) fn key(text: &str) -> i64 {
    XxHash3_64::oneshot(text.as_bytes()).cast_signed()
}

/// The id at the end of a stem that was told apart by it.
pub(super) fn marked_id(stem: &str) -> Option<ObjectId> {
    let (_, id) = stem.rsplit_once('~')?;
    (id.len() == ObjectId::SYMBOLS).then(|| id.parse().ok())?
}

/// The stems that a name may have, the ending being the rest: nothing, or all
/// from one of its last three dots on.
pub(super) fn stems(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.rmatch_indices('.').map(|(at, _)| at).take(3);
    std::iter::once(name.len())
        .chain(dots)
        .map(|at| &name[..at])
}

/// Neither ends nor disturbs a name, nor makes it look like another.
fn is_safe(c: char) -> bool {
    !(c == '/'
        || c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}'))
}

/// `text` as one safe path component.
pub(super) fn component(text: &str) -> String {
    let Stem { mut text, .. } = Stem {
        text: text
            .chars()
            .map(|c| if is_safe(c) { c } else { '_' })
            .take(60)
            .collect(),
        marked: false,
    };
    if text.chars().all(|c| c == '.') {
        text.push('_');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_kept_where_they_are_safe() {
        for (name, ending) in [
            ("a.zip", ".zip"),
            ("L2-2024.1_HTM.CO2.csv.gz", ".csv.gz"),
            ("v1.0.gz", ".gz"),
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
    fn stems_are_safe_and_dangerous_ones_are_marked() {
        let id = ObjectId::of_content(b"");
        for (name, text, marked) in [
            ("a b.csv", "a b", false),
            ("../../etc/passwd", "../../etc/passwd", false),
            ("", "", true),
            (".", ".", true),
            ("..", "..", true),
            ("...csv", "..", true),
            ("x.original.csv", "x.original", true),
            ("a\0b\u{202e}c\n", "a_b_c_", false),
        ] {
            let stem = Stem::of(name);
            assert_eq!(stem.text, text.replace('/', "_"), "{name:?}");
            assert_eq!(stem.marked, marked, "{name:?}");
        }
        assert!(Stem::of(&format!("a~{id}.csv")).marked);
        assert!(Stem::of(&"\u{e9}".repeat(300)).text.len() <= LONGEST);
    }
}
