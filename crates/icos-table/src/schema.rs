//! The schema of a table: its number of rows, and its columns in both orders,
//! that of the CSV and that of storage.
//!
//! Invariants of a [`Schema`]:
//!
//! - It has at least one column, and no column of strings.
//! - Columns of the same name have the same format.
//! - It has at most 2^31 - 1 rows, since the portal counts rows in a Java `int`.
//! - The size of the stored bytes fits an `i64`, so that sizes and offsets never
//!   overflow.

use super::{StoredType, TableError, ValueFormat};

/// A column of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    /// Its name in the table.
    pub label: String,
    /// The meaning of its values.
    pub format: ValueFormat,
    /// Further facts from the portal's metadata.
    pub metadata: ColumnMetadata,
}

impl Column {
    /// Creates a column without metadata.
    #[must_use]
    pub fn new(label: impl Into<String>, format: ValueFormat) -> Self {
        Column {
            label: label.into(),
            format,
            metadata: ColumnMetadata::default(),
        }
    }
}

/// Facts about a column from the portal's metadata.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ColumnMetadata {
    /// IRI of the column's definition in its dataset. The definitions of quality
    /// flags refer to it.
    pub model: Option<String>,
    /// Unit of the values, e.g. `umol mol-1`.
    pub unit: Option<String>,
    /// Description of the values, e.g. "CO2 mixing ratio (dry mole fraction)".
    pub description: Option<String>,
    /// Kind of quantity, e.g. "portion".
    pub quantity: Option<String>,
    /// IRIs of the definitions that this column is the quality flag of.
    pub is_flag_for: Vec<String>,
}

/// The columns of a table in the order of the CSV and in that of storage, and its
/// number of rows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schema {
    rows: u64,
    columns: Vec<Column>,
    /// CSV position by stored position.
    stored: Vec<usize>,
    /// Stored position of the column to read, by CSV position.
    bytes_of: Vec<usize>,
}

impl Schema {
    /// The largest number of rows that the portal can count.
    pub const MAX_ROWS: u64 = i32::MAX as u64;

    /// Creates the schema of a table of `rows` rows with the ingested `columns`,
    /// in the order of the CSV. Repeated columns stay, as in the portal's CSV.
    ///
    /// # Errors
    ///
    /// [`TableError::TooManyRows`], [`TableError::TooLarge`],
    /// [`TableError::NoColumns`], [`TableError::StringColumn`], or
    /// [`TableError::Ambiguous`] if columns of one name differ in format.
    pub fn new(rows: u64, columns: Vec<Column>) -> Result<Self, TableError> {
        check_rows(&columns, rows)?;
        if columns.is_empty() {
            return Err(TableError::NoColumns);
        }
        if let Some(text) = columns.iter().find(|c| c.format == ValueFormat::String) {
            return Err(TableError::StringColumn(text.label.clone()));
        }

        let mut stored: Vec<usize> = (0..columns.len()).collect();
        stored.sort_by(|&a, &b| java_order(&columns[a].label, &columns[b].label));
        let mut bytes_of = vec![0; columns.len()];
        let mut first = 0;
        for (position, &csv) in stored.iter().enumerate() {
            let (one, other) = (&columns[stored[first]], &columns[csv]);
            if one.label != other.label {
                first = position;
            } else if one.format != other.format {
                return Err(TableError::Ambiguous {
                    label: one.label.clone(),
                    one: one.format,
                    other: other.format,
                });
            }
            // The portal reads repeated columns from the first stored one
            // (`indexOf`).
            bytes_of[csv] = first;
        }
        Ok(Schema {
            rows,
            columns,
            stored,
            bytes_of,
        })
    }

    /// Checks that a CSV header can be split into the names of these columns.
    ///
    /// # Errors
    ///
    /// [`TableError::AmbiguousHeader`] if a name contains a separator.
    pub fn check_labels(&self) -> Result<(), TableError> {
        let separator = |c: &&Column| c.label.contains([',', '\n', '\r']);
        match self.columns.iter().find(separator) {
            Some(column) => Err(TableError::AmbiguousHeader(column.label.clone())),
            None => Ok(()),
        }
    }

