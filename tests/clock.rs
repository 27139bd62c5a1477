//! Changes of the wall clock during a mount, by libfaketime, for the daemon only.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use icos_demo::{DemoPortal, DemoService};
use jiff::{SignedDuration, Timestamp};

use crate::support::{Home, TestMount, eventually, portal, serves_csv};

/// The metadata TTL in seconds.
const TTL: u64 = 2;

/// A mount whose wall clock is set by a file, while its monotonic clocks run
/// normally.
struct Clock {
    mount: TestMount,
    file: PathBuf,
}

impl Clock {
    fn mounted(portal: &DemoPortal) -> Self {
        let home = Home::new();
        let file = home.path().join("clock");
        fs::write(&file, "+0d").unwrap();
        let library = fs::read_dir("/usr/lib")
            .unwrap()
            .flatten()
            .find_map(|folder| {
                let library = folder.path().join("faketime/libfaketime.so.1");
                library.exists().then_some(library)
            });
        let library = library.expect("libfaketime is installed (scripts/setup tests)");
        let (user, password) = (portal.user(), portal.password());
        let env = [
            ("ICOSFS_USER", &*user),
            ("ICOSFS_PASSWORD", &*password),
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let ttl = format!("--metadata-ttl={TTL}");
        let mount = TestMount::at(home, portal, &[&ttl], &env, "");
        Self { mount, file }
    }

    fn set(&self, days: i64) {
        // Atomically, since the daemon may read it at any moment.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{days:+}d")).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    /// Returns whether the lists were refreshed after the clock was set this many
    /// days ahead, according to the daemon's status.
    fn has_new_lists(&self, days: i64) -> bool {
        self.mount.list("objects");
        let taken = &self.mount.status()["lists"]["objects"];
        let taken: Timestamp = taken.as_str().expect("a time").parse().expect("a time");
        let shown = Timestamp::now() + SignedDuration::from_hours(24 * days);
        taken.duration_since(shown).abs() < SignedDuration::from_hours(1)
    }
}

/// Returns how many requests `route` of `service` received.
fn asked(portal: &DemoPortal, service: DemoService, path: &str) -> usize {
    let requests = portal.requests();
    let same = requests
        .iter()
        .filter(|r| r.service == service && r.path == path);
    same.count()
}

#[test]
fn clock_change_of_days_causes_at_most_one_login() {
    let portal = portal();
    let clock = Clock::mounted(&portal);
    let mount = &clock.mount;
    let tables = mount.tables();
    // Reading these needs no login.
    let free = ["every_format_one_row.csv", "every_format_no_row.csv"];
    let free = free.map(|name| portal.repository().find(name).unwrap().to_string());
    let mut unread = tables.iter().filter(|id| !free.contains(id));
    let mut read_one = |when: &str| {
        let mut served = unread
            .by_ref()
            .filter(|id| serves_csv(&portal, id.parse().unwrap()));
        let id = served.next().expect("enough tables");
        let right = portal.repository().csv(&id.parse().unwrap()).unwrap();
        let read = mount.read(&format!("objects/{id}.csv"));
        assert!(read == right.as_bytes(), "{when}");
    };
    read_one("at first");
    let logins = || asked(&portal, DemoService::Auth, "/password/login");
    let questions = || asked(&portal, DemoService::Meta, "/sparql");
    let (first, once) = (questions(), logins());
    assert_eq!(once, 1);
    for days in [-1, 1, 0, 9] {
        let when = format!("{days} days ahead");
        portal.clear_requests();
        clock.set(days);
        read_one(&when);
        assert!(logins() <= 1, "{when}: {} logins", logins());
        // The age of lists does not depend on the wall clock.
        let renewed = || clock.has_new_lists(days);
        assert!(
            eventually(Duration::from_secs(20 * TTL), renewed),
            "{when}: lists stay"
        );
        assert!(
            questions() <= 3 * first,
            "{when}: {} questions, {first} at first",
            questions()
        );
        if days == -1 {
            // A revoked token is replaced, even if the clock says that it is valid.
            portal.clear_requests();
            portal.revoke_tokens();
            read_one(&when);
            assert_eq!(logins(), 1, "{when}");
        }
    }
}
