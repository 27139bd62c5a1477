//! Folders: as JSON for programs, and as HTML for people and for programs that read
//! links. All forms are sent while the folder is read, since it may have millions of
//! entries.

use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, VARY};
use jiff::Timestamp;

use super::ServerState;
use super::body::{BodySender, ClientGone, ReplyBody};
use super::entry::EntryInfo;
use super::html::{self, Crumbs, encode_component, escape};
use super::pages;
use super::reply::{self, JSON, Reply};
use super::router::RequestPath;
use super::status_code;
use crate::catalog::Walk;
use crate::content::FileSize;
use crate::tree::{DirEntry, Listing, Node, TreeError};
use icos_sync::run_blocking;

/// The number of entries that are read at once.
const BATCH: usize = 500;
/// The number of entries on one page for people.
const PAGE: usize = 500;

/// The form of a listing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum View {
    /// All entries as JSON.
    Json,
    /// All entries as links.
    PlainHtml,
    /// A page for people, with entries from this position on.
    Page {
        /// 0, or where the page before ended.
        from: u64,
    },
}

/// The entries of a folder, read in batches.
pub(super) struct EntryBatches {
    listing: Arc<Listing>,
    from: u64,
    at_end: bool,
}

impl EntryBatches {
    /// The entries of `directory` from position `from` on.
    pub(super) async fn of(
        state: &ServerState,
        directory: &Node,
        from: u64,
    ) -> Result<Self, TreeError> {
        Ok(Self {
            listing: Arc::new(state.tree.list(directory).await?),
            from,
            at_end: false,
        })
    }

