//! Attacks by a network, a portal or another local user; docs/threat-model.md names
//! these tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{Uid, chown};

mod foreign_mounts;
mod shared_folders;

use crate::support::{
    Front, Home, TestCertificate, TestMount, co2, contents, feed, files_below, portal, said,
};

/// Replaces bytes by others of the same length.
fn replaced(mut bytes: Vec<u8>, old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], old) {
        at += found;
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    bytes
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    (bytes.windows(text.len())).position(|window| window == text.as_bytes())
}

#[test]
fn redirect_is_not_followed_and_gets_no_secret() {
    let portal = portal();
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    let elsewhere = Front::saying(ok.to_owned());
    let turn = Front::saying(format!(
        "HTTP/1.1 307 Turn\r\nLocation: {}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        elsewhere.url()
    ));
    let token = portal.token();
    for service in ["--data-url", "--meta-url"] {
        let option = format!("{service}={}", turn.url());
        let mount = TestMount::with(&portal, &[&option], &[("ICOSFS_TOKEN", &token)]);
        let path = format!("objects/{}.csv", co2(&portal));
        mount.try_read(&path).unwrap_err();
    }
    let home = Home::new();
    let mut login = home.icosfs();
    login.arg(format!("--auth-url={}", turn.url()));
    login.args(["login", "--user", "a@b.se", "--password-stdin"]);
    let output = feed(login, "let me in");
    assert!(!output.status.success(), "{}", said(&output));

    assert!(turn.asked().len() >= 3);
    assert!(elsewhere.asked().is_empty());
}

/// icosfs never requests the URLs in landing pages, stations and lists.
#[test]
fn links_in_metadata_are_not_followed() {
    let portal = portal();
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    let elsewhere = Front::saying(ok.to_owned());
    // Of the same length as the text that it replaces.
    let bait = format!("{}/x", elsewhere.url());
    let real = &"https://data.icos-cp.eu/objects"[..bait.len()];
    let (old, new) = (real.to_owned(), bait.clone());
    let meta = Front::twisting(&portal.meta_url(), move |answer| {
        replaced(answer, &old, &new)
    });
    let option = format!("--meta-url={}", meta.url());
    let right = contents(&portal);
    let mount = TestMount::with(&portal, &[&option], &[("ICOSFS_TOKEN", &portal.token())]);

    let page = mount.read(&format!("objects/{}.json", co2(&portal)));
    assert!(find(&page, &bait).is_some(), "the bait is laid");
    for (path, expected) in &right {
        assert!(mount.read(path) == *expected, "{path}");
    }
    mount.run(
        "sh",
        &[
            "-c",
            "cat stations/*/station.json collections/*/collection.json",
        ],
    );
    mount.run("getfattr", &["-d", "-m", "-", &right[0].0]);
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn file_name_with_path_separators_stays_a_name_in_its_folder() {
    let portal = portal();
    let (old, new) = ("demo_inversion_2023.nc", "../../../../etc/passwd");
    let meta = Front::twisting(&portal.meta_url(), |answer| replaced(answer, old, new));
    let id = portal.repository().find(old).unwrap();
    let option = format!("--meta-url={}", meta.url());
    let mount = TestMount::with(&portal, &[&option], &[("ICOSFS_TOKEN", &portal.token())]);

    let found = mount.run("find", &[".", "-name", "*passwd*", "-type", "f"]);
    let found = String::from_utf8(found.stdout).unwrap();
    let named = found.lines().find(|path| !path.ends_with(".json"));
    let named = named.expect("it is listed");
    assert!(named.contains("/.._.._.._.._etc_passwd"), "{named}");
    assert_eq!(
        fs::metadata(mount.path(named)).unwrap().ino(),
        fs::metadata(mount.path(&format!("objects/{id}")))
            .unwrap()
            .ino()
    );
    assert!(mount.read(named) == portal.repository().original(&id).unwrap());
    let outside = files_below(&mount.home().path().join("cache"));
    assert!(outside.iter().all(|path| !path.ends_with("etc/passwd")));
}

/// Applies `edit` to the body of a response and corrects its length.
fn edited(answer: &[u8], edit: impl Fn(&str) -> String) -> Vec<u8> {
    let end = find(answer, "\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let Ok(body) = std::str::from_utf8(&answer[end..]) else {
        return answer.to_vec();
    };
    let body = edit(body);
    let head = String::from_utf8_lossy(&answer[..end]);
    let lines = head.trim_end().lines();
    let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with("content-length"));
    let mut head: Vec<String> = kept.map(str::to_owned).collect();
    head.push(format!("Content-Length: {}", body.len()));
    format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
}

