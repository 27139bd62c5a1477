//! Datasets: which columns tables of a kind may have, and which of them a
//! table's actual column names are.
//!
//! Matched as the data service does when it ingests and reads tables
//! (`ColumnsMeta.scala`, `TimeSeriesToBinTableConverter.scala`): a title
//! verbatim, else the columns whose title is a regular expression, which need
//! only match a part. What nothing fits was not ingested. Without actual names
//! the table has the mandatory verbatim columns.
//!
//! The landing page (`VarMetaLookup.scala` of the meta service) matches
//! expressions against the whole title instead, so its `columns` can differ;
//! [`Dataset::disagreements`] tells.
//!
//! The service takes definitions in the order that its query happened to give.
//! Where that order matters for a format, this says [`TableError::Ambiguous`]
//! rather than guess.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::Regex;

use super::java_regex::{self, Extent};
use super::{Column, TableError, ValueFormat};

/// How a dataset's column names the columns of its tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Title {
    /// The table's column has this very name.
    Verbatim,
    /// A Java regular expression that matches a part of the name.
    Pattern,
}

/// Whether every table of the dataset has a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// It does.
    Mandatory,
    /// Only some have it.
    Optional,
}

/// A column of a dataset's definition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatasetColumn {
    /// What is known of it; its label is the title.
    pub column: Column,
    /// How the title is meant (`isRegexColumn`).
    pub title: Title,
    /// Whether it may be missing (`isOptionalColumn`).
    pub presence: Presence,
}

/// A name whose format the landing page tells otherwise than the data service
/// has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disagreement {
    /// The table's column.
    pub label: String,
    /// Its format as ingested, if it was.
    pub ingested: Option<ValueFormat>,
    /// Its format on the landing page, if it is there.
    pub landing: Option<ValueFormat>,
}

/// The columns that the tables of a kind may have.
#[derive(Debug)]
pub struct Dataset {
    columns: Vec<DatasetColumn>,
    verbatim: HashMap<String, Fit>,
    patterns: Vec<Pattern>,
}

/// The first definition of a verbatim title, and one of another format.
#[derive(Debug)]
struct Fit {
    first: usize,
    clash: Option<usize>,
}

/// A pattern, compiled once a name gets as far as needing it; or why it cannot
/// be.
#[derive(Debug)]
struct Pattern {
    column: usize,
    part: OnceLock<Result<Regex, String>>,
    whole: OnceLock<Result<Regex, String>>,
}

/// Names times patterns: what strangers can make us work. A table has hundreds
/// of columns, a dataset some dozen patterns.
const MOST_TRIALS: usize = 100_000;

impl Dataset {
    /// A dataset of the columns given, in any order.
    #[must_use]
    pub fn new(columns: Vec<DatasetColumn>) -> Self {
        let mut verbatim: HashMap<String, Fit> = HashMap::new();
        let mut patterns = Vec::new();
        for (index, definition) in columns.iter().enumerate() {
            let Column { label, format, .. } = &definition.column;
            match definition.title {
                Title::Verbatim => {
                    let fit = verbatim.entry(label.clone()).or_insert(Fit {
                        first: index,
                        clash: None,
                    });
                    if columns[fit.first].column.format != *format {
                        fit.clash = Some(index);
                    }
                }
                Title::Pattern => patterns.push(Pattern {
                    column: index,
                    part: OnceLock::new(),
                    whole: OnceLock::new(),
                }),
            }
        }
        Dataset {
            columns,
            verbatim,
            patterns,
        }
    }

    /// The definitions.
    #[must_use]
    pub fn columns(&self) -> &[DatasetColumn] {
        &self.columns
    }

    /// The ingested columns of a table with these column names
    /// (`hasActualColumnNames`), in their order, repeats kept: the order of
    /// the CSV.
    ///
    /// # Errors
    ///
    /// [`TableError::Ambiguous`], [`TableError::UnsupportedRegex`] or
    /// [`TableError::LineBreakInTitle`] if a name cannot be matched for sure.
    pub fn ingested<S: AsRef<str>>(&self, actual: &[S]) -> Result<Vec<Column>, TableError> {
        self.check_trials(actual.len())?;
        let mut columns = Vec::new();
        for title in actual {
            if let Some(definition) = self.lookup(title.as_ref(), Extent::Part)? {
                columns.push(Column {
                    label: title.as_ref().to_owned(),
                    ..definition.column.clone()
                });
            }
        }
        Ok(columns)
    }

