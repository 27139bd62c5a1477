//! A run of the model test: rounds of faults, determined by a seed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use icos_demo::{DemoService, FaultPlan, FaultRule};
use nix::sys::signal::Signal;

use super::actor::{Actor, HEALED, Weather};
use super::world::World;
use crate::support::{Dice, TestMount, eventually, files_below};

const ROUNDS: usize = 14;
/// Steps of each actor in a round.
const STEPS: usize = 40;
/// The metadata TTL.
const TTL: u64 = 1;

/// A mount and its actors during a run.
pub(super) struct Run<'a> {
    seed: u64,
    world: &'a World,
    dice: Dice,
    cache: tempfile::TempDir,
    options: Vec<String>,
    mount: TestMount,
    weather: Weather,
}

impl<'a> Run<'a> {
    pub(super) fn new(seed: u64, world: &'a World) -> Self {
        let mut dice = Dice::new(seed);
        let cache = tempfile::tempdir().unwrap();
        // From a cache that holds almost nothing to one that holds everything.
        let size = ["2M", "12M", "1G"][dice.roll(3)];
        let options = vec![
            format!("--cache-dir={}", cache.path().display()),
            format!("--cache-size={size}"),
            "--memory=32M".to_owned(),
            "--timeout=2".to_owned(),
            format!("--metadata-ttl={TTL}"),
        ];
        let mount = mount(world, &options);
        Self {
            seed,
            world,
            dice,
            cache,
            options,
            mount,
            weather: Weather {
                // No fault so far.
                calm_since: Instant::now().checked_sub(HEALED),
                was_corrupted: false,
            },
        }
    }

    /// Runs all rounds; returns how many steps were taken.
    pub(super) fn run(mut self, tells: bool) -> usize {
        let crowd = [1, 4][self.dice.roll(2)];
        let mut actors: Vec<_> = (0..crowd)
            .map(|n| {
                let dice = Dice::new(self.seed * 64 + n + 1);
                Actor::new(format!("actor {n}"), self.world, dice, tells)
            })
            .collect();
        for round in 0..ROUNDS {
            let happens = self.befall(&mut actors);
            let told = format!("seed {} round {round} ({happens})", self.seed);
            if tells {
                println!("{told}: {:?}", self.options);
            }
            let root = self.mount.path("");
            for actor in &mut actors {
                actor.root.clone_from(&root);
            }
            let weather = self.weather;
            let steps = if weather.calm_since.is_none() {
                STEPS / 2
            } else {
                STEPS
            };
            let wrong: Vec<String> = std::thread::scope(|scope| {
                let acting = actors
                    .iter_mut()
                    .map(|actor| scope.spawn(|| actor.act(steps, weather)));
                let acting: Vec<_> = acting.collect();
                let done = acting
                    .into_iter()
                    .map(|actor| actor.join().expect("no actor panics"));
                done.filter_map(Result::err).collect()
            });
            assert!(
                wrong.is_empty(),
                "{told}: {wrong:#?}\nto see all of it: ICOSFS_MODEL_SEED={} cargo test --test main \
                 mount_agrees_with_the_model -- --nocapture\n{:#}",
                self.seed,
                self.mount.status()
            );
        }
        self.world.portal.clear_faults();
        actors.iter().map(|actor| actor.steps).sum()
    }

