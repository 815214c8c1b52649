//! The program as an operator has it: the real binary, its exit codes, what it says word for word,
//! and what it does when it is sent signals.

#[path = "cli/certificates.rs"]
mod certificates;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/process.rs"]
mod process;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/service.rs"]
mod service;
#[path = "cli/upgrade.rs"]
mod upgrade;

use process::{
    Ended, Folder, Running, Service, answer, call, config, content, eventually, failed, status,
};
use std::fs;
use std::net::TcpListener;

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";
const ANY_PORT: &str = "127.0.0.1:0";

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    let nothing = call(&[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(64), ""));
    assert!(nothing.stderr.contains("Usage: tollgate <COMMAND>"));
    for (args, says) in [
        (&["bogus"][..], "error: unrecognized subcommand 'bogus'\n"),
        (&["--bogus"], "error: unexpected argument '--bogus' found\n"),
        (
            &["run", "--bogus"],
            "error: unexpected argument '--bogus' found\n",
        ),
        (
            &["check"],
            "error: the following required arguments were not provided:\n  --config <FILE>\n",
        ),
        (
            &["check", "-c"],
            "error: a value is required for '--config <FILE>' but none was supplied\n",
        ),
        (
            &["upgrade", "-c", "a.yaml", "--timeout", "1h"],
            "error: invalid value '1h' for '--timeout <DURATION>': found `1h`, want a duration of 1s to 10m such as `60s`\n",
        ),
        (&["keys"], "Make, show, replace and take back API keys\n"),
        (
            &["keys", "new"],
            "error: the following required arguments were not provided:\n  --client <CLIENT>\n",
        ),
    ] {
        let ended = call(args);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(64), ""),
            "{args:?}"
        );
        assert!(ended.stderr.starts_with(says), "{args:?}: {}", ended.stderr);
    }
    let help = call(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for part in [
        "Usage: tollgate <COMMAND>",
        "  run ",
        "  check ",
        "  reload ",
        "  upgrade ",
        "  diff ",
        "  demo ",
        "  keys ",
        "Exit codes: 0 success; 1 the gateway could not start",
        "64 the command line or the config is wrong",
    ] {
        assert!(help.stdout.contains(part), "{part}: {}", help.stdout);
    }
    let version = Ended {
        code: Some(0),
        stdout: format!("tollgate {}\n", env!("CARGO_PKG_VERSION")),
        stderr: String::new(),
    };
    assert_eq!(call(&["--version"]), version);
}

#[test]
fn completions_and_manual_pages_come_from_the_definition() {
    for shell in ["bash", "zsh", "fish"] {
        let made = call(&["completions", shell]);
        assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
        for word in ["upgrade", "diff", "--config"] {
            let word = word.trim_start_matches(if shell == "fish" { "--" } else { "" });
            assert!(made.stdout.contains(word), "{shell}: {word}");
        }
    }
    let page = call(&["man"]);
    assert_eq!(page.code, Some(0));
    assert!(page.stdout.contains(".TH tollgate 1") && page.stdout.contains("upgrade"));
    let folder = Folder::new();
    assert_eq!(call(&["man", "--out", &folder.text("")]).code, Some(0));
    let page = content(&folder.path("tollgate-upgrade.1"));
    assert!(page.contains("timeout"), "{page}");
    let page = content(&folder.path("tollgate-run.1"));
    assert!(page.contains("config") && !page.contains("take"), "{page}");
    assert_eq!(call(&["man", "--out", "/no/such"]).code, Some(1));
}

