//! What the portal may cost a mount, and a mount the portal: requests, time and
//! memory are limited whatever the services answer.

use std::fs::File;
use std::io::{Read as _, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use icos_demo::{DemoOptions, DemoPortal, DemoRepository, DemoService, Fault, FaultRule};
use icos_portal::ObjectId;
use icosfs::cache::{AppendedFile, CacheLimits, CachePath, Store};
use icosfs::catalog::Representation::Csv;

use crate::support::{
    Front, Home, TestContents, TestMount, co2, eventually, forwarded, portal, said,
};

const FILE: &str = "demo_inversion_2023.nc";

fn mount_with(portal: &DemoPortal, options: &[&str]) -> TestMount {
    TestMount::with(portal, options, &[("ICOSFS_TOKEN", &portal.token())])
}

/// Answers with this status, and asks for a pause of `retry_after` seconds.
fn status(code: u16, retry_after: u64) -> FaultRule {
    FaultRule::always(Fault::Status {
        code,
        retry_after: Some(retry_after),
    })
}

fn data_requests(portal: &DemoPortal) -> usize {
    let requests = portal.requests();
    let data = requests.iter().filter(|r| r.service == DemoService::Data);
    data.filter(|r| r.path != "/whoami").count()
}

fn original(len: u64) -> (DemoPortal, ObjectId) {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_original("large.bin", len);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    (portal, id)
}

/// As a proxy does that does not know ranges.
#[test]
fn complete_response_to_a_range_request_is_skipped_to_the_range_or_refused_with_a_reason() {
    let mut repository = DemoRepository::builtin(1);
    let [id, other] = ["one.bin", "other.bin"].map(|name| repository.add_original(name, 12 << 20));
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let right = portal.repository().original(&id).unwrap();
    let backend = portal.data_url();
    let data = Front::behaving(move |request, stream| {
        let lines = request.split_inclusive(|&byte| byte == b'\n');
        let is_range = |line: &&[u8]| line.to_ascii_lowercase().starts_with(b"range:");
        let without_range: Vec<u8> = lines
            .filter(|line| !is_range(line))
            .flatten()
            .copied()
            .collect();
        stream.write_all(&forwarded(&without_range, &backend)?)
    });
    let data_url = format!("--data-url={}", data.url());
    let mount = mount_with(&portal, &[&data_url]);
    let path = format!("objects/{id}.bin");
    let file = File::open(mount.path(&path)).unwrap();
    let mut bytes = vec![0; 64 << 10];
    let at = 5 << 20;
    file.read_exact_at(&mut bytes, at as u64).unwrap();
    assert!(bytes == right[at..at + bytes.len()]);

    let far = File::open(mount.path(&format!("objects/{other}.bin"))).unwrap();
    let far = far.read_exact_at(&mut bytes, 10 << 20).unwrap_err();
    assert_eq!(far.raw_os_error(), Some(libc::EIO), "{far}");
    let reason = mount.last_reason();
    assert!(reason.contains("ignores ranges"), "{reason}");
    drop(file);
    assert!(mount.read(&path) == right, "from its start");
}

#[test]
fn requests_refused_as_busy_are_repeated_after_the_requested_pause() {
    let portal = portal();
    let id = portal.repository().find(FILE).unwrap();
    let expected = portal.repository().original(&id).unwrap();
    for code in [408, 425, 429, 503] {
        let mount = TestMount::of(&portal);
        mount.list("objects");
        for service in [DemoService::Data, DemoService::Meta] {
            portal.add_fault(status(code, 1).at(service).of(&id).times(1));
        }
        assert!(
            mount.read(&format!("objects/{id}.nc")) == expected,
            "{code}"
        );
        assert!(
            !mount.read(&format!("objects/{id}.json")).is_empty(),
            "{code}"
        );
        portal.clear_faults();
    }
}

#[test]
fn login_refused_as_busy_is_repeated_after_the_requested_pause() {
    let portal = portal();
    portal.add_fault(status(429, 1).on("password").times(1));
    let user = portal.user();
    let arguments = ["login", "--user", &user, "--password-stdin"];
    let output = Home::new().run(&portal, &arguments, &portal.password());
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn pause_longer_than_the_timeout_fails_with_ebusy_and_the_reason() {
    let portal = portal();
    let id = portal.repository().find(FILE).unwrap();
    let mount = mount_with(&portal, &["--timeout=2"]);
    mount.list("objects");
    for (code, path) in [(429, "nc"), (408, "nc"), (429, "json")] {
        portal.add_fault(status(code, 3600).of(&id));
        let error = mount.try_read(&format!("objects/{id}.{path}")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{code} {path}");
        let reason = mount.last_reason();
        assert!(reason.contains(&format!("busy ({code})")), "{reason}");
        assert!(reason.contains("3600 s"), "{reason}");
        portal.clear_faults();
    }
}

/// Regression: each byte that arrived allowed eight further requests, so that a
/// proxy that cuts every connection caused hundreds of downloads.
#[test]
fn connection_cut_after_few_bytes_causes_few_requests() {
    let (portal, id) = original(12 << 20);
    let mount = TestMount::of(&portal);
    mount.list("objects");
    portal.add_fault(FaultRule::always(Fault::Truncate { after: 60_000 }).at(DemoService::Data));
    for path in [
        format!("objects/{id}.bin"),
        format!("objects/{}.csv", co2(&portal)),
    ] {
        portal.clear_requests();
        let error = mount.try_read(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        let requests = data_requests(&portal);
        // The kernel repeats a failed read of several pages.
        assert!(requests <= 40, "{requests} requests for {path}");
    }
}

/// A last bound, which no other limit depends on.
#[test]
fn object_that_cost_too_much_is_not_requested_again() {
    let (portal, id) = original(12 << 20);
    let mount = mount_with(&portal, &["--max-overhead=1"]);
    let path = format!("objects/{id}.bin");
    mount.list("objects");
    portal.add_fault(FaultRule::always(Fault::Corrupt { at: 1000 }).of(&id));
    for _ in 0..6 {
        mount.try_read(&path).unwrap_err();
    }
    let reason = mount.last_reason();
    assert!(reason.contains("--max-overhead"), "{reason}");
    let before = data_requests(&portal);
    let error = mount.try_read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    assert_eq!(data_requests(&portal), before);
    let bytes: u64 = portal.requests().iter().map(|r| r.bytes).sum();
    assert!(bytes < 40 << 20, "{bytes} bytes");
    let output = mount.icosfs().arg("status").output().unwrap();
    assert!(said(&output).contains("not sent"), "{}", said(&output));
    let other = portal.repository().find(FILE).unwrap();
    mount.read(&format!("objects/{other}.nc"));
}

/// Regression: 2048 pages were cached, however long they were.
#[test]
fn landing_pages_stay_within_the_memory_limit() {
    let portal = portal();
    let backend = portal.meta_url();
    let meta = Front::behaving(move |request, stream| {
        if !request.starts_with(b"GET /objects/") {
            return stream.write_all(&forwarded(request, &backend)?);
        }
        let page = format!("[\"{}\"]", "x".repeat(28 << 20));
        let head = format!("Content-Length: {}\r\nConnection: close", page.len());
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{page}").as_bytes())
    });
    let option = format!("--meta-url={}", meta.url());
    let mount = mount_with(&portal, &[&option, "--memory=64M"]);
    let pages = mount.list("objects");
    let pages: Vec<_> = pages
        .iter()
        .filter(|name| name.ends_with(".json"))
        .collect();
    assert!(pages.len() >= 15, "{} pages", pages.len());
    for page in pages {
        let mut start = [0; 10];
        let mut file = std::fs::File::open(mount.path(&format!("objects/{page}"))).unwrap();
        file.read_exact(&mut start).unwrap();
        assert_eq!(start, *b"[\"xxxxxxxx");
    }
    let peak = mount.peak_memory();
    assert!(peak < 300 << 20, "{} MiB", peak >> 20);
}

/// Regression: an answer of 240 MB took 6.5 GB.
#[test]
fn long_answer_to_a_query_stays_within_the_memory_limit() {
    let portal = portal();
    let answered = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&answered);
    let row = r#"{"a":{"value":""},"b":{"value":""},"c":{"value":""},"d":{"value":""}},"#;
    let meta = Front::behaving(move |_, stream| {
        let megabytes = [50, 240][counter.fetch_add(1, Ordering::SeqCst) % 2];
        let part = row.repeat((1 << 20) / row.len());
        let start = r#"{"results":{"bindings":["#;
        let len = start.len() + part.len() * megabytes + 4;
        let head = format!("Content-Length: {len}\r\nConnection: close");
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{start}").as_bytes())?;
        for _ in 0..megabytes {
            stream.write_all(part.as_bytes())?;
        }
        stream.write_all(b"{}]}")
    });
    let option = format!("--meta-url={}", meta.url());
    let mount = mount_with(&portal, &[&option, "--memory=64M", "--timeout=20"]);
    let asked = || answered.load(Ordering::SeqCst) >= 4;
    assert!(eventually(Duration::from_mins(1), || {
        let _ = std::fs::read_dir(mount.path("objects"));
        asked()
    }));
    let peak = mount.peak_memory();
    assert!(peak < 500 << 20, "{} MiB", peak >> 20);
}

/// Regression: each byte that arrived restarted the timeout, so that readers of
/// everything that was not listed yet waited without end.
#[test]
fn dripping_metadata_service_fails_within_the_timeout_and_delays_no_listed_data() {
    let portal = portal();
    let backend = portal.meta_url();
    let drips = Arc::new(AtomicBool::new(false));
    let is_dripping = Arc::clone(&drips);
    let meta = Front::behaving(move |request, stream| {
        if !is_dripping.load(Ordering::SeqCst) {
            return stream.write_all(&forwarded(request, &backend)?);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        while is_dripping.load(Ordering::SeqCst) {
            stream.write_all(b" ")?;
            stream.flush()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    });
    let option = format!("--meta-url={}", meta.url());
    let mount = mount_with(&portal, &[&option, "--timeout=2"]);
    let id = co2(&portal);
    let listed = mount.list("objects");
    drips.store(true, Ordering::SeqCst);

    // More than there are slots for queries.
    let unlisted: Vec<_> = (0..8)
        .map(|n| format!("objects/{}", ObjectId::of_content(&[n])))
        .chain([format!("objects/{id}.json")])
        .map(|path| {
            let path = mount.path(&path);
            std::thread::spawn(move || std::fs::read(path).unwrap_err())
        })
        .collect();
    assert_eq!(mount.list("objects"), listed);
    assert!(!mount.read(&format!("objects/{id}.csv")).is_empty());
    assert!(
        eventually(Duration::from_secs(40), || unlisted
            .iter()
            .all(JoinHandle::is_finished)),
        "readers wait for a service that drips"
    );
    let sidecar = unlisted.into_iter().next_back().unwrap().join().unwrap();
    assert_eq!(sidecar.raw_os_error(), Some(libc::ETIMEDOUT));

    drips.store(false, Ordering::SeqCst);
    let path = mount.path(&format!("objects/{id}.json"));
    assert!(eventually(Duration::from_secs(20), || std::fs::read(&path).is_ok()));
}

/// Regression: as for metadata.
#[test]
fn dripping_download_fails_instead_of_delaying_its_reader_without_end() {
    let portal = portal();
    let id = portal.repository().find(FILE).unwrap();
    let len = portal.repository().original(&id).unwrap().len();
    let backend = portal.data_url();
    let data = Front::behaving(move |request, stream| {
        if !request.starts_with(b"GET /objects/") {
            return stream.write_all(&forwarded(request, &backend)?);
        }
        let head = String::from_utf8_lossy(request).to_ascii_lowercase();
        let from = head.split("range: bytes=").nth(1);
        let from = from.map(|range| range.split('-').next().unwrap_or("").parse().unwrap_or(0));
        let status = match from {
            None => "200 OK".to_owned(),
            Some(from) => {
                let range = format!("bytes {from}-{}/{len}", len - 1);
                format!("206 Partial Content\r\nContent-Range: {range}")
            }
        };
        let rest = len - from.unwrap_or(0);
        stream
            .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {rest}\r\n\r\n").as_bytes())?;
        for _ in 0..rest {
            stream.write_all(b"x")?;
            stream.flush()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    let option = format!("--data-url={}", data.url());
    let mount = mount_with(&portal, &[&option, "--timeout=2"]);
    let path = mount.path(&format!("objects/{id}.nc"));
    let reader = std::thread::spawn(move || std::fs::read(path).unwrap_err());
    assert!(
        eventually(Duration::from_secs(40), || reader.is_finished()),
        "the reader waits for a download that drips"
    );
    assert_eq!(reader.join().unwrap().raw_os_error(), Some(libc::ETIMEDOUT));
    assert!(data.asked().len() < 40, "{} requests", data.asked().len());
}

fn hostile_table() -> (DemoPortal, ObjectId, Vec<u8>) {
    let mut repository = DemoRepository::builtin(1);
    let id = repository.add_hostile_table("hostile.csv", 3000, false);
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let text = portal.repository().csv(&id).unwrap().into_bytes();
    (portal, id, text)
}

/// Regression: such bodies were cached for ever.
#[test]
fn portal_csv_that_contradicts_the_metadata_is_neither_read_nor_cached() {
    let (portal, id, text) = hostile_table();
    let line_end = text[..text.len() / 2]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .unwrap();
    let answers = [
        text[..text.len() / 2].to_vec(),
        text[..=line_end].to_vec(),
        b"<!DOCTYPE html>\n<html><body>Log in</body></html>\n".to_vec(),
        Vec::new(),
    ];
    let next = Arc::new(AtomicUsize::new(0));
    let (number, backend) = (Arc::clone(&next), portal.data_url());
    let data = Front::behaving(move |request, stream: &mut dyn Write| {
        let wrong = answers.get(number.load(Ordering::SeqCst));
        match wrong.filter(|_| request.starts_with(b"GET /csv/")) {
            Some(body) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                stream.write_all(body)
            }
            None => stream.write_all(&forwarded(request, &backend)?),
        }
    });
    let option = format!("--data-url={}", data.url());
    let mount = mount_with(&portal, &[&option]);
    let path = format!("objects/{id}.csv");
    for number in 0..4 {
        next.store(number, Ordering::SeqCst);
        let error = mount.try_read(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "answer {number}");
        let reason = mount.last_reason();
        assert!(reason.contains("according to the metadata"), "{reason}");
    }
    next.store(4, Ordering::SeqCst);
    assert!(mount.read(&path) == text);
}

#[test]
fn portal_csv_kept_by_an_older_version_is_checked_before_it_is_read() {
    let (portal, id, text) = hostile_table();
    for (kept, requests) in [(&text[..text.len() / 2], 1), (&text[..], 0)] {
        let folder = tempfile::tempdir().unwrap();
        let (disk, memory) = (1 << 40, 64 << 20);
        let store = Store::open(folder.path().to_owned(), CacheLimits { disk, memory });
        let path = CachePath::new(CachePath::CSV, &format!("{id}.csv")).unwrap();
        let mut file = AppendedFile::new(store.clone(), path);
        file.append(kept).unwrap();
        assert!(file.finish().unwrap().is_sealed());
        drop(store);
        for requests in [requests, 0] {
            portal.clear_requests();
            let contents = TestContents::of(&portal, &folder);
            assert!(contents.read(id, Csv) == text);
            let csv = portal
                .requests()
                .into_iter()
                .filter(|r| r.path.starts_with("/csv/"));
            assert_eq!(csv.count(), requests);
        }
    }
}

/// Regression: a page that is not JSON, or that the end of the connection cut off,
/// was shown and cached.
#[test]
fn landing_page_that_is_no_json_is_not_read() {
    let portal = portal();
    let backend = portal.meta_url();
    let wrong = Arc::new(AtomicBool::new(true));
    let is_wrong = Arc::clone(&wrong);
    let meta = Front::behaving(move |request, stream| {
        let answer = forwarded(request, &backend)?;
        if !request.starts_with(b"GET /objects/") || !is_wrong.load(Ordering::SeqCst) {
            return stream.write_all(&answer);
        }
        let body = answer
            .windows(4)
            .position(|at| at == b"\r\n\r\n")
            .unwrap_or(0)
            + 4;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        stream.write_all(&answer[body..body + (answer.len() - body) / 2])
    });
    let option = format!("--meta-url={}", meta.url());
    let mount = mount_with(&portal, &[&option]);
    let path = format!("objects/{}.json", co2(&portal));
    let error = mount.try_read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    wrong.store(false, Ordering::SeqCst);
    serde_json::from_slice::<serde_json::Value>(&mount.read(&path)).unwrap();
}

/// The rate is that of all downloads together, and it causes no further requests: a
/// download that is slow for this reason does not count as stalled.
#[test]
fn limited_rate_delays_downloads_and_causes_no_further_requests() {
    let (portal, id) = original(8 << 20);
    let mount = mount_with(&portal, &["--limit-rate=2M", "--timeout=2"]);
    let begun = std::time::Instant::now();
    let bytes = mount.read(&format!("objects/{id}.bin"));
    // Not faster; how much slower depends on the machine.
    assert!(begun.elapsed() > Duration::from_millis(2500));
    assert_eq!(ObjectId::of_content(&bytes), id);
    assert_eq!(data_requests(&portal), 1);
    let limited = mount.status()["traffic"]["limited_ms"].as_u64();
    assert!(limited.unwrap() > 2000, "{limited:?}");
}

#[test]
fn requests_beyond_the_limit_per_minute_wait_longer_than_the_timeout() {
    let mut repository = DemoRepository::builtin(1);
    let ids = [1, 2, 3].map(|n| repository.add_original(&format!("{n}.bin"), 1000));
    let portal = DemoPortal::start(repository, DemoOptions::default()).unwrap();
    let mount = mount_with(&portal, &["--limit-requests=2", "--timeout=1"]);
    for id in &ids[..2] {
        mount.read(&format!("objects/{id}.bin"));
    }
    let path = mount.path(&format!("objects/{}.bin", ids[2]));
    let mut cat = std::process::Command::new("cat").arg(path).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(cat.try_wait().unwrap().is_none(), "it waits");
    assert_eq!(data_requests(&portal), 2);
    // Metadata are not limited, and neither are files in the cache.
    assert!(!mount.read(&format!("objects/{}.json", ids[2])).is_empty());
    assert_eq!(mount.read(&format!("objects/{}.bin", ids[0])).len(), 1000);
    cat.kill().unwrap();
    assert!(eventually(Duration::from_secs(5), || cat
        .try_wait()
        .unwrap()
        .is_some()));
}
