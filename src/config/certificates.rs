//! Clients that are known by the certificates they present.

use super::decode::Spanned;
use super::fields::{conf, default, optional, required, words};
use super::value::{Name, Scope};

conf! {
    /// Client certificates and whose they are. They are verified by the listener that they come in on
    /// (`tls.client_certificates`); this says which name in them counts, and which client it is.
    pub struct CertificatesConf {
        /// Its name, for routes to refer to.
        name: Spanned<Name> = required("a name such as `mesh`");
        /// Which name of a certificate counts.
        from: Spanned<CertificateNameConf> = required("one of `san_uri`, `san_dns`, `san_email`, `common_name` and `subject`");
        /// The listeners whose certificates count; to be written where listeners have different
        /// authorities. Default: all.
        listeners: Vec<Spanned<String>> = default("[]");
        /// Which client each name stands for. Default: none.
        clients: Vec<Spanned<CertificateClientConf>> = default("[]");
        /// What becomes of a name that is not among them: `refuse`, or `as_named`, the client is then
        /// called as the certificate names it. Default `refuse`.
        unlisted: Spanned<UnlistedConf> = default("refuse");
    }
}

words! {
    /// Which name of a certificate counts.
    pub enum CertificateNameConf {
        /// A URI among its subject's alternative names, such as a SPIFFE id.
        SanUri = "san_uri",
        /// A DNS name among them.
        SanDns = "san_dns",
        /// An e-mail address among them.
        SanEmail = "san_email",
        /// The common name of its subject.
        CommonName = "common_name",
        /// Its whole subject, as RFC 4514 writes it.
        Subject = "subject",
    }
}

words! {
    /// What becomes of a name that no client has.
    pub enum UnlistedConf {
        /// It is refused.
        Refuse = "refuse",
        /// It is the client's name.
        AsNamed = "as_named",
    }
}

conf! {
    /// A client and the names in its certificates.
    pub struct CertificateClientConf {
        /// The names, character by character, any of which is this client.
        names: Vec<Spanned<String>> = required("a list such as `[\"spiffe://example.com/orders\"]`").some();
        /// The client.
        client: Spanned<String> = required("the client's name");
        /// The client's tier. Left out: none.
        tier: Option<Spanned<String>> = optional();
        /// What it may do. Default: nothing in particular.
        scopes: Vec<Spanned<Scope>> = default("[]");
        /// Which roles it has. Default: none.
        roles: Vec<Spanned<String>> = default("[]");
    }
}
