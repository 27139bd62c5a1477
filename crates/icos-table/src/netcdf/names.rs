//! Names of variables: letters, digits and underscores, as CF requires.

use std::collections::HashSet;

use super::budget;

/// Distinct names.
#[derive(Debug, Default)]
pub(super) struct VariableNames(HashSet<String>);

impl VariableNames {
    /// A name like `wanted` that was not given before.
    pub(super) fn give(&mut self, wanted: &str) -> String {
        let wanted = valid(wanted);
        let mut name = wanted.clone();
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}_{number}");
        }
        name
    }

    /// The same, or with `prefix` if that name was given.
    pub(super) fn give_or_prefix(&mut self, wanted: &str, prefix: &str) -> String {
        if self.0.contains(wanted) {
            self.give(&format!("{prefix}{wanted}"))
        } else {
            self.give(wanted)
        }
    }
}

/// `label` with an underscore for each run of other characters, beginning with a letter.
fn valid(label: &str) -> String {
    let mut name = String::new();
    for character in label.chars() {
        if character.is_ascii_alphanumeric() {
            name.push(character);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        if name.len() >= budget::NAME - 1 {
            break;
        }
    }
    let name = name.trim_end_matches('_');
    match name.chars().next() {
        None => "column".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("v{name}"),
        Some(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_in_cf_and_distinct() {
        let mut names = VariableNames::default();
        for (label, name) in [
            ("co2", "co2"),
            ("fCO2 [uatm]", "fCO2_uatm"),
            ("fCO2 (uatm)", "fCO2_uatm_2"),
            ("TS_1", "TS_1"),
            ("14C", "v14C"),
            ("_qc", "qc"),
            ("", "column"),
            ("\u{b5}\u{b0}", "column_2"),
        ] {
            assert_eq!(names.give(label), name, "{label:?}");
        }
        assert_eq!(names.give_or_prefix("co2", "station_"), "station_co2");
        assert_eq!(names.give_or_prefix("altitude", "station_"), "altitude");
        let long = names.give(&"a b".repeat(200));
        assert!(long.len() <= budget::NAME, "{}", long.len());
    }
}