    /// The same table with its columns in the order of the portal's CSV header.
    /// Tables whose column names are not known need this: for them only the
    /// response to `/csv/<id>?limit=0` shows the order. A line end is ignored.
    ///
    /// # Errors
    ///
    /// [`TableError::HeaderMismatch`] if the header does not list these columns,
    /// [`TableError::AmbiguousHeader`] if names contain a separator.
    pub fn ordered_by_header(&self, header: &[u8]) -> Result<Self, TableError> {
        let mismatch = || TableError::HeaderMismatch {
            expected: self.columns.len(),
            found: String::from_utf8_lossy(header).chars().take(200).collect(),
        };
        self.check_labels()?;
        let line = header.strip_suffix(b"\n").unwrap_or(header);
        let line = std::str::from_utf8(line).map_err(|_| mismatch())?;

        let labels: Vec<&str> = line.split(',').collect();
        if labels.len() != self.columns.len() {
            return Err(mismatch());
        }
        // Compare both in sorted order, then move each column to the position of
        // its label in the header.
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|&a, &b| java_order(labels[a], labels[b]));
        let mut placed: Vec<(usize, &Column)> = Vec::with_capacity(order.len());
        for (at, column) in order.into_iter().zip(self.stored()) {
            if labels[at] != column.label {
                return Err(mismatch());
            }
            placed.push((at, column));
        }
        placed.sort_by_key(|&(at, _)| at);
        let columns = placed.into_iter().map(|(_, c)| c.clone()).collect();
        Schema::new(self.rows, columns)
    }

    /// Checks that a table of the same columns can have `rows` rows.
    ///
    /// # Errors
    ///
    /// [`TableError::TooManyRows`] or [`TableError::TooLarge`].
    pub fn check_rows(&self, rows: u64) -> Result<(), TableError> {
        check_rows(&self.columns, rows)
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The columns, in the order of the CSV.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns in the order of storage: sorted by name as Java sorts
    /// strings. Their types are the schema of a data request.
    #[must_use]
    pub fn stored(&self) -> impl ExactSizeIterator<Item = &Column> {
        self.stored.iter().map(|&csv| &self.columns[csv])
    }

    /// The stored types, in the order of storage.
    #[must_use]
    pub fn stored_types(&self) -> impl ExactSizeIterator<Item = StoredType> {
        self.stored().map(|column| column.format.stored())
    }

    /// Position in the order of storage of the CSV column at position `csv`;
    /// `None` if there is no such column.
    #[must_use]
    pub fn stored_index(&self, csv: usize) -> Option<usize> {
        self.bytes_of.get(csv).copied()
    }

    /// Position of the first CSV column of this name.
    #[must_use]
    pub fn find(&self, label: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.label == label)
    }

    /// Position of the column that is meant by `label`: the one of this name, else the
    /// only one whose name differs in case only.
    #[must_use]
    pub fn find_ignoring_case(&self, label: &str) -> Option<usize> {
        find_column(&self.columns, label)
    }

    /// The CSV positions of the columns `labels`, in the same order and with
    /// repeats; as [`Schema::find_ignoring_case`] finds each.
    ///
    /// # Errors
    ///
    /// [`TableError::NoSuchColumn`] for an unknown name. (The portal's `/csv`
    /// ignores unknown names.)
    pub fn select<S: AsRef<str>>(&self, labels: &[S]) -> Result<Vec<usize>, TableError> {
        let find = |label: &str| {
            self.find_ignoring_case(label)
                .ok_or_else(|| TableError::NoSuchColumn(label.to_owned()))
        };
        labels.iter().map(|label| find(label.as_ref())).collect()
    }

    /// Size in bytes of one row, over all stored columns.
    #[must_use]
    pub fn row_width(&self) -> u64 {
        self.columns.iter().map(|c| c.format.width() as u64).sum()
    }

    /// Size in bytes of all stored columns.
    #[must_use]
    pub fn stored_len(&self) -> u64 {
        self.row_width() * self.rows
    }
}

/// Position of the column that is meant by `label`: the first of this name, else the only
/// one whose name differs in case only.
///
/// ```
/// use icos_table::{Column, ValueFormat, find_column};
///
/// let columns = ["co2", "T", "t"].map(|label| Column::new(label, ValueFormat::Float64));
/// assert_eq!(find_column(&columns, "CO2"), Some(0));
/// assert_eq!(find_column(&columns, "t"), Some(2));
/// assert_eq!(find_column(&columns[..2], "t"), Some(1));
/// assert_eq!(find_column(&columns, "ch4"), None);
/// ```
#[must_use]
pub fn find_column(columns: &[Column], label: &str) -> Option<usize> {
    if let Some(exact) = columns.iter().position(|column| column.label == label) {
        return Some(exact);
    }
    let folded = label.to_lowercase();
    let mut similar = (columns.iter().enumerate())
        .filter(|(_, column)| column.label.to_lowercase() == folded)
        .map(|(at, _)| at);
    similar.next().filter(|_| similar.next().is_none())
}

