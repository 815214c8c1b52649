//! What has to go together in `identity.certificates`, and with the listeners that they come in on.

use super::certificates::{CertificatesConf, UnlistedConf};
use super::check::Findings;
use super::decode::Spanned;
use super::error::message;
use super::file::FileConf;
use super::listener::ListenerConf;
use super::spelling::choice;
use super::tls::ClientCertificatesConf;

/// Judges client certificates.
pub(super) fn check(conf: &FileConf, f: &mut Findings) {
    for list in &conf.identity.certificates {
        clients(list, f);
        listeners(list, conf, f);
    }
}

fn clients(list: &Spanned<CertificatesConf>, f: &mut Findings) {
    if list.clients.is_empty() && list.unlisted.sound() == Some(&UnlistedConf::Refuse) {
        f.fault(&list.place, message!("lets nobody pass (found no `clients`, want some, or `unlisted: as_named` for every certificate that a listener takes)"));
    }
    let names = list.clients.iter().flat_map(|client| &client.names);
    let sound = names.filter_map(|name| Some((name.sound()?, &name.place)));
    f.unlike(sound, |name| format!("`{name}`"));
}

/// The listener's own rules for certificates, if it has any.
fn asks(listener: &ListenerConf) -> Option<&ClientCertificatesConf> {
    let asks = listener.tls.as_ref()?.client_certificates.as_ref();
    asks.map(|conf| &conf.value)
}

/// A certificate means what the authorities behind it say. Where listeners have different ones, a
/// name that counts on one of them may be anybody's on another.
fn listeners(list: &Spanned<CertificatesConf>, conf: &FileConf, f: &mut Findings) {
    let all = conf.listeners.iter().map(|l| &l.value);
    let asking: Vec<_> = all.filter_map(|l| Some((l, asks(l)?))).collect();
    let name_of = |listener: &ListenerConf| listener.name.value.to_string();
    if asking.is_empty() {
        f.fault(
            &list.place,
            message!("has no way in (found no listener with `tls.client_certificates`, want one)"),
        );
        return;
    }
    let known: Vec<String> = asking.iter().map(|(l, _)| name_of(l)).collect();
    for name in list.listeners.iter().filter(|n| n.sound().is_some()) {
        if !known.contains(&name.value) {
            let want = choice(known.iter().map(String::as_str));
            f.fault(&name.place, message!("names no listener that takes certificates of clients (found `{}`, want {want})", name.value));
        }
    }
    let chosen =
        |name: &str| list.listeners.is_empty() || list.listeners.iter().any(|l| *l.value == *name);
    let mut counting = asking.iter().filter(|(l, _)| chosen(&l.name.value));
    let first = counting.next();
    let other = first.and_then(|(_, ca)| counting.find(|(_, other)| other.ca.value != ca.ca.value));
    if let (Some((first, _)), Some((other, _))) = (first, other) {
        f.fault(&list.place, message!("may mean two things (found listeners with different authorities, `{}` and `{}`, want the one that counts in `listeners`, and a list for each)", name_of(first), name_of(other)));
    }
}
