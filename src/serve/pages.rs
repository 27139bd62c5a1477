//! Pages about things that are no files: an object, and a map of the stations. Their paths
//! are below `/.icosfs/`, where the tree has no such names.

use std::fmt::Write as _;
use std::sync::Arc;

use hyper::StatusCode;
use icos_portal::ObjectId;
use jiff::Timestamp;
use serde_json::Value;

use super::ServerState;
use super::charts;
use super::html::{self, Crumbs, encode_component, escape};
use super::map::{self, MAP_PATH};
use super::reply::{self, ErrorForm, Reply};
use super::router::failed;
use super::status_code;
use crate::catalog::{Object, Station};
use crate::content::FileSize;
use crate::tree::{Directory, Node, TreeError};

/// The media type of pages.
const HTML: &str = "text/html; charset=utf-8";
/// The start of the paths of pages about objects.
const OBJECT_PATH: &str = "/.icosfs/object/";

/// The path of the page about an object.
pub(super) fn object_path(id: ObjectId) -> String {
    format!("{OBJECT_PATH}{id}")
}

/// The page at `path`; `None` if it is none of these pages.
pub(super) async fn reply(
    state: &ServerState,
    path: &str,
    query: Option<&str>,
    form: ErrorForm,
) -> Option<Reply> {
    if path == MAP_PATH {
        return Some(match map::page(state).await {
            Ok(page) => reply::with_bytes(StatusCode::OK, HTML, page),
            Err(error) => failed(state, "list", path, &error, form),
        });
    }
    if let Some(chart) = charts::reply(state, path, query, form).await {
        return Some(chart);
    }
    let id = path.strip_prefix(OBJECT_PATH)?;
    let column = charts::chosen_column(query);
    Some(object_page(state, id, column.as_deref(), path, form).await)
}

/// The object with the id `id`, as it is in a path.
pub(super) async fn object_named(state: &ServerState, id: &str) -> Result<Arc<Object>, TreeError> {
    let id: ObjectId = id.parse().map_err(|_| TreeError::NoSuchName)?;
    state.tree.object(id).await
}

/// The page about the object `id`.
async fn object_page(
    state: &ServerState,
    id: &str,
    column: Option<&str>,
    path: &str,
    form: ErrorForm,
) -> Reply {
    let object = match object_named(state, id).await {
        Ok(object) => object,
        Err(error) => return failed(state, "get", path, &error, form),
    };
    match state.reader.landing_page(object.id()).await {
        Ok(landing) => {
            let mut chart = String::new();
            charts::section(state, &object, column, &mut chart).await;
            let page = object_html(state, &object, &landing, &chart);
            reply::with_bytes(StatusCode::OK, HTML, page)
        }
        Err(error) => {
            let status = status_code::of_content(&error);
            state.record_failure("get", path, status, &error);
            reply::error(status, &error, form)
        }
    }
}

