//! What a person may have in hand that names something in a repository: ids, persistent
//! identifiers and addresses. Decided by the text alone, without a request.

use std::collections::BTreeSet;

use url::Url;

use icos_portal::{Envri, ObjectId};

/// An identifier or an address of something in a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Link {
    pub(super) target: LinkTarget,
    /// The repository whose service the address is of.
    pub(super) repository: Option<Envri>,
}

/// What a link leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum LinkTarget {
    /// An object or document; a bare id may also be that of a collection.
    Object(ObjectId),
    Collection(ObjectId),
    /// A station, by the end of its IRI.
    Station(String),
    /// A digital object identifier.
    Doi(String),
}

/// The text names several objects.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected one object, found {} of them: {}", .0.len(), list(.0))]
pub(super) struct SeveralObjects(Vec<ObjectId>);

fn list(ids: &[ObjectId]) -> String {
    let ids: Vec<String> = ids.iter().map(ObjectId::to_string).collect();
    ids.join(" ")
}

/// What `text` names; `None` if it is no identifier and no address.
///
/// # Errors
///
/// [`SeveralObjects`] for an address with more than one id.
pub(super) fn parse(text: &str) -> Result<Option<Link>, SeveralObjects> {
    let text = text.trim();
    let text = text
        .strip_prefix('<')
        .and_then(|text| text.strip_suffix('>'))
        .unwrap_or(text);
    let mut repository = None;
    let target = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            repository = url.host_str().and_then(repository_at);
            address(&url)?
        }
        _ if text.contains("://") => None,
        _ => identifier(text),
    };
    Ok(target.map(|target| Link { target, repository }))
}

/// The repository whose metadata or data service has this host name.
fn repository_at(host: &str) -> Option<Envri> {
    let is_at = |url: &str| url.strip_prefix("https://") == Some(host);
    let mut all = Envri::ALL.into_iter();
    all.find(|envri| is_at(envri.meta_url()) || is_at(envri.data_url()))
}

/// An id, a DOI, a handle, or a path with an id.
fn identifier(text: &str) -> Option<LinkTarget> {
    if let Ok(id) = text.parse() {
        return Some(LinkTarget::Object(id));
    }
    if let Some(doi) = doi(without_scheme(text, "doi:").unwrap_or(text)) {
        return Some(LinkTarget::Doi(doi));
    }
    let id = handle(without_scheme(text, "hdl:").unwrap_or(text));
    id.or_else(|| data_path(text)).map(LinkTarget::Object)
}

/// `text` without `scheme`, in any case.
fn without_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(scheme.len())?;
    start
        .eq_ignore_ascii_case(scheme)
        .then(|| rest.trim_start())
}

fn doi(text: &str) -> Option<String> {
    let (prefix, suffix) = text.split_once('/')?;
    let registrant = prefix.strip_prefix("10.")?;
    let is_number =
        !registrant.is_empty() && registrant.chars().all(|c| c.is_ascii_digit() || c == '.');
    (is_number && !suffix.is_empty()).then(|| text.trim_end_matches('/').to_owned())
}

/// The id in a handle such as `11676/<id>`.
fn handle(text: &str) -> Option<ObjectId> {
    let (prefix, id) = text.trim_matches('/').split_once('/')?;
    let is_prefix = !prefix.is_empty() && prefix.chars().all(|c| c.is_ascii_digit() || c == '.');
    is_prefix.then(|| id.parse().ok())?
}

/// The id in a path of the portal's data folder, or of `objects/` in a mount.
fn data_path(text: &str) -> Option<ObjectId> {
    let mut parts = text.trim_end_matches('/').rsplit('/');
    let id = |name: &str| name.split('.').next()?.parse().ok();
    let name = parts.next()?;
    let folder = parts.next()?;
    let is_data = parts.next() == Some("dataAppStorage");
    if is_data || (folder == "objects" && !text.starts_with(['/', '.'])) || folder == "documents" {
        return id(name);
    }
    None
}

fn address(url: &Url) -> Result<Option<LinkTarget>, SeveralObjects> {
    let path = decoded(url.path());
    let host = url.host_str().unwrap_or_default();
    if matches!(host, "doi.org" | "dx.doi.org" | "www.doi.org") {
        return Ok(doi(path.trim_start_matches('/')).map(LinkTarget::Doi));
    }
    if host == "hdl.handle.net" {
        return Ok(handle(&path).map(LinkTarget::Object));
    }
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    for (at, segment) in segments.iter().enumerate() {
        let next = segments.get(at + 1);
        let id = || next.and_then(|next| next.split('.').next()?.parse().ok());
        let link = match *segment {
            "objects" | "csv" | "cpb" | "zip" => id().map(LinkTarget::Object),
            "collections" => id().map(LinkTarget::Collection),
            "stations" => next.map(|name| LinkTarget::Station((*name).to_owned())),
            _ => None,
        };
        if link.is_some() {
            return Ok(link);
        }
    }
    // A preview, a page of an application, or a request for several objects.
    let rest = [
        path.as_str(),
        &decoded(url.query().unwrap_or_default()),
        &decoded(url.fragment().unwrap_or_default()),
    ]
    .join("\n");
    let words = rest.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'));
    let ids: BTreeSet<[u8; 18]> = (words.filter_map(|word| word.parse::<ObjectId>().ok()))
        .map(|id| *id.as_bytes())
        .collect();
    let ids: Vec<ObjectId> = ids.into_iter().map(ObjectId::from_bytes).collect();
    match ids.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(LinkTarget::Object(*only))),
        _ => Err(SeveralObjects(ids)),
    }
}

