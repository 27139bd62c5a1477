//! Translates Java regular expressions to the `regex` crate's syntax, as far as
//! datasets use them.
//!
//! Column patterns such as `^TS_\d{1,2}_\d{1,2}$` are written for Java. Most of
//! the syntax means the same in both, but some does not: in `regex`, `\d` matches
//! the digits of any script and `[a--b]` is a set difference; in Java, `a*+` is
//! possessive. The translation therefore accepts only syntax that is known to
//! agree, rewrites it where the spelling differs, and refuses everything else;
//! the portal's own CSV serves tables that need it. Java and `regex` also differ
//! in `.` and `$` at line breaks; callers never match a title that contains a
//! line break ([`LINE_BREAKS`]).

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// Whether a pattern may match a part of a title or must match the complete title.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    /// A part, as in the data service (`findFirstIn`).
    Part,
    /// The complete title, as on the landing page (`matches`).
    Complete,
}

/// Java's line breaks. A title that contains one must not be matched.
pub(super) const LINE_BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// Limit of the memory of one compiled pattern in bytes; the ontology's patterns
/// take a few KiB. The time to match a name grows with this size.
const SIZE_LIMIT: usize = 1 << 17;
/// Limit of the length of a pattern in bytes. A pattern of megabytes would take
/// minutes to compile.
const MAX_LEN: usize = 1000;