    /// The columns of a table whose actual names are not known: the mandatory
    /// verbatim ones. Their order is not that of the CSV, which only the
    /// portal's header shows; see
    /// [`Schema::ordered_by_header`](super::Schema::ordered_by_header).
    ///
    /// # Errors
    ///
    /// [`TableError::Ambiguous`] if a title is defined twice, differently.
    pub fn mandatory(&self) -> Result<Vec<Column>, TableError> {
        let mut columns = Vec::new();
        for definition in &self.columns {
            if (definition.title, definition.presence) == (Title::Verbatim, Presence::Mandatory) {
                self.lookup(&definition.column.label, Extent::Part)?;
                columns.push(definition.column.clone());
            }
        }
        Ok(columns)
    }

    /// The names that the landing page's JSON tells otherwise than they were
    /// ingested.
    ///
    /// # Errors
    ///
    /// As [`Dataset::ingested`].
    pub fn disagreements<S: AsRef<str>>(
        &self,
        actual: &[S],
    ) -> Result<Vec<Disagreement>, TableError> {
        self.check_trials(actual.len())?;
        let mut found = Vec::new();
        for title in actual {
            let title = title.as_ref();
            let format = |extent| {
                let definition = self.lookup(title, extent)?;
                Ok::<_, TableError>(definition.map(|d| d.column.format))
            };
            let (ingested, landing) = (format(Extent::Part)?, format(Extent::Whole)?);
            if ingested != landing {
                found.push(Disagreement {
                    label: title.to_owned(),
                    ingested,
                    landing,
                });
            }
        }
        Ok(found)
    }

    /// Whether so many names can be tried while a reader waits.
    fn check_trials(&self, names: usize) -> Result<(), TableError> {
        let count = self.patterns.len();
        match self.patterns.first() {
            Some(pattern) if count.saturating_mul(names) > MOST_TRIALS => {
                let label = &self.columns[pattern.column].column.label;
                let reason = format!("there are {count} patterns for {names} names");
                Err(unsupported(label, &reason))
            }
            _ => Ok(()),
        }
    }

    fn lookup(&self, title: &str, extent: Extent) -> Result<Option<&DatasetColumn>, TableError> {
        let ambiguous = |one: usize, other: usize| TableError::Ambiguous {
            label: title.to_owned(),
            one: self.columns[one].column.format,
            other: self.columns[other].column.format,
        };
        if let Some(fit) = self.verbatim.get(title) {
            return match fit.clash {
                Some(clash) => Err(ambiguous(fit.first, clash)),
                None => Ok(Some(&self.columns[fit.first])),
            };
        }
        if !self.patterns.is_empty() && title.contains(java_regex::LINE_BREAKS) {
            return Err(TableError::LineBreakInTitle(title.to_owned()));
        }
        let mut first: Option<usize> = None;
        for pattern in &self.patterns {
            let label = &self.columns[pattern.column].column.label;
            let compiled = match extent {
                Extent::Part => &pattern.part,
                Extent::Whole => &pattern.whole,
            };
            let fits = match compiled.get_or_init(|| java_regex::compile(label, extent)) {
                Ok(regex) => regex.is_match(title),
                Err(reason) => return Err(unsupported(label, reason)),
            };
            match first {
                _ if !fits => {}
                None => first = Some(pattern.column),
                Some(one) => {
                    let format = |index: usize| self.columns[index].column.format;
                    if format(one) != format(pattern.column) {
                        return Err(ambiguous(one, pattern.column));
                    }
                }
            }
        }
        Ok(first.map(|index| &self.columns[index]))
    }
}

