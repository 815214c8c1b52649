//! The handle of one listener's TLS: handshakes, why they failed, and its certificates.

use super::{Series, define, define::Families};
use prometheus::IntCounter;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// It took too long.
    Timeout,
    /// No version of TLS that both speak.
    NoSharedVersion,
    /// No cipher, group or signature that both know.
    NoSharedCipher,
    /// The client speaks only protocols that we do not (ALPN).
    NoAlpn,
    /// No certificate for the name it asked for, and such clients are refused.
    UnknownName,
    /// Its certificate is missing or not good.
    BadClientCertificate,
    /// The client sent an alert: it does not trust our certificate, say.
    ClientAlert,
    /// It went away.
    ClientClosed,
    /// It broke the rules of TLS, or speaks something else.
    Protocol,
    /// Anything else, a fault of ours included.
    Other,
}

impl HandshakeFault {
    /// How many there are.
    pub const COUNT: usize = 10;
    /// Each with its label, in the order of their numbers.
    const ALL: [(Self, &str); Self::COUNT] = [
        (Self::Timeout, "timeout"),
        (Self::NoSharedVersion, "no_shared_version"),
        (Self::NoSharedCipher, "no_shared_cipher"),
        (Self::NoAlpn, "no_alpn"),
        (Self::UnknownName, "unknown_name"),
        (Self::BadClientCertificate, "bad_client_certificate"),
        (Self::ClientAlert, "client_alert"),
        (Self::ClientClosed, "client_closed"),
        (Self::Protocol, "protocol"),
        (Self::Other, "other"),
    ];

    /// Its name in metrics and logs.
    pub fn label(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// A certificate as its gauge shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSeries {
    /// Its first name.
    pub name: String,
    /// The kind of its key, or `client_ca`.
    pub kind: &'static str,
    /// When it ends, in seconds since the Unix epoch.
    pub not_after: u64,
}

const VERSIONS: [&str; 2] = ["1.2", "1.3"];
const RESUMED: [&str; 2] = ["false", "true"];
const RESULTS: [&str; 2] = ["failed", "ok"];

/// The handle of one listener's TLS metrics.
#[derive(Debug)]
pub struct TlsMetrics {
    listener: Box<str>,
    families: Arc<Families>,
    /// By version, then by whether a session was taken up.
    handshakes: [[IntCounter; 2]; 2],
    failures: [IntCounter; HandshakeFault::COUNT],
    /// Failed and successful reloads.
    reloads: [IntCounter; 2],
    /// Those shown now; locked only when certificates change.
    shown: Mutex<Vec<CertificateSeries>>,
}

impl TlsMetrics {
    pub(super) fn new(listener: &str, families: &Arc<Families>) -> Self {
        let done = |version, resumed| {
            let labels = [listener, version, resumed];
            families.tls_handshakes.with_label_values(&labels)
        };
        let failed = |(_, cause): (HandshakeFault, &str)| {
            families.tls_failures.with_label_values(&[listener, cause])
        };
        let reloads = |result| {
            families
                .certificate_reloads
                .with_label_values(&[listener, result])
        };
        Self {
            listener: listener.into(),
            families: Arc::clone(families),
            handshakes: VERSIONS.map(|version| RESUMED.map(|resumed| done(version, resumed))),
            failures: HandshakeFault::ALL.map(failed),
            reloads: RESULTS.map(reloads),
            shown: Mutex::default(),
        }
    }

    /// Counts a handshake that was completed.
    pub fn completed(&self, tls13: bool, resumed: bool) {
        self.handshakes[usize::from(tls13)][usize::from(resumed)].inc();
    }

    /// Counts one that was not.
    pub fn failed(&self, why: HandshakeFault) {
        self.failures[why as usize].inc();
    }

    /// Counts a changed certificate that was taken up, or one that could not be.
    pub fn reloaded(&self, ok: bool) {
        self.reloads[usize::from(ok)].inc();
    }

    /// Shows when certificates end; those shown before and not among them are shown no longer.
    pub fn certificates(&self, now: Vec<CertificateSeries>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for old in &*shown {
            let labels = [&*self.listener, &*old.name, old.kind];
            let _ = self.families.certificate_ends.remove_label_values(&labels);
        }
        for series in &now {
            let labels = [&*self.listener, &*series.name, series.kind];
            let gauge = self.families.certificate_ends.with_label_values(&labels);
            gauge.set(define::clamp(series.not_after));
        }
        *shown = now;
    }
}

impl Series for TlsMetrics {
    fn forget(&self) {
        self.certificates(Vec::new());
        let (families, listener) = (&self.families, &*self.listener);
        for version in VERSIONS {
            for resumed in RESUMED {
                let labels = [listener, version, resumed];
                let _ = families.tls_handshakes.remove_label_values(&labels);
            }
        }
        for (_, cause) in HandshakeFault::ALL {
            let _ = families
                .tls_failures
                .remove_label_values(&[listener, cause]);
        }
        for result in RESULTS {
            let labels = [listener, result];
            let _ = families.certificate_reloads.remove_label_values(&labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    fn series(name: &str, not_after: u64) -> CertificateSeries {
        CertificateSeries {
            name: name.to_owned(),
            kind: "rsa",
            not_after,
        }
    }

    #[test]
    fn each_cause_stands_at_its_number() {
        for (at, (fault, label)) in HandshakeFault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, at);
            assert_eq!(fault.label(), label);
        }
    }

    #[test]
    fn handshakes_and_certificates_are_shown_and_forgotten() {
        let metrics = Metrics::new("0", 0);
        let tls = metrics.tls("public");
        tls.completed(true, false);
        tls.completed(false, true);
        tls.failed(HandshakeFault::NoAlpn);
        tls.reloaded(false);
        tls.certificates(vec![series("a.example", 100), series("b.example", 200)]);
        tls.certificates(vec![series("a.example", 300)]);
        let text = metrics.render();
        for line in [
            "tollgate_tls_handshakes_total{listener=\"public\",resumed=\"false\",version=\"1.3\"} 1",
            "tollgate_tls_handshakes_total{listener=\"public\",resumed=\"true\",version=\"1.2\"} 1",
            "tollgate_tls_handshakes_total{listener=\"public\",resumed=\"true\",version=\"1.3\"} 0",
            "tollgate_tls_handshake_failures_total{cause=\"no_alpn\",listener=\"public\"} 1",
            "tollgate_tls_handshake_failures_total{cause=\"timeout\",listener=\"public\"} 0",
            "tollgate_certificate_reloads_total{listener=\"public\",result=\"failed\"} 1",
            "tollgate_certificate_reloads_total{listener=\"public\",result=\"ok\"} 0",
            "tollgate_certificate_not_after_seconds{certificate=\"a.example\",kind=\"rsa\",listener=\"public\"} 300",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
        }
        assert!(!text.contains("b.example"), "{text}");
        metrics.retain_listeners(|_| false);
        assert!(!metrics.render().contains("public"));
    }
}