/// Compiles `pattern` for titles without line breaks.
///
/// # Errors
///
/// Why the pattern cannot be translated or compiled.
pub(super) fn compile(pattern: &str, extent: Extent) -> Result<Regex, String> {
    if pattern.len() > MAX_LEN {
        return Err(format!("it is longer than {MAX_LEN} bytes"));
    }
    let mut translated = translate(pattern)?;
    if extent == Extent::Complete {
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
            '\\' => escape(rest.next(), &mut out)?,
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

/// Translates the suffix of a quantifier: lazy ones agree; possessive and
/// repeated ones are refused.
fn quantified(rest: &mut Peekable<Chars>, out: &mut String) -> Result<(), String> {
    if rest.next_if_eq(&'?').is_some() {
        out.push('?');
    }
    match rest.peek() {
        Some('*' | '+' | '?' | '{') => Err("it has a possessive quantifier".to_owned()),
        _ => Ok(()),
    }
}

/// Translates the rest of `{2}`, `{2,}` or `{2,5}` after the opening brace.
fn counts(rest: &mut Peekable<Chars>, out: &mut String) -> Result<(), String> {
    let mut inside = String::new();
    while let Some(c) = rest.next_if(|&c| c.is_ascii_digit() || c == ',') {
        inside.push(c);
    }
    let digits = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_digit());
    let valid = match inside.split_once(',') {
        None => digits(&inside),
        Some((low, high)) => digits(low) && (high.is_empty() || digits(high)),
    };
    if !valid || rest.next() != Some('}') {
        return Err("it has braces that are no count".to_owned());
    }
    out.push_str(&inside);
    out.push('}');
    Ok(())
}

/// Translates the rest of a class after its opening bracket. Ranges and negation
/// agree; nested classes and set operators are refused.
fn class(rest: &mut Peekable<Chars>, out: &mut String) -> Result<(), String> {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut previous = '[';
    loop {
        let c = rest.next().ok_or("it has an unclosed class")?;
        match c {
            // Java treats a class that begins with `]` as unclosed.
            ']' if previous == '[' => return Err("it has an empty class".to_owned()),
            ']' => break,
            '[' => return Err("it has a class within a class".to_owned()),
            '&' | '-' | '~' if previous == c => {
                return Err("it has a set operator in a class".to_owned());
            }
            '\\' => escape(rest.next(), out)?,
            '-' => out.push('-'),
            literal => push_literal(literal, out),
        }
        previous = c;
    }
    out.push(']');
    Ok(())
}

/// Translates an escape sequence after its backslash. Java's predefined classes
/// contain ASCII only.
fn escape(c: Option<char>, out: &mut String) -> Result<(), String> {
    let translated = match c {
        Some('d') => "[0-9]",
        Some('D') => "[^0-9]",
        Some('w') => "[0-9A-Za-z_]",
        Some('W') => "[^0-9A-Za-z_]",
        Some('s') => r"[\x20\t\n\x0B\f\r]",
        Some('S') => r"[^\x20\t\n\x0B\f\r]",
        Some('t') => r"\t",
        Some(c) if c.is_ascii_punctuation() || c == ' ' => {
            push_literal(c, out);
            ""
        }
        Some(c) => return Err(format!("it has the escape \\{c}")),
        None => return Err("it ends in a backslash".to_owned()),
    };
    out.push_str(translated);
    Ok(())
}

/// Appends a literal character, escaped unless it is alphanumeric.
fn push_literal(c: char, out: &mut String) {
    if c.is_ascii_alphanumeric() || !c.is_ascii() {
        out.push(c);
    } else {
        let code = u32::from(c);
        write!(out, r"\x{{{code:x}}}").expect("writing to a String does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, title: &str, extent: Extent) -> bool {
        compile(pattern, extent).unwrap().is_match(title)
    }

    #[test]
    fn portal_patterns_match_as_in_java() {
        for (pattern, title, part, whole) in [
            (r"^Ta_1_\d\d?_1$", "Ta_1_10_1", true, true),
            (r"^Ta_1_\d\d?_1$", "Ta_1_100_1", false, false),
            (r"^D_SNOW(_\d{1,2})?$", "D_SNOW", true, true),
            // The only pattern of the ontology without an anchor at its start.
            (r"TS_\d{1,2}_\d{1,2}_\d{1,2}$", "TS_1_2_3", true, true),
            (r"TS_\d{1,2}_\d{1,2}_\d{1,2}$", "ATS_1_2_3", true, false),
            (r"SWC", "SWC_1", true, false),
            (r"a|ab", "ab", true, true),
            // In Java, `\d` matches ASCII digits only.
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
                matches(pattern, title, Extent::Complete),
                whole,
                "{pattern} {title}"
            );
        }
    }

    #[test]
    fn syntax_that_may_differ_is_refused() {
        for pattern in [
            r"(?i)a", r"(?=a)", r"(?<n>a)", r"(a)\1", r"a*+", r"a++", r"a?+", r"a{2}+", r"a**",
            r"\bA", r"\p{L}", r"\h", r"\Qa\E", r"\<a", "[a[b]]", "[a&&b]", "[+--]", "[a~~b]",
            "[]a]", "[a", r"a\", "a{,2}", "a{x}", "a{1", "(", ")", "*a", "a{2,1}", "[z-a]",
            r"\x41", "\\\u{e4}",
        ] {
            // Only `\<` is accepted: it is a literal in Java.
            let refused = compile(pattern, Extent::Part).is_err();
            assert_eq!(refused, pattern != r"\<a", "{pattern}");
        }
        assert!(matches(r"\<a", "<a", Extent::Complete));
    }

    #[test]
    fn patterns_that_compile_too_large_or_deep_are_refused() {
        let bomb = "(((a{1000}){1000}){1000})";
        assert!(compile(bomb, Extent::Part).is_err());
        let nested = "(".repeat(100_000);
        assert!(compile(&nested, Extent::Part).is_err());
    }

    /// Regression test: a response full of alternatives took a minute to compile.
    #[test]
    fn pattern_longer_than_the_limit_is_refused_before_parsing() {
        let branches = |count: usize| {
            let branches: Vec<String> = (0..count).map(|n| format!("a{n}b")).collect();
            branches.join("|")
        };
        let refused = compile(&branches(900_000), Extent::Part).unwrap_err();
        assert_eq!(refused, "it is longer than 1000 bytes");
        assert!(compile(&branches(150), Extent::Complete).is_ok());
    }
}
