//! `GET /objects/<id>`: an original, if it is available to the client.

use axum::http::StatusCode;

use super::{file, licence};
use crate::content::OriginalContent;
use crate::graph::RdfNode;
use crate::http::{DemoReply, DemoRequest, no_route, redirect, text};
use crate::landing;
use crate::state::PortalState;
use icos_portal::ObjectId;

pub(super) fn answer(state: &PortalState, request: &DemoRequest, id: &ObjectId) -> DemoReply {
    let envri = state.repository.envri();
    let Some(object) = state.repository.object(id) else {
        let iri = format!("{}{id}", envri.landing_prefix());
        let why = landing::expected_one(&iri, "cpmeta:hasObjectSpec", 0);
        return text(
            StatusCode::NOT_FOUND,
            format!("Metadata server error: \n{why}"),
        );
    };
    if object.is_a("cpmeta:DocumentObject") {
        return match state.repository.content(id) {
            Some(OriginalContent::Missing) | None => text(
                StatusCode::NOT_FOUND,
                "Contents of this document are not found on the server.",
            ),
            Some(original) => send(request, object, &original),
        };
    }
    if licence::accepted_for(request, &[*id]) {
        let mut reply = if_accessible(state, request, id, object);
        licence::forget(&mut reply);
        return reply;
    }
    if licence::must_be_accepted(state, request, object) {
        return redirect(&licence::location(&[*id], None, false));
    }
    if_accessible(state, request, id, object)
}

fn if_accessible(
    state: &PortalState,
    request: &DemoRequest,
    id: &ObjectId,
    object: RdfNode<'_>,
) -> DemoReply {
    if let Some(why) = landing::inaccessible(state.repository.envri(), object) {
        return text(StatusCode::NOT_FOUND, why);
    }
    match state.repository.content(id) {
        Some(OriginalContent::Missing) | None => text(
            StatusCode::NOT_FOUND,
            "File with object contents is missing on the server",
        ),
        Some(original) => send(request, object, &original),
    }
}

fn send(request: &DemoRequest, object: RdfNode<'_>, original: &OriginalContent) -> DemoReply {
    let name = object.text("cpmeta:hasName").unwrap_or_default();
    let modified = object
        .one("cpmeta:wasSubmittedBy")
        .and_then(|submission| submission.text("prov:startedAtTime"))
        .and_then(|time| time.parse().ok())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let mut reply = match file::send(request, original, name, modified) {
        Ok(reply) => reply,
        // Akka rejects the request, and no other route matches it.
        Err(file::Unsatisfiable) => return no_route(),
    };
    file::attachment(&mut reply, name);
    reply
}
