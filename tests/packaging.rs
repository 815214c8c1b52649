//! What is packaged fits the program: the config loads, the unit's times and limits hold for it, and every
//! file that a package names is there. The packages themselves are tried by `tests/systemd/run`.

use std::fs;
use std::path::Path;

use tollgate::config;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The value of a setting of the unit, the last if there are several.
fn setting(name: &str) -> String {
    let unit = read("systemd/tollgate.service");
    let values = unit.lines().filter_map(|line| line.split_once('='));
    let mut values = values.filter(|(key, _)| *key == name);
    let last = values.next_back().unwrap_or_else(|| panic!("no {name}="));
    last.1.to_owned()
}

fn seconds(value: &str) -> u64 {
    let digits = value.strip_suffix('s').expect("whole seconds, such as 60s");
    digits.parse().expect("whole seconds, such as 60s")
}

/// The packaged config, with a token as the package makes one.
fn packaged() -> config::Loaded {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tollgate.yaml");
    fs::copy("packaging/tollgate.yaml", &path).expect("copies");
    let token = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdefg";
    fs::write(folder.path().join("admin.token"), token).expect("writes");
    config::load(&path, &|_| None).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn the_packaged_config_loads_without_a_warning() {
    let loaded = packaged();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let admin = loaded.conf.admin.expect("an admin port");
    assert!(admin.token.is_some(), "reload and upgrade ask for one");
    let mut hosts = loaded
        .conf
        .routes
        .iter()
        .flat_map(|r| &r.value.matching.hosts);
    let host = hosts.next().expect("a host").value.to_string();
    assert_eq!(host, "example.invalid", "nobody's name: nothing is let in");
    assert!(hosts.next().is_none());
}

/// systemd ends what has not ended by then: a drain as it is by default has to fit.
#[test]
fn the_unit_leaves_time_for_a_drain() {
    let drain = packaged().conf.server.drain;
    let notice = drain.notice.value.0;
    let whole = notice.saturating_add(drain.max.value.0).as_secs();
    let stop = seconds(&setting("TimeoutStopSec"));
    assert!(
        stop > whole,
        "TimeoutStopSec={stop}s, a drain takes {whole} s"
    );
}

/// Two descriptors a connection, for three listeners as they are by default.
#[test]
fn the_unit_has_room_for_the_connections_that_are_let_in() {
    let loaded = packaged();
    let listener = &loaded.conf.listeners[0].value;
    let most = u64::from(listener.max_connections.value) * 2 * 3;
    let limit: u64 = setting("LimitNOFILE").parse().expect("a number");
    assert!(limit > most, "LimitNOFILE={limit}, {most} can be needed");
}

/// What the unit calls is what the package brings, and what it brings is in the repository or made by
/// `packaging/run`.
#[test]
fn every_file_that_is_packaged_is_there() {
    let manifest = read("Cargo.toml");
    let (_, assets) = manifest.split_once("\nassets = [\n").expect("assets");
    let (assets, _) = assets.split_once("\n]").expect("an end of the assets");
    let quoted = |line: &str, n: usize| line.split('"').nth(n).expect("a quoted text").to_owned();
    let pairs = assets
        .lines()
        .map(|line| (quoted(line, 1), quoted(line, 3)));
    let (sources, places): (Vec<_>, Vec<_>) = pairs.unzip();
    let makes = read("packaging/run");
    for source in sources {
        let made = source.strip_prefix("target/package/stage/");
        match made.map(|name| name.rsplit_once('.').map_or(name, |(_, end)| end)) {
            Some(end) => assert!(makes.contains(end), "packaging/run makes no {source}"),
            None => assert!(Path::new(&source).is_file(), "{source} is missing"),
        }
    }
    for called in ["ExecStart", "ExecStartPre", "ExecReload", "ExecStop"] {
        let value = setting(called);
        let program = value
            .trim_start_matches('/')
            .split(' ')
            .next()
            .expect("a program");
        let folder = program.rsplit_once('/').expect("a folder").0;
        let brought = places
            .iter()
            .any(|p| p == program || p.trim_end_matches('/') == folder);
        assert!(brought, "{called}: the package has no {program}");
    }
}