fn object_html(state: &ServerState, object: &Arc<Object>, landing: &Value, chart: &str) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let references = &landing["references"];
    let title = text(&references["title"]).unwrap_or_else(|| object.file_name().to_owned());
    let mut body = String::new();
    if let Some(next) = object.next_version() {
        let _ = writeln!(
            body,
            "<p role=\"note\"><strong>A newer version exists:</strong> <a href=\"{}\">{next}</a></p>",
            object_path(next)
        );
    }
    downloads(state, object, &mut body);
    let mut facts = ObjectFacts::default();
    facts.add("File name", object.file_name());
    if let Some(spec) = object.spec() {
        let link = format!("/datatypes/{}/", encode_component(spec.name()));
        facts.link("Data type", &link, spec.label());
        facts.add("Level", &spec.level().to_string());
    }
    if let Some(station) = object.station() {
        let name = &station.row().name;
        if station.has_folder() {
            let link = format!("/stations/{}/", encode_component(station.name()));
            facts.link("Station", &link, name);
        } else {
            facts.add("Station", name);
        }
    }
    if let Some((start, end)) = object.span() {
        facts.add("Time", &format!("{} to {}", day(start), day(end)));
    }
    if let Some(height) = object.height() {
        facts.add("Sampling height", &format!("{height} m"));
    }
    if let Some((rows, _)) = object.as_table() {
        facts.add("Rows", &rows.to_string());
    }
    facts.add("Submitted", &day(object.submitted()));
    if let Some(pid) = text(&landing["pid"]) {
        facts.link("PID", &format!("https://hdl.handle.net/{pid}"), &pid);
    }
    if let Some(doi) = object.doi() {
        facts.link("DOI", &format!("https://doi.org/{doi}"), doi);
    }
    let licence = &references["licence"];
    let address = text(&licence["webpage"]).or_else(|| text(&licence["url"]));
    if let (Some(name), Some(address)) = (text(&licence["name"]), address) {
        facts.link("Licence", &address, &name);
    }
    let landing_page = format!("{}{}", state.options.envri.landing_prefix(), object.id());
    facts.link("Landing page", &landing_page, &landing_page);
    let _ = writeln!(body, "<h2>About</h2>\n{}", facts.html());
    if let Some(citation) = text(&references["citationString"]) {
        let _ = writeln!(
            body,
            "<h2>Citation</h2>\n<blockquote>{}</blockquote>",
            escape(&citation)
        );
    }
    variables(landing, &mut body);
    body.push_str(chart);
    let crumbs = Crumbs::to("objects", "/objects/", &object.id().to_string());
    html::page(&crumbs, Some(&title), state.options.envri.name(), &body)
}

/// Links to the files of an object.
fn downloads(state: &ServerState, object: &Arc<Object>, body: &mut String) {
    body.push_str("<h2>Files</h2>\n<ul class=\"downloads\">\n");
    for &representation in object.representations() {
        let ending = object.ending(representation);
        let node = Node::File(Arc::clone(object), representation);
        let size = match state.reader.size(&node) {
            FileSize::Exact(bytes) => format!(" ({})", html::size(bytes)),
            FileSize::Estimate(_) => String::new(),
        };
        let name = if ending.is_empty() {
            "original"
        } else {
            ending.trim_start_matches('.')
        };
        let _ = writeln!(
            body,
            "<li><a href=\"/objects/{}{}\">{}{size}</a></li>",
            object.id(),
            encode_component(&ending),
            escape(name)
        );
    }
    if object.is_archive() {
        let id = object.id();
        let _ = writeln!(
            body,
            "<li><a href=\"/objects/{id}.contents/\">contents of the archive</a></li>"
        );
    }
    body.push_str("</ul>\n");
}

/// The variables of a table, with their units.
fn variables(landing: &Value, body: &mut String) {
    let columns = landing["specificInfo"]["columns"].as_array();
    let Some(columns) = columns.filter(|columns| !columns.is_empty()) else {
        return;
    };
    body.push_str(
        "<h2>Variables</h2>\n<table>\n<thead><tr><th scope=\"col\">Name</th>\
         <th scope=\"col\">Quantity</th><th scope=\"col\">Unit</th></tr></thead>\n<tbody>\n",
    );
    for column in columns {
        let text = |value: &Value| escape(value.as_str().unwrap_or_default());
        let value_type = &column["valueType"];
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
            text(&column["label"]),
            text(&value_type["self"]["label"]),
            text(&value_type["unit"])
        );
    }
    body.push_str("</tbody>\n</table>\n");
}

/// A list of facts.
#[derive(Default)]
struct ObjectFacts(String);

impl ObjectFacts {
    fn add(&mut self, name: &str, value: &str) {
        let (name, value) = (escape(name), escape(value));
        let _ = writeln!(self.0, "<dt>{name}</dt><dd>{value}</dd>");
    }