/// The schema of a table comes from the metadata service, its bytes from the data
/// service.
#[test]
fn table_with_wrong_metadata_is_refused_or_rendered_from_its_real_bytes() {
    let portal = portal();
    let id = co2(&portal);
    let csv = portal.repository().csv(&id).unwrap();
    let rows = csv.lines().count() - 1;
    let file = portal.repository().find("demo_inversion_2023.nc").unwrap();
    let number = |n: &str| {
        let value = |n: &str| format!("\"value\":\"{n}\"");
        (value(&rows.to_string()), value(n))
    };
    let format = |new: &str| {
        let iri = |name: &str| format!("ontologies/cpmeta/{name}\"");
        (iri("float32"), iri(new))
    };
    let once = "[\\\"TIMESTAMP".to_owned();
    let twice = format!("{once}\\\",\\\"TIMESTAMP");
    // Whether the metadata claims more bytes than arrive.
    let lies = [
        (number(&(rows + 1).to_string()), true),
        (number("4611686018427387904"), true),
        (number("18446744073709551615"), true),
        (format("float64"), true),
        ((once, twice), true),
        (format("bmpChar"), false),
    ];
    for ((old, new), more) in lies {
        let told = format!("{old} as {new}");
        let twisted = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&twisted);
        let meta = Front::twisting(&portal.meta_url(), move |answer| {
            edited(&answer, |body| {
                note.fetch_or(body.contains(&old), Ordering::Relaxed);
                body.replace(&old, &new)
            })
        });
        let option = format!("--meta-url={}", meta.url());
        let options = [&*option, "--timeout=2"];
        let mount = TestMount::with(&portal, &options, &[("ICOSFS_TOKEN", &portal.token())]);
        for ending in ["csv", "cpb", "parquet"] {
            let path = match ending {
                "cpb" => format!("dataAppStorage/asciiAtcProductTimeSer/{id}.cpb"),
                _ => format!("objects/{id}.{ending}"),
            };
            let read = mount.try_read(&path).map(|bytes| bytes.len());
            assert_eq!(read.is_err(), more, "{told}: {path}: {read:?}");
        }
        assert!(
            twisted.load(Ordering::Relaxed),
            "{told}: it was not rewritten"
        );
        assert!(mount.is_running(), "{told}");
        let peak = mount.peak_memory();
        assert!(peak < 512 << 20, "{told}: {peak} bytes of memory");
        let original = mount.read(&format!("objects/{file}.nc"));
        assert!(
            original == portal.repository().original(&file).unwrap(),
            "{told}"
        );
    }
}

#[test]
fn endless_response_is_cut_off() {
    let portal = portal();
    let endless = Front::behaving(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        let blank = vec![b' '; 1 << 16];
        // Until the client disconnects, at most one gigabyte.
        (0..1 << 14).try_for_each(|_| stream.write_all(&blank))
    });
    let mount = TestMount::of(&portal);
    assert!(!mount.list("objects").is_empty());
    // With cached lists, but without cached landing pages.
    let cache = format!("--cache-dir={}", mount.cache().display());
    let option = format!("--meta-url={}", endless.url());
    let mount = TestMount::with(&portal, &[&cache, &option], &[]);
    let page = format!("objects/{}.json", co2(&portal));
    assert!(mount.try_read(&page).is_err());
    assert!(!endless.asked().is_empty());
    // One time the maximum size of a metadata response, not two.
    let peak = mount.peak_memory();
    assert!(peak < 384 << 20, "{peak} bytes of memory");
}

#[test]
fn plain_http_proxy_gets_no_secret() {
    let portal = portal();
    let proxy = Front::saying("HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n".to_owned());
    let (url, token) = (proxy.url(), portal.token());
    let mut env = vec![("ICOSFS_TOKEN", &*token)];
    for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "HTTPS_PROXY"] {
        env.push((variable, &*url));
    }
    let mount = TestMount::with(&portal, &[], &env);
    mount.read(&format!("objects/{}.csv", co2(&portal)));
    assert!(proxy.asked().is_empty());
}

