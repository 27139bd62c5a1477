//! Parses the rows of query results.

use jiff::Timestamp;

use super::{
    CollectionRow, ColumnRow, MemberRow, ObjectRow, ResultPage, SpecRow, StationRow, SuccessionRow,
};
use crate::sparql::{QueryRow, QueryRows};
use crate::{ObjectId, PortalError};

pub(crate) fn parse_objects(rows: &QueryRows) -> ResultPage<ObjectRow> {
    ResultPage::of(rows, object)
}

fn object(row: QueryRow<'_>) -> Result<ObjectRow, PortalError> {
    // Values that are not needed to list the object may be invalid.
    let instant = |variable| -> Option<Timestamp> { row.get(variable)?.parse().ok() };
    Ok(ObjectRow {
        id: row.parsed("dobj", id)?,
        file_name: row.text("fileName")?.to_owned(),
        size: row.parsed("size", |text| text.parse().ok())?,
        submitted: row.instant("submTime")?,
        spec: row.get("spec").map(str::to_owned),
        station: row.get("station").map(str::to_owned),
        rows: row.number("nRows")?,
        column_names: row
            .get("colNames")
            .map(|_| row.parsed("colNames", |json| serde_json::from_str(json).ok()))
            .transpose()?,
        doi: row.get("doi").map(str::to_owned),
        next: row.get("next").and_then(id),
        span: instant("timeStart").zip(instant("timeEnd")),
        height: row.get("samplingHeight").and_then(|text| text.parse().ok()),
    })
}

/// The id at the end of an IRI.
fn id(iri: &str) -> Option<ObjectId> {
    iri.rsplit('/').next()?.parse().ok()
}

pub(crate) fn parse_specs(rows: &QueryRows) -> ResultPage<SpecRow> {
    ResultPage::of(rows, |row| {
        Ok(SpecRow {
            iri: row.text("spec")?.to_owned(),
            label: row.text("specLabel")?.to_owned(),
            level: row.parsed("level", |text| text.parse().ok())?,
            format: row.text("format")?.to_owned(),
            dataset: row.get("dataset").map(str::to_owned),
            theme: row.get("themeLabel").map(str::to_owned),
            project: row.get("projectLabel").map(str::to_owned),
        })
    })
}

pub(crate) fn parse_columns(rows: &QueryRows) -> ResultPage<ColumnRow> {
    ResultPage::of(rows, |row| {
        Ok(ColumnRow {
            dataset: row.text("dataset")?.to_owned(),
            title: row.text("colTitle")?.to_owned(),
            format: row.text("valFormat")?.to_owned(),
            optional: row.is_true("isOptional"),
            regex: row.is_true("isRegex"),
            value: row.get("valType").map(str::to_owned),
            unit: row.get("unit").map(str::to_owned),
        })
    })
}

pub(crate) fn parse_stations(rows: &QueryRows) -> ResultPage<StationRow> {
    let number = |row: QueryRow<'_>, variable| row.get(variable).and_then(|text| text.parse().ok());
    ResultPage::of(rows, |row| {
        let class = row.text("stType")?;
        Ok(StationRow {
            iri: row.text("station")?.to_owned(),
            code: row.text("stId")?.to_owned(),
            name: row.text("stationName")?.to_owned(),
            country: row.text("cCode")?.to_owned(),
            class: class.rsplit(['/', '#']).next().unwrap_or(class).to_owned(),
            position: number(row, "lat").zip(number(row, "lon")),
            elevation: number(row, "elevation"),
        })
    })
}

pub(crate) fn parse_collections(rows: &QueryRows) -> ResultPage<CollectionRow> {
    ResultPage::of(rows, |row| {
        Ok(CollectionRow {
            id: row.parsed("coll", id)?,
            title: row.text("title")?.to_owned(),
            doi: row.get("doi").map(str::to_owned),
            next: row.get("next").and_then(id),
        })
    })
}

pub(crate) fn parse_members(rows: &QueryRows) -> ResultPage<MemberRow> {
    ResultPage::of(rows, |row| {
        Ok(MemberRow {
            collection: row.parsed("coll", id)?,
            item: row.parsed("item", id)?,
        })
    })
}

pub(crate) fn parse_successions(rows: &QueryRows) -> ResultPage<SuccessionRow> {
    ResultPage::of(rows, |row| {
        Ok(SuccessionRow {
            old: row.parsed("old", id)?,
            new: row.parsed("new", id)?,
        })
    })
}

pub(crate) fn parse_ids(rows: &QueryRows) -> ResultPage<ObjectId> {
    ResultPage::of(rows, |row| row.parsed("dobj", id))
}
