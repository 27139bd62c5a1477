//! `icosfs sparql`: runs a query of the portal's metadata.

use std::io::{self, Read as _};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value};

use super::exit::EndedEarly;
use super::output::print_text;
use super::settings::GlobalArgs;
use super::text_table::{TextTable, print_json_lines};
use super::waiting::block_on_while;
use super::warning::warning;

/// Arguments of `icosfs sparql`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs sparql 'select * where { ?s ?p ?o } limit 5'
  icosfs sparql query.rq --csv > result.csv
  cat query.rq | icosfs sparql - --json | jq -r .s

SELECT queries are supported. The portal ends a query after ten seconds, and
limits how much of its time one address may use in a minute: one query is run at a
time, and waits if the portal asks for it.")]
pub(super) struct SparqlArgs {
    /// The query, a file with it, or - for standard input
    #[arg(value_name = "QUERY|FILE")]
    query: String,
    /// Print JSON, one row per line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV with a header
    #[arg(long)]
    csv: bool,
}

pub(super) fn run(global: &GlobalArgs, args: &SparqlArgs) -> anyhow::Result<()> {
    let query = text_of(&args.query)?;
    let clients = global.clients(None)?;
    let json = block_on_while("running the query", async {
        Ok(clients.meta.sparql_json(query).await?)
    })?;
    let results: Value =
        serde_json::from_slice(&json).context("the portal's reply is not valid JSON")?;
    let rows = Rows::of(&results)
        .context("expected the result of a SELECT query; other queries are not supported")?;
    let is_empty = rows.cells.is_empty();
    if args.json {
        print_json_lines(rows.objects())?;
    } else if args.csv {
        print_text!("{}", rows.csv())?;
    } else if !is_empty {
        let table = TextTable::with_header(rows.variables.clone(), rows.cells);
        table.print()?;
        // They were asked for.
        if let left_out @ [_, ..] = table.left_out() {
            warning!(
                "the terminal has no room for {}; --csv and --json print all columns",
                left_out.join(", ")
            );
        }
    }
    if is_empty {
        return Err(EndedEarly::no_match("rows", Vec::new()));
    }
    Ok(())
}

/// The query in `argument`: itself, unless it is the name of a file.
fn text_of(argument: &str) -> anyhow::Result<String> {
    if argument == "-" {
        let mut query = String::new();
        io::stdin()
            .read_to_string(&mut query)
            .context("cannot read the query from standard input")?;
        return Ok(query);
    }
    if argument.contains('{') {
        return Ok(argument.to_owned());
    }
    match std::fs::read_to_string(argument) {
        Ok(query) => Ok(query),
        Err(error) => bail!(
            "expected a SPARQL query with braces, or a file with one; cannot read {argument:?}: {error}"
        ),
    }
}

/// The result of a SELECT query.
struct Rows {
    variables: Vec<String>,
    cells: Vec<Vec<String>>,
}

impl Rows {
    fn of(results: &Value) -> Option<Self> {
        let names = results.pointer("/head/vars")?.as_array()?;
        let variables: Vec<String> = names
            .iter()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect();
        let bindings = results.pointer("/results/bindings")?.as_array()?;
        let cell = |row: &Value, name: &String| {
            let value = row.get(name).and_then(|term| term.get("value"));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let cells = (bindings.iter())
            .map(|row| variables.iter().map(|name| cell(row, name)).collect())
            .collect();
        Some(Self { variables, cells })
    }

    /// The rows as JSON objects. Unbound variables are missing.
    fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        self.cells.iter().map(|row| {
            let bound = self
                .variables
                .iter()
                .zip(row)
                .filter(|(_, value)| !value.is_empty());
            let object: Map<String, Value> = bound
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect();
            Value::Object(object)
        })
    }

    /// The rows as CSV (RFC 4180, with the line ends of the portal's own CSV).
    fn csv(&self) -> String {
        let quoted = |cell: &String| {
            if cell.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.clone()
            }
        };
        let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
        [&self.variables]
            .into_iter()
            .chain(&self.cells)
            .map(line)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_the_order_of_the_variables_and_unbound_ones_are_empty() {
        let results = serde_json::json!({
            "head": {"vars": ["b", "a"]},
            "results": {"bindings": [
                {"a": {"type": "literal", "value": "x, \"y\""}},
                {"a": {"type": "uri", "value": "u"}, "b": {"type": "literal", "value": "2"}},
            ]},
        });
        let rows = Rows::of(&results).unwrap();
        assert_eq!(rows.csv(), "b,a\n,\"x, \"\"y\"\"\"\n2,u\n");
        let objects: Vec<Value> = rows.objects().collect();
        assert_eq!(objects[0], serde_json::json!({"a": "x, \"y\""}));
        assert_eq!(objects[1], serde_json::json!({"b": "2", "a": "u"}));
        assert!(Rows::of(&serde_json::json!({"boolean": true})).is_none());
    }

    #[test]
    fn query_is_the_argument_or_in_a_file() {
        assert_eq!(text_of("select * {}").unwrap(), "select * {}");
        let error = text_of("no such file.rq").unwrap_err().to_string();
        assert!(
            error.starts_with("expected a SPARQL query with braces, or a file with one"),
            "{error}"
        );
    }
}
