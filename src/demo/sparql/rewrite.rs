//! What has to be seen in a query before it is run.

use oxrdf::Variable;
use spargebra::Query;
use spargebra::algebra::GraphPattern;
use spargebra::term::{NamedNodePattern, TermPattern, TriplePattern};

use super::dataset::VIRTUAL;
use crate::demo::vocab::iri;

/// Whether every variable of which a virtual property is asked is bound by
/// something else too. The portal looks virtual properties up by subject; a
/// query that binds it nowhere finds nothing there.
pub(super) fn binds_virtual_subjects(query: &Query) -> bool {
    let mut asked = Vec::new();
    let mut bound = Vec::new();
    visit(pattern_of(query), &mut |pattern| match pattern {
        GraphPattern::Bgp { patterns } => {
            for triple in patterns {
                let subject = variable(&triple.subject);
                if is_virtual(triple) {
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

fn is_virtual(triple: &TriplePattern) -> bool {
    match &triple.predicate {
        NamedNodePattern::NamedNode(name) => VIRTUAL.iter().any(|v| iri(v) == name.as_str()),
        NamedNodePattern::Variable(_) => false,
    }
}

fn variable(term: &TermPattern) -> Option<Variable> {
    match term {
        TermPattern::Variable(variable) => Some(variable.clone()),
        _ => None,
    }
}

fn pattern_of(query: &Query) -> &GraphPattern {
    match query {
        Query::Select { pattern, .. }
        | Query::Construct { pattern, .. }
        | Query::Describe { pattern, .. }
        | Query::Ask { pattern, .. } => pattern,
    }
}

/// Calls `see` with every pattern, outer ones first.
fn visit(pattern: &GraphPattern, see: &mut impl FnMut(&GraphPattern)) {
    see(pattern);
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
}
