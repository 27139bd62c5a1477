//! What landing pages tell about tables: units, flags, origin.

use std::collections::HashMap;
use std::sync::Arc;

use super::ContentError;
use super::sidecar::Sidecars;
use icos_portal::ObjectId;
use icos_portal::landing::{ColumnInfo, Landing, Resource};
use icos_portal::meta::Subject;
use icos_table::schema::ColumnMetadata;
use icos_table::{Column, GoodFlags};

/// Where it is found. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Abouts(Arc<Sidecars>);

impl Abouts {
    pub(super) fn new(sidecars: Arc<Sidecars>) -> Self {
        Self(sidecars)
    }

    /// What is known of the table `id`: nothing, if its page cannot be read
    /// as one.
    pub(super) async fn of_table(&self, id: ObjectId) -> Result<AboutTable, ContentError> {
        let json = self.0.get(&Subject::Object(id)).await?;
        let page = Landing::parse(&json);
        if let Err(error) = &page {
            tracing::warn!(%id, %error, "units and origin of a table are not known");
        }
        Ok(AboutTable(page.ok()))
    }
}

/// What is known of a table.
#[derive(Debug)]
pub(super) struct AboutTable(Option<Landing>);

impl AboutTable {
    /// `columns` with what is known of each.
    pub(super) fn describe(&self, columns: &[Column]) -> Vec<Column> {
        let infos = self.0.as_ref().map_or(&[][..], Landing::columns);
        let by_label: HashMap<&str, &ColumnInfo> =
            infos.iter().map(|info| (&*info.label, info)).collect();
        columns
            .iter()
            .map(|column| Column {
                metadata: by_label
                    .get(&*column.label)
                    .map_or_else(ColumnMetadata::default, |info| about(info)),
                ..column.clone()
            })
            .collect()
    }

    /// What is known of the whole, by keys.
    pub(super) fn of_file(&self) -> Vec<(String, String)> {
        let Some(page) = &self.0 else {
            return Vec::new();
        };
        let references = page.references.as_ref();
        let licence = references.and_then(|references| references.licence.as_ref());
        [
            ("pid", page.pid.clone()),
            ("doi", page.doi.clone()),
            ("file_name", Some(page.file_name.clone())),
            ("sha256", Some(page.hash.clone())),
            (
                "citation",
                references.and_then(|references| references.citation_string.clone()),
            ),
            ("licence", licence.and_then(|licence| licence.url.clone())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
    }

    /// The quality flags that mean good.
    pub(super) fn good_flags(&self) -> GoodFlags {
        GoodFlags::new(self.0.as_ref().map_or(&[][..], Landing::good_flags))
    }
}

fn about(info: &ColumnInfo) -> ColumnMetadata {
    let label = |resource: &Option<Resource>| resource.as_ref().and_then(|r| r.label.clone());
    let value = info.value_type.as_ref();
    ColumnMetadata {
        model: info.model.as_ref().map(|model| model.uri.clone()),
        unit: value.and_then(|value| value.unit.clone()),
        description: value.and_then(|value| label(&value.resource)),
        quantity: value.and_then(|value| label(&value.quantity_kind)),
        is_flag_for: info.is_flag_for.clone(),
    }
}
