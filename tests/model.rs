//! Compares a mount with a model: folders with known names and files with known
//! bytes.
//!
//! A seed determines a run: rounds with faults (portal faults, crashes, other
//! processes using the cache, a cache that loses files or bits, expired lists).
//! In each round a few actors open, read, seek, map, list and stat at random.
//! Every answer must equal the model's and arrive in time; while there is no
//! fault, every operation must succeed.
//!
//! CI runs a few seeds. `scripts/soak --model MINUTES` runs one seed after
//! another; `ICOSFS_MODEL_SEED=N` runs that seed alone and prints every step.

mod actor;
mod run;
mod world;

use std::time::{Duration, Instant};

use run::Run;
use world::World;

/// Seeds in CI: together they contain every kind of fault.
const SEEDS: std::ops::Range<u64> = 0..3;

#[test]
fn mount_agrees_with_the_model_under_random_faults() {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let world = World::new();
    if let Some(seed) = variable("ICOSFS_MODEL_SEED") {
        Run::new(seed, &world).run(true);
        return;
    }
    let Some(minutes) = variable("ICOSFS_MODEL_MINUTES") else {
        for seed in SEEDS {
            Run::new(seed, &world).run(false);
        }
        return;
    };
    let end = Instant::now() + Duration::from_mins(minutes);
    let mut seed = SEEDS.end;
    while Instant::now() < end {
        let steps = Run::new(seed, &world).run(false);
        println!("seed {seed}: {steps} steps, all as in the model");
        seed += 1;
    }
}
