//! The mount against a model of it: folders with known names, and files with
//! known bytes.
//!
//! A seed gives a life: rounds of misfortunes (faults, crashes, other tenants
//! of the cache, a cache that loses files or bits, lists that age), during each
//! of which a few actors open, read, seek, map, list and ask for sizes as their
//! own dice say. Whatever is answered must be as the model has it, soon enough;
//! and while nothing is wrong, everything must be answered.
//!
//! In CI a few lives. `scripts/soak --model MINUTES` goes on with seed after
//! seed; `ICOSFS_MODEL_SEED=N` runs that life alone, with every step told.

mod actor;
mod life;
mod world;

use std::time::{Duration, Instant};

use life::Life;
use world::World;

/// Lives in CI: with these, every kind of misfortune is met.
const LIVES: std::ops::Range<u64> = 0..3;

#[test]
fn mount_agrees_with_the_model_under_random_faults() {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let world = World::new();
    if let Some(seed) = variable("ICOSFS_MODEL_SEED") {
        Life::new(seed, &world).live(true);
        return;
    }
    let Some(minutes) = variable("ICOSFS_MODEL_MINUTES") else {
        for seed in LIVES {
            Life::new(seed, &world).live(false);
        }
        return;
    };
    let end = Instant::now() + Duration::from_mins(minutes);
    let mut seed = LIVES.end;
    while Instant::now() < end {
        let steps = Life::new(seed, &world).live(false);
        println!("seed {seed}: {steps} steps, all as in the model");
        seed += 1;
    }
}
