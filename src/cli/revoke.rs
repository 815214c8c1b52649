//! `tollgate revoke`: has every gateway that shares a Redis no longer believe a token, a user's tokens, an
//! API key or a signing key.

use super::{USAGE, check};
use crate::base::clock::Clock;
use crate::base::units::Span;
use crate::config::FileConf;
use crate::identity::revoke::entry::{self, Revoked};
use crate::identity::rfc3339;
use crate::redis::{self, Asked, RedisRules, pipe};
use crate::snapshot::redis::rules;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// What is revoked, and where that is kept.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The config file of the gateways; its `redis` and `identity.revocation` say where revocations are kept.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    what: What,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum What {
    /// One token, by its issuer and its id.
    Token {
        /// Its issuer, as its `iss` has it.
        #[arg(long, value_name = "ISS")]
        issuer: String,
        /// Its id, as its `jti` has it.
        #[arg(long, value_name = "ID")]
        jti: String,
        /// How long that is remembered. A day outlives every access token that is not far too long-lived; a
        /// token that lives longer needs more, or `--until` and its `exp`.
        #[arg(long = "for", value_name = "DURATION", default_value = "1d", value_parser = span)]
        keep: u64,
        #[command(flatten)]
        end: End,
    },
    /// All tokens of a user that were issued until now, or until a time. What is issued later is good again:
    /// this is how whoever had a refresh token revoked at the issuer is locked out here at once.
    Subject {
        /// The issuer, as `iss` has it.
        #[arg(long, value_name = "ISS")]
        issuer: String,
        /// The user, as the claim has it that the config reads the user from (`sub`).
        #[arg(long, value_name = "SUB")]
        sub: String,
        /// Tokens issued then or before, or without a time; now without this.
        #[arg(long, value_name = "TIME", value_parser = rfc3339::parse)]
        before: Option<u64>,
        /// How long that is remembered. By then the tokens have ended by themselves.
        #[arg(long = "for", value_name = "DURATION", default_value = "30d", value_parser = span)]
        keep: u64,
        #[command(flatten)]
        end: End,
    },
    /// An API key, by its id. Take it out of its list too: once this is forgotten, the list alone counts.
    Key {
        /// The key's id, as `keys list` and the access log have it.
        id: String,
        /// How long that is remembered: keys need not end by themselves.
        #[arg(long = "for", value_name = "DURATION", default_value = "3650d", value_parser = span)]
        keep: u64,
        #[command(flatten)]
        end: End,
    },
    /// All tokens that a key of an issuer signed.
    SigningKey {
        /// The issuer, as `iss` has it.
        #[arg(long, value_name = "ISS")]
        issuer: String,
        /// The key's id, as the tokens' `kid` has it.
        #[arg(long, value_name = "ID")]
        kid: String,
        /// How long that is remembered: long enough for the issuer to withdraw the key.
        #[arg(long = "for", value_name = "DURATION", default_value = "365d", value_parser = span)]
        keep: u64,
        #[command(flatten)]
        end: End,
    },
    /// Show all that is revoked.
    List,
}

/// When it is over.
#[derive(Debug, Args)]
struct End {
    /// Remember it until then, such as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = rfc3339::parse, conflicts_with = "keep")]
    until: Option<u64>,
    /// Take the revocation back instead.
    #[arg(long, conflicts_with_all = ["until", "keep"])]
    undo: bool,
}

/// What is to be done, and how long it is to be remembered.
struct Order {
    revoked: Revoked,
    /// Of a subject that is taken back: whatever the time.
    any_time: bool,
    keep: u64,
    end: End,
}

/// Reads a duration in whole seconds.
fn span(text: &str) -> Result<u64, String> {
    let span: Span = text.parse()?;
    match span.0.as_secs() {
        0 => Err(format!("found `{text}`, want at least a second")),
        seconds => Ok(seconds),
    }
}

