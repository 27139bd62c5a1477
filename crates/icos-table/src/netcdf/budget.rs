//! How long a header may become: limits of its texts, and the space that is reserved
//! for it.
//!
//! The reserved space depends on the number of columns only. Texts are cut off at these
//! limits, so that the longest header fits; `tests` tries it.

/// Longest name of a variable in bytes, without a number that makes it unique.
pub(super) const NAME: usize = 80;
/// Longest text of an attribute of a variable in bytes.
pub(super) const TEXT: usize = 160;
/// Longest unit in bytes.
pub(super) const UNIT: usize = 64;
/// The greatest number of flags in `flag_values`.
pub(super) const FLAGS: usize = 12;
/// Longest value of an attribute of the file in bytes.
pub(super) const FACT: usize = 320;
/// Longest value of `citation`, which has all authors.
pub(super) const LONG_FACT: usize = 4096;
/// The greatest number of attributes of the file.
pub(super) const FACTS: usize = 24;

/// For all that does not belong to a column.
const FIXED: u64 = 16 << 10;
/// For a variable and its attributes.
const VARIABLE: u64 = 2 << 10;

/// The space for the header of a file with this many columns.
pub(super) fn header_len(columns: usize) -> u64 {
    FIXED + VARIABLE * columns as u64
}

/// `text`, cut off at a limit in bytes, which an ellipsis shows.
pub(super) fn cut(text: &str, limit: usize) -> String {
    const MORE: &str = "...";
    // A NUL would end the text for programs in C.
    let text = text.replace('\0', " ");
    if text.len() <= limit {
        return text;
    }
    let end = text.floor_char_boundary(limit - MORE.len());
    format!("{}{MORE}", &text[..end])
}