    /// Causes a random event and returns its description.
    fn befall(&mut self, actors: &mut [Actor<'_>]) -> String {
        match self.dice.roll(12) {
            0..2 => {
                self.calm_down();
                "calm".to_owned()
            }
            2..7 => {
                let kinds = World::misfortunes();
                let (name, faults) = &kinds[self.dice.roll(kinds.len())];
                self.break_answers(name, faults);
                (*name).to_owned()
            }
            7 => {
                self.calm_down();
                std::thread::sleep(Duration::from_millis(TTL * 1000 + 100));
                "lists are old".to_owned()
            }
            8 => {
                self.calm_down();
                self.go(Signal::SIGTERM, actors);
                self.come_back();
                "mounted anew".to_owned()
            }
            9 => {
                // Broken responses stay in effect, if there are any.
                self.go(Signal::SIGKILL, actors);
                self.calm_down();
                self.come_back();
                "killed and mounted anew".to_owned()
            }
            10 => {
                self.calm_down();
                self.go(Signal::SIGTERM, actors);
                let flipped = self.flip_bits();
                self.come_back();
                format!("{flipped} files of the cache rot")
            }
            _ => {
                self.calm_down();
                // Readers of the old folder continue.
                for entry in fs::read_dir(self.cache.path()).unwrap().flatten() {
                    // Files that are created meanwhile may stay.
                    let _ = fs::remove_dir_all(entry.path());
                }
                "the cache is emptied, lists and all".to_owned()
            }
        }
    }

    fn break_answers(&mut self, name: &str, faults: &[icos_demo::Fault]) {
        #[allow(clippy::cast_precision_loss)] // A few.
        let probability = 0.35 / faults.len() as f64;
        let rules = faults.iter().map(|fault| {
            let rule = FaultRule::always(*fault);
            match name {
                // Only originals are verified against their ids.
                "wrong bytes" => rule
                    .at(DemoService::Data)
                    .on("objects")
                    .with_probability(0.5),
                "short answers" => rule.at(DemoService::Data).with_probability(probability),
                // Every request finds them missing.
                "revoked tokens" | "services that come and go" => rule.with_probability(0.05),
                _ => rule.with_probability(probability),
            }
        });
        self.weather.was_corrupted |= name == "wrong bytes";
        self.weather.calm_since = None;
        self.world.portal.set_faults(FaultPlan {
            seed: self.dice.roll(1 << 20) as u64,
            rules: rules.collect(),
        });
    }

    fn calm_down(&mut self) {
        self.world.portal.clear_faults();
        for service in DemoService::ALL {
            self.world
                .portal
                .go_online(service)
                .expect("its port is its own");
        }
        if self.weather.calm_since.is_none() {
            self.weather.calm_since = Some(Instant::now());
        }
    }

    fn go(&mut self, signal: Signal, actors: &mut [Actor<'_>]) {
        actors.iter_mut().for_each(Actor::close_all);
        self.mount.signal(signal);
        if signal == Signal::SIGKILL {
            self.mount.clear_away();
        }
        let gone = eventually(Duration::from_secs(20), || {
            !self.mount.is_running() && !self.mount.is_mounted()
        });
        assert!(gone, "seed {}: it does not end", self.seed);
    }

    fn come_back(&mut self) {
        self.mount = mount(self.world, &self.options);
    }

    /// Flips a bit in some cache files, as a failing disk does.
    fn flip_bits(&mut self) -> usize {
        let mut flipped = 0;
        for path in files_below(self.cache.path()) {
            let rots = path.is_file() && !is_catalog(&path);
            if rots && self.dice.roll(3) == 0 {
                flipped += usize::from(flip_a_bit(&path, &mut self.dice));
            }
        }
        flipped
    }
}

fn is_catalog(path: &Path) -> bool {
    path.to_string_lossy().contains("catalog")
}

fn mount(world: &World, options: &[String]) -> TestMount {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let (user, password) = (world.portal.user(), world.portal.password());
    // With user name and password, so that a revoked token is renewed.
    let login = [("ICOSFS_USER", &*user), ("ICOSFS_PASSWORD", &*password)];
    TestMount::with(&world.portal, &options, &login)
}

/// Returns false if there is none.
fn flip_a_bit(path: &Path, dice: &mut Dice) -> bool {
    let mut bytes = fs::read(path).unwrap();
    if bytes.is_empty() {
        return false;
    }
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let at = dice.roll(bytes.len());
    bytes[at] ^= 1 << dice.roll(8);
    fs::write(path, bytes).unwrap();
    fs::File::open(path).unwrap().set_modified(time).unwrap();
    true
}
