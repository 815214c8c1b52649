//! The story: what the demo prints and `--check` plays, one file a subject.

mod identity;
mod limits;
mod operation;
mod resilience;
mod routing;

use super::stage::Addresses;
use super::step::Act;

/// All of it, in order: a step may build on what an earlier one of its act did.
pub fn story(at: &Addresses) -> Vec<Act> {
    vec![
        routing::paths(at),
        identity::tokens(at),
        identity::rights(at),
        identity::api_keys(at),
        routing::versions(at),
        routing::tenants(at),
        limits::rates(at),
        limits::sizes(at),
        resilience::slow(at),
        resilience::breaker(at),
        operation::tracing(at),
        operation::admin(at),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::script::{Body, Manner, Request, Script};
    use crate::cli::demo::words;
    use std::process::Command;

    #[test]
    fn every_line_is_read_as_what_it_was_printed_from() {
        for act in story(&Addresses::fixed()) {
            assert!(!act.steps.is_empty(), "{}", act.title);
            for step in act.steps {
                let line = step.script.to_string();
                assert_eq!(Script::read(&line).as_ref(), Ok(&step.script), "{line}");
            }
        }
    }

    /// `sleep`, `curl` and what reads a body write down how they are called; nothing is sent.
    /// `curl` stands in a pipe or a loop, so it writes to a file; what it reads, it counts.
    const STAND_INS: &str = r#"
        call() { { printf 'CALL\0'; printf '%s\0' "$@"; } >> "$CALLS"; }
        sleep() { call sleep "$@"; }
        curl() {
            if [ "$1 $#" = "-s 2" ]; then case "$2" in */token/*) printf 'TOKEN(%s)' "$2"; return;; esac; fi
            case "$*" in *@-*) call stdin "$(wc -c)";; esac
            call curl "$@"
        }
    "#;

    /// The calls that bash makes for a line, each with its words.
    fn calls(line: &str) -> Vec<Vec<String>> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("calls");
        let shell = Command::new("bash")
            .args(["--norc", "-c", &format!("{STAND_INS}\n{line}")])
            .env("CALLS", &path)
            .output()
            .expect("bash runs");
        let errors = String::from_utf8_lossy(&shell.stderr);
        assert_eq!(errors, "", "{line}");
        let text = std::fs::read_to_string(&path).expect("calls");
        let calls = text.split("CALL\0").skip(1);
        let words = |call: &str| call.split_terminator('\0').map(str::to_owned).collect();
        calls.map(words).collect()
    }

    /// The request that curl sends when it is called so.
    fn understood(request: &Request, called: &[String]) -> Request {
        let mut sent = Request::default();
        let mut words = called[1..].iter();
        let mut method = None;
        while let Some(word) = words.next() {
            let mut next = || words.next().expect("a value").clone();
            match word.as_str() {
                "-s" | "-si" | "--path-as-is" => (),
                "-o" => assert_eq!(next(), "/dev/null"),
                "-w" => assert_eq!(next(), "%{http_code} "),
                "-X" => method = Some(next()),
                "-H" => {
                    let field = next();
                    let (name, value) = field.split_once(": ").expect("a field");
                    sent.headers.push((name.to_owned(), value.to_owned()));
                }
                "-d" => sent.body = Body::Text(next()),
                "--data-binary" => {
                    assert_eq!(next(), "@-");
                    sent.body = request.body.clone();
                }
                url => {
                    assert!(sent.url.is_empty() && url.starts_with("http://"), "{url}");
                    url.clone_into(&mut sent.url);
                }
            }
        }
        let usual = if sent.body == Body::None {
            "GET"
        } else {
            "POST"
        };
        sent.method = method.unwrap_or_else(|| usual.to_owned());
        sent
    }

    /// What the request becomes once the shell has put in what the stand-in says.
    fn filled_in(request: &Request) -> Request {
        let mut request = request.clone();
        for (_, value) in &mut request.headers {
            if let Some((before, address, after)) = words::substitution(value) {
                *value = format!("{before}TOKEN({address}){after}");
            }
        }
        request
    }

    #[test]
    fn a_shell_reads_every_line_as_it_is_played() {
        for act in story(&Addresses::fixed()) {
            for step in act.steps {
                let (script, line) = (&step.script, step.script.to_string());
                let mut made = calls(&line).into_iter().peekable();
                if script.wait_s > 0 {
                    let seconds = script.wait_s.to_string();
                    assert_eq!(made.next(), Some(vec!["sleep".into(), seconds]), "{line}");
                }
                let mut sent = 0;
                while let Some(mut call) = made.next() {
                    if let Body::Zeros(count) = script.request.body {
                        assert_eq!(call, ["stdin".to_owned(), count.to_string()], "{line}");
                        call = made.next().expect("curl after its body");
                    }
                    assert_eq!(call[0], "curl", "{line}");
                    let read = understood(&script.request, &call);
                    assert_eq!(read, filled_in(&script.request), "{line}");
                    let shown = matches!(script.manner, Manner::Statuses(_));
                    assert_eq!(call.iter().any(|word| word == "-w"), shown, "{line}");
                    sent += 1;
                }
                assert_eq!(sent, script.manner.times(), "{line}");
            }
        }
    }
}