fn check_rows(columns: &[Column], rows: u64) -> Result<(), TableError> {
    if rows > Schema::MAX_ROWS {
        return Err(TableError::TooManyRows(rows));
    }
    let size = columns
        .iter()
        .try_fold(0_u64, |sum, c| sum.checked_add(c.format.width() as u64))
        .and_then(|width| width.checked_mul(rows));
    // The difference leaves room for the trailer of a `.cpb` file.
    if size.is_none_or(|size| size > i64::MAX as u64 - 64) {
        return Err(TableError::TooLarge {
            columns: columns.len(),
            rows,
        });
    }
    Ok(())
}

/// Java's order of strings: by UTF-16 code unit. Characters outside the basic
/// plane thus sort before some inside it.
pub(super) fn java_order(a: &str, b: &str) -> std::cmp::Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(labels: &[&str]) -> Vec<Column> {
        labels
            .iter()
            .map(|label| Column::new(*label, ValueFormat::Float32))
            .collect()
    }

    fn stored_labels(schema: &Schema) -> Vec<&str> {
        schema.stored().map(|c| c.label.as_str()).collect()
    }

    #[test]
    fn stored_columns_are_in_java_string_order() {
        let columns = floats(&["b", "TIMESTAMP", "_", "\u{ff21}", "\u{1f600}", "B", "a"]);
        let schema = Schema::new(3, columns).unwrap();
        assert_eq!(
            stored_labels(&schema),
            // By code point, U+1F600 would come last.
            ["B", "TIMESTAMP", "_", "a", "b", "\u{1f600}", "\u{ff21}"]
        );
        assert_eq!(schema.stored_index(1), Some(1));
        assert_eq!(schema.stored_index(0), Some(4));
        assert_eq!(schema.stored_index(7), None);
    }

    #[test]
    fn repeated_columns_are_read_from_the_first_stored_one() {
        let schema = Schema::new(3, floats(&["x", "a", "x"])).unwrap();
        assert_eq!(stored_labels(&schema), ["a", "x", "x"]);
        assert_eq!(schema.stored_index(0), Some(1));
        assert_eq!(schema.stored_index(2), Some(1));
        assert_eq!(schema.stored_len(), 36);
    }

    #[test]
    fn invalid_tables_return_error() {
        let double = Column::new("a", ValueFormat::Float64);
        let mut clash = floats(&["a"]);
        clash.push(double);
        let text = vec![Column::new("remark", ValueFormat::String)];
        let cases = [
            (1_000_000_000_000_000, floats(&["a"]), "2147483647 rows"),
            (u64::MAX, floats(&["a"]), "2147483647 rows"),
            (1, vec![], "at least one column"),
            (1, clash, "float32 or float64"),
            (1, text, "\"remark\" holds strings"),
        ];
        for (rows, columns, message) in cases {
            let error = Schema::new(rows, columns).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let schema = Schema::new(0, floats(&["a"])).unwrap();
        assert_eq!(schema.check_rows(Schema::MAX_ROWS), Ok(()));
        let more = Schema::MAX_ROWS + 1;
        assert_eq!(schema.check_rows(more), Err(TableError::TooManyRows(more)));
    }

    #[test]
    fn ordered_by_header_follows_the_header_or_returns_error() {
        let schema = Schema::new(5, floats(&["a", "b", "c"])).unwrap();
        let ordered = schema.ordered_by_header(b"c,a,b\n").unwrap();
        let labels: Vec<_> = ordered.columns().iter().map(|c| c.label.as_str()).collect();
        assert_eq!(labels, ["c", "a", "b"]);
        assert_eq!(stored_labels(&ordered), ["a", "b", "c"]);
        for header in ["", "a,b", "a,b,c,c", "a,b,d", "a,b,c\n\n", "a,b,c\r\n"] {
            assert!(
                matches!(
                    schema.ordered_by_header(header.as_bytes()),
                    Err(TableError::HeaderMismatch { expected: 3, .. })
                ),
                "{header:?}"
            );
        }
        assert!(schema.ordered_by_header(b"a,b,\xff").is_err());
        let commas = Schema::new(5, floats(&["a,b", "b"])).unwrap();
        assert_eq!(
            commas.ordered_by_header(b"a,b,b"),
            Err(TableError::AmbiguousHeader("a,b".into()))
        );
    }

    #[test]
    fn select_keeps_order_and_repeats_and_refuses_unknown_names() {
        let schema = Schema::new(5, floats(&["a", "b"])).unwrap();
        assert_eq!(schema.select(&["b", "a", "b"]), Ok(vec![1, 0, 1]));
        assert_eq!(
            schema.select(&["b", "q"]),
            Err(TableError::NoSuchColumn("q".into()))
        );
    }
}
