//! Every way to log in, in every state of the login.

use std::time::Duration;

use icos_demo::{DemoPortal, DemoService};
use jiff::SignedDuration;

use crate::support::{Home, TestMount, co2, eventually, portal, said, write_credentials};

/// The source of the login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    TokenFile,
    TokenVariable,
    SavedToken,
    Variables,
    StandardInput,
    CredentialsFile,
    DefaultFile,
    Anonymous,
}

use Way::*;

const BY_TOKEN: [Way; 3] = [TokenFile, TokenVariable, SavedToken];
const BY_PASSWORD: [Way; 2] = [Variables, StandardInput];
const BY_FILE: [Way; 2] = [CredentialsFile, DefaultFile];

/// The state of the login when it is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Fresh,
    NearlyExpired,
    Expired,
    Revoked,
    WrongPassword,
    LicenceNotAccepted,
    AuthServiceDown,
    /// The auth service is down, but the token is valid.
    NearlyExpiredAndDown,
}

use State::*;

/// The expected result.
struct Outcome {
    errno: Option<i32>,
    logins: usize,
    /// Contained in the reason of the failure.
    reason: &'static str,
    /// Contained in the suggested fix.
    advice: &'static str,
}

const fn reads(logins: usize) -> Outcome {
    Outcome {
        errno: None,
        logins,
        reason: "",
        advice: "",
    }
}

const fn fails(errno: i32, logins: usize, reason: &'static str) -> Outcome {
    Outcome {
        errno: Some(errno),
        logins,
        reason,
        advice: reason,
    }
}

const NOT_ACCEPTED: &str = "the data licence is not accepted; accept it in your profile at http";

/// Expected results by source and state.
fn outcome(way: Way, state: State) -> Outcome {
    let denied = |logins, reason| fails(libc::EACCES, logins, reason);
    match (way, state) {
        (way, Fresh) if BY_TOKEN.contains(&way) => reads(0),
        (way, NearlyExpired | NearlyExpiredAndDown) if BY_TOKEN.contains(&way) => Outcome {
            advice: " expires at ",
            ..reads(0)
        },
        (way, Expired) if BY_TOKEN.contains(&way) => denied(0, " expired at "),
        (way, Revoked) if BY_TOKEN.contains(&way) => {
            denied(0, "the portal refused the login token")
        }
        (way, LicenceNotAccepted) if BY_TOKEN.contains(&way) => denied(0, NOT_ACCEPTED),
        // Neither service is needed.
        (way, AuthServiceDown | WrongPassword) if BY_TOKEN.contains(&way) => reads(0),

        // Independent of the other sources.
        (Anonymous, _) => Outcome {
            advice: "",
            ..denied(0, "needs a login; run `icosfs login`, or set ICOSFS_TOKEN")
        },

        (way, Fresh) if BY_FILE.contains(&way) => reads(0),
        (way, NearlyExpired | Expired | Revoked) if BY_FILE.contains(&way) => reads(1),
        (way, LicenceNotAccepted) if BY_FILE.contains(&way) => denied(0, NOT_ACCEPTED),
        (way, NearlyExpiredAndDown) if BY_FILE.contains(&way) => Outcome {
            advice: "logging in failed",
            ..reads(0)
        },

        // A password given at the start has no token yet.
        // After a renewal, no other attempt for a minute.
        (_, Fresh | NearlyExpired | NearlyExpiredAndDown) => reads(1),
        (_, Expired | Revoked) => reads(2),
        (_, LicenceNotAccepted) => denied(1, NOT_ACCEPTED),

        (_, WrongPassword) => denied(1, "the portal refused user name or password of demo@"),
        (_, AuthServiceDown) => fails(
            libc::EHOSTUNREACH,
            0,
            "logging in failed: the authentication service cannot be reached",
        ),
    }
}

#[test]
fn token_file_login_behaves_as_the_table_says() {
    check(TokenFile);
}

#[test]
fn environment_token_login_behaves_as_the_table_says() {
    check(TokenVariable);
}

#[test]
fn saved_token_login_behaves_as_the_table_says() {
    check(SavedToken);
}

#[test]
fn environment_password_login_behaves_as_the_table_says() {
    check(Variables);
}

#[test]
fn stdin_password_login_behaves_as_the_table_says() {
    check(StandardInput);
}

#[test]
fn credentials_file_login_behaves_as_the_table_says() {
    check(CredentialsFile);
}

#[test]
fn python_library_file_login_behaves_as_the_table_says() {
    check(DefaultFile);
}

#[test]
fn missing_login_behaves_as_the_table_says() {
    check(Anonymous);
}

fn check(way: Way) {
    let states = [
        Fresh,
        NearlyExpired,
        Expired,
        Revoked,
        WrongPassword,
        LicenceNotAccepted,
        AuthServiceDown,
        NearlyExpiredAndDown,
    ];
    std::thread::scope(|scope| {
        for state in states {
            scope.spawn(move || check_one(way, state, &outcome(way, state)));
        }
    });
}

