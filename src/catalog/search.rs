//! Objects by what they are, where and when.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Catalog, CatalogError, CatalogFolder, CatalogList, Object};
use icos_portal::ObjectId;

/// What is looked for, beyond what a [`super::ObjectSelection`] says.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Of data types with such a theme (a part of its name, in any case).
    pub theme: Option<String>,
    /// Of data types of such a project (likewise).
    pub project: Option<String>,
    /// Tables with such a variable: a part of a column's label or of what it
    /// is of.
    pub variable: Option<String>,
    /// With a file name that contains this, in any case.
    pub name: Option<String>,
    /// With data from this time or later.
    pub from: Option<Timestamp>,
    /// With data until this time or earlier.
    pub to: Option<Timestamp>,
    /// Submitted before this.
    pub submitted_before: Option<Timestamp>,
    /// With originals of so many bytes.
    pub size: Option<RangeInclusive<u64>>,
    /// Sampled at so many metres above ground.
    pub height: Option<RangeInclusive<f64>>,
    /// Within west, south, east and north, in degrees.
    pub bbox: Option<[f64; 4]>,
    /// In which order; that of submission without.
    pub order: Option<Order>,
    /// The last ones first.
    pub descending: bool,
    /// At most so many.
    pub limit: Option<usize>,
    /// But for the first ones, so many.
    pub offset: usize,
}

/// What objects are ordered by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// When they were submitted.
    Submitted,
    /// When their data begin.
    Start,
    /// When their data end.
    End,
    /// Length of the original.
    Size,
    /// File name.
    Name,
}

impl Catalog {
    /// The shown objects that `search` describes.
    pub async fn search(&self, search: &Search) -> Result<Vec<Arc<Object>>, CatalogError> {
        self.ensure(CatalogList::Vocabulary).await?;
        match self.the_station() {
            Some(list) => self.ensure_complete(list).await?,
            None => self.ensure_complete(CatalogList::Objects).await?,
        }
        let within = match search.bbox {
            Some(bbox) => Some(self.within(bbox).await?),
            None => None,
        };
        let (catalog, search) = (self.clone(), search.clone());
        let found = tokio::task::spawn_blocking(move || catalog.matching(&search, within.as_ref()));
        let found = found.await;
        found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// What must be known if only one station's objects are shown.
    fn the_station(&self) -> Option<CatalogList> {
        let view = self.0.view();
        let [only] = &self.0.selection.stations[..] else {
            return None;
        };
        let mut stations = view.vocabulary.stations();
        let station = stations.find(|station| {
            let row = station.row();
            row.code.eq_ignore_ascii_case(only) || row.iri.eq_ignore_ascii_case(only)
        });
        station.map(|station| station.list())
    }

    /// The ids of objects within a box: only the portal knows what they cover.
    async fn within(&self, bbox: [f64; 4]) -> Result<HashSet<ObjectId>, CatalogError> {
        let mut ids = HashSet::new();
        loop {
            let page = self.0.meta.within(bbox, ids.len()).await?;
            let sent = page.sent;
            let before = ids.len();
            ids.extend(page.rows);
            if sent < icos_portal::MetadataClient::MAX_ROWS || ids.len() == before {
                return Ok(ids);
            }
        }
    }

    fn matching(
        &self,
        search: &Search,
        within: Option<&HashSet<ObjectId>>,
    ) -> Result<Vec<Arc<Object>>, CatalogError> {
        let mut found = Vec::new();
        // In the order they come, no more are needed than are shown.
        let enough = match (search.order, search.descending, search.limit) {
            (None, false, Some(limit)) => limit.saturating_add(search.offset),
            _ => usize::MAX,
        };
        if enough == 0 {
            return Ok(found);
        }
        self.walk(&CatalogFolder::All, 0, |listed| {
            let inside = within.is_none_or(|ids| ids.contains(&listed.object.id()));
            if inside && search.describes(&listed.object) {
                found.push(listed.object);
            }
            if found.len() >= enough {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if enough == usize::MAX {
            let order = search.order.unwrap_or(Order::Submitted);
            found.sort_by(|a, b| {
                let sorted = compare(order, a, b);
                if search.descending {
                    sorted.reverse()
                } else {
                    sorted
                }
            });
        }
        let rest = found.into_iter().skip(search.offset);
        Ok(rest.take(search.limit.unwrap_or(usize::MAX)).collect())
    }
}

fn compare(order: Order, a: &Object, b: &Object) -> Ordering {
    match order {
        Order::Submitted => a.submitted().cmp(&b.submitted()),
        Order::Start => a.span().map(|s| s.0).cmp(&b.span().map(|s| s.0)),
        Order::End => a.span().map(|s| s.1).cmp(&b.span().map(|s| s.1)),
        Order::Size => a.size().cmp(&b.size()),
        Order::Name => a.file_name().cmp(b.file_name()),
    }
    .then_with(|| a.id().cmp(&b.id()))
}

impl Search {
    fn describes(&self, object: &Object) -> bool {
        let contains = |text: Option<&str>, wanted: &Option<String>| {
            let wanted = wanted.as_ref().map(|wanted| wanted.to_lowercase());
            wanted
                .is_none_or(|wanted| text.is_some_and(|text| text.to_lowercase().contains(&wanted)))
        };
        let spec = object.spec();
        contains(spec.and_then(|spec| spec.theme()), &self.theme)
            && contains(spec.and_then(|spec| spec.project()), &self.project)
            && contains(Some(object.file_name()), &self.name)
            && self.spans(object)
            && (self.submitted_before).is_none_or(|before| object.submitted() < before)
            && (self.size.as_ref()).is_none_or(|size| size.contains(&object.size()))
            && (self.height.as_ref())
                .is_none_or(|height| object.height().is_some_and(|h| height.contains(&h)))
            && self.has_variable(object)
    }

    /// Whether the object's data and the time wanted overlap.
    fn spans(&self, object: &Object) -> bool {
        let Some((start, end)) = object.span() else {
            return self.from.is_none() && self.to.is_none();
        };
        self.from.is_none_or(|from| end >= from) && self.to.is_none_or(|to| start <= to)
    }

    fn has_variable(&self, object: &Object) -> bool {
        let Some(wanted) = self.variable.as_ref().map(|text| text.to_lowercase()) else {
            return true;
        };
        let like = |text: &str| text.to_lowercase().contains(&wanted);
        let columns = object.spec().map_or(&[][..], |spec| spec.columns());
        match object.column_names() {
            // What the table has, not what such a table may have.
            Some(names) => {
                names.iter().any(|name| like(name))
                    || columns.iter().any(|column| {
                        column.value.as_deref().is_some_and(like) && names.contains(&column.title)
                    })
            }
            None => columns.iter().any(|column| {
                !column.optional
                    && (like(&column.title) || column.value.as_deref().is_some_and(like))
            }),
        }
    }
}
