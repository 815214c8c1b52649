//! Compiles clients that are known by their certificates.

use super::identity::texts;
use crate::config::Spanned;
use crate::config::certificates::{
    CertificateClientConf, CertificateNameConf, CertificatesConf, UnlistedConf,
};
use crate::identity::certificate::{CertificateClient, CertificateName, Certificates};
use std::sync::Arc;

/// Compiles a list; gives its name with it.
pub fn compile(conf: &Spanned<CertificatesConf>) -> (String, Arc<Certificates>) {
    let CertificatesConf {
        name,
        from,
        listeners,
        clients,
        unlisted,
    } = &conf.value;
    let from = match from.value {
        CertificateNameConf::SanUri => CertificateName::SanUri,
        CertificateNameConf::SanDns => CertificateName::SanDns,
        CertificateNameConf::SanEmail => CertificateName::SanEmail,
        CertificateNameConf::CommonName => CertificateName::CommonName,
        CertificateNameConf::Subject => CertificateName::Subject,
    };
    let clients = clients.iter().map(|conf| {
        let CertificateClientConf {
            names,
            client,
            tier,
            scopes,
            roles,
        } = &conf.value;
        CertificateClient {
            names: texts(names),
            client: client.value.clone(),
            tier: tier.as_ref().map(|t| t.value.clone()),
            scopes: scopes.iter().map(|s| s.value.to_string()).collect(),
            roles: texts(roles),
        }
    });
    let (name, as_named) = (
        name.value.to_string(),
        unlisted.value == UnlistedConf::AsNamed,
    );
    let list = Certificates::new(&name, from, texts(listeners), clients.collect(), as_named);
    (name, Arc::new(list))
}
