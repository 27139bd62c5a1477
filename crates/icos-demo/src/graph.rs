//! The portal's metadata: RDF triples, interned and sorted three ways.
//!
//! Terms stay as written (Oxigraph's own store would fold `xsd:long` into
//! `xsd:integer`). A graph never changes once built. Where the real store's
//! order is arbitrary, results are in the order in which terms were first
//! inserted: the same in each run, but not sorted.

use std::collections::HashMap;

use oxrdf::{Literal, NamedNode, Term, Triple};

use super::vocabulary::iri;

/// A term's number in its [`Graph`].
pub(crate) type TermId = u32;

/// An immutable set of triples.
#[derive(Default)]
pub(crate) struct Graph {
    terms: Vec<Term>,
    ids: HashMap<Term, TermId>,
    /// Subject, predicate, object; sorted.
    spo: Vec<[TermId; 3]>,
    /// Predicate, object, subject; sorted.
    pos: Vec<[TermId; 3]>,
    /// Object, subject, predicate; sorted.
    osp: Vec<[TermId; 3]>,
}

impl Graph {
    /// The same graph with more triples.
    pub(crate) fn extended(mut self, triples: impl IntoIterator<Item = Triple>) -> Self {
        for triple in triples {
            let triple = [
                self.intern(triple.subject.into()),
                self.intern(triple.predicate.into()),
                self.intern(triple.object),
            ];
            self.spo.push(triple);
        }
        let sorted = |order: [usize; 3]| {
            let mut rows: Vec<_> = (self.spo.iter())
                .map(|triple| order.map(|at| triple[at]))
                .collect();
            rows.sort_unstable();
            rows.dedup();
            rows
        };
        Self {
            spo: sorted([0, 1, 2]),
            pos: sorted([1, 2, 0]),
            osp: sorted([2, 0, 1]),
            ..self
        }
    }

    fn intern(&mut self, term: Term) -> TermId {
        let next = TermId::try_from(self.terms.len()).expect("memory ends before 2^32 terms");
        *self.ids.entry(term).or_insert_with_key(|term| {
            self.terms.push(term.clone());
            next
        })
    }

    /// The number of `term`, if any triple has it.
    pub(crate) fn id(&self, term: &Term) -> Option<TermId> {
        self.ids.get(term).copied()
    }

    /// The term of a number from this graph.
    pub(crate) fn term(&self, id: TermId) -> &Term {
        &self.terms[id as usize]
    }

    /// The triples that have the given parts, as subject, predicate, object.
    pub(crate) fn triples(
        &self,
        subject: Option<TermId>,
        predicate: Option<TermId>,
        object: Option<TermId>,
    ) -> impl Iterator<Item = [TermId; 3]> + use<'_> {
        let (rows, order, prefix) = match (subject, predicate, object) {
            (Some(s), Some(p), Some(o)) => (&self.spo, [0, 1, 2], vec![s, p, o]),
            (Some(s), Some(p), None) => (&self.spo, [0, 1, 2], vec![s, p]),
            (Some(s), None, None) => (&self.spo, [0, 1, 2], vec![s]),
            (None, None, None) => (&self.spo, [0, 1, 2], vec![]),
            (None, Some(p), Some(o)) => (&self.pos, [2, 0, 1], vec![p, o]),
            (None, Some(p), None) => (&self.pos, [2, 0, 1], vec![p]),
            (Some(s), None, Some(o)) => (&self.osp, [1, 2, 0], vec![o, s]),
            (None, None, Some(o)) => (&self.osp, [1, 2, 0], vec![o]),
        };
        let start = rows.partition_point(|row| row[..prefix.len()] < prefix[..]);
        rows[start..]
            .iter()
            .take_while(move |row| row[..prefix.len()] == prefix[..])
            .map(move |row| order.map(|at| row[at]))
    }

    /// The resource with this IRI (or `prefix:name`), if any triple has it.
    pub(crate) fn node(&self, name: &str) -> Option<RdfNode<'_>> {
        let term = NamedNode::new_unchecked(iri(name)).into();
        Some(RdfNode {
            graph: self,
            id: self.id(&term)?,
        })
    }

    /// The resources that have a literal of `predicate` equal to `text`.
    pub(crate) fn literal_holders(&self, predicate: &str, text: &str) -> Vec<RdfNode<'_>> {
        (self.node(predicate).into_iter())
            .flat_map(|predicate| self.triples(None, Some(predicate.id), None))
            .filter(|&[_, _, object]| match self.term(object) {
                Term::Literal(literal) => literal.value() == text,
                Term::NamedNode(_) | Term::BlankNode(_) => false,
            })
            .map(|[id, _, _]| RdfNode { graph: self, id })
            .collect()
    }

    /// The instances of `class`, in the graph's order.
    pub(crate) fn instances(&self, class: &str) -> Vec<RdfNode<'_>> {
        self.node(class)
            .map(|class| class.holders("rdf:type"))
            .unwrap_or_default()
    }
}

/// A resource of a [`Graph`], with the lookups that its readers need.
/// Predicates are given as IRIs or as `prefix:name`.
#[derive(Clone, Copy)]
pub(crate) struct RdfNode<'g> {
    graph: &'g Graph,
    id: TermId,
}