/// Runs the command.
pub fn run(command: Revoke) -> ExitCode {
    let Revoke { config, what } = command;
    let loaded = match check::load(&config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let (rules, key) = match place(&loaded.conf) {
        Ok(place) => place,
        Err(why) => {
            eprintln!("{}: {why}", config.display());
            return USAGE.into();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("cannot start: {why}");
            return ExitCode::FAILURE;
        }
    };
    let now_s = Clock::system().now().unix_s();
    let order = order(what, now_s);
    if let Some(order) = &order {
        warn_of_unknown_issuer(&loaded.conf, &order.revoked);
    }
    let done = runtime.block_on(async {
        let mut asked = redis::ask(&rules).await?;
        match order {
            None => list(&mut asked, &key, now_s).await,
            Some(order) if order.end.undo => take_back(&mut asked, &key, &order).await,
            Some(order) => revoke(&mut asked, &key, &order, now_s).await,
        }
    });
    match done {
        Ok(code) => code,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Where revocations are kept, by a config.
fn place(conf: &FileConf) -> Result<(RedisRules, String), String> {
    let revocation = conf.identity.revocation.as_ref();
    let place = revocation.zip(conf.redis.as_ref());
    let (revocation, redis) = place.ok_or(
        "identity.revocation: is missing (found none, want it: without it gateways look for no \
         revocations)",
    )?;
    let rules = rules(redis).map_err(|fault| fault.to_string())?;
    Ok((rules, revocation.value.key.value.clone()))
}

fn order(what: What, now_s: u64) -> Option<Order> {
    let (revoked, keep, end, any_time) = match what {
        What::Token {
            issuer,
            jti,
            keep,
            end,
        } => (Revoked::Token { issuer, jti }, keep, end, false),
        What::Subject {
            issuer,
            sub,
            before,
            keep,
            end,
        } => {
            let any_time = before.is_none();
            let revoked = Revoked::Subject {
                issuer,
                subject: sub,
                before: before.unwrap_or(now_s),
            };
            (revoked, keep, end, any_time)
        }
        What::Key { id, keep, end } => (Revoked::Key { id }, keep, end, false),
        What::SigningKey {
            issuer,
            kid,
            keep,
            end,
        } => (Revoked::SigningKey { issuer, kid }, keep, end, false),
        What::List => return None,
    };
    Some(Order {
        revoked,
        any_time,
        keep,
        end,
    })
}

/// A mistyped issuer revokes nothing, and nobody would notice.
fn warn_of_unknown_issuer(conf: &FileConf, revoked: &Revoked) {
    let (Revoked::Token { issuer, .. }
    | Revoked::Subject { issuer, .. }
    | Revoked::SigningKey { issuer, .. }) = revoked
    else {
        return;
    };
    let mut known = conf.identity.jwt.iter().map(|jwt| &jwt.value.issuer.value);
    if !known.any(|known| known == issuer) {
        eprintln!("warning: no issuer in this config is `{issuer}`");
    }
}

async fn revoke(
    asked: &mut Asked,
    key: &str,
    order: &Order,
    now_s: u64,
) -> Result<ExitCode, String> {
    let revoked = &order.revoked;
    let member = revoked.to_string();
    if member.len() > entry::MAX_TEXT {
        return Err(format!(
            "found {} bytes, want at most {}",
            member.len(),
            entry::MAX_TEXT
        ));
    }
    let until = order
        .end
        .until
        .unwrap_or_else(|| now_s.saturating_add(order.keep));
    if until <= now_s {
        eprintln!("--until: found a time that is over, want one to come");
        return Ok(USAGE.into());
    }
    let mut commands = pipe();
    commands.atomic();
    commands
        .cmd("ZREMRANGEBYSCORE")
        .arg(key)
        .arg("-inf")
        .arg(now_s)
        .ignore();
    commands
        .cmd("ZADD")
        .arg(key)
        .arg(until)
        .arg(&member)
        .ignore();
    commands
        .cmd("PUBLISH")
        .arg(key)
        .arg(entry::message(revoked, until));
    let (heard,): (u64,) = asked.all(&commands).await?;
    let until = rfc3339::format(until);
    println!("revoked until {until}: {}", shown(revoked));
    println!("{}", gateways(heard));
    Ok(ExitCode::SUCCESS)
}

async fn take_back(asked: &mut Asked, key: &str, order: &Order) -> Result<ExitCode, String> {
    let mut gone = vec![order.revoked.clone()];
    if order.any_time {
        gone = all(asked, key)
            .await?
            .into_iter()
            .map(|(revoked, _)| revoked)
            .collect();
        gone.retain(|known| same_subject(known, &order.revoked));
    }
    let mut taken = 0;
    let mut heard = 0;
    for revoked in &gone {
        let mut commands = pipe();
        commands.atomic();
        commands.cmd("ZREM").arg(key).arg(revoked.to_string());
        commands
            .cmd("PUBLISH")
            .arg(key)
            .arg(entry::taken_back(revoked));
        let (removed, told): (u64, u64) = asked.all(&commands).await?;
        taken += removed;
        heard = told;
    }
    if taken == 0 {
        eprintln!("not revoked: {}", shown(&order.revoked));
        return Ok(ExitCode::FAILURE);
    }
    for revoked in &gone {
        println!("taken back: {}", shown(revoked));
    }
    println!("{}", gateways(heard));
    Ok(ExitCode::SUCCESS)
}

fn same_subject(known: &Revoked, wanted: &Revoked) -> bool {
    let of = |revoked: &Revoked| match revoked {
        Revoked::Subject {
            issuer, subject, ..
        } => Some((issuer.clone(), subject.clone())),
        _ => None,
    };
    of(known).is_some_and(|known| Some(known) == of(wanted))
}

fn gateways(heard: u64) -> String {
    match heard {
        0 => {
            "heard by no gateway: those that are there learn of it with their next scan".to_owned()
        }
        1 => "heard by 1 gateway".to_owned(),
        n => format!("heard by {n} gateways"),
    }
}

async fn list(asked: &mut Asked, key: &str, now_s: u64) -> Result<ExitCode, String> {
    for (revoked, until) in all(asked, key).await? {
        if until > now_s {
            println!("until {}: {}", rfc3339::format(until), shown(&revoked));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything in Redis, in the order in which it ends.
async fn all(asked: &mut Asked, key: &str) -> Result<Vec<(Revoked, u64)>, String> {
    const PAGE: usize = 1000;
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        let mut page = pipe();
        let ranks = page.cmd("ZRANGE").arg(key).arg(start).arg(start + PAGE - 1);
        ranks.arg("WITHSCORES");
        let (entries,): (Vec<(Vec<u8>, f64)>,) = asked.all(&page).await?;
        let last = entries.len() < PAGE;
        for (member, score) in entries {
            let text = String::from_utf8_lossy(&member);
            match text.parse() {
                Ok(revoked) => found.push((revoked, score.max(0.0) as u64)),
                Err(entry::Unknown) => eprintln!("not understood: {}", text.escape_debug()),
            }
        }
        if last {
            return Ok(found);
        }
        start += PAGE;
    }
}

/// As an operator reads it; on one line, whatever is in it.
fn shown(revoked: &Revoked) -> String {
    let quoted = |text: &str| format!("`{}`", text.escape_debug());
    match revoked {
        Revoked::Token { issuer, jti } => format!("token {} of {}", quoted(jti), quoted(issuer)),
        Revoked::Subject {
            issuer,
            subject,
            before,
        } => format!(
            "tokens of {} issued by {} until {}",
            quoted(subject),
            quoted(issuer),
            rfc3339::format(*before)
        ),
        Revoked::Key { id } => format!("API key {}", quoted(id)),
        Revoked::SigningKey { issuer, kid } => {
            format!("tokens signed by key {} of {}", quoted(kid), quoted(issuer))
        }
    }
}
