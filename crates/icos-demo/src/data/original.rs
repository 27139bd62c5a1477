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
    let repository = &state.repository;
    let Some(object) = repository.object(id) else {
        let iri = format!("{}{id}", repository.envri().landing_prefix());
        let why = landing::expected_one(&iri, "cpmeta:hasObjectSpec", 0);
        return text(
            StatusCode::NOT_FOUND,
            format!("Metadata server error: \n{why}"),
        );
    };
    let licensed = !object.is_a("cpmeta:DocumentObject");
    let by_cookie = licensed && licence::accepted_for(request, &[*id]);
    if licensed && !by_cookie && licence::must_be_accepted(state, request, object) {
        return redirect(&licence::location(&[*id], None, false));
    }
    let mut reply = match repository.available(id, object) {
        Ok(original) => send(request, object, &original),
        Err(why) => text(StatusCode::NOT_FOUND, why),
    };
    if by_cookie {
        licence::forget(&mut reply);
    }
    reply
}

fn send(request: &DemoRequest, object: RdfNode<'_>, original: &OriginalContent) -> DemoReply {
    let name = object.text("cpmeta:hasName").unwrap_or_default();
    let modified = object
        .one("cpmeta:wasSubmittedBy")
        .and_then(|submission| submission.text("prov:startedAtTime"))
        .and_then(|time| time.parse().ok())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // Akka rejects a request for other ranges, and no other route matches it.
    let Some(mut reply) = file::send(request, original, name, modified) else {
        return no_route();
    };
    file::attachment(&mut reply, name);
    reply
}
