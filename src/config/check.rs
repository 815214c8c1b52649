//! What can be judged from the file but not from one value alone: names, references, and values
//! that do not go together. Here the process and limits; [`super::check_listener`],
//! [`super::check_redis`], [`super::check_identity`], [`super::check_introspection`],
//! [`super::check_api_keys`],
//! [`super::check_upstream`] and [`super::check_route`] have the rest.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;

use super::decode::Spanned;
use super::error::{Fault, Place, message};
use super::file::FileConf;
use super::server::AdminConf;
use super::spelling::{choice, hint};
use super::value::Name;
use super::{
    check_api_keys, check_certificates, check_identity, check_introspection, check_limit,
    check_listener, check_redis, check_route, check_upstream,
};
use crate::base::units::Rate;

/// What was found: faults, which stop a config from loading, and warnings, which do not.
#[derive(Default)]
pub(super) struct Findings {
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
}

impl Findings {
    pub fn fault(&mut self, place: &Place, text: String) {
        self.faults.push(Fault::new(place, text));
    }

    pub fn warn(&mut self, place: &Place, text: String) {
        self.warnings.push(Fault::new(place, text));
    }

    /// Notes each value that something else has already.
    pub fn unlike<'a, T: Eq + Hash>(
        &mut self,
        values: impl IntoIterator<Item = (T, &'a Place)>,
        shown: impl Fn(&T) -> String,
    ) {
        for (value, place, earlier) in repeated(values) {
            self.taken(place, &shown(&value), earlier);
        }
    }

    /// Notes a value that something else has already.
    pub fn taken(&mut self, place: &Place, found: &str, earlier: &Place) {
        let earlier = earlier.spot();
        self.fault(
            place,
            message!("is taken (found {found} at {earlier} already, want another)"),
        );
    }

    /// Notes each value that its list holds already.
    pub fn listed_once<'a, T: Eq + Hash>(
        &mut self,
        values: impl IntoIterator<Item = (T, &'a Place)>,
    ) {
        for (_, place, earlier) in repeated(values) {
            let earlier = earlier.spot();
            self.fault(
                place,
                message!("is listed twice (found it at {earlier} already, want it once)"),
            );
        }
    }

    /// Notes each name that something else has already.
    pub fn names<'a>(&mut self, names: impl IntoIterator<Item = &'a Spanned<Name>>) {
        let sound = names
            .into_iter()
            .filter_map(|n| Some((n.sound()?, &n.place)));
        self.unlike(sound, |name| format!("`{name}`"));
    }

    /// Notes a key that was written although another makes it idle.
    pub fn idle<T>(&mut self, idle: &Spanned<T>, other: impl Display) {
        if idle.is_written() {
            self.fault(
                &idle.place,
                message!("has no effect (found it together with `{other}`, want it left out)"),
            );
        }
    }
}

/// The values that came before, with their place and the first one's.
fn repeated<'a, T: Eq + Hash>(
    values: impl IntoIterator<Item = (T, &'a Place)>,
) -> Vec<(T, &'a Place, &'a Place)> {
    let mut first: HashMap<T, &Place> = HashMap::new();
    let mut repeated = Vec::new();
    for (value, place) in values {
        match first.get(&value) {
            Some(earlier) => repeated.push((value, place, *earlier)),
            None => {
                first.insert(value, place);
            }
        }
    }
    repeated
}

/// The names of one kind of thing, to be referred to.
pub(super) struct Known<'a> {
    what: &'static str,
    /// The key they are defined under.
    under: &'static str,
    names: Vec<&'a str>,
    used: HashMap<&'a str, bool>,
    /// Whether one of the names could not be read, so that any reference may be to that one.
    patchy: bool,
}

impl<'a> Known<'a> {
    pub fn new(
        what: &'static str,
        under: &'static str,
        names: impl IntoIterator<Item = &'a Spanned<Name>>,
    ) -> Self {
        let all: Vec<_> = names.into_iter().collect();
        let names: Vec<&str> = all.iter().filter_map(|n| n.sound()).map(|n| &**n).collect();
        Self {
            what,
            under,
            used: names.iter().map(|name| (*name, false)).collect(),
            patchy: names.len() < all.len(),
            names,
        }
    }

    /// Follows a reference; notes one that leads nowhere.
    pub fn refer(&mut self, name: &Spanned<String>, findings: &mut Findings) {
        let Some(wanted) = name.sound() else { return };
        if let Some(used) = self.used.get_mut(wanted.as_str()) {
            *used = true;
            return;
        }
        if self.patchy {
            return;
        }
        let (what, under, names) = (self.what, self.under, self.names.iter().copied());
        let text = if self.names.is_empty() {
            message!(
                "names {what} that does not exist (found `{wanted}`, want {what} defined under `{under}`, which has none)"
            )
        } else {
            let (hint, want) = (hint(wanted, names.clone()), choice(names));
            message!("names {what} that does not exist{hint} (found `{wanted}`, want {want})")
        };
        findings.fault(&name.place, text);
    }

    /// Warns of things nothing refers to.
    pub fn unused<'b>(
        &self,
        names: impl IntoIterator<Item = &'b Spanned<Name>>,
        findings: &mut Findings,
    ) {
        for name in names {
            if self.used.get(&*name.value) == Some(&false) {
                let what = self.what;
                findings.warn(&name.place, message!("is {what} that no route uses"));
            }
        }
    }
}

/// Judges a whole file.
pub(super) fn check(conf: &FileConf) -> Findings {
    let mut findings = Findings::default();
    let f = &mut findings;
    f.names(conf.listeners.iter().map(|l| &l.name));
    f.names(conf.limits.iter().map(|l| &l.name));
    f.names(conf.upstreams.iter().map(|u| &u.name));
    f.names(conf.routes.iter().map(|r| &r.name));
    check_listener::check(conf, f);
    if let Some(admin) = &conf.admin {
        admin_token(admin, f);
    }
    if let Some(flood) = &conf.flood {
        rate(&flood.rate, f);
    }
    for limit in &conf.limits {
        check_limit::check(limit, f);
    }
    check_redis::check(conf, f);
    check_identity::check(&conf.identity, f);
    for issuer in &conf.identity.introspection {
        check_introspection::check(issuer, conf.redis.is_some(), f);
    }
    check_certificates::check(conf, f);
    check_api_keys::check(conf, f);
    check_upstream::check(&conf.upstreams, f);
    check_route::check(conf, f);
    findings
}

/// The shortest admin token, in bytes.
const MIN_TOKEN: usize = 16;

fn admin_token(admin: &AdminConf, f: &mut Findings) {
    let Some(token) = &admin.token else { return };
    if let Some(secret) = token.sound()
        && secret.expose().len() < MIN_TOKEN
    {
        let found = secret.expose().len();
        f.fault(
            &token.place,
            message!(
                "is easy to guess (found a secret of {found} bytes, want at least {MIN_TOKEN})"
            ),
        );
    }
}

/// The most requests a limit can count.
const MAX_COUNT: u64 = Rate::MAX_COUNT;

/// Judges a rate that is to be counted.
pub(super) fn rate(rate: &Spanned<Rate>, f: &mut Findings) {
    let Some(found) = rate.sound() else { return };
    if !(1..=MAX_COUNT).contains(&found.count) {
        f.fault(
            &rate.place,
            message!(
                "is no limit that can be counted (found {found}, want 1 to {MAX_COUNT} requests)"
            ),
        );
    }
    if !found.has_window() {
        f.fault(&rate.place, message!("has no window that can be counted in (found {found}, want whole seconds from 1s to 31d)"));
    }
}
