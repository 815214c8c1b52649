//! The config taken up again by a process that serves: asked for, by a signal, and unasked.

use super::process::{Folder, Running, Service, answer, call, config, content, eventually};
use std::fs;
use tollgate::base::clock::Clock;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const ANY_PORT: &str = "127.0.0.1:0";

/// Where its admin port is, before the rest of a config.
fn with_admin(folder: &Folder, more: &str) -> String {
    let socket = folder.text("admin.sock");
    format!(
        "admin: {{ address: \"unix:{socket}\", token: {TOKEN} }}\nlog: {{ access: off }}\n{more}"
    )
}

#[test]
fn diff_says_what_reload_does() {
    let (folder, service) = (Folder::new(), Service::open());
    let more = with_admin(&folder, "");
    let text = config(ANY_PORT, &service.address(), &more);
    let path = folder.write("t.yaml", &text);
    let gateway = Running::start(&path);
    let says = |command: &str| {
        let ended = call(&[command, "-c", &path]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        ended.stdout
    };
    assert_eq!(says("diff"), "a reload would change nothing\n");
    folder.write("t.yaml", &text.replace("path: /", "path: /api"));
    assert_eq!(says("diff"), "route `all`: changed\n");
    let client = gateway.send("/", "");
    answer(service.request());
    assert_eq!(super::status(client), "200", "nothing has changed");
    assert_eq!(says("reload"), "route `all`: changed\nreloaded\n");
    assert_eq!(gateway.status("/", ""), "404");
    assert_eq!(says("reload"), "reloaded\n");
    for (bad, says, code) in [
        (text.replace("to: up", "to: nowhere"), "nowhere", 64),
        (
            text.replace(
                "listeners: [",
                "listeners: [{ name: b, address: \"203.0.113.1:1\" }, ",
            ),
            "listener b: cannot bind",
            1,
        ),
    ] {
        folder.write("t.yaml", &bad);
        let ended = call(&["reload", "-c", &path]);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
        assert_eq!(gateway.status("/", ""), "404", "as it was");
    }
    // Without a port to ask at, that is said.
    let alone = folder.write("alone.yaml", &config(ANY_PORT, "127.0.0.1:1", ""));
    let ended = call(&["reload", "-c", &alone]);
    assert_eq!(ended.code, Some(64));
    assert!(
        ended.stderr.contains("admin: is missing"),
        "{}",
        ended.stderr
    );
    drop(gateway);
    folder.write("t.yaml", &text);
    let ended = call(&["reload", "-c", &path]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .starts_with("no answer from the gateway's admin port: ")
    );
}

#[test]
fn sighup_reloads_and_says_what_came_of_it() {
    let (folder, service) = (Folder::new(), Service::open());
    let text = config(ANY_PORT, &service.address(), "log: { access: off }");
    let path = folder.write("t.yaml", &text);
    let mut gateway = Running::start(&path);
    gateway.signal("HUP");
    gateway.says("t.yaml: 0 changes");
    folder.write("t.yaml", &text.replace("path: /", "path: /api"));
    gateway.signal("HUP");
    gateway.says("reload: route `all`: changed");
    assert_eq!(gateway.status("/", ""), "404");
    folder.write("t.yaml", "routes: [");
    gateway.signal("HUP");
    gateway.says("not reloaded, everything stays as it is: ");
    let client = gateway.send("/api/held", "");
    let held = service.request();
    gateway.signal("TERM");
    gateway.says("draining");
    gateway.signal("HUP");
    gateway.says("draining, nothing is reloaded");
    answer(held);
    assert_eq!(super::status(client), "200", "nor does it end a drain");
    assert_eq!(gateway.end(), Some(0));
}

#[test]
fn a_watched_config_is_taken_up_unasked() {
    let folder = Folder::new();
    let more = with_admin(&folder, "server: { workers: 1, watch: true }");
    let text = config(ANY_PORT, "127.0.0.1:1", &more);
    let path = folder.write("t.yaml", &text);
    let gateway = Running::start(&path);
    let new = folder.write("new.yaml", &text.replace("path: /", "path: /api"));
    fs::rename(new, &path).expect("renames");
    gateway.says("reload: route `all`: changed");
    assert_eq!(gateway.status("/", ""), "404");
    folder.write("t.yaml", "routes: [");
    gateway.says("not reloaded, everything stays as it is: ");
    assert_eq!(gateway.status("/", ""), "404");
    // What is not asked for is not done.
    folder.write("t.yaml", &text.replace("watch: true", "watch: false"));
    gateway.says("reload: `server.watch`: changed");
    let before = content(&folder.path("t.yaml"));
    folder.write("t.yaml", &before.replace("path: /", "path: /other"));
    // That nothing happens takes its time to be seen: a watched file is taken up at the second look.
    let clock = Clock::system();
    let began = clock.now();
    eventually("three seconds", || {
        (clock.now().since_ns(began) > 3_000_000_000).then_some(())
    });
    let ended = call(&["diff", "-c", &path]);
    assert_eq!(ended.stdout, "route `all`: changed\n", "still to be done");
    gateway.signal("HUP");
    assert!(
        gateway.says("reload: ").contains("route `all`: changed"),
        "by the signal"
    );
}
