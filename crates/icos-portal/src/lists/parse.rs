//! Parses the rows of query results.

use jiff::Timestamp;

use super::{
    CollectionRow, ColumnRow, MemberRow, ObjectRow, SpecRow, StationRow, SuccessionRow, TextRow,
};
use crate::error::at_most;
use crate::landing::MAX_COLUMNS;
use crate::sparql::QueryRow;
use crate::{ObjectId, PortalError};

/// An entry of a list.
pub(crate) trait ListEntry: Sized {
    /// Parses a row of the results of the list's query.
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError>;
}

/// Parses a JSON list of column names.
fn column_names(json: &str) -> Option<Vec<String>> {
    let mut json = serde_json::Deserializer::from_str(json);
    let names = at_most::<_, _, MAX_COLUMNS>(&mut json).ok()?;
    json.end().is_ok().then_some(names)
}

/// The id at the end of an IRI.
fn id(iri: &str) -> Option<ObjectId> {
    iri.rsplit('/').next()?.parse().ok()
}

impl ListEntry for ObjectRow {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        // Values that are not needed to list the object may be invalid.
        let instant = |variable| -> Option<Timestamp> { row.get(variable)?.parse().ok() };
        Ok(ObjectRow {
            id: row.parsed("dobj", id)?,
            file_name: row.text("fileName")?,
            size: row.number("size")?,
            submitted: row.parsed("submTime", |text| text.parse().ok())?,
            spec: row.get("spec").map(str::to_owned),
            station: row.get("station").map(str::to_owned),
            rows: (row.get("nRows").map(|_| row.number("nRows"))).transpose()?,
            column_names: row
                .get("colNames")
                .map(|_| row.parsed("colNames", column_names))
                .transpose()?,
            doi: row.get("doi").map(str::to_owned),
            next: row.get("next").and_then(id),
            span: instant("timeStart").zip(instant("timeEnd")),
            height: row.number("samplingHeight").ok(),
        })
    }
}

impl ListEntry for SpecRow {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        Ok(SpecRow {
            iri: row.text("spec")?,
            label: row.text("specLabel")?,
            level: row.number("level")?,
            format: row.text("format")?,
            dataset: row.get("dataset").map(str::to_owned),
            theme: row.get("themeLabel").map(str::to_owned),
            project: row.get("projectLabel").map(str::to_owned),
            theme_iri: row.get("theme").map(str::to_owned),
            project_iri: row.get("project").map(str::to_owned),
        })
    }
}

impl ListEntry for ColumnRow {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        let is_true = |variable| matches!(row.get(variable), Some("true" | "1"));
        Ok(ColumnRow {
            dataset: row.text("dataset")?,
            title: row.text("colTitle")?,
            format: row.text("valFormat")?,
            optional: is_true("isOptional"),
            regex: is_true("isRegex"),
            value: row.get("valType").map(str::to_owned),
            unit: row.get("unit").map(str::to_owned),
        })
    }
}

impl ListEntry for StationRow {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        let class = row.text("stType")?;
        let (lat, lon) = (row.number("lat").ok(), row.number("lon").ok());
        Ok(StationRow {
            iri: row.text("station")?,
            code: row.text("stId")?,
            name: row.text("stationName")?,
            country: row.get("cCode").unwrap_or_default().to_owned(),
            class: class.rsplit(['/', '#']).next().unwrap_or(&class).to_owned(),
            position: lat.zip(lon),
            elevation: row.number("elevation").ok(),
        })
    }
}

impl ListEntry for CollectionRow {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        Ok(CollectionRow {
            id: row.parsed("coll", id)?,
            title: row.text("title")?,
            doi: row.get("doi").map(str::to_owned),
            next: row.get("next").and_then(id),
        })
    }
}

impl ListEntry for MemberRow {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        let (collection, item) = (row.parsed("coll", id)?, row.parsed("item", id)?);
        Ok(MemberRow { collection, item })
    }
}

impl ListEntry for TextRow {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        let (item, text) = (row.text("item")?, row.text("text")?);
        Ok(TextRow { item, text })
    }
}

impl ListEntry for SuccessionRow {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        let (old, new) = (row.parsed("old", id)?, row.parsed("new", id)?);
        Ok(SuccessionRow { old, new })
    }
}

impl ListEntry for ObjectId {
    fn parse(row: QueryRow<'_>) -> Result<Self, PortalError> {
        row.parsed("dobj", id)
    }
}
