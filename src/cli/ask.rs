//! `tollgate reload`, `tollgate diff` and `tollgate upgrade`: ask the running gateway, over its admin port.

use super::{USAGE, check};
use crate::base::secret::Secret;
use crate::base::units::Span;
use crate::config::server::{AdminAddress, AdminConf};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// A reload waits for new names, keys and health checks; a gateway that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To take the config up.
    Reload,
    /// What that would change.
    Diff,
    /// To have a new process take its place within so many seconds.
    Upgrade(u64),
}

/// Reads how long an upgrade may take, in whole seconds.
///
/// # Errors
/// It is no duration, or out of range.
pub fn within(text: &str) -> Result<u64, String> {
    let span: Result<Span, _> = text.parse();
    match span.map(|span| span.0.as_secs()) {
        Ok(seconds @ 1..=600) => Ok(seconds),
        _ => Err(format!(
            "found `{text}`, want a duration of 1s to 10m such as `60s`"
        )),
    }
}

/// Runs the command.
pub fn run(path: &Path, asked: Asked) -> ExitCode {
    let loaded = match check::load(path) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Some(admin) = &loaded.conf.admin else {
        eprintln!(
            "{}: admin: is missing (found no admin port, want one to ask the running gateway; \
             SIGHUP reloads without)",
            path.display()
        );
        return USAGE.into();
    };
    match ask(admin, asked) {
        Ok((200, answer)) => told(path, asked, &answer),
        Ok((status, answer)) => {
            let fault = answer["fault"].as_str().unwrap_or("it gave no reason");
            let not = match asked {
                Asked::Reload | Asked::Diff => "not reloaded",
                Asked::Upgrade(_) => "not upgraded, the running gateway serves on",
            };
            eprintln!("{not} (status {status}): {fault}");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("no answer from the gateway's admin port: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what the gateway says it changed, or would.
fn told(path: &Path, asked: Asked, answer: &Value) -> ExitCode {
    let theirs = answer["config"].as_str().unwrap_or_default();
    if !same_file(path, Path::new(theirs)) {
        eprintln!("warning: the gateway runs {theirs}, and that is what it looked at");
    }
    let changes: Vec<&str> = answer["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for change in &changes {
        println!("{change}");
    }
    match (asked, changes.len()) {
        (Asked::Reload, _) => println!("reloaded"),
        (Asked::Diff, 0) => println!("a reload would change nothing"),
        (Asked::Diff, _) => {}
        (Asked::Upgrade(_), _) => println!("upgraded: process {} serves", answer["pid"]),
    }
    ExitCode::SUCCESS
}

fn same_file(ours: &Path, theirs: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(ours) == real(theirs)
}

fn ask(conf: &AdminConf, asked: Asked) -> io::Result<(u16, Value)> {
    let AdminConf { address, token } = conf;
    let request = request(asked, token.as_ref().map(|t| &t.value));
    let patience = match asked {
        Asked::Reload | Asked::Diff => PATIENCE,
        Asked::Upgrade(within) => PATIENCE + Duration::from_secs(within),
    };
    let answer = match &address.value {
        AdminAddress::Tcp(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(patience))?;
            exchange(stream, &request)?
        }
        AdminAddress::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            exchange(stream, &request)?
        }
    };
    if answer.is_empty() {
        let why = "it closed the connection without one";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "not an answer of a gateway");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()));
    Ok((status.ok_or_else(strange)?, body))
}

fn request(asked: Asked, token: Option<&Secret>) -> Vec<u8> {
    let line = match asked {
        Asked::Reload => "POST /reload".to_owned(),
        Asked::Diff => "GET /reload".to_owned(),
        Asked::Upgrade(within) => format!("POST /upgrade?timeout={within}"),
    };
    let mut request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    if let Some(token) = token {
        request.extend_from_slice(b"Authorization: Bearer ");
        request.extend_from_slice(token.expose());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"Content-Length: 0\r\nConnection: close\r\n\r\n");
    request
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> io::Result<String> {
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
