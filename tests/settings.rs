//! Precedence of settings: flags, environment, `config.toml`, defaults.

use std::process::Output;

use serde_json::Value;

use crate::support::{Home, TestMount, portal, said};

fn home(config: &str) -> Home {
    let home = Home::new();
    let folder = home.path().join(".config/icosfs");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), config).unwrap();
    home
}

fn run(home: &Home, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = home.icosfs();
    command.args(arguments).envs(env.iter().copied());
    command.output().unwrap()
}

/// Returns the line of `config show` for `metadata-ttl`.
fn shown(home: &Home, arguments: &[&str], env: &[(&str, &str)]) -> (String, String) {
    let all = [&["config", "show", "--json"], arguments].concat();
    let output = run(home, &all, env);
    assert!(output.status.success(), "{}", said(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |key: &str| json["metadata-ttl"][key].as_str().unwrap().to_owned();
    (text("value"), text("source"))
}

#[test]
fn setting_of_the_highest_precedence_wins_and_is_named() {
    let set = home("metadata-ttl = 3");
    let plain = home("");
    let variable = [("ICOSFS_METADATA_TTL", "2")];
    let flag = ["--metadata-ttl=1"];

    let (value, source) = shown(&set, &flag, &variable);
    assert_eq!((&*value, &*source), ("1", "--metadata-ttl"));
    let (value, source) = shown(&set, &[], &variable);
    assert_eq!((&*value, &*source), ("2", "ICOSFS_METADATA_TTL"));
    let (value, source) = shown(&set, &[], &[]);
    assert!(source.ends_with(".config/icosfs/config.toml"), "{source}");
    assert_eq!(value, "3");
    let (value, source) = shown(&plain, &[], &[]);
    assert_eq!((&*value, &*source), ("600", "default"));
    let empty = [("ICOSFS_METADATA_TTL", "")];
    assert_eq!(shown(&set, &[], &empty).0, "3", "an empty variable is none");
    let elsewhere = [("ICOSFS_CONFIG", "")];
    assert_eq!(shown(&set, &[], &elsewhere).0, "600", "no file is wanted");
}

#[test]
fn mount_uses_config_toml() {
    let portal = portal();
    let home = home("cache-dir = \"~/elsewhere\"\nportal = \"icos\"\n");
    let without = [("ICOSFS_CACHE_DIR", "")];
    let mount = TestMount::at(home, &portal, &[], &without, "");
    let cache = mount.status()["cache"].as_str().unwrap().to_owned();
    let expected = mount.home().path().join("elsewhere");
    assert!(cache.starts_with(expected.to_str().unwrap()), "{cache}");
}

/// Regression: the daemon changed its working directory before it parsed its
/// options.
#[test]
fn relative_cache_folder_is_resolved_in_the_callers_folder() {
    let portal = portal();
    let mount = TestMount::with(&portal, &["--cache-dir=target"], &[]);
    let cache = mount.status()["cache"].as_str().unwrap().to_owned();
    let expected = mount.home().path().join("target");
    assert!(cache.starts_with(expected.to_str().unwrap()), "{cache}");
}

#[test]
fn invalid_config_toml_stops_all_commands_except_diagnostic_ones() {
    let home = home("cache_size = \"20G\"");
    let output = run(&home, &["config", "show"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = said(&output);
    for part in ["config.toml", "`cache_size`", "did you mean `cache-size`?"] {
        assert!(message.contains(part), "{message}");
    }
    // Mounts of other tests may be dead, and it reports them.
    let output = run(&home, &["status"], &[]);
    assert_ne!(output.status.code(), Some(2), "{}", said(&output));
    assert!(!said(&output).contains("config.toml"), "{}", said(&output));
}
