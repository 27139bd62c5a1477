//! The part of Java's regular expressions that datasets use, for the `regex`
//! crate.
//!
//! Column patterns such as `^TS_\d{1,2}_\d{1,2}$` are Java's. Most of them mean
//! the same here, some only seem to (`\d` matches any script's digits here,
//! `a*+` is possessive there, `[a--b]` is a difference here). So this is a list
//! of what is known to agree, translated where spelled otherwise; all else is
//! refused, and a table that needs it is left to the portal. Two more
//! differences, `.` and `$` at line breaks, are kept out by never matching a
//! title that contains one.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// Whether a pattern may match a part of a title or must match all of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    /// As the data service does (`findFirstIn`).
    Part,
    /// As the landing page does (`matches`).
    Whole,
}

/// Line breaks to Java: a title that contains one is not to be matched.
pub(super) const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// Memory for one compiled pattern, far above what a column's name needs: those
/// of the ontology take a few KiB. To try a name takes as long as this is large.
const SIZE_LIMIT: usize = 1 << 17;
/// Bytes of a pattern, likewise. One of megabytes takes minutes to compile.
const LONGEST: usize = 1000;

/// Compiles `pattern` for titles without line breaks.
///
/// # Errors
///
/// What stands in the way.
pub(super) fn compile(pattern: &str, extent: Extent) -> Result<Regex, String> {
    if pattern.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let mut translated = translate(pattern)?;
    if extent == Extent::Whole {
        translated = format!(r"\A(?:{translated})\z");
    }
    RegexBuilder::new(&translated)
        .size_limit(SIZE_LIMIT)
        .nest_limit(50)
        .build()
        .map_err(|e| match e {
            regex::Error::Syntax(_) => "it is not well formed".to_owned(),
            other => other.to_string(),
        })
}

fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.push_str(&escape(rest.next())?),
            '[' => class(&mut rest, &mut out)?,
            '(' => {
                out.push('(');
                if rest.next_if_eq(&'?').is_some() {
                    if rest.next() != Some(':') {
                        return Err("it has a group of a special kind".to_owned());
                    }
                    out.push_str("?:");
                }
            }
            '*' | '+' | '?' => {
                out.push(c);
                quantified(&mut rest, &mut out)?;
            }
            '{' => {
                out.push('{');
                counts(&mut rest, &mut out)?;
                quantified(&mut rest, &mut out)?;
            }
            '^' | '$' | '.' | '|' | ')' => out.push(c),
            literal => push_literal(literal, &mut out),
        }
    }
    Ok(out)
}

/// After a quantifier: lazy agrees, possessive and repeated ones do not.
fn quantified(rest: &mut Peekable<Chars>, out: &mut String) -> Result<(), String> {
    if rest.next_if_eq(&'?').is_some() {
        out.push('?');
    }
    match rest.peek() {
        Some('*' | '+' | '?' | '{') => Err("it has a possessive quantifier".to_owned()),
        _ => Ok(()),
    }
}

/// The inside of `{2}`, `{2,}` or `{2,5}`, and the closing brace.
fn counts(rest: &mut Peekable<Chars>, out: &mut String) -> Result<(), String> {
    let mut inside = String::new();
    while let Some(c) = rest.next_if(|&c| c.is_ascii_digit() || c == ',') {
        inside.push(c);
    }
    let digits = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_digit());
    let fine = match inside.split_once(',') {
        None => digits(&inside),
        Some((low, high)) => digits(low) && (high.is_empty() || digits(high)),
    };
    if !fine || rest.next() != Some('}') {
        return Err("it has braces that are no count".to_owned());
    }
    out.push_str(&inside);
    out.push('}');
    Ok(())
}

/// The inside of a class and its closing bracket. Ranges and negation agree;
/// nested classes and set operators do not.
fn class(rest: &mut Peekable<Chars>, out: &mut String) -> Result<(), String> {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut previous = '[';
    loop {
        let c = rest.next().ok_or("it has an unclosed class")?;
        match c {
            // Java takes a class that begins with `]` as unclosed.
            ']' if previous == '[' => return Err("it has an empty class".to_owned()),
            ']' => break,
            '[' => return Err("it has a class within a class".to_owned()),
            '&' | '-' | '~' if previous == c => {
                return Err("it has a set operator in a class".to_owned());
            }
            '\\' => out.push_str(&escape(rest.next())?),
            '-' => out.push('-'),
            literal => push_literal(literal, out),
        }
        previous = c;
    }
    out.push(']');
    Ok(())
}

