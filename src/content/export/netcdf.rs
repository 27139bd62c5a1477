//! Exports selected columns and rows as NetCDF.

use std::io::Write;
use std::sync::Arc;

use super::{ExportError, ExportJob, ExportProgress};
use crate::catalog::Object;
use crate::content::netcdf::{NetCdfValues, file_facts};
use icos_table::netcdf::{encode, header};
use icos_table::{NetCdfLayout, Spacing};

impl ExportJob {
    /// Writes the selection, with what the landing page `page` of `object` says of
    /// it and of which `values` it has.
    pub(super) async fn write_netcdf<W: Write + Send + 'static>(
        self,
        mut out: W,
        object: &Object,
        (page, values): (&[u8], NetCdfValues),
        progress: &impl Fn(ExportProgress),
    ) -> Result<W, ExportError> {
        let rows = self.rows.end - self.rows.start;
        let layout = NetCdfLayout::new(&self.described, rows, Spacing::Compact)?;
        let head = header::header(&layout, &self.described, &file_facts(page, object, values));
        out.write_all(&head).map_err(ExportError::Output)?;
        if self.width().saturating_mul(layout.rows()) <= self.columns.capacity() {
            // Download all of them in one request.
            self.fetch(self.rows.clone(), progress).await?;
        }
        let mut at = layout.header_len();
        for (source, lies) in layout.sources().zip(layout.column_ranges()) {
            write_zeros(&mut out, lies.start - at)?;
            at = lies.end;
            let format = self.described[source].format;
            let one = ExportJob {
                columns: Arc::clone(&self.columns),
                described: vec![self.described[source].clone()],
                sources: vec![self.sources[source].clone()],
                good: self.good.clone(),
                rows: self.rows.clone(),
                about: Vec::new(),
            };
            out = one
                .each_window(out, progress, move |out, _, window| {
                    let [cells] = window else { return Ok(()) };
                    out.write_all(&encode(format, cells))
                        .map_err(ExportError::Output)
                })
                .await?;
        }
        write_zeros(&mut out, layout.file_len() - at)?;
        Ok(out)
    }
}

/// Writes the space between two columns, which is shorter than a block.
fn write_zeros(out: &mut impl Write, count: u64) -> Result<(), ExportError> {
    let zeros = vec![0; usize::try_from(count).unwrap_or(0)];
    out.write_all(&zeros).map_err(ExportError::Output)
}
