//! Python libraries reading the files.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use icos_demo::DemoPortal;
use jiff::SignedDuration;
use serde_json::Value;

use crate::support::{
    Home, TestMount, co2, interpreter, portal, said, services_of, write_credentials,
};

/// Prepares Python with the portal's libraries configured for `portal` and with
/// `home` as the user's home.
pub(crate) fn python(portal: &DemoPortal, home: &Home) -> Command {
    let mut command = interpreter();
    command
        .env(
            "PYTHONPATH",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python"),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", home.path())
        .env("ICOS_AUTH", portal.auth_url())
        .env("ICOS_META", portal.meta_url())
        .env("ICOS_DATA", portal.data_url());
    command
}

/// Runs `script` and returns its output.
pub(crate) fn printed(mut python: Command, script: &str, arguments: &[&str]) -> String {
    let output = python
        .arg("-c")
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn logins(portal: &DemoPortal) -> usize {
    let requests = portal.requests();
    let logins = requests.iter().filter(|r| r.path == "/password/login");
    logins.count()
}

#[test]
fn pandas_reads_a_mounted_table() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    for file in [
        "ICOSETC_SE-Htm_FLUXES_L2.csv",
        "11SS20230410_SOOP_OTC.csv",
        "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip",
    ] {
        let id = portal.repository().find(file).unwrap();
        let path = mount.path(&format!("objects/{id}.csv"));
        let text = std::fs::read_to_string(&path).unwrap();
        let shape = printed(
            python(&portal, mount.home()),
            "import pandas, sys; frame = pandas.read_csv(sys.argv[1]); print(*frame.shape)",
            &[path.to_str().unwrap()],
        );
        let header = text.lines().next().unwrap();
        let expected = format!("{} {}", text.lines().count() - 1, header.split(',').count());
        assert_eq!(shape.trim(), expected, "{file}");
    }
}