impl<'g> RdfNode<'g> {
    /// The graph that has the resource.
    pub(crate) fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// The resource's IRI.
    pub(crate) fn iri(&self) -> &'g str {
        match self.graph.term(self.id) {
            Term::NamedNode(node) => node.as_str(),
            Term::BlankNode(node) => node.as_str(),
            Term::Literal(literal) => literal.value(),
        }
    }

    /// The last segment of the IRI.
    pub(crate) fn local_name(&self) -> &'g str {
        let iri = self.iri();
        iri.rsplit(['/', '#']).next().unwrap_or(iri)
    }

    fn objects(self, predicate: &str) -> impl Iterator<Item = TermId> + use<'g> {
        self.graph.node(predicate).into_iter().flat_map(move |p| {
            self.graph
                .triples(Some(self.id), Some(p.id), None)
                .map(|[_, _, object]| object)
        })
    }

    /// The resources that `predicate` leads to.
    pub(crate) fn nodes(self, predicate: &str) -> Vec<RdfNode<'g>> {
        let graph = self.graph;
        self.objects(predicate)
            .filter(|&id| !graph.term(id).is_literal())
            .map(|id| RdfNode { graph, id })
            .collect()
    }

    /// The first resource that `predicate` leads to.
    pub(crate) fn one(self, predicate: &str) -> Option<RdfNode<'g>> {
        self.nodes(predicate).into_iter().next()
    }

    /// The first resource at the end of a path of predicates.
    pub(crate) fn path(self, predicates: &[&str]) -> Option<RdfNode<'g>> {
        (predicates.iter()).try_fold(self, |node, predicate| node.one(predicate))
    }

    /// The literals that `predicate` leads to.
    pub(crate) fn literals(self, predicate: &str) -> Vec<&'g Literal> {
        self.objects(predicate)
            .filter_map(|id| match self.graph.term(id) {
                Term::Literal(literal) => Some(literal),
                Term::NamedNode(_) | Term::BlankNode(_) => None,
            })
            .collect()
    }

    /// The first literal's text.
    pub(crate) fn text(self, predicate: &str) -> Option<&'g str> {
        self.literals(predicate).first().map(|l| l.value())
    }

    /// The first literal, if it is a number as Rust reads one.
    pub(crate) fn number<N: std::str::FromStr>(self, predicate: &str) -> Option<N> {
        self.text(predicate)?.parse().ok()
    }

    /// Whether the first literal is `true`.
    pub(crate) fn flag(self, predicate: &str) -> bool {
        self.text(predicate)
            .is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1")
    }

    /// The resources from which `predicate` leads here.
    pub(crate) fn holders(self, predicate: &str) -> Vec<RdfNode<'g>> {
        let graph = self.graph;
        (graph.node(predicate).into_iter())
            .flat_map(|predicate| graph.triples(None, Some(predicate.id), Some(self.id)))
            .map(|[id, _, _]| RdfNode { graph, id })
            .collect()
    }

    /// Whether `class` is among the resource's types.
    pub(crate) fn is_a(self, class: &str) -> bool {
        let class = iri(class);
        self.nodes("rdf:type").iter().any(|t| t.iri() == class)
    }
}

impl PartialEq for RdfNode<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(triples: &[(&str, &str, &str)]) -> Graph {
        let node = |name| NamedNode::new_unchecked(iri(name));
        let triples = triples
            .iter()
            .map(|(s, p, o)| Triple::new(node(s), node(p), node(o)));
        Graph::default().extended(triples)
    }

    #[test]
    fn graph_pattern_lookup_equals_full_scan() {
        let names = ["cpmeta:a", "cpmeta:b", "cpmeta:c"];
        let mut triples = Vec::new();
        for (i, s) in names.iter().enumerate() {
            for (j, p) in names.iter().enumerate() {
                for (k, o) in names.iter().enumerate() {
                    if (i + 2 * j + 3 * k) % 4 != 0 {
                        triples.push((*s, *p, *o));
                    }
                }
            }
        }
        let graph = graph(&triples);
        let all: Vec<_> = graph.triples(None, None, None).collect();
        assert_eq!(all.len(), triples.len());
        let choices: Vec<_> = std::iter::once(None)
            .chain(names.iter().map(|n| graph.node(n).map(|node| node.id)))
            .collect();
        for s in &choices {
            for p in &choices {
                for o in &choices {
                    let mut found: Vec<_> = graph.triples(*s, *p, *o).collect();
                    found.sort_unstable();
                    let expected: Vec<_> = (all.iter().copied())
                        .filter(|t| {
                            [s, p, o]
                                .iter()
                                .zip(t)
                                .all(|(want, has)| want.is_none_or(|want| want == *has))
                        })
                        .collect();
                    assert_eq!(found, expected, "{s:?} {p:?} {o:?}");
                }
            }
        }
    }

    #[test]
    fn objects_are_returned_in_insertion_order() {
        let graph = graph(&[
            ("cpmeta:z", "cpmeta:p", "cpmeta:c"),
            ("cpmeta:s", "cpmeta:p", "cpmeta:a"),
            ("cpmeta:s", "cpmeta:p", "cpmeta:c"),
            ("cpmeta:s", "cpmeta:p", "cpmeta:b"),
        ]);
        let order: Vec<_> = (graph.node("cpmeta:s").unwrap().nodes("cpmeta:p").iter())
            .map(RdfNode::local_name)
            .collect();
        assert_eq!(order, ["c", "a", "b"]);
    }
}
