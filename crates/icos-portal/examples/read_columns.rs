//! Logs in and reads the first values of each column of a table.
//!
//! ```text
//! cargo run -p icos-portal --example read_columns -- <object id> [column...]
//! ```
//!
//! The login is the token in the environment variable `ICOSFS_TOKEN`, or else
//! the standard credentials file, which `icosfs login` and the Python library
//! `icoscp_core` write: `~/.icoscp/cpauthToken_auth_conf.json`.

#![allow(
    clippy::disallowed_macros,
    reason = "an example may end if nothing reads its output"
)]

use std::error::Error;
use std::process::ExitCode;

use icos_portal::data::{ColumnsRequest, RowSlice, StoredTable};
use icos_portal::lists::ColumnRow;
use icos_portal::{Bootstrap, Envri, MetadataClient, ObjectId, Service, Services};
use icos_table::dataset::{Presence, Title};
use icos_table::{Column, Dataset, DatasetColumn, Schema, StoredType, TableError, ValueFormat};

/// Number of values to read of each column.
const VALUES: u64 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("read_columns: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let id = arguments.next().ok_or("expected the id of a table")?;
    let id: ObjectId = id.parse()?;
    let labels: Vec<String> = arguments.collect();

    // 1. Log in. Nothing is sent until a request needs the token.
    let bootstrap = Bootstrap::with_services(services()?)?;
    let clients = match std::env::var("ICOSFS_TOKEN") {
        Ok(token) => bootstrap.from_cookie_token(&token)?,
        Err(_) => bootstrap.from_password_file(None)?,
    };

    // 2. Find the columns of the table. Metadata needs no login.
    let (schema, sub_folder) = schema_of(&clients.meta, id).await?;
    let columns = if labels.is_empty() {
        (0..schema.columns().len()).collect()
    } else {
        schema.select(&labels)?
    };

    // 3. Request all of them at once: the portal counts each request as a
    // download. They arrive one after another, in the requested order.
    let rows = VALUES.min(schema.rows());
    let numbers: Option<Vec<usize>> = columns.iter().map(|&n| schema.stored_index(n)).collect();
    let request = ColumnsRequest {
        table_id: id,
        sub_folder,
        schema: StoredTable {
            columns: schema.stored_types().map(StoredType::wire_name).collect(),
            size: schema.rows(),
        },
        column_numbers: numbers.ok_or("a column is not stored")?,
        slice: Some(RowSlice {
            offset: 0,
            length: rows,
        }),
    };
    let mut stream = clients.data.columns(&request).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }

    // 4. Decode them: big-endian values of a fixed width.
    let mut rest = bytes.as_slice();
    for column in columns {
        let column = &schema.columns()[column];
        let stored = column.format.stored();
        let values: Vec<String> = (0..rows)
            .map_while(|_| rest.split_off(..stored.width()))
            .map(|value| decoded(stored, value))
            .collect();
        println!("{}: {}", column.label, values.join(", "));
    }
    Ok(())
}

/// The public services of ICOS, or others whose URLs are in the environment,
/// e.g. those of `icosfs demo`.
fn services() -> Result<Services, Box<dyn Error>> {
    let mut services = Services::of(Envri::Icos);
    for (service, variable) in [
        (Service::Auth, "ICOSFS_AUTH_URL"),
        (Service::Meta, "ICOSFS_META_URL"),
        (Service::Data, "ICOSFS_DATA_URL"),
    ] {
        if let Ok(url) = std::env::var(variable) {
            services = services.with(service, &url)?;
        }
    }
    Ok(services)
}

/// Finds the schema of the table `id`, and the last segment of the IRI of its
/// format: the metadata of the object name its data type, whose dataset defines
/// the columns.
async fn schema_of(
    meta: &MetadataClient,
    id: ObjectId,
) -> Result<(Schema, String), Box<dyn Error>> {
    let object = meta.objects_by_id(&[id]).await?.pop();
    let object = object.ok_or("no such object")?;
    let spec = object.spec.ok_or("a document is not a table")?;
    let spec = meta.spec(&spec).await?.ok_or("no such data type")?;
    let dataset = spec.dataset.ok_or("the data type has no columns")?;
    let rows = object.rows.ok_or("the object is not a table")?;

    let definitions: Result<Vec<DatasetColumn>, TableError> = meta
        .columns()
        .await?
        .iter()
        .filter(|column| column.dataset == dataset)
        .map(definition)
        .collect();
    let dataset = Dataset::new(definitions?);
    let columns = match object.column_names {
        Some(names) => dataset.ingested(&names)?,
        None => dataset.mandatory()?,
    };
    let sub_folder = spec.format.rsplit('/').next().unwrap_or_default();
    Ok((Schema::new(rows, columns)?, sub_folder.to_owned()))
}

fn definition(row: &ColumnRow) -> Result<DatasetColumn, TableError> {
    Ok(DatasetColumn {
        column: Column::new(row.title.as_str(), ValueFormat::from_iri(&row.format)?),
        title: if row.regex {
            Title::Pattern
        } else {
            Title::Verbatim
        },
        presence: if row.optional {
            Presence::Optional
        } else {
            Presence::Mandatory
        },
    })
}

/// The text of one value. `bytes` has the width of the type.
fn decoded(stored: StoredType, bytes: &[u8]) -> String {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    match stored {
        StoredType::Int | StoredType::String => i32::from_be_bytes(array(bytes)).to_string(),
        StoredType::Float => f32::from_be_bytes(array(bytes)).to_string(),
        StoredType::Double => f64::from_be_bytes(array(bytes)).to_string(),
        StoredType::Byte => i8::from_be_bytes(array(bytes)).to_string(),
        StoredType::Char => String::from_utf16_lossy(&[u16::from_be_bytes(array(bytes))]),
    }
}