#[test]
fn each_call_of_icoscp_core_has_an_equivalent_path() {
    let portal = portal();
    let mount = TestMount::of(&portal);
    write_credentials(&portal, &mount.home().credentials(), None);
    let table = portal
        .repository()
        .find("ICOSETC_SE-Htm_FLUXES_L2.csv")
        .unwrap();
    let mut collections = mount.list("collections").into_iter();
    let collection = collections.find(|name| !name.starts_with("by-")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/calls.py");
    let mut command = python(&portal, mount.home());
    command
        .arg(script)
        .arg(mount.path(""))
        .args(["docs/python.md", &table.to_string(), &collection])
        .arg(crate::support::home::ICOSFS)
        .args(services_of(&portal, &[]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn icoscp_core_uses_the_token_of_our_credentials_file() {
    let (portal, home) = (portal(), Home::new());
    let login = ["login", "--user", &portal.user(), "--password-stdin"];
    let output = home.run(&portal, &login, &portal.password());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(logins(&portal), 1);
    let found = printed(
        python(&portal, &home),
        "import sys, elsewhere\n\
         from icoscp_core.auth import PasswordAuth\n\
         from icoscp_core.envri import ICOS_CONFIG\n\
         from icoscp_core.icos import auth\n\
         file = PasswordAuth.load_from_file(sys.argv[1], ICOS_CONFIG)\n\
         print(file.has_fresh_token, file._user_id, file._password, auth.get_token().user_id, sep='|')",
        &[&home.credentials().display().to_string()],
    );
    let (user, password) = (portal.user(), portal.password());
    assert_eq!(found.trim(), format!("True|{user}|{password}|{user}"));
    assert_eq!(logins(&portal), 1, "Python needed no login of its own");
}

#[test]
fn credentials_file_of_icoscp_core_is_used_unchanged() {
    let (portal, home) = (portal(), Home::new());
    portal.set_password("p\u{e5}ss w\u{f6}rd \u{1f40c}");
    fs::create_dir(home.path().join(".icoscp")).unwrap();
    printed(
        python(&portal, &home),
        "import sys, elsewhere\n\
         from icoscp_core.auth import PasswordAuth\n\
         from icoscp_core.envri import ICOS_CONFIG\n\
         from icoscp_core.icos import auth\n\
         PasswordAuth(sys.argv[2], sys.argv[3], ICOS_CONFIG).save_to_file(sys.argv[1])\n\
         auth.get_token()",
        &[
            &home.credentials().display().to_string(),
            &portal.user(),
            &portal.password(),
        ],
    );
    let file: Value = serde_json::from_slice(&fs::read(home.credentials()).unwrap()).unwrap();
    let cookie = file["cookie_value"].as_str().unwrap();
    assert!(cookie.ends_with(';'), "as the library keeps it");
    assert_eq!(logins(&portal), 1);

    let output = home.run(&portal, &["auth", "token"], "");
    let token = String::from_utf8(output.stdout).unwrap();
    assert_eq!(token.trim(), cookie.trim_end_matches(';'));
    let mount = TestMount::at(home, &portal, &[], &[], "");
    mount.read(&format!("objects/{}.csv", co2(&portal)));
    assert_eq!(logins(&portal), 1, "we needed no login of our own");

    // Its password is read too.
    portal.revoke_tokens();
    mount.read(&format!("objects/{}.original.zip", co2(&portal)));
    assert_eq!(logins(&portal), 2);
}

#[test]
fn icoscp_core_and_icosfs_renew_one_file_concurrently() {
    let (portal, home) = (portal(), Home::new());
    write_credentials(&portal, &home.credentials(), None);
    // Always expired: every use renews and writes.
    portal.set_token_life(SignedDuration::from_mins(10));
    let deadline = Instant::now() + Duration::from_secs(4);
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| {
            let mut tokens = 0;
            while Instant::now() < deadline {
                let output = home.run(&portal, &["auth", "token"], "");
                assert!(output.status.success(), "{output:?}");
                tokens += 1;
            }
            tokens
        });
        // The library reads the file while we replace it, and writes in place.
        let theirs = printed(
            python(&portal, &home),
            "import sys, time, elsewhere\n\
             from icoscp_core.auth import ConfigFileAuth\n\
             from icoscp_core.envri import ICOS_CONFIG\n\
             end, tokens = time.monotonic() + float(sys.argv[1]), 0\n\
             while time.monotonic() < end:\n\
             \x20   ConfigFileAuth(ICOS_CONFIG).get_token()\n\
             \x20   tokens += 1\n\
             print(tokens)",
            &[&deadline
                .duration_since(Instant::now())
                .as_secs_f32()
                .to_string()],
        );
        (ours.join().unwrap(), theirs.trim().parse::<u32>().unwrap())
    });
    assert!(ours > 5 && theirs > 5, "{ours} and {theirs}");
    let output = home.run(&portal, &["auth", "status"], "");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn older_icoscp_reads_the_same_values_with_the_shared_file() {
    let (portal, home) = (portal(), Home::new());
    let login = ["login", "--user", &portal.user(), "--password-stdin"];
    assert!(
        home.run(&portal, &login, &portal.password())
            .status
            .success()
    );
    let id = co2(&portal);
    let csv = portal.repository().csv(&id).unwrap();
    let cells = csv.lines().skip(1).flat_map(|row| row.split(',')).count();
    let truth = home.path().join("truth.csv");
    fs::write(&truth, csv).unwrap();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/python/icoscp_equals_csv.py"
    );
    let output = python(&portal, &home)
        .args([script, &id.to_string(), &truth.display().to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told.trim(), format!("{} {cells}", portal.user()));
    assert_eq!(logins(&portal), 1, "ours");
}

#[test]
fn password_typed_at_a_terminal_is_not_echoed() {
    let (portal, home) = (portal(), Home::new());
    let terminal = r"
import os, pty, sys, termios, time
program, user, password = sys.argv[1], sys.argv[2], sys.argv[3]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(program, [program, *sys.argv[4:]])
shown = b''
def until(prompt):
    global shown
    while prompt not in shown:
        shown += os.read(terminal, 1000)
until(b'User name')
os.write(terminal, user.encode() + b'\n')
until(b'Password: ')
# It asks first, and hides what is typed a moment later.
while termios.tcgetattr(terminal)[3] & termios.ECHO:
    time.sleep(0.001)
os.write(terminal, password.encode() + b'\n')
try:
    while piece := os.read(terminal, 1000):
        shown += piece
except OSError:
    pass
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), shown.decode())
";
    let mut arguments = vec![
        env!("CARGO_BIN_EXE_icosfs").to_owned(),
        portal.user(),
        portal.password(),
    ];
    arguments.extend(crate::support::services_of(&portal, &[]));
    arguments.push("login".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let shown = printed(python(&portal, &home), terminal, &arguments);
    assert!(shown.starts_with("0 "), "{shown}");
    assert!(
        shown.contains("logged in as") && !shown.contains(&portal.password()),
        "{shown}"
    );
    assert!(home.credentials().exists());
}

/// Runs the tests of the portal's own Python client whose names match.
fn icoscp_core(names: &str) {
    let tests = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/python/test_icoscp_core.py"
    );
    let output = interpreter()
        .args([
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            names,
            tests,
        ])
        .env("ICOSFS_BIN", env!("CARGO_BIN_EXE_icosfs"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn icoscp_core_tests_pass_against_the_demo() {
    icoscp_core("not real_metadata");
}

#[test]
#[cfg(feature = "shared-tests")]
fn icoscp_core_tests_pass_on_real_metadata() {
    icoscp_core("real_metadata");
}
