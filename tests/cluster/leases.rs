//! Leases on a server of Redis, for stores that have none.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::engines::{RedisServer, S3Server};
use super::{
    SOON, SharedStore, downloads, read_all, shared_status, slices, slow_portal, small_tables,
    wait_until_published,
};
use crate::support::{Home, TestCertificate, eventually, feed, said, services_of};

/// The same as without Redis: 64 readers on 4 machines, each table once.
#[test]
fn tables_are_downloaded_once_by_machines_that_agree_by_redis() {
    let (portal, files) = small_tables(100);
    let (server, redis) = (S3Server::moto(), RedisServer::new());
    let store = SharedStore::in_bucket(&server).with_leases(&redis);
    let mounts = [(); 4].map(|()| store.mount(&portal));
    portal.clear_requests();
    read_all(&mounts, &files);
    assert_eq!(slices(&portal), files.len());
    let status = shared_status(&mounts[0]);
    assert_eq!(status["leases_off"], false, "{status}");
    let leases: u64 = (mounts.iter())
        .map(|mount| shared_status(mount)["leases"].as_u64().unwrap())
        .sum();
    assert!(leases >= files.len() as u64, "{leases}");
    let is_empty = || redis.answer(&["DBSIZE"]).trim() == "0";
    assert!(
        eventually(SOON, is_empty),
        "leases that are not needed are deleted: {}",
        redis.answer(&["KEYS", "*"])
    );
}

#[test]
fn store_that_ignores_conditions_has_leases_by_redis() {
    let (portal, files) = slow_portal(&[5000, 6000, 7000, 9 << 20], 0);
    let folder = tempfile::tempdir().unwrap();
    let (server, redis) = (S3Server::rclone(folder.path()), RedisServer::new());
    let store = SharedStore::in_bucket(&server).with_leases(&redis);
    let mounts = [(); 2].map(|()| store.mount(&portal));
    read_all(&mounts, &files);
    let downloads = downloads(&portal);
    assert!(downloads.values().all(|&count| count == 1), "{downloads:?}");
    let status = shared_status(&mounts[0]);
    assert_eq!(status["leases_off"], false, "{status}");
    let text = mounts[0]
        .icosfs()
        .arg("status")
        .arg(mounts[0].path(""))
        .output();
    let text = said(&text.unwrap());
    let expected = format!("its leases are in {}/0", redis.url());
    assert!(text.contains(&expected), "{text}");
}

/// The machine with the lease was killed.
#[test]
fn lease_that_expires_in_redis_is_taken_over() {
    let (portal, files) = slow_portal(&[5000, 6000], 0);
    let redis = RedisServer::new();
    let store = SharedStore::keyed().with_leases(&redis);
    let mount = store.mount(&portal);
    assert!(mount.read(&files[0].0) == files[0].1);
    wait_until_published(&mount, 5000);
    let hosts = std::fs::read_dir(store.path().join("v1"))
        .unwrap()
        .flatten();
    let mut hosts = hosts.filter(|entry| entry.path().join("original").exists());
    let host = hosts.next().unwrap().file_name().into_string().unwrap();
    let id = files[1].0.split(['/', '.']).nth(1).unwrap();
    let location = store.options[0].split_once('=').unwrap().1;
    let key = format!("icosfs:{location}:v1/{host}/original/{id}/lease");
    let lease = r#"{"holder":"x","node":"n","state":"held","from":0,"until":6000,"position":0,"renewals":0}"#;
    redis.answer(&["SET", &key, lease, "PX", "5000"]);
    let started = Instant::now();
    assert!(mount.read(&files[1].0) == files[1].1);
    assert!(started.elapsed() >= Duration::from_secs(4), "it waited");
    let status = shared_status(&mount);
    assert_eq!(
        (&status["taken_over"], &status["waits"]),
        (&1.into(), &1.into())
    );
    assert_eq!(downloads(&portal).values().sum::<usize>(), 2);
}

/// Bytes are shared without leases, too.
#[test]
fn redis_that_fails_costs_no_read_and_is_used_again_by_itself() {
    let (portal, files) = slow_portal(&[5000, 6000, 7000], 0);
    let mut redis = RedisServer::new();
    let store = SharedStore::keyed().with_leases(&redis);
    let mount = store.mount_with(&portal, &["--shared-cache-timeout=800"]);
    assert!(mount.read(&files[0].0) == files[0].1);
    redis.kill();
    assert!(mount.read(&files[1].0) == files[1].1);
    wait_until_published(&mount, 11_000);
    let status = shared_status(&mount);
    assert_eq!(status["state"], "working", "{status}");
    assert_eq!(status["leases_off"], true, "{status}");
    let text = mount.icosfs().arg("status").arg(mount.path("")).output();
    let text = said(&text.unwrap());
    assert!(
        text.contains("so that machines download at once:"),
        "{text}"
    );
    assert!(store.mount(&portal).read(&files[1].0) == files[1].1);
    assert_eq!(downloads(&portal).values().sum::<usize>(), 2);
    redis.restart();
    assert!(eventually(SOON, || shared_status(&mount)["leases_off"] == false));
    let leases = || shared_status(&mount)["leases"].as_u64().unwrap();
    let before = leases();
    assert!(mount.read(&files[2].0) == files[2].1);
    assert_eq!(leases(), before + 1);
}

#[test]
fn password_of_redis_is_needed_and_shown_nowhere() {
    let (portal, home) = (crate::support::portal(), Home::new());
    let certificate = TestCertificate::of("localhost");
    let trusted = certificate.path();
    let redis = RedisServer::behind_tls("hidden-word", certificate);
    let mut store = SharedStore::keyed().with_leases(&redis);
    let file = home.path().join("password");
    let doctor = |store: &SharedStore, more: &[&str], authorities: Option<&Path>| {
        let mut command = home.icosfs();
        command.args(services_of(&portal, &[])).arg("doctor");
        command.args(&store.options).args(more);
        command.envs(authorities.map(|path| ("SSL_CERT_FILE", path)));
        let text = said(&feed(command, ""));
        assert!(!text.contains("hidden-word"), "{text}");
        text
    };
    let option = format!("--shared-leases-password-file={}", file.display());
    let option = [option.as_str()];
    for (password, authorities, expected) in [
        (
            "hidden-word\n",
            Some(&*trusted),
            "can be read and written, with a key",
        ),
        ("hidden-word\n", None, "certificate"),
        ("other\n", Some(&*trusted), "it denies access"),
    ] {
        std::fs::write(&file, password).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = doctor(&store, &option, authorities);
        assert!(text.contains(expected), "{text}");
    }
    let text = doctor(&store, &[], Some(&trusted));
    assert!(text.contains("it denies access"), "{text}");
    let url = redis.url().replace("//", "//:hidden-word@");
    store.options[3] = format!("--shared-leases={url}");
    let text = doctor(&store, &[], None);
    assert!(text.contains("expected a URL without a password"), "{text}");
}
