//! Header lines of CSVs: each costs a data request, and serves all tables of a dataset.

use bytes::Bytes;
use twox_hash::XxHash3_128;

use super::DataSource;
use icos_portal::{ObjectId, PortalError};

impl DataSource {
    /// Returns the header line of the CSV of `id`, a table of the dataset with IRI `iri`.
    /// `check` refuses a line that cannot be one.
    ///
    /// With `reload`, the line that other machines have shared is replaced.
    pub(in crate::content) async fn csv_header(
        &self,
        id: ObjectId,
        iri: &str,
        reload: bool,
        check: impl Fn(&Bytes) -> Result<(), PortalError> + Send,
    ) -> Result<Bytes, PortalError> {
        let request = async {
            let line = self.data.csv_header(id).await?;
            // It may be an error page.
            check(&line)?;
            Ok::<_, PortalError>((line.clone(), line))
        };
        let permitted = if self.shares_tables() {
            self.permitted().await
        } else {
            None
        };
        let Some(sharing) = permitted else {
            return Ok(request.await?.0);
        };
        let name = format!("{:032x}", XxHash3_128::oneshot(iri.as_bytes()));
        let path = format!("v1/{}/header/{name}", sharing.host);
        let read = |line| std::future::ready((!reload).then_some(line));
        let line = Box::pin(sharing.cache.value(path, read, request)).await?;
        check(&line)?;
        Ok(line)
    }
}
