//! Datasets: the columns that tables of one kind may have, and the lookup of a
//! table's column names among them.
//!
//! The lookup follows the data service when it ingests and reads tables
//! (`ColumnsMeta.scala`, `TimeSeriesToBinTableConverter.scala`): a name matches
//! the column with that verbatim title, else the columns whose title is a
//! regular expression that matches a part of the name. A column without a match
//! was not ingested. If a table's column names are not known, it has the
//! mandatory verbatim columns.
//!
//! The landing page (`VarMetaLookup.scala` of the meta service) matches the
//! expressions against the complete name instead, so its `columns` can differ;
//! [`Dataset::disagreements`] lists the differences.
//!
//! The service applies definitions in the arbitrary order of its query result.
//! Where that order decides the format, the lookup returns
//! [`TableError::Ambiguous`] instead of guessing.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::Regex;

use super::java_regex::{self, Extent};
use super::{Column, TableError, ValueFormat};

/// How the title of a dataset's column matches the column names of tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Title {
    /// The names are equal.
    Verbatim,
    /// The title is a Java regular expression that matches a part of the name.
    Pattern,
}

/// Whether every table of a dataset has a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// Every table has it.
    Mandatory,
    /// Some tables have it.
    Optional,
}

/// A column of a dataset's definition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatasetColumn {
    /// The column; its label is the title.
    pub column: Column,
    /// How the title matches names (`isRegexColumn`).
    pub title: Title,
    /// Whether it may be missing (`isOptionalColumn`).
    pub presence: Presence,
}

/// A column whose format on the landing page differs from the data service's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disagreement {
    /// The table's column.
    pub label: String,
    /// Its format as ingested; `None` if it was not ingested.
    pub ingested: Option<ValueFormat>,
    /// Its format on the landing page; `None` if it is missing there.
    pub landing: Option<ValueFormat>,
}

/// The columns that tables of one kind may have.
#[derive(Debug)]
pub struct Dataset {
    columns: Vec<DatasetColumn>,
    verbatim: HashMap<String, VerbatimMatch>,
    patterns: Vec<Pattern>,
}

/// The definitions of one verbatim title.
#[derive(Debug)]
struct VerbatimMatch {
    first: usize,
    /// A later definition with another format.
    conflict: Option<usize>,
}

/// A title that is a pattern. It is compiled when a name is first compared with
/// it; the error says why it cannot be compiled.
#[derive(Debug, Default)]
struct Pattern {
    column: usize,
    part: OnceLock<Result<Regex, String>>,
    complete: OnceLock<Result<Regex, String>>,
}

/// Limit of names times patterns, which bounds the work that untrusted metadata
/// can cause. Real tables have hundreds of columns, datasets some dozen patterns.
const MAX_COMPARISONS: usize = 100_000;

impl Dataset {
    /// Creates a dataset from its column definitions, in any order.
    #[must_use]
    pub fn new(columns: Vec<DatasetColumn>) -> Self {
        let mut verbatim: HashMap<String, VerbatimMatch> = HashMap::new();
        let mut patterns = Vec::new();
        for (index, definition) in columns.iter().enumerate() {
            let Column { label, format, .. } = &definition.column;
            match definition.title {
                Title::Verbatim => {
                    let found = verbatim.entry(label.clone()).or_insert(VerbatimMatch {
                        first: index,
                        conflict: None,
                    });
                    if columns[found.first].column.format != *format {
                        found.conflict = Some(index);
                    }
                }
                Title::Pattern => patterns.push(Pattern {
                    column: index,
                    ..Pattern::default()
                }),
            }
        }
        Dataset {
            columns,
            verbatim,
            patterns,
        }
    }

    /// The column definitions.
    #[must_use]
    pub fn columns(&self) -> &[DatasetColumn] {
        &self.columns
    }

    /// The ingested columns of a table with these column names
    /// (`hasActualColumnNames`), in the same order, which is that of the CSV.
    /// Repeated names give repeated columns.
    ///
    /// # Errors
    ///
    /// [`TableError::Ambiguous`], [`TableError::UnsupportedRegex`] or
    /// [`TableError::LineBreakInTitle`] if a name
    /// cannot be matched reliably.
    pub fn ingested<S: AsRef<str>>(&self, actual: &[S]) -> Result<Vec<Column>, TableError> {
        self.check_comparisons(actual.len())?;
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

    /// The columns of a table whose column names are not known: the mandatory
    /// verbatim ones. Only the portal's CSV header tells their order in the CSV;
    /// see
    /// [`Schema::ordered_by_header`](super::Schema::ordered_by_header).
    ///
    /// # Errors
    ///
    /// [`TableError::Ambiguous`] if a title has definitions of different formats.
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

    /// The columns whose format in the landing page's JSON differs from the
    /// ingested one.
    ///
    /// # Errors
    ///
    /// As [`Dataset::ingested`].
    pub fn disagreements<S: AsRef<str>>(
        &self,
        actual: &[S],
    ) -> Result<Vec<Disagreement>, TableError> {
        self.check_comparisons(actual.len())?;
        let mut found = Vec::new();
        for title in actual {
            let title = title.as_ref();
            let format = |extent| {
                let definition = self.lookup(title, extent)?;
                Ok::<_, TableError>(definition.map(|d| d.column.format))
            };
            let (ingested, landing) = (format(Extent::Part)?, format(Extent::Complete)?);
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

    /// Fails if matching `names` names takes too long for a waiting reader.
    fn check_comparisons(&self, names: usize) -> Result<(), TableError> {
        let count = self.patterns.len();
        match self.patterns.first() {
            Some(pattern) if count.saturating_mul(names) > MAX_COMPARISONS => {
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
        if let Some(found) = self.verbatim.get(title) {
            return match found.conflict {
                Some(conflict) => Err(ambiguous(found.first, conflict)),
                None => Ok(Some(&self.columns[found.first])),
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
                Extent::Complete => &pattern.complete,
            };
            let matches = match compiled.get_or_init(|| java_regex::compile(label, extent)) {
                Ok(regex) => regex.is_match(title),
                Err(reason) => return Err(unsupported(label, reason)),
            };
            match first {
                _ if !matches => {}
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
    fn names_match_verbatim_titles_before_patterns() {
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
    fn mandatory_returns_the_mandatory_verbatim_columns() {
        assert_eq!(
            named(&ecosystem().mandatory().unwrap()),
            [
                ("TIMESTAMP", ValueFormat::Iso8601DateTime),
                ("TA", ValueFormat::Float32)
            ]
        );
    }

    #[test]
    fn disagreements_lists_names_that_a_pattern_matches_only_in_part() {
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
    fn conflicting_definitions_return_ambiguous() {
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
    fn too_many_names_times_patterns_are_refused() {
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
    fn unsupported_pattern_fails_only_names_that_reach_it() {
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
