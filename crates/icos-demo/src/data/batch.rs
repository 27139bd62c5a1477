//! Several originals in a ZIP stream: a collection's members (`GET
//! /collections/<id>`), or any objects (`/objects?ids=[...]`).

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use tokio::sync::mpsc;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{file, licence};
use crate::graph::RdfNode;
use crate::http::{DemoReply, DemoRequest, exception, field, redirect, reply, text};
use crate::repository::DemoRepository;
use crate::state::PortalState;
use icos_portal::ObjectId;

/// Bytes to collect before sending them.
const PIECE: usize = 1 << 16;

/// Sends all members of a collection, including those of inner collections.
pub(super) fn collection(
    state: &Arc<PortalState>,
    request: &DemoRequest,
    id: &ObjectId,
) -> DemoReply {
    let Some(collection) = state.repository.collection(id) else {
        return exception(
            "java.util.NoSuchElementException",
            "head of empty IndexedSeq",
        );
    };
    let mut seen = HashSet::new();
    let mut members = Vec::new();
    descend(collection, &mut seen, &mut members);
    let accepted = licence::accepted_for(request, &[*id]);
    if !accepted && must_accept_any(state, request, &members) {
        return redirect(&licence::location(&[*id], None, true));
    }
    let title = collection.text("dcterms:title").unwrap_or("collection");
    send(state, members, title, accepted)
}

/// Collects the data objects of a collection, each once.
fn descend<'g>(collection: RdfNode<'g>, seen: &mut HashSet<&'g str>, members: &mut Vec<ObjectId>) {
    for item in collection.nodes("dcterms:hasPart") {
        if !seen.insert(item.iri()) {
            continue;
        }
        if item.is_a("cpmeta:Collection") {
            descend(item, seen, members);
        } else if item.is_a("cpmeta:DataObject") {
            members.extend(item.local_name().parse::<ObjectId>());
        }
    }
}

/// Sends the objects in `ids` as the file `fileName`. Both come from the URL
/// or, with POST, from a form.
pub(super) fn objects(state: &Arc<PortalState>, request: &DemoRequest) -> DemoReply {
    let posted = request.method == Method::POST;
    let fields = if posted {
        request.form()
    } else {
        request.query.clone()
    };
    let field = |name| field(&fields, name);
    let Some((items, name)) = field("ids").and_then(licence::items).zip(field("fileName")) else {
        let why = if posted {
            "Expected fileName and ids (js array of SHA256 hashsums) in request payload"
        } else {
            "Expected fileName URL parameter and js array of SHA256 hashsums in 'ids' URL parameter"
        };
        return text(StatusCode::BAD_REQUEST, why);
    };
    let by_cookie = licence::accepted_for(request, &items);
    let accepted = by_cookie || (posted && field("licenceOk") == Some("true"));
    if !accepted && must_accept_any(state, request, &items) {
        return redirect(&licence::location(&items, Some(name), false));
    }
    send(state, items, name, by_cookie)
}

fn must_accept_any(state: &PortalState, request: &DemoRequest, items: &[ObjectId]) -> bool {
    (items.iter())
        .filter_map(|item| state.repository.object(item))
        .any(|object| licence::must_be_accepted(state, request, object))
}

/// Sends an archive; `by_cookie` tells that the licence page's cookie allowed it.
fn send(state: &Arc<PortalState>, items: Vec<ObjectId>, title: &str, by_cookie: bool) -> DemoReply {
    let (sender, mut received) = mpsc::channel(8);
    let archived = Arc::clone(state);
    tokio::task::spawn_blocking(move || {
        let writer = BufWriter::with_capacity(PIECE, BodyWriter(sender));
        // It fails only if the client has disconnected.
        let _ = archive(&archived.repository, &items, writer);
    });
    let body = Body::from_stream(futures_util::stream::poll_fn(move |context| {
        received
            .poll_recv(context)
            .map(|piece| piece.map(io::Result::Ok))
    }));
    let mut reply = reply(StatusCode::OK, "application/zip", body);
    file::attachment(&mut reply, &format!("{title}.zip"));
    if by_cookie {
        licence::forget(&mut reply);
    }
    reply
}

/// Writes the archive: the available objects, a table of contents with the
/// reason for each missing one, and the licence.
fn archive(
    repository: &DemoRepository,
    items: &[ObjectId],
    writer: BufWriter<BodyWriter>,
) -> zip::result::ZipResult<()> {
    let mut zip = ZipWriter::new_stream(writer);
    let stored = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1));
    let mut contents = "Included,File name,PID,Landing page,Omission reason (if any)\n".to_owned();
    let mut used = HashSet::new();
    for id in items {
        let Some(object) = repository.object(id) else {
            continue;
        };
        let mut name = object.text("cpmeta:hasName").unwrap_or("object").to_owned();
        let (included, reason) = match repository.available(id, object) {
            Ok(original) => {
                name = unused(&name, &mut used);
                // Beyond 4 GiB the format needs longer fields.
                let large = original.size() > u64::from(u32::MAX);
                zip.start_file(&*name, stored.large_file(large))?;
                for piece in original.pieces(0..original.size()) {
                    zip.write_all(&piece)?;
                }
                ("Yes", String::new())
            }
            Err(reason) => ("No", reason),
        };
        let handle = format!("11676/{id},https://hdl.handle.net/11676/{id}");
        writeln!(contents, "{included},{name},{handle},{reason}").expect("a string takes any text");
    }
    zip.start_file("!TOC.csv", stored)?;
    zip.write_all(contents.as_bytes())?;
    zip.start_file("!LICENCE.pdf", stored)?;
    zip.write_all(b"%PDF-1.4\n% Creative Commons Attribution 4.0 International\n%%EOF\n")?;
    zip.finish()?.into_inner().flush()?;
    Ok(())
}

/// Returns an unused name: `x.csv`, then `x(1).csv`.
fn unused(name: &str, used: &mut HashSet<String>) -> String {
    let numbered = |number: u32| match (number, name.rsplit_once('.')) {
        (0, _) => name.to_owned(),
        (_, None) => format!("{name}({number})"),
        (_, Some((stem, extension))) => format!("{stem}({number}).{extension}"),
    };
    (0..=u32::MAX)
        .map(numbered)
        .find(|name| used.insert(name.clone()))
        .expect("numbers do not end before names do")
}

/// A writer whose output becomes the response body.
struct BodyWriter(mpsc::Sender<Bytes>);

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0.blocking_send(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
