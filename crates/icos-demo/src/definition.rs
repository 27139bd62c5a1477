//! The columns and variables of data types.

use regex::Regex;

use super::graph::RdfNode;
use super::values::CellFormat;

/// A column or variable of a data type.
pub(crate) struct VariableDefinition<'g> {
    pub(crate) node: RdfNode<'g>,
    title: &'g str,
    pub(crate) optional: bool,
    /// The title as a pattern, if it is one.
    regex: Option<Regex>,
}

/// How patterns are compared with the names of columns.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Matching {
    /// The ingestion searches them.
    Search,
    /// Landing pages match whole names.
    WholeName,
}

impl<'g> VariableDefinition<'g> {
    /// The definitions of a data type; `kind` is `Column` or `Variable`.
    pub(crate) fn all(spec: RdfNode<'g>, kind: &str, matching: Matching) -> Vec<Self> {
        let dataset = spec.one("cpmeta:containsDataset");
        let nodes = dataset.map(|d| d.nodes(&format!("cpmeta:has{kind}")));
        (nodes.unwrap_or_default().into_iter())
            .filter_map(|node| {
                let title = node.text(&format!("cpmeta:has{kind}Title"))?;
                let regex = match matching {
                    _ if !node.flag(&format!("cpmeta:isRegex{kind}")) => None,
                    Matching::Search => Some(Regex::new(title).ok()?),
                    Matching::WholeName => Some(Regex::new(&format!("^(?:{title})$")).ok()?),
                };
                let optional = node.flag(&format!("cpmeta:isOptional{kind}"));
                Some(Self {
                    node,
                    title,
                    optional,
                    regex,
                })
            })
            .collect()
    }

    /// The definition of the column `name`: the last one with this title, or else
    /// the first one whose pattern matches.
    pub(crate) fn lookup<'a>(all: &'a [Self], name: &str) -> Option<&'a Self> {
        let plain = all.iter().rfind(|d| d.regex.is_none() && d.title == name);
        let matches = |d: &&Self| d.regex.as_ref().is_some_and(|r| r.is_match(name));
        plain.or_else(|| all.iter().find(matches))
    }

    /// The names of an object's columns: those in its metadata, or else the
    /// mandatory ones of its data type that are no patterns.
    pub(crate) fn names(all: &[Self], object: RdfNode<'_>) -> Vec<String> {
        let actual = object.text("cpmeta:hasActualColumnNames");
        actual
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_else(|| {
                (all.iter())
                    .filter(|d| d.regex.is_none() && !d.optional)
                    .map(|d| d.title.to_owned())
                    .collect()
            })
    }

    /// The value format, if it is a known one.
    pub(crate) fn format(&self) -> Option<CellFormat> {
        CellFormat::named(self.node.one("cpmeta:hasValueFormat")?.local_name())
    }
}