    /// The next entries, at most `limit`; none at the end.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Vec<DirEntry>, TreeError> {
        while !self.at_end {
            let (listing, from) = (Arc::clone(&self.listing), self.from);
            let (entries, walk) = run_blocking(move || {
                let mut entries = Vec::new();
                let walk = listing.entries(from, |entry| {
                    let node = entry.node.followed();
                    let entry = DirEntry { node, ..entry };
                    entries.push(entry);
                    if entries.len() < limit {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
                walk.map(|walk| (entries, walk))
            })
            .await?;
            self.from = entries.last().map_or(self.from, |last| last.next);
            self.at_end = walk == Walk::AtEnd;
            if !entries.is_empty() {
                return Ok(entries);
            }
            if walk == Walk::Growing {
                self.listing.wait_for_more().await?;
            }
        }
        Ok(Vec::new())
    }

    /// The position of the next entry; `None` at the end.
    fn position(&self) -> Option<u64> {
        (!self.at_end).then_some(self.from)
    }
}

/// Replies with the entries of `directory`. What fails after the first entries ends the
/// connection.
pub(super) async fn reply(
    state: &Arc<ServerState>,
    path: &RequestPath,
    directory: &Node,
    view: View,
    is_head: bool,
) -> Result<Reply, TreeError> {
    let media_type = match view {
        View::Json => JSON,
        View::PlainHtml | View::Page { .. } => "text/html; charset=utf-8",
    };
    let mut reply = reply::empty(StatusCode::OK);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if is_head {
        *reply.body_mut() = ReplyBody::of_unknown_length();
        return Ok(reply);
    }
    if let View::Page { from } = view {
        let mut batches = EntryBatches::of(state, directory, from).await?;
        let entries = batches.next(PAGE).await?;
        let page = page(state, path, directory, &entries, from, batches.position());
        *reply.body_mut() = ReplyBody::of(page);
        return Ok(reply);
    }
    let mut batches = EntryBatches::of(state, directory, 0).await?;
    let first = batches.next(BATCH).await?;
    let (sender, body) = ReplyBody::stream(None);
    *reply.body_mut() = body;
    let (state, path) = (Arc::clone(state), path.clone());
    icos_sync::spawn_task(async move {
        match send(&state, &path, view, first, batches, &sender).await {
            Ok(()) => sender.end().await,
            Err(error) => {
                let status = status_code::of_tree(&error);
                state.record_failure("list", &path.encoded(), status, &error);
                sender.fail(io::Error::other(error)).await;
            }
        }
    });
    Ok(reply)
}

/// Sends all entries, beginning with those in `entries`.
async fn send(
    state: &ServerState,
    path: &RequestPath,
    view: View,
    mut entries: Vec<DirEntry>,
    mut batches: EntryBatches,
    sender: &BodySender,
) -> Result<(), TreeError> {
    let shown = path.components.join("/");
    let (head, tail) = match view {
        View::Json => {
            let path = serde_json::Value::from(shown);
            (format!("{{\"path\":{path},\"entries\":["), "\n]}\n")
        }
        View::PlainHtml | View::Page { .. } => {
            let title = escape(&shown);
            (
                format!(
                    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>/{title}</title></head>\n<body><h1>/{title}</h1>\n<ul>\n"
                ),
                "</ul></body></html>\n",
            )
        }
    };
    let mut text = head;
    let mut is_first = true;
    while !entries.is_empty() {
        for DirEntry { name, node, .. } in entries {
            let entry = EntryInfo::of(state, name, &node);
            if view == View::Json {
                text.push_str(if is_first { "\n" } else { ",\n" });
                let _ = write!(text, "{}", entry.json(state, &node));
            } else {
                let slash = if node.is_directory() { "/" } else { "" };
                let (link, name) = (encode_component(&entry.name), escape(&entry.name));
                let _ = writeln!(text, "<li><a href=\"{link}{slash}\">{name}{slash}</a></li>");
            }
            is_first = false;
        }
        if let Err(ClientGone) = sender.send(std::mem::take(&mut text)).await {
            return Ok(());
        }
        entries = batches.next(BATCH).await?;
    }
    text.push_str(tail);
    let _ = sender.send(text).await;
    Ok(())
}

/// A page for people with some entries of a folder.
fn page(
    state: &ServerState,
    path: &RequestPath,
    directory: &Node,
    entries: &[DirEntry],
    from: u64,
    next: Option<u64>,
) -> String {
    let mut body = pages::introduction(state, directory);
    body.push_str(
        "<table class=\"stacked\">\n<thead><tr><th scope=\"col\">Name</th>\
         <th scope=\"col\" class=\"number\">Size</th><th scope=\"col\">Submitted</th>\
         <th scope=\"col\">About</th></tr></thead>\n<tbody>\n",
    );
    for DirEntry { name, node, .. } in entries {
        let entry = EntryInfo::of(state, name.clone(), node);
        let slash = if node.is_directory() { "/" } else { "" };
        let (link, shown) = (encode_component(&entry.name), escape(&entry.name));
        let size = match entry.size {
            Some(FileSize::Exact(bytes)) => html::size(bytes),
            // Not a number that would look exact.
            Some(FileSize::Estimate(_)) => {
                "<abbr title=\"known once it is read\">?</abbr>".to_owned()
            }
            None => String::new(),
        };
        let date = entry.modified.map_or(String::new(), date);
        let about = match node {
            Node::File(object, representation)
                if object.representations().first() == Some(representation) =>
            {
                let link = pages::object_path(object.id());
                format!("<a href=\"{link}\" aria-label=\"About {shown}\">about</a>")
            }
            _ => pages::title(state, node).map_or(String::new(), |title| escape(&title)),
        };
        let _ = writeln!(
            body,
            "<tr><td><a href=\"{link}{slash}\">{shown}{slash}</a></td><td class=\"number\">{size}</td><td>{date}</td><td>{about}</td></tr>"
        );
    }
    body.push_str("</tbody>\n</table>\n");
    if entries.is_empty() {
        body.push_str("<p>This folder is empty.</p>\n");
    }
    if from > 0 || next.is_some() {
        body.push_str("<nav aria-label=\"Pages\"><p>");
        if from > 0 {
            body.push_str("<a href=\"./\">First page</a> ");
        }
        if let Some(next) = next {
            let _ = write!(body, "<a href=\"?from={next}\">Next page</a>");
        }
        body.push_str("</p></nav>\n");
    }
    let title = pages::title(state, directory);
    let repository = state.options.envri.name();
    html::page(&Crumbs::of(path), title.as_deref(), repository, &body)
}

fn date(time: Timestamp) -> String {
    time.strftime("%F").to_string()
}