fn check_one(way: Way, state: State, outcome: &Outcome) {
    let case = format!("{way:?}, {state:?}");
    let portal = portal();
    let mount = mount(&portal, way, state);
    let table = co2(&portal);
    for file in [format!("{table}.csv"), format!("{table}.original.zip")] {
        let errno = mount
            .try_read(&format!("objects/{file}"))
            .err()
            .map(|error| error.raw_os_error().unwrap_or(0));
        assert_eq!(errno, outcome.errno, "{case}, {file}\n{:#}", mount.status());
        if outcome.errno.is_some() {
            let reason = mount.last_reason();
            assert!(reason.contains(outcome.reason), "{case}, {file}: {reason}");
        }
    }
    let login = mount.status()["login"].clone();
    let advice = login["advice"].as_str().unwrap_or_default();
    assert!(advice.contains(outcome.advice), "{case}: {login:#}");
    assert_eq!(
        advice.is_empty(),
        outcome.advice.is_empty(),
        "{case}: {login:#}"
    );
    assert_eq!(logins(&portal), outcome.logins, "{case}");
    let shown = mount.icosfs().arg("status").arg(mount.path("")).output();
    let shown = said(&shown.expect("the program runs"));
    for words in [outcome.reason, outcome.advice] {
        assert!(shown.contains(words), "{case}: {words} in {shown}");
    }
}

/// Mounts with a login by `way` that is in `state` when it is used.
fn mount(portal: &DemoPortal, way: Way, state: State) -> TestMount {
    let home = Home::new();
    let half_an_hour = SignedDuration::from_mins(30);
    let token = match state {
        NearlyExpired | NearlyExpiredAndDown => portal.mint_token(half_an_hour),
        Expired => portal.mint_token(SignedDuration::from_secs(-60)),
        _ => portal.token(),
    };
    let password = portal.password();
    let by_password = BY_PASSWORD.contains(&way);
    let cached = match state {
        WrongPassword | AuthServiceDown => None,
        _ => Some(&*token),
    };
    // The login in the file or the environment.
    let file = home.path().join("login");
    match way {
        TokenFile => std::fs::write(&file, &token).unwrap(),
        SavedToken => {
            std::fs::create_dir_all(home.saved_token().parent().unwrap()).unwrap();
            std::fs::write(home.saved_token(), format!("{token};\n")).unwrap();
        }
        CredentialsFile | DefaultFile => {
            let path = if way == DefaultFile {
                home.credentials()
            } else {
                file.clone()
            };
            write_credentials(portal, &path, cached);
        }
        TokenVariable | Variables | StandardInput | Anonymous => {}
    }
    // The state at the portal.
    let ready = |mount: &TestMount| {
        let known = || !mount.status()["login"]["licence"].is_null();
        assert!(eventually(Duration::from_secs(5), known));
    };
    match state {
        Fresh | Expired | NearlyExpired if !by_password => {}
        Revoked if !by_password => portal.revoke_tokens(),
        NearlyExpired | NearlyExpiredAndDown if by_password => portal.set_token_life(half_an_hour),
        WrongPassword => portal.set_password("another"),
        LicenceNotAccepted => portal.accept_licence(false),
        AuthServiceDown | NearlyExpiredAndDown => portal.go_offline(DemoService::Auth),
        _ => {}
    }
    let file = file.display().to_string();
    let user = portal.user();
    let with = |options: &[&str], env: &[(&str, &str)], input: &str| {
        TestMount::at(home, portal, options, env, input)
    };
    let mount = match way {
        TokenFile => with(&["--token-file", &file], &[], ""),
        TokenVariable => with(&[], &[("ICOSFS_TOKEN", &token)], ""),
        Variables => {
            let env = [("ICOSFS_USER", &*user), ("ICOSFS_PASSWORD", &*password)];
            with(&[], &env, "")
        }
        StandardInput => with(&["--user", &user, "--password-stdin"], &[], &password),
        CredentialsFile => with(&["--credentials", &file], &[], ""),
        SavedToken | DefaultFile | Anonymous => with(&[], &[], ""),
    };
    // Changes during the mount.
    if by_password {
        match state {
            Revoked => {
                ready(&mount);
                portal.revoke_tokens();
            }
            Expired => {
                ready(&mount);
                // By the portal's clock, which decides.
                portal.set_clock_ahead(SignedDuration::from_hours(48));
            }
            NearlyExpiredAndDown => {
                ready(&mount);
                portal.go_offline(DemoService::Auth);
            }
            _ => {}
        }
    }
    mount
}

fn logins(portal: &DemoPortal) -> usize {
    let requests = portal.requests();
    let logins = requests.iter().filter(|r| r.path == "/password/login");
    logins.count()
}
