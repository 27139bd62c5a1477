//! `icosfs plot`: a chart of a table's columns over time, in the terminal or as a picture.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;

use super::catalog_access::{self, TTL};
use super::credentials::CredentialArgs;
use super::object_argument;
use super::output::{self, print_text};
use super::output_file;
use super::period;
use super::settings::GlobalArgs;
use super::storage::StorageArgs;
use super::subject::no_such;
use super::terminal;
use super::waiting::block_on_while;
use crate::catalog::ObjectSelection;
use crate::plot::{ChartRequest, Period, Picture, PictureFormat, table_chart};

/// Arguments of `icosfs plot`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  icosfs plot wutiYS2ccUslON67rA30gK0z
  icosfs plot wutiYS2ccUslON67rA30gK0z co2,Stdev --from 2020-01-01 --daily
  icosfs plot ~/icos/objects/wutiYS2ccUslON67rA30gK0z.nc co2 -o co2.svg

Only the times, the columns that are drawn and their quality flags are downloaded. With
more points than dots, each dot column shows all values between the least and the
greatest one.")]
pub(super) struct PlotArgs {
    /// A table: its id, PID, DOI, address or file name, or a file in a mount
    #[arg(value_name = "OBJECT")]
    object: String,
    /// The columns to draw [default: the first with measured values]
    #[arg(value_name = "COLUMN", value_delimiter = ',')]
    columns: Vec<String>,
    /// From this time on, e.g. 2023-05
    #[arg(long, value_name = "TIME", value_parser = period::start)]
    from: Option<Timestamp>,
    /// Up to this time; a year, month or day counts to its end
    #[arg(long, value_name = "TIME", value_parser = period::end)]
    to: Option<Timestamp>,
    /// The mean of each day
    #[arg(long, conflicts_with = "monthly")]
    daily: bool,
    /// The mean of each month
    #[arg(long)]
    monthly: bool,
    /// Also values whose quality flag is not good
    #[arg(long)]
    all_values: bool,
    /// Write a picture to this file, as its name says
    #[arg(short, long, value_name = "FILE.svg|.png")]
    output: Option<PathBuf>,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    login: CredentialArgs,
}

pub(super) fn run(global: &GlobalArgs, args: PlotArgs) -> anyhow::Result<()> {
    period::check(args.from, args.to)?;
    let file = args.output.map(picture_file).transpose()?;
    let request = ChartRequest {
        columns: args.columns,
        from: args.from,
        to: args.to,
        means: match (args.daily, args.monthly) {
            (true, _) => Some(Period::Day),
            (_, true) => Some(Period::Month),
            _ => None,
        },
        all_values: args.all_values,
    };
    let target = object_argument::parse(&args.object)?;
    let global = target.settings(global)?;
    let (clients, cache_dir) = (global.clients(Some(args.login))?, global.cache_dir()?);
    let catalog = catalog_access::open(&clients, &cache_dir, TTL, ObjectSelection::default())?;
    let (_store, contents) = args.storage.open(&cache_dir, &clients, TTL, None)?;
    let chart = block_on_while("downloading the columns", async {
        let id = target.object(&catalog, &clients.meta).await?;
        let object = catalog.object(id).await?;
        let object = object.ok_or_else(|| no_such("object", id))?;
        Ok(table_chart(&contents, &object, &request).await?)
    })?;
    if let Some((file, format)) = file {
        return write_picture(&chart.picture(), &file, format);
    }
    Ok(print_text!(
        "{}",
        chart.text(terminal::width(), output::has_colours())
    )?)
}

/// The file to write a picture to, and its format.
pub(super) fn picture_file(file: PathBuf) -> anyhow::Result<(PathBuf, PictureFormat)> {
    let format = PictureFormat::of_path(&file).with_context(|| {
        format!(
            "expected the name of a picture that ends with .svg or .png, found {}",
            file.display()
        )
    })?;
    Ok((file, format))
}

/// Writes `picture` to `file`.
pub(super) fn write_picture(
    picture: &Picture,
    file: &Path,
    format: PictureFormat,
) -> anyhow::Result<()> {
    output_file::write(file, &picture.write(format))
}
