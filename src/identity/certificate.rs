//! Clients by the certificates they present: which name in one counts, and whose it is. Whether a
//! certificate is good was decided when its connection began.

use super::principal::{Method, Principal, Scopes};
use std::collections::HashMap;
use std::sync::Arc;

/// Which name of a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// A URI among its subject's alternative names.
    SanUri,
    /// A DNS name among them; case does not count (RFC 4343).
    SanDns,
    /// An e-mail address among them.
    SanEmail,
    /// The common name of its subject.
    CommonName,
    /// Its whole subject (RFC 4514).
    Subject,
}

/// A client and the names in its certificates.
#[derive(Clone, Debug)]
pub struct CertificateClient {
    /// The names, any of which is this client.
    pub names: Vec<String>,
    /// The client.
    pub client: String,
    /// The client's service tier.
    pub tier: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Which roles it has.
    pub roles: Vec<String>,
}

/// Why a certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// None of its names is a client's.
    #[error("a certificate of nobody known")]
    Unknown,
    /// Its names are those of several clients.
    #[error("a certificate of several clients")]
    Ambiguous,
}

/// Certificates and whose they are, compiled.
pub struct Certificates {
    name: Arc<str>,
    from: CertificateName,
    listeners: Vec<String>,
    known: HashMap<String, Arc<Principal>>,
    as_named: bool,
}

impl Certificates {
    /// Compiles the list `name`. `listeners`: where certificates count, everywhere if there are none;
    /// `as_named`: a name that no client has is the client's own.
    pub fn new(
        name: &str,
        from: CertificateName,
        listeners: Vec<String>,
        clients: Vec<CertificateClient>,
        as_named: bool,
    ) -> Self {
        let name: Arc<str> = name.into();
        let mut known = HashMap::new();
        for client in clients {
            let principal = Arc::new(Principal {
                client_id: Some(client.client),
                tier: client.tier.filter(|tier| !tier.is_empty()),
                scopes: client.scopes.into_iter().collect::<Scopes>(),
                roles: client.roles,
                ..Principal::new(Method::Certificate, &name)
            });
            for own in client.names {
                known.insert(normal(from, &own).into_owned(), principal.clone());
            }
        }
        Self {
            name,
            from,
            listeners,
            known,
            as_named,
        }
    }

    /// The list's name in our configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which name of a certificate counts.
    pub fn from(&self) -> CertificateName {
        self.from
    }

    /// Whether certificates that come in by a listener count.
    pub fn counts_on(&self, listener: &str) -> bool {
        self.listeners.is_empty() || self.listeners.iter().any(|own| own == listener)
    }

    /// The client that one of these names stands for; all of a certificate's names of the kind
    /// [`Certificates::from`]. Two names of one client are no contradiction.
    ///
    /// # Errors
    /// No client is meant, or several are.
    pub fn find<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Arc<Principal>, CertificateFault> {
        let known = |name: &'a str| self.known.get(&*normal(self.from, name));
        let mut found = names.clone().filter_map(known);
        if let Some(first) = found.next() {
            let same = found.all(|other| other.client_id == first.client_id);
            return same
                .then(|| first.clone())
                .ok_or(CertificateFault::Ambiguous);
        }
        let mut names = names.filter(|name| !name.is_empty());
        match (self.as_named, names.next(), names.next()) {
            (true, Some(only), None) => Ok(Arc::new(Principal {
                client_id: Some(normal(self.from, only).into_owned()),
                ..Principal::new(Method::Certificate, &self.name)
            })),
            (true, Some(_), Some(_)) => Err(CertificateFault::Ambiguous),
            _ => Err(CertificateFault::Unknown),
        }
    }
}

/// A name as it is compared.
fn normal(from: CertificateName, name: &str) -> std::borrow::Cow<'_, str> {
    let upper = name.bytes().any(|b| b.is_ascii_uppercase());
    if from == CertificateName::SanDns && upper {
        return name.to_ascii_lowercase().into();
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(client: &str, names: &[&str]) -> CertificateClient {
        CertificateClient {
            names: names.iter().map(ToString::to_string).collect(),
            client: client.to_owned(),
            tier: Some("gold".to_owned()),
            scopes: vec!["read".to_owned()],
            roles: Vec::new(),
        }
    }

    fn list(from: CertificateName, as_named: bool) -> Certificates {
        let clients = vec![
            client("orders", &["spiffe://x/orders", "Orders.example"]),
            client("users", &["spiffe://x/users"]),
        ];
        Certificates::new("mesh", from, Vec::new(), clients, as_named)
    }

    fn found(list: &Certificates, names: &[&str]) -> Result<String, CertificateFault> {
        let found = list.find(names.iter().copied());
        found.map(|p| p.client().to_owned())
    }

    #[test]
    fn a_name_is_one_client_or_nobody() {
        let uris = list(CertificateName::SanUri, false);
        assert_eq!(found(&uris, &["spiffe://x/orders"]), Ok("orders".into()));
        assert_eq!(
            found(&uris, &["other", "spiffe://x/users"]),
            Ok("users".into())
        );
        let both = ["spiffe://x/orders", "spiffe://x/users"];
        assert_eq!(found(&uris, &both), Err(CertificateFault::Ambiguous));
        for none in [
            &[][..],
            &[""],
            &["spiffe://x/order"],
            &["SPIFFE://x/orders"],
        ] {
            assert_eq!(found(&uris, none), Err(CertificateFault::Unknown));
        }
        let caller = uris.find(["spiffe://x/orders"].into_iter()).unwrap();
        assert_eq!(
            (&*caller.provider, caller.method),
            ("mesh", Method::Certificate)
        );
        assert!(caller.scopes.has("read") && caller.tier.as_deref() == Some("gold"));
    }

    #[test]
    fn the_case_of_a_dns_name_alone_does_not_count() {
        let dns = list(CertificateName::SanDns, false);
        assert_eq!(found(&dns, &["orders.EXAMPLE"]), Ok("orders".into()));
        let subjects = list(CertificateName::Subject, false);
        assert_eq!(
            found(&subjects, &["orders.example"]),
            Err(CertificateFault::Unknown)
        );
    }

    #[test]
    fn a_name_of_nobody_is_a_client_only_where_that_is_written() {
        let named = list(CertificateName::SanUri, true);
        assert_eq!(
            found(&named, &["spiffe://x/new"]),
            Ok("spiffe://x/new".into())
        );
        assert_eq!(
            found(&named, &["spiffe://x/orders", "z"]),
            Ok("orders".into())
        );
        assert_eq!(found(&named, &["a", "b"]), Err(CertificateFault::Ambiguous));
        assert_eq!(found(&named, &[]), Err(CertificateFault::Unknown));
    }

    #[test]
    fn certificates_count_on_the_listeners_that_are_named() {
        assert!(list(CertificateName::SanUri, false).counts_on("any"));
        let bound = Certificates::new(
            "m",
            CertificateName::SanUri,
            vec!["mtls".into()],
            Vec::new(),
            true,
        );
        assert!(bound.counts_on("mtls") && !bound.counts_on("public"));
    }
}