#[test]
fn check_sums_up_a_good_config() {
    let good = call(&["check", "-c", "conf/minimal.yaml"]);
    let want = Ended {
        code: Some(0),
        stdout: "conf/minimal.yaml: ok (1 listeners, 1 routes, 1 upstreams, 0 limits)\n".to_owned(),
        stderr: String::new(),
    };
    assert_eq!(good, want);
    let folder = Folder::new();
    let more = "limits: [{ name: spare, key: client, algorithm: sliding_window, rate: 100/1m }]\n\
                flood: { rate: 1000/10s, expected_clients: 1000 }";
    let path = folder.write("a.yaml", &config(ANY_PORT, NOBODY, more));
    let warned = call(&["check", "-c", &path]);
    assert_eq!(warned.code, Some(0));
    let warning =
        format!("warning: {path}:1:18: limits[spare].name: is a limit that no route uses\n");
    assert_eq!(warned.stderr, warning);
    let lines: Vec<&str> = warned.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let bound = "    a client's count may include up to 500 requests of others";
    assert!(lines[3].starts_with(bound), "{lines:?}");
    let first = format!("{path}: ok (1 listeners, 1 routes, 1 upstreams, 1 limits)");
    assert_eq!(lines[0], first);
    for (line, start) in [
        (lines[1], "  limit spare: exact, at most "),
        (lines[2], "  flood limit: estimate, "),
    ] {
        let size = line.strip_prefix(start);
        assert!(size.is_some_and(|s| s.ends_with("iB")), "{line}");
    }
}

#[test]
fn check_and_run_say_the_same_of_a_bad_config() {
    let bad = "tests/conf_invalid/five_faults.yaml";
    let faults = fs::read_to_string("tests/conf_invalid/five_faults.txt").expect("the case's text");
    let faults = format!("{}\n", faults.trim_end());
    assert_eq!(faults.lines().count(), 5);
    let missing = "/no/such/file.yaml";
    let unreadable = format!(
        "{missing}:1:1: file: cannot be read (found `{missing}`: no such file or directory)\n"
    );
    // Found only when it is compiled, as for a run.
    let folder = Folder::new();
    let issuer = "identity: { jwt: [{ name: j, issuer: i, audiences: [a], algorithms: [RS256], \
                  keys: [{ alg: RS256, public_key: \"-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\\n\" }] }] }";
    let late = folder.write("late.yaml", &config(ANY_PORT, NOBODY, issuer));
    for command in ["check", "run"] {
        assert_eq!(call(&[command, "-c", bad]), failed(64, &faults));
        assert_eq!(call(&[command, "-c", missing]), failed(64, &unreadable));
    }
    let (check, run) = (call(&["check", "-c", &late]), call(&["run", "-c", &late]));
    assert_eq!((check.code, check.stdout.as_str()), (Some(64), ""));
    let place = format!("{late}:1:");
    assert!(check.stderr.starts_with(&place), "{}", check.stderr);
    assert_eq!(check, run);
}

#[test]
fn what_cannot_start_says_why_and_ends_with_1() {
    let folder = Folder::new();
    let taken = TcpListener::bind(ANY_PORT).expect("a port");
    let port = taken.local_addr().expect("bound");
    let in_use = "Address already in use (os error 98)";
    let socket = folder.text("no/admin.sock");
    let no_such = "No such file or directory (os error 2)";
    let denied = "Is a directory (os error 21)";
    let dir = folder.path("").display().to_string();
    for (address, more, says) in [
        (
            port.to_string(),
            String::new(),
            format!("listener public: cannot bind {port}: {in_use}\n"),
        ),
        (
            ANY_PORT.to_owned(),
            format!("admin: {{ address: \"{port}\" }}"),
            format!("listener admin: cannot bind {port}: {in_use}\n"),
        ),
        (
            ANY_PORT.to_owned(),
            format!("admin: {{ address: \"unix:{socket}\" }}"),
            format!("listener admin: cannot bind unix:{socket}: {no_such}\n"),
        ),
        (
            ANY_PORT.to_owned(),
            "log: { access: \"/no/dir/x\" }".to_owned(),
            format!("log: cannot open the access log: {no_such}\n"),
        ),
        (
            ANY_PORT.to_owned(),
            format!("log: {{ access: \"{dir}\" }}"),
            format!("log: cannot open the access log: {denied}\n"),
        ),
    ] {
        let path = folder.write("a.yaml", &config(&address, NOBODY, &more));
        assert_eq!(call(&["check", "-c", &path]).code, Some(0), "{more}");
        assert_eq!(call(&["run", "-c", &path]), failed(1, &says), "{more}");
    }
}

