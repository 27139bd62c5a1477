//! The built-in repository: small, realistic, and with an example of each
//! difficulty that a client meets.
//!
//! `tables` and `files` list the objects; `vocabulary.ttl` describes what they
//! refer to (stations, data types, columns). The content depends only on the
//! seed, and each original hashes to its id.

mod builder;
mod files;
mod netcdf;
mod tables;

use super::repository::DemoRepository;

impl DemoRepository {
    /// A small repository made in code: six stations of three kinds, with data
    /// in most of the portal's formats, versions, documents and collections.
    /// Each original hashes to its id.
    #[must_use]
    pub fn builtin(seed: u64) -> Self {
        let mut builder = builder::RepositoryBuilder::new(seed);
        tables::add(&mut builder);
        files::add(&mut builder);
        builder.build()
    }
}