fn unsupported(pattern: &str, reason: &str) -> TableError {
    TableError::UnsupportedRegex {
        pattern: pattern.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Presence::{Mandatory, Optional};
    use Title::{Pattern, Verbatim};

    fn dataset(columns: &[(&str, ValueFormat, Title, Presence)]) -> Dataset {
        let definition = |&(label, format, title, presence): &(&str, _, _, _)| DatasetColumn {
            column: Column::new(label, format),
            title,
            presence,
        };
        Dataset::new(columns.iter().map(definition).collect())
    }

    fn ecosystem() -> Dataset {
        dataset(&[
            (
                "TIMESTAMP",
                ValueFormat::Iso8601DateTime,
                Verbatim,
                Mandatory,
            ),
            ("remark", ValueFormat::String, Verbatim, Optional),
            ("TA", ValueFormat::Float32, Verbatim, Mandatory),
            (r"TS_\d{1,2}$", ValueFormat::Float32, Pattern, Mandatory),
            ("^TA_QC$", ValueFormat::Int32, Pattern, Optional),
        ])
    }

    fn named(columns: &[Column]) -> Vec<(&str, ValueFormat)> {
        columns
            .iter()
            .map(|c| (c.label.as_str(), c.format))
            .collect()
    }

    #[test]
    fn actual_names_are_matched_verbatim_then_by_any_part() {
        let actual = [
            "TS_1",
            "TIMESTAMP",
            "LOCAL_TS_2",
            "unknown",
            "TA_QC",
            "remark",
            "TS_1",
        ];
        let columns = ecosystem().ingested(&actual).unwrap();
        assert_eq!(
            named(&columns),
            [
                ("TS_1", ValueFormat::Float32),
                ("TIMESTAMP", ValueFormat::Iso8601DateTime),
                ("LOCAL_TS_2", ValueFormat::Float32),
                ("TA_QC", ValueFormat::Int32),
                ("remark", ValueFormat::String),
                ("TS_1", ValueFormat::Float32),
            ]
        );
    }

    #[test]
    fn without_actual_names_the_mandatory_verbatim_columns_are_there() {
        assert_eq!(
            named(&ecosystem().mandatory().unwrap()),
            [
                ("TIMESTAMP", ValueFormat::Iso8601DateTime),
                ("TA", ValueFormat::Float32)
            ]
        );
    }

    #[test]
    fn landing_pages_that_match_whole_titles_are_found_out() {
        let found = ecosystem()
            .disagreements(&["TS_1", "LOCAL_TS_2", "TA"])
            .unwrap();
        assert_eq!(
            found,
            [Disagreement {
                label: "LOCAL_TS_2".into(),
                ingested: Some(ValueFormat::Float32),
                landing: None,
            }]
        );
    }

    #[test]
    fn definitions_whose_order_matters_are_not_guessed_at() {
        let unclear = dataset(&[
            ("x", ValueFormat::Int32, Verbatim, Mandatory),
            ("x", ValueFormat::Float32, Verbatim, Mandatory),
            ("y", ValueFormat::Int32, Verbatim, Mandatory),
            ("^a", ValueFormat::Int32, Pattern, Optional),
            ("b$", ValueFormat::Float32, Pattern, Optional),
        ]);
        let format_of = |title: &str| unclear.ingested(&[title]).map(|c| c[0].format);
        assert!(matches!(format_of("x"), Err(TableError::Ambiguous { .. })));
        assert!(matches!(format_of("ab"), Err(TableError::Ambiguous { .. })));
        assert_eq!(format_of("ac"), Ok(ValueFormat::Int32));
        assert!(unclear.mandatory().is_err());
    }

    #[test]
    fn more_names_and_patterns_than_can_be_tried_are_left_to_the_portal() {
        let patterns: Vec<String> = (0..400).map(|n| format!("^a{n}$")).collect();
        let patterns: Vec<_> = (patterns.iter())
            .map(|pattern| (&**pattern, ValueFormat::Int32, Pattern, Optional))
            .collect();
        let many = dataset(&patterns);
        assert_eq!(many.ingested(&["a399"; 3]).unwrap().len(), 3);
        let error = many.ingested(&["a399"; 300]).unwrap_err();
        assert!(error.portal_may_serve_csv(), "{error}");
        assert_eq!(
            error.to_string(),
            "cannot match column names by the Java pattern \"^a0$\": \
             there are 400 patterns for 300 names"
        );
    }

    #[test]
    fn an_unusable_pattern_matters_only_when_it_is_reached() {
        let lookbehind = dataset(&[
            ("x", ValueFormat::Int32, Verbatim, Mandatory),
            ("(?<=a)b", ValueFormat::Int32, Pattern, Optional),
        ]);
        assert!(lookbehind.ingested(&["x"]).is_ok());
        let error = lookbehind.ingested(&["ab"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot match column names by the Java pattern \"(?<=a)b\": \
             it has a group of a special kind"
        );
        assert!(error.portal_may_serve_csv());
        assert_eq!(
            lookbehind.ingested(&["a\nb"]),
            Err(TableError::LineBreakInTitle("a\nb".into()))
        );
    }
}
