//! Precedence of settings: flags, environment, `config.toml`, defaults.

use std::process::Output;

use serde_json::{Value, json};

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
fn shown(home: &Home, arguments: &[&str], env: &[(&str, &str)]) -> (Value, String) {
    let all = all_shown(home, arguments, env);
    let setting = &all["metadata-ttl"];
    let source = setting["source"].as_str().unwrap().to_owned();
    (setting["value"].clone(), source)
}

fn all_shown(home: &Home, arguments: &[&str], env: &[(&str, &str)]) -> Value {
    let all = [&["config", "show", "--json"], arguments].concat();
    let output = run(home, &all, env);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn setting_of_the_highest_precedence_wins_and_is_named() {
    let set = home("metadata-ttl = 3");
    let plain = home("");
    let variable = [("ICOSFS_METADATA_TTL", "2")];
    let flag = ["--metadata-ttl=1"];

    let (value, source) = shown(&set, &flag, &variable);
    assert_eq!((value, &*source), (json!(1), "--metadata-ttl"));
    let (value, source) = shown(&set, &[], &variable);
    assert_eq!((value, &*source), (json!(2), "ICOSFS_METADATA_TTL"));
    let (value, source) = shown(&set, &[], &[]);
    assert!(source.ends_with(".config/icosfs/config.toml"), "{source}");
    assert_eq!(value, json!(3));
    let (value, source) = shown(&plain, &[], &[]);
    assert_eq!((value, &*source), (json!(600), "default"));
    let empty = [("ICOSFS_METADATA_TTL", "")];
    assert_eq!(
        shown(&set, &[], &empty).0,
        json!(3),
        "an empty variable is none"
    );
    let elsewhere = [("ICOSFS_CONFIG", "")];
    assert_eq!(
        shown(&set, &[], &elsewhere).0,
        json!(600),
        "no file is wanted"
    );
}

/// Regression: values were padded to the longest one, and defaults that depend on the
/// machine or the portal were left out.
#[test]
fn settings_in_effect_are_tab_separated_in_a_pipe_and_typed_in_json() {
    let home = home("");
    let show = ["config", "show", "--cache-size=20G", "--portal=sites"];
    let without = [("ICOSFS_CACHE_DIR", "")];
    let output = run(&home, &show, &without);
    let text = String::from_utf8(output.stdout).unwrap();
    let cache = home.path().join(".cache/icosfs");
    for line in [
        "cache-size\t20G\t--cache-size",
        &format!("cache-dir\t{}\tdefault", cache.display()),
        "meta-url\thttps://meta.fieldsites.se/\tportal sites",
        "contact\t-\tdefault",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert!(
        text.lines().all(|line| line.split('\t').count() == 3),
        "{text}"
    );

    let all = all_shown(&home, &[], &[("ICOSFS_ALLOW_ROOT", "yes")]);
    let value = |name: &str| &all[name]["value"];
    assert_eq!(value("allow-root"), &json!(true));
    assert_eq!(value("no-xattr"), &json!(false));
    assert_eq!(value("memory"), &json!(256 << 20));
    assert_eq!(value("level"), &json!([1, 2, 3]));
    assert_eq!(value("contact"), &json!(null));
    assert!(value("cache-size").as_u64().unwrap() >= 1 << 30);
    assert_eq!(all["cache-size"]["source"], "default (disk / 10)");
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
