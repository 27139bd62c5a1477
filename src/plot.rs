//! Charts of tables over time, and maps of stations: as pictures (SVG or PNG) and as text
//! for a terminal.
//!
//! [`source`] reads the columns of a table, [`chart`] and [`map`] arrange them in a
//! [`Picture`] or as text. A picture consists of lines, dots and texts, which
//! [`svg`] and [`png`] write. No kernel, no server: the command line and the pages of
//! `icosfs serve` use it.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions in a picture, and times in milliseconds, are small"
)]

mod canvas;
mod chart;
mod glyphs;
mod map;
mod picture;
mod png;
mod scale;
mod series;
mod source;
mod svg;
mod terminal;

pub(crate) use map::{MapStation, StationMap, coasts};
pub(crate) use picture::{Picture, PictureFormat};
pub(crate) use series::Period;
pub(crate) use source::{ChartError, ChartRequest, measured_columns, table_chart};
