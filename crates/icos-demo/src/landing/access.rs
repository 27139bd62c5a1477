//! Whether, and where, the content of an object may be downloaded.

use crate::graph::RdfNode;
use icos_portal::Envri;

/// When the upload of an object was completed, or its moratorium ends.
pub(super) fn submission_end(object: RdfNode<'_>) -> Option<jiff::Timestamp> {
    let submission = object.one("cpmeta:wasSubmittedBy")?;
    submission.text("prov:endedAtTime")?.parse().ok()
}

/// Whether an object's content is not public yet.
pub(crate) fn is_under_moratorium(object: RdfNode<'_>) -> bool {
    submission_end(object).is_some_and(|end| end > jiff::Timestamp::now())
}

pub(super) fn own_access_url(envri: Envri, object: RdfNode<'_>) -> String {
    format!("{}/objects/{}", envri.data_url(), object.local_name())
}

/// The URL of an object's content; `None` if policy forbids downloads.
pub(super) fn access_url(envri: Envri, object: RdfNode<'_>) -> Option<String> {
    if let Some(elsewhere) = object.one("rdfs:seeAlso") {
        return Some(elsewhere.iri().to_owned());
    }
    let spec = object.one("cpmeta:hasObjectSpec")?;
    let level = spec.number::<i64>("cpmeta:hasDataLevel").unwrap_or(0);
    let theme = spec
        .one("cpmeta:hasDataTheme")
        .map(|theme| theme.local_name());
    let withheld = level < 1 && theme == Some("atmosphere");
    (!withheld).then(|| own_access_url(envri, object))
}

/// Why the data service refuses an object's content, in its words. The caller
/// checks whether the file exists.
pub(crate) fn inaccessible(envri: Envri, object: RdfNode<'_>) -> Option<String> {
    if object.text("cpmeta:hasSizeInBytes").is_none() {
        return Some("Uploading of this object has not been completed.".to_owned());
    }
    if is_under_moratorium(object) {
        let end = submission_end(object)?;
        return Some(format!(
            "Data object is under moratorium, will be available at {end}"
        ));
    }
    let document = object.is_a("cpmeta:DocumentObject");
    let Some(url) = access_url(envri, object).filter(|_| !document) else {
        return (!document).then(|| {
            format!("Data object is not distributed by the Data Portal due to {envri} policies")
        });
    };
    let second_level = |url: &str| {
        let host = url.split('/').nth(2).unwrap_or_default();
        let labels: Vec<_> = host.rsplit('.').take(2).map(str::to_owned).collect();
        labels
    };
    (second_level(&url) != second_level(envri.data_url()))
        .then(|| "Data object is distributed by third parties".to_owned())
}