/// A gateway before a service, with a drain of at most so long.
fn gateway(folder: &Folder, service: &Service, drain: &str) -> Running {
    let log = folder.text("access.log");
    let more = format!("server: {{ workers: 2, drain: {drain} }}\nlog: {{ access: \"{log}\" }}");
    let text = config(ANY_PORT, &service.address(), &more);
    Running::start(&folder.write("gateway.yaml", &text))
}

#[test]
fn sigterm_drains_and_the_process_ends() {
    let (folder, service) = (Folder::new(), Service::open());
    for name in ["TERM", "INT"] {
        let mut gateway = gateway(&folder, &service, "{ max: 60s }");
        let client = gateway.send("/held", "");
        let held = service.request();
        gateway.signal(name);
        gateway.says("draining; a second signal ends at once");
        eventually("a closed port", || {
            (!gateway.takes_connections()).then_some(())
        });
        assert_eq!(gateway.ended(), None, "a request is in flight");
        answer(held);
        assert_eq!(status(client), "200", "what was in flight is answered");
        gateway.says("drained, nothing was cut off");
        assert_eq!(gateway.end(), Some(0), "SIG{name}");
    }
    let log = content(&folder.path("access.log"));
    assert_eq!(
        log.matches("\"path\":\"/held\"").count(),
        2,
        "written to the last line: {log}"
    );
}

#[test]
fn a_drain_that_takes_too_long_is_cut_off() {
    let (folder, service) = (Folder::new(), Service::open());
    let mut gateway = gateway(&folder, &service, "{ max: 100ms }");
    let client = gateway.send("/held", "");
    let held = service.request();
    gateway.signal("TERM");
    gateway.says("`server.drain.max` has passed: what was still in flight is cut off");
    assert_eq!(gateway.end(), Some(0));
    drop((client, held));
}

#[test]
fn a_second_signal_ends_at_once() {
    let (folder, service) = (Folder::new(), Service::open());
    for drain in ["{ max: 1h }", "{ notice: 5m, max: 1h }"] {
        for names in [["TERM", "TERM"], ["INT", "TERM"], ["TERM", "INT"]] {
            let mut gateway = gateway(&folder, &service, drain);
            let client = gateway.send("/held", "");
            let held = service.request();
            gateway.signal(names[0]);
            gateway.says("draining; a second signal ends at once");
            gateway.signal(names[1]);
            assert_eq!(gateway.end(), Some(1), "{drain} {names:?}");
            drop((client, held));
        }
    }
}

#[test]
fn sigusr1_opens_the_access_log_anew() {
    let (folder, service) = (Folder::new(), Service::open());
    let mut gateway = gateway(&folder, &service, "{ max: 60s }");
    let (new, old) = (folder.path("access.log"), folder.path("access.log.1"));
    let holds = |path, what: &str| content(path).contains(what).then_some(());
    assert_eq!(
        gateway.status("/health?1", "X-Request-ID: first\r\n"),
        "200"
    );
    let line = "\"request_id\":\"first\"";
    eventually("the first line", || holds(&new, line));
    fs::rename(&new, &old).expect("renames");
    gateway.signal("USR1");
    eventually("a new file", || new.exists().then_some(()));
    assert_eq!(gateway.status("/health", "X-Request-ID: second\r\n"), "200");
    let line = "\"request_id\":\"second\"";
    eventually("the second line", || holds(&new, line));
    assert_eq!(holds(&old, line), None, "nothing more in the old one");
    gateway.signal("TERM");
    assert_eq!(gateway.end(), Some(0));
}
