//! The licence page, and where those are sent who have not accepted it.

use axum::http::StatusCode;

use crate::demo::http::{Ask, Reply, reply};
use crate::demo::state::Shared;
use crate::portal::ObjectId;

/// The page that asks for acceptance before `id` is handed out.
pub(super) fn location(id: &ObjectId) -> String {
    let ids = serde_json::json!([id.to_string()]).to_string();
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("ids", &ids)
        .finish();
    format!("/licence?{query}")
}

pub(super) fn answer(shared: &Shared, _ask: &Ask) -> Reply {
    let page = format!(
        "<html><head><title>{0} data licence</title></head><body>\
        <h1>{0} data licence</h1><p>Creative Commons Attribution 4.0</p></body></html>",
        shared.repository.envri()
    );
    reply(StatusCode::OK, "text/html; charset=UTF-8", page)
}
