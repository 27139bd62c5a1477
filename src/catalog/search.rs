//! Searches the objects in the selection.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use jiff::Timestamp;

use super::words::{Haystack, SearchWord};
use super::{Catalog, CatalogError, CatalogFolder, CatalogList, Object, Spec, Vocabulary, fold};
use icos_portal::{MetadataClient, ObjectId};
use icos_sync::run_blocking;

/// Criteria in addition to those of an [`super::ObjectSelection`]; an object must
/// fulfil all that are set.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Only members of this collection, of any type and version.
    pub collection: Option<ObjectId>,
    /// Words that must all occur in a text of the object.
    pub words: Vec<SearchWord>,
    /// The data type's theme: its IRI, the end of that, or a part of its label.
    pub theme: Option<String>,
    /// The same for its project.
    pub project: Option<String>,
    /// A part of the label, or of the measured quantity, of a column of the table, in
    /// any case.
    pub variable: Option<String>,
    /// A part of the file name, in any case.
    pub name: Option<String>,
    /// The data end at this time or later.
    pub from: Option<Timestamp>,
    /// The data start at this time or earlier.
    pub to: Option<Timestamp>,
    /// The object was submitted before this time.
    pub submitted_before: Option<Timestamp>,
    /// Length of the original in bytes.
    pub size: Option<RangeInclusive<u64>>,
    /// Height of the sampling, in metres above ground.
    pub height: Option<RangeInclusive<f64>>,
    /// West, south, east and north of the area, in degrees.
    pub bbox: Option<[f64; 4]>,
    /// Order of the results; the order of submission if absent.
    pub order: Option<Order>,
    /// Whether to reverse the order.
    pub descending: bool,
    /// Maximum number of results.
    pub limit: Option<usize>,
    /// Number of results to skip.
    pub offset: usize,
}

/// The property by which results are ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The time of submission.
    Submitted,
    /// The start of the data.
    Start,
    /// The end of the data.
    End,
    /// Length of the original.
    Size,
    /// File name.
    Name,
}

impl Catalog {
    /// The objects in the selection that match `search`.
    pub async fn search(&self, search: &Search) -> Result<Vec<Arc<Object>>, CatalogError> {
        self.ensure(CatalogList::Vocabulary).await?;
        match (search.collection, self.only_station()) {
            (Some(collection), _) => {
                self.ensure_complete(CatalogList::Collections).await?;
                self.ensure_complete(CatalogList::Members(collection))
                    .await?;
            }
            (None, Some(list)) => self.ensure_complete(list).await?,
            (None, None) => self.ensure_complete(CatalogList::Objects).await?,
        }
        let within = match search.bbox {
            Some(bbox) => Some(self.within(bbox).await?),
            None => None,
        };
        let texts = if search.words.is_empty() {
            HashMap::new()
        } else {
            self.texts().await?
        };
        let words = Haystack::new(&search.words, &self.vocabulary(), texts);
        let (catalog, search) = (self.clone(), search.clone());
        run_blocking(move || catalog.matching(&search, &words, within.as_ref())).await
    }

    /// The list that suffices if the selection has only one station.
    fn only_station(&self) -> Option<CatalogList> {
        if self.0.selection.stations.is_empty() {
            return None;
        }
        match &self.shown_stations()[..] {
            [only] => Some(only.list()),
            _ => None,
        }
    }

    /// The ids of the objects in an area, which only the portal knows.
    async fn within(&self, bbox: [f64; 4]) -> Result<HashSet<ObjectId>, CatalogError> {
        let mut ids = HashSet::new();
        loop {
            let before = ids.len();
            let page = self.0.meta.within(bbox, before).await?;
            ids.extend(page.rows);
            if page.sent < MetadataClient::MAX_ROWS || ids.len() == before {
                return Ok(ids);
            }
        }
    }

    fn matching(
        &self,
        search: &Search,
        words: &Haystack,
        within: Option<&HashSet<ObjectId>>,
    ) -> Result<Vec<Arc<Object>>, CatalogError> {
        let mut found = Vec::new();
        let specs = search.specs(&self.vocabulary());
        // In the order of the walk, it can stop after the last result.
        let enough = match (search.order, search.descending, search.limit) {
            (None, false, Some(limit)) => limit.saturating_add(search.offset),
            _ => usize::MAX,
        };
        if enough == 0 {
            return Ok(found);
        }
        let folder = search
            .collection
            .map_or(CatalogFolder::All, CatalogFolder::Collection);
        self.walk(&folder, 0, |listed| {
            let inside = within.is_none_or(|ids| ids.contains(&listed.object.id()));
            let spec = || match listed.object.spec() {
                Some(spec) => specs.contains(&spec.key),
                // Documents are in collections only.
                None => search.theme.is_none() && search.project.is_none(),
            };
            if inside
                && spec()
                && search.matches(&listed.object)
                && words.contains_words(&listed.object)
            {
                found.push(listed.object);
            }
            match found.len() {
                len if len >= enough => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?;
        if enough == usize::MAX {
            // The order is total: the ids differ.
            found.sort_unstable_by(|a, b| compare(search.order.unwrap_or(Order::Submitted), a, b));
            if search.descending {
                found.reverse();
            }
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
    /// The keys of the data types that have the theme and the project.
    fn specs(&self, vocabulary: &Vocabulary) -> HashSet<i64> {
        let theme = self.theme.as_deref().map(fold);
        let project = self.project.as_deref().map(fold);
        let matches = |spec: &&Arc<Spec>| {
            (theme.as_ref()).is_none_or(|theme| spec.has_theme(theme))
                && (project.as_ref()).is_none_or(|project| spec.has_project(project))
        };
        let specs = vocabulary.specs().filter(matches);
        specs.map(|spec| spec.key).collect()
    }

    fn matches(&self, object: &Object) -> bool {
        let is_named = |wanted: &String| fold(object.file_name()).contains(&fold(wanted));
        self.name.as_ref().is_none_or(is_named)
            && self.overlaps(object)
            && (self.submitted_before).is_none_or(|before| object.submitted() < before)
            && (self.size.as_ref()).is_none_or(|size| size.contains(&object.size()))
            && (self.height.as_ref())
                .is_none_or(|height| object.height().is_some_and(|h| height.contains(&h)))
            && self.has_variable(object)
    }

    /// Whether the time of the object's data overlaps the time searched for.
    fn overlaps(&self, object: &Object) -> bool {
        let Some((start, end)) = object.span() else {
            return self.from.is_none() && self.to.is_none();
        };
        self.from.is_none_or(|from| end >= from) && self.to.is_none_or(|to| start <= to)
    }

    fn has_variable(&self, object: &Object) -> bool {
        let Some(wanted) = self.variable.as_deref().map(fold) else {
            return true;
        };
        let like = |text: &str| fold(text).contains(&wanted);
        let columns = object.spec().map_or(&[][..], |spec| spec.columns());
        match object.column_names() {
            // The columns of this table, not those that such a table may have.
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