    /// Adds a link, unless its address could run a script.
    fn link(&mut self, name: &str, address: &str, text: &str) {
        let is_safe = address.starts_with('/') && !address.starts_with("//")
            || address.starts_with("https://")
            || address.starts_with("http://");
        if !is_safe {
            return self.add(name, text);
        }
        let (name, address, text) = (escape(name), escape(address), escape(text));
        let _ = writeln!(
            self.0,
            "<dt>{name}</dt><dd><a href=\"{address}\">{text}</a></dd>"
        );
    }

    fn html(&self) -> String {
        format!("<dl>\n{}</dl>", self.0)
    }
}

/// What a folder is about, for people: the title of a collection, the name of a station.
pub(super) fn title(state: &ServerState, node: &Node) -> Option<String> {
    let Node::Directory(directory) = node else {
        return None;
    };
    match directory {
        Directory::Station(station) => Some(station.row().name.clone()),
        Directory::DataType(spec) | Directory::StationType(_, spec) => {
            Some(spec.label().to_owned())
        }
        Directory::Collection(path) => state.tree.collection_title(path.id()),
        Directory::Root
        | Directory::Objects
        | Directory::Control
        | Directory::Stations
        | Directory::DataTypes
        | Directory::Storage
        | Directory::Format(_)
        | Directory::Documents
        | Directory::Collections
        | Directory::CollectionLinks(_)
        | Directory::Archive(..) => None,
    }
}

/// What is known of a folder, above its entries.
pub(super) fn introduction(state: &ServerState, node: &Node) -> String {
    let Node::Directory(directory) = node else {
        return String::new();
    };
    let mut facts = ObjectFacts::default();
    match directory {
        Directory::Root => {
            return format!(
                "<p>The data of {} as files. <a href=\"{MAP_PATH}\">Map of the stations</a></p>\n",
                escape(state.options.envri.name())
            );
        }
        Directory::Stations => {
            return format!("<p><a href=\"{MAP_PATH}\">Map of the stations</a></p>\n");
        }
        Directory::Station(station) => station_facts(station, &mut facts),
        Directory::DataType(spec) | Directory::StationType(_, spec) => {
            if let Directory::StationType(station, _) = directory {
                let link = format!("/stations/{}/", encode_component(station.name()));
                facts.link("Station", &link, &station.row().name);
            }
            facts.add("Level", &spec.level().to_string());
            if let Some(theme) = spec.theme() {
                facts.add("Theme", theme);
            }
            if let Some(project) = spec.project() {
                facts.add("Project", project);
            }
        }
        Directory::Collection(path) => {
            let id = path.id();
            let address = format!("{}/collections/{id}", state.options.envri.meta_url());
            facts.link("Landing page", &address, &address);
        }
        Directory::Archive(object, _) => {
            facts.link("Archive", &object_path(object.id()), object.file_name());
        }
        Directory::Objects
        | Directory::Control
        | Directory::DataTypes
        | Directory::Storage
        | Directory::Format(_)
        | Directory::Documents
        | Directory::Collections
        | Directory::CollectionLinks(_) => {}
    }
    if facts.0.is_empty() {
        return String::new();
    }
    format!("{}\n<h2>Files</h2>\n", facts.html())
}

fn station_facts(station: &Station, facts: &mut ObjectFacts) {
    let row = station.row();
    if !row.country.is_empty() {
        facts.add("Country", &row.country);
    }
    if let Some((latitude, longitude)) = row.position {
        facts.add("Position", &format!("{latitude:.4}, {longitude:.4}"));
    }
    if let Some(elevation) = row.elevation {
        facts.add("Elevation", &format!("{elevation} m"));
    }
}

fn day(time: Timestamp) -> String {
    time.strftime("%F").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_that_could_run_a_script_is_text() {
        let mut facts = ObjectFacts::default();
        facts.link("a", "javascript:alert(1)", "x");
        facts.link("a", "//evil.example/", "x");
        facts.link("a", "data:text/html,x", "x");
        assert!(!facts.html().contains("href"), "{}", facts.html());
        facts.link("a", "https://a/\"><script>", "<b>");
        let html = facts.html();
        assert!(html.contains("href") && !html.contains("<script") && !html.contains("<b>"));
    }
}