/// What follows a backslash. Java's classes are of ASCII.
fn escape(c: Option<char>) -> Result<String, String> {
    Ok(match c {
        Some('d') => "[0-9]".to_owned(),
        Some('D') => "[^0-9]".to_owned(),
        Some('w') => "[0-9A-Za-z_]".to_owned(),
        Some('W') => "[^0-9A-Za-z_]".to_owned(),
        Some('s') => r"[\x20\t\n\x0B\f\r]".to_owned(),
        Some('S') => r"[^\x20\t\n\x0B\f\r]".to_owned(),
        Some('t') => r"\t".to_owned(),
        Some(c) if c.is_ascii_punctuation() || c == ' ' => {
            let mut literal = String::new();
            push_literal(c, &mut literal);
            literal
        }
        Some(c) => return Err(format!("it has the escape \\{c}")),
        None => return Err("it ends in a backslash".to_owned()),
    })
}

/// A character that stands for itself, whatever its meaning here.
fn push_literal(c: char, out: &mut String) {
    if c.is_ascii_alphanumeric() || !c.is_ascii() {
        out.push(c);
    } else {
        let code = u32::from(c);
        write!(out, r"\x{{{code:x}}}").expect("a String takes all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, title: &str, extent: Extent) -> bool {
        compile(pattern, extent).unwrap().is_match(title)
    }

    #[test]
    fn the_portals_own_patterns_match_as_in_java() {
        for (pattern, title, part, whole) in [
            (r"^Ta_1_\d\d?_1$", "Ta_1_10_1", true, true),
            (r"^Ta_1_\d\d?_1$", "Ta_1_100_1", false, false),
            (r"^D_SNOW(_\d{1,2})?$", "D_SNOW", true, true),
            // The one pattern of the ontology that is not anchored.
            (r"TS_\d{1,2}_\d{1,2}_\d{1,2}$", "TS_1_2_3", true, true),
            (r"TS_\d{1,2}_\d{1,2}_\d{1,2}$", "ATS_1_2_3", true, false),
            (r"SWC", "SWC_1", true, false),
            (r"a|ab", "ab", true, true),
            // Digits of other scripts are none to Java.
            (r"^\d$", "\u{663}", false, false),
            (r"^\w+$", "\u{e4}", false, false),
            (r"^[^\d]$", "\u{663}", true, true),
            (r"^Temp \[.C\]$", "Temp [\u{b0}C]", true, true),
            (r"a b#c", "a b#c", true, true),
            (r"^\D\W\s\S\t$", "x- y\t", true, true),
            (r"\D|\W", "7", false, false),
            (r"(?:ab)+?b*", "abab", true, true),
            (r"^[a-c\-x]+$", "a-x", true, true),
            ("", "anything", true, false),
        ] {
            assert_eq!(
                matches(pattern, title, Extent::Part),
                part,
                "{pattern} {title}"
            );
            assert_eq!(
                matches(pattern, title, Extent::Whole),
                whole,
                "{pattern} {title}"
            );
        }
    }

    #[test]
    fn what_may_differ_is_refused() {
        for pattern in [
            r"(?i)a", r"(?=a)", r"(?<n>a)", r"(a)\1", r"a*+", r"a++", r"a?+", r"a{2}+", r"a**",
            r"\bA", r"\p{L}", r"\h", r"\Qa\E", r"\<a", "[a[b]]", "[a&&b]", "[+--]", "[a~~b]",
            "[]a]", "[a", r"a\", "a{,2}", "a{x}", "a{1", "(", ")", "*a", "a{2,1}", "[z-a]",
            r"\x41", "\\\u{e4}",
        ] {
            // `\<` is a literal to Java, as to us: the one that is fine.
            let refused = compile(pattern, Extent::Part).is_err();
            assert_eq!(refused, pattern != r"\<a", "{pattern}");
        }
        assert!(matches(r"\<a", "<a", Extent::Whole));
    }

    #[test]
    fn a_hostile_pattern_is_refused_for_its_size() {
        let bomb = "(((a{1000}){1000}){1000})";
        assert!(compile(bomb, Extent::Part).is_err());
        let nested = "(".repeat(100_000);
        assert!(compile(&nested, Extent::Part).is_err());
    }

    /// To compile an answer's worth of alternatives took a minute: they fit.
    #[test]
    fn a_pattern_longer_than_any_columns_name_is_refused_unread() {
        let branches = |count: usize| {
            let branches: Vec<String> = (0..count).map(|n| format!("a{n}b")).collect();
            branches.join("|")
        };
        let refused = compile(&branches(900_000), Extent::Part).unwrap_err();
        assert_eq!(refused, "it is longer than 1000 bytes");
        assert!(compile(&branches(150), Extent::Whole).is_ok());
    }
}
