//! The built-in repository: small, believable, and with one of everything that
//! a client may stumble over. [`tables`] and [`files`] list its objects; what
//! they refer to (stations, data types, columns) is in `vocabulary.ttl`.
//!
//! Everything follows from the seed, and every original hashes to its id.

mod files;
mod netcdf;
mod tables;

use std::collections::HashMap;

use oxrdfio::{RdfFormat, RdfParser};

use super::graph::GraphBuilder;
use super::item::{Collection, Item};
use super::repository::{Parts, Repository};
use icos_portal::{Envri, ObjectId};

pub(crate) fn repository(seed: u64) -> Repository {
    let mut shelf = Shelf::new(seed);
    tables::put(&mut shelf);
    files::put(&mut shelf);
    shelf.repository()
}

/// The repository in the making.
struct Shelf {
    seed: u64,
    envri: Envri,
    parts: Parts,
    builder: GraphBuilder,
    /// Current objects by theme, for the collections.
    atmosphere: Vec<ObjectId>,
    ecosystem: Vec<ObjectId>,
    ocean: Vec<ObjectId>,
}

impl Shelf {
    fn new(seed: u64) -> Self {
        let mut builder = GraphBuilder::default();
        let vocabulary = include_str!("builtin/vocabulary.ttl");
        for quad in RdfParser::from_format(RdfFormat::Turtle).for_slice(vocabulary) {
            builder.insert(
                quad.expect("the vocabulary is Turtle; a test reads it")
                    .into(),
            );
        }
        let envri = Envri::Icos;
        Self {
            seed,
            envri,
            parts: Parts {
                envri,
                graph: GraphBuilder::default().build(),
                seed,
                originals: HashMap::new(),
                values: HashMap::new(),
            },
            builder,
            atmosphere: Vec::new(),
            ecosystem: Vec::new(),
            ocean: Vec::new(),
        }
    }

    /// Adds an object; returns its id, which is the hash of its original.
    fn put(&mut self, item: Item) -> ObjectId {
        let digest = item.original.digest();
        let id = ObjectId::of_digest(&digest);
        for triple in item.triples(self.envri, &id, &digest) {
            self.builder.insert(triple);
        }
        self.parts.keep(id, item);
        id
    }

    /// Adds a collection; returns its id, which is the hash of its members'.
    fn collect(&mut self, collection: &Collection) -> ObjectId {
        let id = collection.id();
        for triple in collection.triples(self.envri, &id) {
            self.builder.insert(triple);
        }
        id
    }

    fn repository(self) -> Repository {
        Repository::of(Parts {
            graph: self.builder.build(),
            ..self.parts
        })
    }
}
