//! Collects the objects of the built-in repository.

use std::collections::HashMap;

use crate::graph::GraphBuilder;
use crate::object::{DemoCollection, DemoObject};
use crate::repository::{DemoRepository, RepositoryParts};
use crate::vocabulary::read_turtle;
use icos_portal::{Envri, ObjectId};

/// A repository that is being built.
pub(super) struct RepositoryBuilder {
    pub(super) seed: u64,
    pub(super) envri: Envri,
    parts: RepositoryParts,
    builder: GraphBuilder,
    /// Current objects by theme, for the collections.
    pub(super) atmosphere: Vec<ObjectId>,
    pub(super) ecosystem: Vec<ObjectId>,
    pub(super) ocean: Vec<ObjectId>,
}

impl RepositoryBuilder {
    pub(super) fn new(seed: u64) -> Self {
        let mut builder = GraphBuilder::default();
        for triple in read_turtle(include_str!("vocabulary.ttl")) {
            builder.insert(triple);
        }
        let envri = Envri::Icos;
        Self {
            seed,
            envri,
            parts: RepositoryParts {
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

    /// Adds an object; returns its id, the hash of its original.
    pub(super) fn add(&mut self, item: DemoObject) -> ObjectId {
        let digest = item.original.digest();
        let id = ObjectId::of_digest(&digest);
        for triple in item.triples(self.envri, &id, &digest) {
            self.builder.insert(triple);
        }
        self.parts.keep(id, item);
        id
    }

    /// Adds a collection; returns its id, the hash of its members' ids.
    pub(super) fn add_collection(&mut self, collection: &DemoCollection) -> ObjectId {
        let id = collection.id();
        for triple in collection.triples(self.envri, &id) {
            self.builder.insert(triple);
        }
        id
    }

    pub(super) fn build(self) -> DemoRepository {
        DemoRepository::of(RepositoryParts {
            graph: self.builder.build(),
            ..self.parts
        })
    }
}
