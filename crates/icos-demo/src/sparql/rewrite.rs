//! Inspects and rewrites a query before it runs.

use oxrdf::{NamedNode, Variable};
use spargebra::Query;
use spargebra::algebra::GraphPattern;
use spargebra::term::{GroundTerm, NamedNodePattern, TermPattern, TriplePattern};

use super::SparqlError;
use super::dataset::VIRTUAL;
use crate::geo::{Position, intersects, read_polygon};
use crate::landing;
use crate::repository::DemoRepository;
use crate::vocabulary::iri;

/// Replaces `?object geo:sfIntersects/geo:asWKT "POLYGON(...)"`, for which the
/// portal has an index, by a list of the objects in that area.
pub(super) fn find_places(
    query: &mut Query,
    repository: &DemoRepository,
) -> Result<(), SparqlError> {
    let mut outcome = Ok(());
    visit(pattern_of(query), &mut |pattern| {
        if let GraphPattern::Bgp { patterns } = pattern {
            let lists = place_lists(patterns, repository);
            for list in lists.unwrap_or_else(|e| {
                outcome = Err(e);
                Vec::new()
            }) {
                let rest = std::mem::take(pattern);
                *pattern = GraphPattern::Join {
                    left: Box::new(list),
                    right: Box::new(rest),
                };
            }
        }
    });
    outcome
}

/// Removes the pairs of triples that select an area from `patterns`; returns
/// the objects of each.
fn place_lists(
    patterns: &mut Vec<TriplePattern>,
    repository: &DemoRepository,
) -> Result<Vec<GraphPattern>, SparqlError> {
    let mut lists = Vec::new();
    while let Some(at) = patterns.iter().position(|t| has(t, "geo:sfIntersects")) {
        let asked = patterns.remove(at);
        let wkt = patterns
            .iter()
            .position(|t| has(t, "geo:asWKT") && t.subject == asked.object)
            .map(|at| patterns.remove(at).object);
        let polygon = match &wkt {
            Some(TermPattern::Literal(wkt)) => read_polygon(wkt.value()),
            _ => None,
        };
        let polygon = polygon.ok_or_else(|| {
            SparqlError::Failed("expected geo:sfIntersects/geo:asWKT \"POLYGON((...))\"".to_owned())
        })?;
        lists.push(objects_within(&asked.subject, &polygon, repository));
    }
    Ok(lists)
}

fn objects_within(
    subject: &TermPattern,
    polygon: &[Position],
    repository: &DemoRepository,
) -> GraphPattern {
    let found = (repository.items().into_iter())
        .filter(|object| {
            landing::coverage(*object).is_some_and(|feature| intersects(&feature, polygon))
        })
        .map(|object| NamedNode::new_unchecked(object.iri()));
    match subject {
        TermPattern::Variable(variable) => GraphPattern::Values {
            variables: vec![variable.clone()],
            bindings: found
                .map(|object| vec![Some(GroundTerm::NamedNode(object))])
                .collect(),
        },
        // With a given object, the result is one row or none.
        _ => GraphPattern::Values {
            variables: Vec::new(),
            bindings: found
                .filter(|object| *subject == TermPattern::NamedNode(object.clone()))
                .map(|_| Vec::new())
                .collect(),
        },
    }
}

/// Whether each variable with a virtual property is bound by another pattern
/// too. The portal looks virtual properties up by subject, so without another
/// pattern it finds nothing.
pub(super) fn binds_virtual_subjects(query: &mut Query) -> bool {
    let mut asked = Vec::new();
    let mut bound = Vec::new();
    visit(pattern_of(query), &mut |pattern| match pattern {
        GraphPattern::Bgp { patterns } => {
            for triple in patterns {
                let subject = variable(&triple.subject);
                if VIRTUAL.iter().any(|property| has(triple, property)) {
                    asked.extend(subject);
                } else {
                    bound.extend(subject);
                    bound.extend(variable(&triple.object));
                }
            }
        }
        GraphPattern::Path {
            subject, object, ..
        } => {
            bound.extend(variable(subject));
            bound.extend(variable(object));
        }
        GraphPattern::Values { variables, .. } => bound.extend(variables.iter().cloned()),
        GraphPattern::Extend { variable, .. } => bound.push(variable.clone()),
        _ => {}
    });
    asked.iter().all(|variable| bound.contains(variable))
}

fn has(triple: &TriplePattern, property: &str) -> bool {
    match &triple.predicate {
        NamedNodePattern::NamedNode(name) => name.as_str() == iri(property),
        NamedNodePattern::Variable(_) => false,
    }
}

fn variable(term: &TermPattern) -> Option<Variable> {
    match term {
        TermPattern::Variable(variable) => Some(variable.clone()),
        _ => None,
    }
}

fn pattern_of(query: &mut Query) -> &mut GraphPattern {
    match query {
        Query::Select { pattern, .. }
        | Query::Construct { pattern, .. }
        | Query::Describe { pattern, .. }
        | Query::Ask { pattern, .. } => pattern,
    }
}

/// Calls `see` with every pattern, inner ones first.
fn visit(pattern: &mut GraphPattern, see: &mut impl FnMut(&mut GraphPattern)) {
    match pattern {
        GraphPattern::Join { left, right }
        | GraphPattern::LeftJoin { left, right, .. }
        | GraphPattern::Union { left, right }
        | GraphPattern::Minus { left, right } => {
            visit(left, see);
            visit(right, see);
        }
        GraphPattern::Filter { inner, .. }
        | GraphPattern::Graph { inner, .. }
        | GraphPattern::Extend { inner, .. }
        | GraphPattern::OrderBy { inner, .. }
        | GraphPattern::Project { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::Slice { inner, .. }
        | GraphPattern::Group { inner, .. }
        | GraphPattern::Service { inner, .. } => visit(inner, see),
        GraphPattern::Bgp { .. } | GraphPattern::Path { .. } | GraphPattern::Values { .. } => {}
    }
    see(pattern);
}
