//! Faults on request.
//!
//! A [`FaultPlan`] is a list of rules, each with a probability. Whether a rule
//! applies to a request depends on the seed, the rule and the request (its
//! method, target, range and body, and how often the same request has arrived
//! before), not on the order in which requests arrive. So two runs of the same
//! requests have the same faults, in whatever order their threads run.

mod active;
mod body;
mod plan;

pub(crate) use self::active::{ActiveFaults, PortalFault};
pub use self::plan::{Fault, FaultPlan, FaultRule};