/// `text` without percent encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "UNhY4JhezH9gQYqvDMWrWH9C";

    fn target(text: &str) -> Option<LinkTarget> {
        parse(text).unwrap().map(|link| link.target)
    }

    #[test]
    fn address_names_its_repository() {
        for (url, repository) in [
            ("https://meta.icos-cp.eu/objects/", Some(Envri::Icos)),
            ("https://data.fieldsites.se/csv/", Some(Envri::Sites)),
            (
                "https://citymeta.icos-cp.eu/objects/",
                Some(Envri::IcosCities),
            ),
            ("https://hdl.handle.net/11676/", None),
            ("", None),
        ] {
            let link = parse(&format!("{url}{ID}")).unwrap().unwrap();
            assert_eq!(link.repository, repository, "{url}");
        }
    }

    #[test]
    fn everything_that_names_an_object_is_recognized() {
        let id: ObjectId = ID.parse().unwrap();
        for form in [
            "ID",
            "  <ID> ",
            "UNhY4JhezH9gQYqvDMWrWH9CwlcKiECVqejMrND2VFw",
            "50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c",
            "11676/ID",
            "hdl:11676/ID",
            "HDL:11676/ID",
            "https://hdl.handle.net/11676/ID",
            "http://hdl.handle.net/11676.1/ID",
            "https://meta.icos-cp.eu/objects/ID",
            "<https://meta.icos-cp.eu/objects/ID>",
            "https://meta.icos-cp.eu/objects/ID/",
            "https://meta.icos-cp.eu/objects/ID/meta.json",
            "https://meta.icos-cp.eu/objects/ID.json",
            "https://data.icos-cp.eu/csv/ID?limit=5",
            "https://data.icos-cp.eu/cpb/ID",
            "https://data.icos-cp.eu/objects/ID",
            "https://data.icos-cp.eu/zip/ID/folder/header.csv",
            "https://data.icos-cp.eu/licence_accept?ids=[%22ID%22]",
            "https://data.icos-cp.eu/objects?ids=%5B%22ID%22%5D&fileName=x",
            "https://data.icos-cp.eu/portal/#%7B%22route%22:%22preview%22,%22preview%22:%5B%22ID%22%5D%7D",
            "https://data.icos-cp.eu/dygraph-light/?objId=ID&x=TIMESTAMP&y=co2",
            "https://data.icos-cp.eu/preview/ID",
            "/data/dataAppStorage/asciiAtcProductTimeSer/ID.cpb",
            "dataAppStorage/asciiAtcProductTimeSer/ID",
            "objects/ID",
            "objects/ID.good.csv",
        ] {
            let text = form.replace("ID", ID);
            assert_eq!(target(&text), Some(LinkTarget::Object(id)), "{text}");
        }
    }

    #[test]
    fn collections_stations_and_dois_are_recognized() {
        let collection = LinkTarget::Collection(ID.parse().unwrap());
        let station = LinkTarget::Station("AS_HTM".to_owned());
        let doi = LinkTarget::Doi("10.18160/20Z1-AYJ2".to_owned());
        for (text, link) in [
            (
                "https://meta.icos-cp.eu/collections/UNhY4JhezH9gQYqvDMWrWH9C",
                &collection,
            ),
            (
                "https://meta.icos-cp.eu/collections/UNhY4JhezH9gQYqvDMWrWH9C/",
                &collection,
            ),
            ("http://meta.icos-cp.eu/resources/stations/AS_HTM", &station),
            (
                "https://meta.icos-cp.eu/resources/stations/AS_HTM/",
                &station,
            ),
            ("10.18160/20Z1-AYJ2", &doi),
            ("doi:10.18160/20Z1-AYJ2", &doi),
            ("DOI: 10.18160/20Z1-AYJ2", &doi),
            ("https://doi.org/10.18160/20Z1-AYJ2", &doi),
            ("http://dx.doi.org/10.18160%2F20Z1-AYJ2", &doi),
        ] {
            assert_eq!(target(text).as_ref(), Some(link), "{text}");
        }
    }

    #[test]
    fn text_that_names_nothing_or_several_objects_is_not_guessed() {
        for text in [
            "",
            "/",
            "nowhere/UNhY4JhezH9gQYqvDMWrWH9C",
            "ftp://x/objects/UNhY4JhezH9gQYqvDMWrWH9C",
            "https://meta.icos-cp.eu/",
            "10.18160",
            "10.x/y",
            "a.csv",
            "https://doi.org/",
        ] {
            assert_eq!(parse(text), Ok(None), "{text}");
        }
        let other = ObjectId::of_content(b"other");
        let text = format!("https://data.icos-cp.eu/objects?ids=[\"{ID}\",\"{other}\"]");
        let error = parse(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("expected one object, found 2 of them: "),
            "{error}"
        );
        assert!(error.contains(ID), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&text);
            let _ = parse(&format!("https://x/{text}"));
            let _ = parse(&String::from_utf8_lossy(&bytes));
            let _ = decoded(&text);
        }
    }
}
