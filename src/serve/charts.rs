//! Charts of tables on the pages about objects: a choice of the variable, and the picture.
//! Nothing is downloaded before a variable is chosen.

use std::fmt::Write as _;
use std::sync::Arc;

use hyper::StatusCode;
use url::form_urlencoded;

use super::ServerState;
use super::html::{encode_component, escape};
use super::pages::object_named;
use super::reply::{self, ErrorForm, Reply};
use super::router::failed;
use super::status_code;
use crate::catalog::Object;
use crate::content::{ExportError, TimesError};
use crate::plot::{ChartError, ChartRequest, PictureFormat, measured_columns, table_chart};

/// The start of the paths of charts.
const CHART_PATH: &str = "/.icosfs/chart/";
const ENDING: &str = ".svg";

/// The column that the query of a URL chooses.
pub(super) fn chosen_column(query: Option<&str>) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query?.as_bytes());
    let (_, column) = pairs.find(|(name, _)| name == "column")?;
    Some(column.into_owned()).filter(|column| !column.is_empty())
}

/// Whether the query of a URL asks for a picture for narrow screens.
fn is_narrow(query: Option<&str>) -> bool {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.any(|(name, value)| name == "size" && value == "narrow")
}

/// The chart at `path`; `None` if that is not the path of one.
pub(super) async fn reply(
    state: &ServerState,
    path: &str,
    query: Option<&str>,
    form: ErrorForm,
) -> Option<Reply> {
    let id = path.strip_prefix(CHART_PATH)?.strip_suffix(ENDING)?;
    let object = match object_named(state, id).await {
        Ok(object) => object,
        Err(error) => return Some(failed(state, "get", path, &error, form)),
    };
    let request = ChartRequest {
        columns: chosen_column(query).into_iter().collect(),
        ..ChartRequest::default()
    };
    let contents = state.reader.contents();
    Some(match table_chart(contents, &object, &request).await {
        Ok(chart) => {
            let picture = if is_narrow(query) {
                chart.narrow_picture()
            } else {
                chart.picture()
            };
            let svg = picture.write(PictureFormat::Svg);
            reply::with_bytes(StatusCode::OK, "image/svg+xml", svg)
        }
        Err(error) => {
            let status = status_of(&error);
            state.record_failure("get", path, status, &error);
            reply::error(status, &error, form)
        }
    })
}

/// The status of a chart that cannot be drawn.
fn status_of(error: &ChartError) -> StatusCode {
    match error {
        ChartError::Content(error) => status_code::of_content(error),
        ChartError::Export(error) | ChartError::Times(TimesError::Export(error)) => match error {
            ExportError::Content(error) => status_code::of_content(error),
            _ => StatusCode::NOT_FOUND,
        },
        ChartError::NotText(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ChartError::NotATable(..)
        | ChartError::NoTimes
        | ChartError::NothingMeasured
        | ChartError::NotNumbers { .. }
        | ChartError::NoValues
        | ChartError::Times(_)
        | ChartError::NoValuesBetween(..) => StatusCode::NOT_FOUND,
    }
}

/// The part of an object's page that offers charts, and has that of the chosen column.
pub(super) async fn section(
    state: &ServerState,
    object: &Arc<Object>,
    chosen: Option<&str>,
    body: &mut String,
) {
    if object.as_table().is_none() {
        return;
    }
    // Tables that cannot be read here have no charts.
    let columns = measured_columns(state.reader.contents(), object).await;
    let columns = columns.unwrap_or_default();
    if columns.is_empty() {
        return;
    }
    body.push_str("<h2>Chart</h2>\n<form method=\"get\"><label>Variable <select name=\"column\">");
    for column in &columns {
        let is_chosen = chosen == Some(&*column.label);
        let selected = if is_chosen { " selected" } else { "" };
        let label = escape(&column.label);
        let _ = write!(body, "<option{selected}>{label}</option>");
    }
    body.push_str("</select></label> <button>Draw</button></form>\n");
    if let Some(column) = chosen {
        let address = format!(
            "{CHART_PATH}{}{ENDING}?column={}",
            object.id(),
            encode_component(column)
        );
        let _ = writeln!(
            body,
            "<p><a href=\"{address}\"><picture><source media=\"(max-width: 40rem)\" srcset=\"{address}&amp;size=narrow\"><img class=\"chart\" src=\"{address}\" alt=\"Chart of {} over time\"></picture></a></p>",
            escape(column)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_is_that_of_the_query() {
        for (query, column) in [
            (None, None),
            (Some(""), None),
            (Some("column="), None),
            (Some("a=b&column=co2+x%26"), Some("co2 x&")),
        ] {
            assert_eq!(chosen_column(query).as_deref(), column, "{query:?}");
        }
    }
}
