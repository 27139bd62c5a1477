//! Quality filter: replaces values whose quality flag is not good by nulls.
//!
//! This follows the portal's Python library (`icoscp_core`, `cpb.py`), which
//! supports floats only; here every format has its null. The metadata of a
//! table's file format lists the good flags (`goodFlagValues`); if the list is
//! empty, all values stay. A null flag is not good.

use super::{Column, StoredType, TableError, ValueFormat, check_window};

/// Returns the position of the flag column of the column at position `column`:
/// the first column in CSV order whose definition says that it flags that column.
#[must_use]
pub fn flag_of(columns: &[Column], column: usize) -> Option<usize> {
    let model = columns.get(column)?.metadata.model.as_ref()?;
    columns
        .iter()
        .position(|flag| flag.metadata.is_flag_for.contains(model))
}

/// The quality flags that mean good data.
#[derive(Clone, Debug)]
pub struct GoodFlags {
    texts: Vec<String>,
    numbers: Vec<f64>,
}

impl GoodFlags {
    /// Creates the set of these flags. A flag column of characters is compared
    /// with the texts, a flag column of numbers with the parsed numbers.
    #[must_use]
    pub fn new<S: AsRef<str>>(values: &[S]) -> Self {
        let texts: Vec<String> = values.iter().map(|v| v.as_ref().to_owned()).collect();
        GoodFlags {
            numbers: texts.iter().filter_map(|text| text.parse().ok()).collect(),
            texts,
        }
    }

    /// Replaces each value of a window whose flag is not good by the null.
    /// `values` and `flags` are the big-endian bytes of the same rows of a column
    /// and of its flag column.
    ///
    /// # Errors
    ///
    /// [`TableError::WindowLength`] if they do not have the same number of
    /// rows; nothing is changed then.
    pub fn clear_bad_values(
        &self,
        format: ValueFormat,
        values: &mut [u8],
        flag_format: ValueFormat,
        flags: &[u8],
    ) -> Result<(), TableError> {
        let (width, flag_width) = (format.width(), flag_format.width());
        let rows = values.len() / width;
        check_window(&[format, flag_format], rows, &[values, flags])?;
        if self.texts.is_empty() {
            return Ok(());
        }
        let null = format.stored().null();
        for (value, flag) in values
            .chunks_exact_mut(width)
            .zip(flags.chunks_exact(flag_width))
        {
            if !self.is_good(flag_format.stored(), flag) && value.len() == null.len() {
                value.copy_from_slice(null);
            }
        }
        Ok(())
    }

    /// Whether a flag, as stored, is good; a null is not.
    fn is_good(&self, stored: StoredType, flag: &[u8]) -> bool {
        let number = match stored {
            StoredType::Char => return self.is_good_character(flag),
            StoredType::Int => flag.try_into().map(i32::from_be_bytes).map(f64::from),
            StoredType::Float => flag.try_into().map(f32::from_be_bytes).map(f64::from),
            StoredType::Double => flag.try_into().map(f64::from_be_bytes),
            StoredType::Byte => flag.try_into().map(i8::from_be_bytes).map(f64::from),
            StoredType::String => return false,
        };
        flag != stored.null() && number.is_ok_and(|number| self.numbers.contains(&number))
    }

    fn is_good_character(&self, flag: &[u8]) -> bool {
        let unit = flag.try_into().map_or(0, u16::from_be_bytes);
        unit != 0 && self.texts.iter().any(|text| text.encode_utf16().eq([unit]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ColumnMetadata;

    fn flagged(label: &str, model: &str, is_flag_for: &[&str]) -> Column {
        Column {
            metadata: ColumnMetadata {
                model: Some(model.to_owned()),
                is_flag_for: is_flag_for.iter().map(|&m| m.to_owned()).collect(),
                ..ColumnMetadata::default()
            },
            ..Column::new(label, ValueFormat::Float32)
        }
    }

    fn chars(flags: &str) -> Vec<u8> {
        flags.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    #[test]
    fn flag_of_finds_the_first_flag_column_by_definition() {
        let columns = [
            flagged("co2", "m/co2", &[]),
            flagged("Flag", "m/flag", &["m/ch4", "m/co2"]),
            flagged("Flag2", "m/flag2", &["m/co2"]),
            Column::new("x", ValueFormat::Int32),
        ];
        assert_eq!(flag_of(&columns, 0), Some(1));
        assert_eq!(flag_of(&columns, 1), None);
        assert_eq!(flag_of(&columns, 3), None);
        assert_eq!(flag_of(&columns, 4), None);
    }

    #[test]
    fn values_with_other_flags_become_null() {
        let good = GoodFlags::new(&["U", "R", "O"]);
        let mut floats = [1_f32, 2.0, 3.0, 4.0].map(f32::to_be_bytes).concat();
        let flags = chars("UKO\0");
        good.clear_bad_values(
            ValueFormat::Float32,
            &mut floats,
            ValueFormat::BmpChar,
            &flags,
        )
        .unwrap();
        let values = floats
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&v| f32::from_be_bytes(v));
        let kept: Vec<_> = values.map(|v| (!v.is_nan()).then_some(v)).collect();
        assert_eq!(kept, [Some(1.0), None, Some(3.0), None]);
    }

    #[test]
    fn values_with_bad_flags_become_the_null_of_their_format() {
        let good = GoodFlags::new(&["1"]);
        for format in ValueFormat::ALL {
            let mut value = vec![1; format.width()];
            good.clear_bad_values(format, &mut value, ValueFormat::BmpChar, &chars("1"))
                .unwrap();
            assert_eq!(value, vec![1; format.width()], "{format}");
            good.clear_bad_values(format, &mut value, ValueFormat::BmpChar, &chars("2"))
                .unwrap();
            if format != ValueFormat::String {
                assert_eq!(value, format.stored().null(), "{format}");
            }
        }
    }

    #[test]
    fn numeric_flags_compare_as_numbers() {
        let good = GoodFlags::new(&["0", "2"]);
        for (format, flags) in [
            (
                ValueFormat::Int32,
                [0, 1, 2, i32::MIN].map(i32::to_be_bytes).concat(),
            ),
            (
                ValueFormat::Float32,
                [-0.0, 1.0, 2.0, f32::NAN].map(f32::to_be_bytes).concat(),
            ),
            (
                ValueFormat::Float64,
                [0.0, 1.0, 2.0, f64::NAN].map(f64::to_be_bytes).concat(),
            ),
            (ValueFormat::Boolean, vec![0, 1, 2, 0x80]),
            (ValueFormat::BmpChar, chars("012\0")),
        ] {
            let mut values = vec![7, 7, 7, 7];
            good.clear_bad_values(ValueFormat::Boolean, &mut values, format, &flags)
                .unwrap();
            assert_eq!(values, [7, 0x80, 7, 0x80], "{format}");
        }
    }

    #[test]
    fn empty_flag_list_keeps_all_values_and_mismatched_rows_return_error() {
        let mut values = vec![1, 2];
        let none = GoodFlags::new::<&str>(&[]);
        none.clear_bad_values(
            ValueFormat::Boolean,
            &mut values,
            ValueFormat::BmpChar,
            &chars("ab"),
        )
        .unwrap();
        assert_eq!(values, [1, 2]);
        let good = GoodFlags::new(&["U"]);
        let misfit = good.clear_bad_values(
            ValueFormat::Boolean,
            &mut values,
            ValueFormat::BmpChar,
            &[0],
        );
        assert!(misfit.is_err());
        assert_eq!(values, [1, 2]);
    }
}
