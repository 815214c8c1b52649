//! What an error of the library means for us, and how it is told.

use crate::base::clock::Now;
use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The connection is of no use, or the server will answer nobody for a while.
    Lost,
    /// The command was refused, and a new connection may be served: the name may lead to another server
    /// by now, or the login has ended.
    Renew,
    /// The command was refused.
    Refused,
}

pub(super) fn meaning(fault: &RedisError) -> Meaning {
    match fault.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => Meaning::Lost,
        ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
            Meaning::Lost
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => Meaning::Renew,
        _ if fault.code() == Some("NOAUTH") => Meaning::Renew,
        _ => Meaning::Refused,
    }
}

/// Whether the server has answered, though not with what was asked for: it is well, but not for this
/// user.
pub(super) fn is_alive(fault: &RedisError) -> bool {
    fault.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// An error for the log. What a server says may repeat a command's arguments, which are made of what
/// clients send: only its code is shown.
pub(super) fn in_words(fault: &RedisError) -> String {
    let code = fault.code().unwrap_or_default();
    let known = match code {
        "NOAUTH" => "it wants a password (NOAUTH)",
        "WRONGPASS" => "the user's name or the password is not right (WRONGPASS)",
        "NOPERM" => "its ACL does not allow it to this user (NOPERM)",
        "READONLY" => "it is a replica, which takes no writes (READONLY)",
        "LOADING" => "it is still loading its data (LOADING)",
        "MASTERDOWN" => "it is a replica without its master (MASTERDOWN)",
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => {
            return format!("it is part of a cluster ({code}), want a single server");
        }
        "OOM" => "its memory is full (OOM)",
        "NOPROTO" => "it does not speak RESP3, want Redis 6 or newer (NOPROTO)",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    match fault.kind() {
        ErrorKind::AuthenticationFailed => {
            "the user's name or the password is not right".to_owned()
        }
        ErrorKind::RESP3NotSupported => "it does not speak RESP3, want Redis 6 or newer".to_owned(),
        ErrorKind::Io | ErrorKind::InvalidClientConfig => fault.to_string(),
        ErrorKind::UnexpectedReturnType => "its answer is of another type".to_owned(),
        _ if code.is_empty() => fault.category().to_owned(),
        _ => format!("error {code}"),
    }
}

/// A command's name.
pub(super) fn name(cmd: &Cmd) -> String {
    match cmd.args_iter().next() {
        Some(::redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => "a command".to_owned(),
    }
}

/// Says yes once a minute, so that what happens with every request does not fill the log.
#[derive(Debug, Default)]
pub(super) struct Rarely(AtomicU64);

impl Rarely {
    /// Whether it is time.
    pub(super) fn now(&self, now: Now) -> bool {
        // From 1: 0 is never.
        let minute = now.mono_ns / 60_000_000_000 + 1;
        self.0.swap(minute, Relaxed) != minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::redis::parse_redis_value;

    /// What a server's answer is read as.
    fn answer(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an answer");
        value.extract_error().expect_err("an error")
    }

    #[test]
    fn every_answer_has_its_meaning() {
        for (line, want) in [
            (
                "LOADING Redis is loading the dataset in memory",
                Meaning::Lost,
            ),
            ("MASTERDOWN Link with MASTER is down", Meaning::Lost),
            (
                "READONLY You can't write against a read only replica.",
                Meaning::Renew,
            ),
            ("NOAUTH Authentication required.", Meaning::Renew),
            ("NOPERM User x has no permissions", Meaning::Refused),
            ("MOVED 3999 127.0.0.1:6381", Meaning::Refused),
            ("WRONGTYPE Operation against a key", Meaning::Refused),
            ("ERR unknown command", Meaning::Refused),
            ("OOM command not allowed", Meaning::Refused),
        ] {
            assert_eq!(meaning(&answer(line)), want, "{line}");
        }
        assert!(is_alive(&answer("NOPERM no")) && !is_alive(&answer("LOADING")));
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(meaning(&reset.into()), Meaning::Lost);
    }

    #[test]
    fn what_a_server_repeats_is_not_told() {
        let fault = answer("ERR unknown command 'x', with args beginning with: 'apikey:5e884898'");
        assert_eq!(in_words(&fault), "error ERR");
        for (line, want) in [
            ("WRONGTYPE Operation against apikey:5e88", "error WRONGTYPE"),
            (
                "NOPERM no permissions to access the 'apikey:5e88' key",
                "its ACL",
            ),
            ("MOVED 3999 127.0.0.1:6381", "(MOVED), want a single server"),
            ("NOAUTH Authentication required.", "it wants a password"),
        ] {
            let told = in_words(&answer(line));
            assert!(told.contains(want) && !told.contains("5e88"), "{told}");
        }
        let mut get = ::redis::cmd("GET");
        get.arg("apikey:5e884898");
        assert_eq!(name(&get), "GET");
    }

    #[test]
    fn once_a_minute() {
        let (rarely, at) = (Rarely::default(), |s: u64| Now::at_ms(s * 1000));
        let told = [0, 1, 59, 60, 61, 200].map(|s| rarely.now(at(s)));
        assert_eq!(told, [true, false, false, true, false, true]);
    }
}
