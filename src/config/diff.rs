//! What differs between two configs, item by item, by their names.

use super::decode::Spanned;
use super::file::FileConf;
use super::identity::IdentityConf;
use super::server::ServerConf;
use std::collections::HashMap;
use std::fmt;

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Only the new config has it.
    Added,
    /// Only the old one has it.
    Removed,
    /// It says something else.
    Changed,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its kind and its name, such as ``route `users` ``.
    pub what: String,
    /// How it differs.
    pub how: How,
    /// Whether a running process does not take it up: it needs an upgrade or a restart.
    pub later: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::Added => "added",
            How::Removed => "removed",
            How::Changed => "changed",
        };
        write!(f, "{}: {how}", self.what)?;
        if self.later {
            f.write_str(", which takes effect with an upgrade or a restart")?;
        }
        Ok(())
    }
}

/// Everything that differs, in the order of the file.
pub fn diff(old: &FileConf, new: &FileConf) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    let FileConf {
        server,
        listeners,
        admin,
        trusted_proxies,
        log,
        flood,
        redis,
        identity,
        limits,
        upstreams,
        routes,
    } = new;
    found.server(&old.server, server);
    found.items("listener", &old.listeners, listeners, |l| &l.name.value);
    found.whole("admin", old.admin == *admin, true);
    found.whole(
        "trusted_proxies",
        old.trusted_proxies == *trusted_proxies,
        false,
    );
    found.whole("log", old.log == *log, true);
    found.whole("flood", old.flood == *flood, false);
    found.whole("redis", old.redis == *redis, false);
    found.identity(&old.identity, identity);
    found.items("limit", &old.limits, limits, |l| &l.name.value);
    found.items("upstream", &old.upstreams, upstreams, |u| &u.name.value);
    found.items("route", &old.routes, routes, |r| &r.name.value);
    found.0
}

struct Found(Vec<Difference>);

impl Found {
    /// What is there once.
    fn whole(&mut self, what: &str, same: bool, later: bool) {
        if !same {
            self.0.push(Difference {
                what: format!("`{what}`"),
                how: How::Changed,
                later,
            });
        }
    }

    fn server(&mut self, old: &ServerConf, new: &ServerConf) {
        let ServerConf {
            workers,
            errors,
            forwarded,
            via,
            watch,
            drain,
        } = new;
        self.whole("server.workers", old.workers == *workers, true);
        self.whole("server.errors", old.errors == *errors, false);
        self.whole("server.forwarded", old.forwarded == *forwarded, false);
        self.whole("server.via", old.via == *via, false);
        self.whole("server.watch", old.watch == *watch, false);
        self.whole("server.drain", old.drain == *drain, false);
    }

    fn identity(&mut self, old: &IdentityConf, new: &IdentityConf) {
        let IdentityConf {
            headers,
            jwt,
            introspection,
            api_keys,
            certificates,
            roles,
            failures,
            revocation,
        } = new;
        self.whole("identity.headers", old.headers == *headers, false);
        self.items("issuer", &old.jwt, jwt, |i| &i.name.value);
        let (old_asked, asked) = (&old.introspection, introspection);
        self.items("introspection", old_asked, asked, |i| &i.name.value);
        self.items("API keys", &old.api_keys, api_keys, |k| &k.name.value);
        self.items("certificates", &old.certificates, certificates, |c| {
            &c.name.value
        });
        self.whole("identity.roles", old.roles == *roles, false);
        self.whole("identity.failures", old.failures == *failures, false);
        self.whole("identity.revocation", old.revocation == *revocation, false);
    }

    /// What goes by names: first what was there, in its order, then what is new.
    fn items<T: PartialEq>(
        &mut self,
        kind: &str,
        old: &[Spanned<T>],
        new: &[Spanned<T>],
        name: impl Fn(&T) -> &str,
    ) {
        let by_name = |all: &'_ [Spanned<T>]| -> HashMap<String, usize> {
            let names = all.iter().enumerate();
            names
                .map(|(at, item)| (name(&item.value).to_owned(), at))
                .collect()
        };
        let (before, now) = (by_name(old), by_name(new));
        for item in old {
            let how = match now.get(name(&item.value)) {
                None => How::Removed,
                Some(at) if new[*at] != *item => How::Changed,
                Some(_) => continue,
            };
            self.item(kind, name(&item.value), how);
        }
        for item in new {
            if !before.contains_key(name(&item.value)) {
                self.item(kind, name(&item.value), How::Added);
            }
        }
    }

    fn item(&mut self, kind: &str, name: &str, how: How) {
        self.0.push(Difference {
            what: format!("{kind} `{name}`"),
            how,
            later: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TEXT: &str = "
server: { workers: 1 }
listeners: [{ name: public, address: \"127.0.0.1:8080\" }]
limits: [{ name: standard, key: client, algorithm: sliding_window, rate: 100/1m }]
upstreams: [{ name: up, targets: [\"127.0.0.1:3001\"] }]
routes:
  - { name: a, match: { path: /a }, auth: none, limits: [standard], to: up }
  - { name: b, match: { path: /b }, auth: none, to: up }
";

    fn read(text: &str) -> FileConf {
        let loaded = crate::config::parse(text, "t.yaml", Path::new(""), &|_| None);
        loaded.unwrap_or_else(|e| panic!("{e}")).conf
    }

    fn told(text: &str) -> Vec<String> {
        let all = diff(&read(TEXT), &read(text));
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn places_and_comments_are_no_difference() {
        assert_eq!(told(&TEXT.replace("routes:", "# more\n\nroutes:")), [""; 0]);
        assert_eq!(
            told(&TEXT.replace("workers: 1 }", "workers: 1, errors: problem }")),
            [""; 0]
        );
    }

    #[test]
    fn each_item_by_its_name() {
        let text = TEXT
            .replace("workers: 1", "workers: 2")
            .replace("100/1m", "90/1m")
            .replace("name: b,", "name: c,");
        let want = [
            "`server.workers`: changed, which takes effect with an upgrade or a restart",
            "limit `standard`: changed",
            "route `b`: removed",
            "route `c`: added",
        ];
        assert_eq!(told(&text), want);
    }
}
