//! `GET /objects/<id>`: an original, if the asker may have it.

use axum::http::StatusCode;

use super::{file, licence, no_service};
use crate::content::Original;
use crate::graph::Node;
use crate::http::{Ask, Reply, found, text};
use crate::landing;
use crate::state::Shared;
use icos_portal::ObjectId;

pub(super) fn answer(shared: &Shared, ask: &Ask, id: &ObjectId) -> Reply {
    let envri = shared.repository.envri();
    let Some(object) = shared.repository.object(id) else {
        let iri = format!("{}{id}", envri.landing_prefix());
        let why = landing::expected_one(&iri, "cpmeta:hasObjectSpec", 0);
        return text(
            StatusCode::NOT_FOUND,
            format!("Metadata server error: \n{why}"),
        );
    };
    if object.is_a("cpmeta:DocumentObject") {
        return match shared.repository.content(id) {
            Some(Original::Missing) | None => text(
                StatusCode::NOT_FOUND,
                "Contents of this document are not found on the server.",
            ),
            Some(original) => send(ask, object, &original),
        };
    }
    if licence::accepted_for(ask, &[*id]) {
        let mut reply = if_accessible(shared, ask, id, object);
        licence::forget(&mut reply);
        return reply;
    }
    if licence::must_be_accepted(shared, ask, object) {
        return found(&licence::location(&[*id], None, false));
    }
    if_accessible(shared, ask, id, object)
}

fn if_accessible(shared: &Shared, ask: &Ask, id: &ObjectId, object: Node<'_>) -> Reply {
    if let Some(why) = landing::inaccessible(shared.repository.envri(), object) {
        return text(StatusCode::NOT_FOUND, why);
    }
    match shared.repository.content(id) {
        Some(Original::Missing) | None => text(
            StatusCode::NOT_FOUND,
            "File with object contents is missing on the server",
        ),
        Some(original) => send(ask, object, &original),
    }
}

fn send(ask: &Ask, object: Node<'_>, original: &Original) -> Reply {
    let name = object.text("cpmeta:hasName").unwrap_or_default();
    let modified = object
        .one("cpmeta:wasSubmittedBy")
        .and_then(|submission| submission.text("prov:startedAtTime"))
        .and_then(|time| time.parse().ok())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let mut reply = match file::send(ask, original, name, modified) {
        Ok(reply) => reply,
        // Akka rejects the request, and no other route takes it.
        Err(file::Unsatisfiable) => return no_service(),
    };
    file::attachment(&mut reply, name);
    reply
}