#[test]
fn server_without_a_trusted_certificate_gets_no_request() {
    let portal = portal();
    let (right, other) = (
        TestCertificate::of("localhost"),
        TestCertificate::of("elsewhere.example"),
    );
    let login = |front: &Front, bundle: Option<&Path>| {
        let home = Home::new();
        let mut login = home.icosfs();
        login.arg(format!("--auth-url={}", front.tls_url()));
        if let Some(bundle) = bundle {
            login.arg("--ca-bundle").arg(bundle);
        }
        login.args(["login", "--user", &portal.user(), "--password-stdin"]);
        feed(login, &portal.password())
    };
    let auth = Front::behind_tls(&portal.auth_url(), &right);
    let refused = login(&auth, None);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("certificate"), "{}", said(&refused));
    let misnamed = Front::behind_tls(&portal.auth_url(), &other);
    assert!(!login(&misnamed, Some(&other.path())).status.success());
    assert!(auth.asked().is_empty() && misnamed.asked().is_empty());

    let accepted = login(&auth, Some(&right.path()));
    assert!(accepted.status.success(), "{}", said(&accepted));
    let empty = tempfile::NamedTempFile::new().unwrap();
    let bad = login(&auth, Some(empty.path()));
    assert!(said(&bad).contains("BEGIN CERTIFICATE"), "{}", said(&bad));
}

/// A user who can write there could replace cached bytes, and have the daemon
/// overwrite the target of a symbolic link.
#[test]
fn cache_folder_writable_by_others_is_refused() {
    let portal = portal();
    let home = Home::new();
    let cache = home.path().join("cache");
    let id = co2(&portal).to_string();
    let token = home.path().join("token");
    fs::write(&token, portal.token()).unwrap();
    let get = || {
        let arguments = [
            &format!("--cache-dir={}", cache.display()),
            "get",
            &id,
            &format!("--token-file={}", token.display()),
        ];
        home.run(&portal, &arguments, "")
    };
    let first = get();
    assert!(first.status.success(), "{}", said(&first));
    let folders = fs::read_dir(&cache).unwrap();
    let root = (folders.map(|entry| entry.unwrap().path()))
        .find(|path| path.join("dataAppStorage").exists())
        .expect("something is kept");
    let refused = |what: &str| {
        let output = get();
        let told = said(&output);
        assert!(!output.status.success(), "{what}");
        assert!(told.contains("only you can write to"), "{what}: {told}");
    };

    fs::set_permissions(&root, Permissions::from_mode(0o770)).unwrap();
    refused("a group's");
    fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
    chown(&root, Some(Uid::from_raw(65534)), None).expect("these tests run as root");
    refused("another's");
    chown(&root, Some(Uid::from_raw(0)), None).unwrap();
    assert!(get().status.success());
}

/// Regression (`sudo --preserve-env icosfs ...`): files that root created in a
/// user's home could not be read or replaced by that user.
#[test]
fn files_written_as_root_in_a_users_home_are_owned_by_the_user() {
    const USER: u32 = 65534;
    let portal = portal();
    let home = Home::new();
    let user = Some(Uid::from_raw(USER));
    chown(home.path(), user, None).expect("these tests run as root");
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let id = co2(&portal).to_string();

    let login = ["login", "--user", &portal.user(), "--password-stdin"];
    let login = home.run(&portal, &login, &portal.password());
    assert!(login.status.success(), "{}", said(&login));
    // After a renewal it is still owned by the user.
    portal.revoke_tokens();
    let cache = tempfile::tempdir().unwrap();
    let elsewhere = format!("--cache-dir={}", cache.path().display());
    let read = home.run(&portal, &[&elsewhere, "get", &id], "");
    assert!(read.status.success(), "{}", said(&read));
    let cached = home.run(&portal, &["get", &id], "");
    assert!(!cached.status.success());
    assert!(said(&cached).contains("without sudo"), "{}", said(&cached));

    let mut there = files_below(home.path());
    assert!(there.contains(&home.credentials()), "{there:?}");
    there.push(home.credentials().parent().unwrap().to_owned());
    for path in there {
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.uid(), USER, "{}", path.display());
        assert_eq!(found.mode() & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn cache_files_and_control_socket_are_accessible_to_their_owner_only() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    for (path, _) in contents(&portal) {
        mount.read(&path);
    }
    let of_others = |mode: u32| mode & 0o077;
    let mut folders = vec![mount.cache()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                folders.push(path.clone());
            }
            // Files in a folder that no other user can enter are safe.
            let private = of_others(found.mode()) == 0;
            let parent = fs::metadata(path.parent().unwrap()).unwrap().mode();
            assert!(private || of_others(parent) == 0, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} files");
    let socket = mount.status()["control"].as_str().unwrap().to_owned();
    let folder = Path::new(&socket).parent().unwrap();
    assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
}
