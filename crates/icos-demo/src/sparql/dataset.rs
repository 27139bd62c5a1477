//! The repository's graph as the query engine reads it.
//!
//! Adds the portal's virtual properties: computed triples that appear only
//! where the subject is known and the object is a variable, as in the portal
//! (`StatementsEnricher` of its meta service).

use std::convert::Infallible;

use oxrdf::{Literal, NamedNode, Term};
use spareval::{InternalQuad, QueryableDataset};

use crate::graph::{Graph, RdfNode, TermId};
use crate::landing;
use crate::repository::DemoRepository;
use crate::vocabulary::iri;

/// A repository as a dataset.
#[derive(Clone, Copy)]
pub(super) struct RepositoryDataset<'a> {
    pub(super) repository: &'a DemoRepository,
    /// Whether the query may see virtual properties.
    pub(super) with_virtual: bool,
}

/// The virtual properties.
pub(super) const VIRTUAL: [&str; 3] = [
    "cpmeta:hasBiblioInfo",
    "cpmeta:hasCitationString",
    "dcterms:license",
];

/// A term of the graph by its number, any other term by value. Each term has
/// one representation, so that equal terms are equal here.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum QueryTerm {
    InGraph(TermId),
    Other(Term),
}

impl<'a> RepositoryDataset<'a> {
    fn graph(self) -> &'a Graph {
        self.repository.graph()
    }

    fn known(self, term: Term) -> QueryTerm {
        match self.graph().id(&term) {
            Some(id) => QueryTerm::InGraph(id),
            None => QueryTerm::Other(term),
        }
    }

    /// Returns the matching virtual triples. The portal joins one pattern after
    /// the other, so that the subject is known by then. This engine may join in
    /// another way and query all subjects at once.
    fn virtual_triples(
        self,
        subject: Option<&QueryTerm>,
        predicate: Option<&QueryTerm>,
    ) -> Vec<InternalQuad<QueryTerm>> {
        let asked: Vec<_> = VIRTUAL
            .into_iter()
            .map(|property| {
                (
                    property,
                    self.known(NamedNode::new_unchecked(iri(property)).into()),
                )
            })
            .filter(|(_, name)| predicate.is_none_or(|asked| asked == name))
            .collect();
        let named = |term: &QueryTerm| match term {
            QueryTerm::InGraph(id) => match self.graph().term(*id) {
                Term::NamedNode(name) => self.repository.item(name.as_str()),
                Term::BlankNode(_) | Term::Literal(_) => None,
            },
            QueryTerm::Other(_) => None,
        };
        let subjects = match subject {
            _ if asked.is_empty() => Vec::new(),
            Some(subject) => named(subject).into_iter().collect(),
            // Only a query that names the predicate reads all subjects.
            None if predicate.is_some() => self.repository.items(),
            None => Vec::new(),
        };
        (subjects.into_iter())
            .flat_map(|item| self.virtual_triples_of(item, &asked))
            .collect()
    }

    fn virtual_triples_of(
        self,
        object: RdfNode<'a>,
        asked: &[(&str, QueryTerm)],
    ) -> Vec<InternalQuad<QueryTerm>> {
        let envri = self.repository.envri();
        let text = |text: String| Term::from(Literal::new_simple_literal(text));
        let subject = self.known(NamedNode::new_unchecked(object.iri()).into());
        let mut found = Vec::new();
        for (property, name) in asked {
            let property = *property;
            let value = match property {
                "cpmeta:hasBiblioInfo" => landing::biblio_info(envri, object).map(text),
                "cpmeta:hasCitationString" => landing::citation(object).map(text),
                // A stored licence takes precedence.
                _ => object.one(property).is_none().then(|| {
                    let licence = landing::licence(envri, object);
                    NamedNode::new_unchecked(licence.url).into()
                }),
            };
            found.extend(value.map(|value| InternalQuad {
                subject: subject.clone(),
                predicate: name.clone(),
                object: self.known(value),
                graph_name: None,
            }));
        }
        found
    }
}

impl<'a> QueryableDataset<'a> for RepositoryDataset<'a> {
    type InternalTerm = QueryTerm;
    type Error = Infallible;

    fn internal_quads_for_pattern(
        &self,
        subject: Option<&QueryTerm>,
        predicate: Option<&QueryTerm>,
        object: Option<&QueryTerm>,
        graph_name: Option<Option<&QueryTerm>>,
    ) -> impl Iterator<Item = Result<InternalQuad<QueryTerm>, Infallible>> + use<'a> {
        let extra = match (subject, object, graph_name) {
            (subject, None, Some(None)) if self.with_virtual => {
                self.virtual_triples(subject, predicate)
            }
            _ => Vec::new(),
        };
        let number = |term: Option<&QueryTerm>| match term {
            None => Some(None),
            Some(QueryTerm::InGraph(id)) => Some(Some(*id)),
            Some(QueryTerm::Other(_)) => None,
        };
        // Only the default graph has triples, all of them with terms of the
        // graph.
        let pattern = matches!(graph_name, Some(None))
            .then(|| Some((number(subject)?, number(predicate)?, number(object)?)))
            .flatten();
        let graph = self.graph();
        (pattern.into_iter())
            .flat_map(move |(s, p, o)| graph.triples(s, p, o))
            .map(|[s, p, o]| InternalQuad {
                subject: QueryTerm::InGraph(s),
                predicate: QueryTerm::InGraph(p),
                object: QueryTerm::InGraph(o),
                graph_name: None,
            })
            .chain(extra)
            .map(Ok)
    }

    fn internalize_term(&self, term: Term) -> Result<QueryTerm, Infallible> {
        Ok(self.known(term))
    }

    fn externalize_term(&self, term: QueryTerm) -> Result<Term, Infallible> {
        Ok(match term {
            QueryTerm::InGraph(id) => self.graph().term(id).clone(),
            QueryTerm::Other(term) => term,
        })
    }
}
