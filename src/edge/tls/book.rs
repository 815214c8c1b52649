//! What the table of a listener is made from: its files, what was read from them, and when to look
//! at them again.

use super::Wrong;
use super::certificate::{self, Certificate};
use super::choose::{self, Ready};
use super::client::Authorities;
use super::context::{self, Policy};
use crate::base::clock::Now;
use crate::config::material::PemFile;
use crate::config::tls::CertificateConf;
use crate::config::{self, Place, Spanned};
use crate::observe::metrics::CertificateSeries;
use crate::route::HostPattern;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// How the authorities of clients are called where certificates go by their names.
const CLIENT_CA: &str = "client_ca";

/// The hash of what was read, to tell a change from a touch.
pub type Digest = [u8; 32];

/// The files of one certificate and what they held.
pub struct Pair {
    pub(super) cert: Spanned<PemFile>,
    pub(super) key: Spanned<PemFile>,
    asked: Vec<HostPattern>,
    /// What is served.
    pub(super) ready: Arc<Ready>,
    digest: Digest,
    pub(super) watch: Watch,
}

/// The file of the authorities that sign clients, and what it held.
pub struct Ca {
    pub(super) file: Spanned<PemFile>,
    /// Who is trusted.
    pub(super) trusted: Authorities,
    digest: Digest,
    pub(super) watch: Watch,
}

/// All files of a listener.
pub struct Book {
    /// The certificates, in the order of the config.
    pub(super) pairs: Vec<Pair>,
    /// Those who sign clients.
    pub(super) ca: Option<Ca>,
    /// When it was last warned of what ends, in milliseconds.
    pub(super) warned_ms: u64,
}

/// What cannot be told of the files, but of their use: a library that refuses.
pub fn unusable(place: &Place, why: &dyn std::fmt::Display) -> config::Fault {
    let text = format!("cannot be served (found {why}, want what the TLS library takes)");
    config::Fault::new(place, text)
}

impl Book {
    /// Reads and judges every file.
    pub fn open(
        policy: &Policy,
        certificates: &[Spanned<CertificateConf>],
        authorities: Option<&Spanned<PemFile>>,
        now: Now,
    ) -> Result<Self, Vec<config::Fault>> {
        let mut faults = Vec::new();
        let mut keep = |fault| faults.push(fault);
        let ca = authorities.and_then(|file| Ca::open(file).map_err(&mut keep).ok());
        let read = certificates.iter().map(Draft::open);
        let drafts: Vec<Draft> = read.filter_map(|d| d.map_err(&mut keep).ok()).collect();
        let drafts = without_clashes(drafts, &mut keep);
        let trusted = ca.as_ref().map(|ca| &ca.trusted);
        let made = drafts.into_iter().map(|d| d.finish(policy, trusted));
        let pairs = made.filter_map(|p| p.map_err(&mut keep).ok()).collect();
        if faults.is_empty() {
            Ok(Self {
                pairs,
                ca,
                warned_ms: now.steady_ms,
            })
        } else {
            Err(faults)
        }
    }

    /// What is served, in the order of the config.
    pub fn ready(&self) -> Vec<Arc<Ready>> {
        self.pairs.iter().map(|pair| pair.ready.clone()).collect()
    }

    /// What an operator should know of them.
    pub fn warnings(&self, now: Now) -> Vec<config::Fault> {
        let of = |pair: &Pair| {
            let texts = pair.ready.certificate.warnings(now.unix_s());
            let fault = |text| config::Fault::new(&pair.cert.place, text);
            texts.into_iter().map(fault).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.pairs.iter().flat_map(of).collect();
        if let Some(ca) = &self.ca {
            let text = certificate::ending(ca.trusted.not_after, now.unix_s());
            all.extend(text.map(|text| config::Fault::new(&ca.file.place, text)));
        }
        all
    }

    /// When each of them ends.
    pub fn series(&self) -> Vec<CertificateSeries> {
        let mut all: Vec<_> = self.pairs.iter().map(Pair::series).collect();
        all.extend(self.ca.as_ref().map(|ca| CertificateSeries {
            name: CLIENT_CA.to_owned(),
            kind: CLIENT_CA,
            not_after: ca.trusted.not_after,
        }));
        all
    }
}

/// A certificate that was read and is not yet served.
struct Draft {
    cert: Spanned<PemFile>,
    key: Spanned<PemFile>,
    asked: Vec<HostPattern>,
    certificate: Certificate,
    digest: Digest,
    watch: Watch,
}

impl Draft {
    fn open(conf: &Spanned<CertificateConf>) -> Result<Self, config::Fault> {
        let CertificateConf { cert, key, names } = &conf.value;
        let asked: Vec<_> = names.iter().map(|name| name.value.clone()).collect();
        // Looked at before they are read: what changes in between is seen as changed.
        let watch = Watch::new(&[cert, key]);
        let (certificate, digest) = read(cert, key, &asked).map_err(|wrong| match wrong {
            Wrong::Cert(text) => config::Fault::new(&cert.place, text),
            Wrong::Key(text) => config::Fault::new(&key.place, text),
        })?;
        Ok(Self {
            cert: cert.clone(),
            key: key.clone(),
            asked,
            certificate,
            digest,
            watch,
        })
    }

    fn finish(self, policy: &Policy, trusted: Option<&Authorities>) -> Result<Pair, config::Fault> {
        let certificate = Arc::new(self.certificate);
        let context = context::serving(policy, trusted, &certificate);
        let context = context.map_err(|e| unusable(&self.cert.place, &e))?;
        Ok(Pair {
            cert: self.cert,
            key: self.key,
            asked: self.asked,
            ready: Arc::new(Ready {
                certificate,
                context,
            }),
            digest: self.digest,
            watch: self.watch,
        })
    }
}

/// Leaves those that can stand beside each other; tells of the others.
fn without_clashes(mut drafts: Vec<Draft>, tell: &mut impl FnMut(config::Fault)) -> Vec<Draft> {
    while let Some(clash) = choose::clash(drafts.iter().map(|d| &d.certificate)) {
        let (first, second) = clash.places;
        let other = drafts[first].cert.place.spot();
        let draft = drafts.remove(second);
        let kind = draft.certificate.kind.label();
        let name = clash.name;
        tell(config::Fault::new(
            &draft.cert.place,
            format!(
                "serves a name that another with the same kind of key serves (found `{name}`, {kind}, also at {other}, want it once, or `names` that tell them apart)"
            ),
        ));
    }
    drafts
}

fn read(
    cert: &PemFile,
    key: &PemFile,
    asked: &[HostPattern],
) -> Result<(Certificate, Digest), Wrong> {
    let cert = cert.read().map_err(Wrong::Cert)?;
    let key = key.read().map_err(Wrong::Key)?;
    let hash = Sha256::new().chain_update(&cert).chain_update([0]);
    let digest = hash.chain_update(&key).finalize().into();
    Ok((Certificate::judge(&cert, &key, asked)?, digest))
}

impl Pair {
    /// Reads the files anew; nothing if they hold what they held.
    pub(super) fn reread(&self) -> Result<Option<(Arc<Certificate>, Digest)>, String> {
        let shown = |file: &PemFile, text| format!("{}: {text}", file.0.display());
        let read = read(&self.cert, &self.key, &self.asked).map_err(|wrong| match wrong {
            Wrong::Cert(text) => shown(&self.cert, text),
            Wrong::Key(text) => shown(&self.key, text),
        });
        let (certificate, digest) = read?;
        Ok((digest != self.digest).then(|| (Arc::new(certificate), digest)))
    }

    /// Serves something else from now on.
    pub(super) fn serve(&mut self, ready: Arc<Ready>, digest: Option<Digest>) {
        self.ready = ready;
        self.digest = digest.unwrap_or(self.digest);
    }

    fn series(&self) -> CertificateSeries {
        let certificate = &self.ready.certificate;
        CertificateSeries {
            name: certificate.name(),
            kind: certificate.kind.label(),
            not_after: certificate.not_after,
        }
    }
}

impl Ca {
    fn open(file: &Spanned<PemFile>) -> Result<Self, config::Fault> {
        let watch = Watch::new(&[file]);
        let (trusted, digest) =
            Self::read(file).map_err(|text| config::Fault::new(&file.place, text))?;
        Ok(Self {
            file: file.clone(),
            trusted,
            digest,
            watch,
        })
    }

    fn read(file: &PemFile) -> Result<(Authorities, Digest), String> {
        let pem = file.read()?;
        let digest = Sha256::digest(&pem).into();
        Ok((Authorities::judge(&pem)?, digest))
    }

    /// Reads the file anew; nothing if it holds what it held.
    pub(super) fn reread(&self) -> Result<Option<(Authorities, Digest)>, String> {
        let read = Self::read(&self.file);
        let (trusted, digest) = read.map_err(|e| format!("{}: {e}", self.file.0.display()))?;
        Ok((digest != self.digest).then_some((trusted, digest)))
    }

    /// Trusts others from now on.
    pub(super) fn trust(&mut self, trusted: Authorities, digest: Digest) {
        self.trusted = trusted;
        self.digest = digest;
    }
}

/// What is seen of a file from outside: a change of any of these is a change of the file, also
/// behind a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Whether files are to be read again, and what was said of them.
#[derive(Debug)]
pub struct Watch {
    stamps: Vec<Option<Stamp>>,
    /// They changed at the last look: one more is due, since a clock may have ticked only once for
    /// two writes, and one file of a pair may come after the other.
    settling: bool,
    failures: u32,
    told: Option<String>,
}

impl Watch {
    fn new(files: &[&Spanned<PemFile>]) -> Self {
        Self {
            stamps: stamps(files),
            settling: true,
            failures: 0,
            told: None,
        }
    }

    /// Looks at the files; whether they are to be read.
    pub(super) fn due(&mut self, files: &[&Spanned<PemFile>]) -> bool {
        let now = stamps(files);
        let changed = now != self.stamps;
        self.stamps = now;
        std::mem::replace(&mut self.settling, changed) || changed
    }

    /// Notes that they could be used.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.told = None;
    }

    /// Notes that they could not, and tries again at the next look. Whether to tell of it: at once if
    /// asked to, else if it is so at two looks; and once.
    pub(super) fn failed(&mut self, why: &str, at_once: bool) -> bool {
        self.settling = true;
        self.failures = self.failures.saturating_add(1);
        let news = self.told.as_deref() != Some(why);
        let tell = at_once || (self.failures > 1 && news);
        if tell {
            self.told = Some(why.to_owned());
        }
        tell
    }
}

fn stamps(files: &[&Spanned<PemFile>]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| stamp(&file.value)).collect()
}

fn stamp(file: &PemFile) -> Option<Stamp> {
    let seen = fs::metadata(&file.0).ok()?;
    Some(Stamp {
        device: seen.dev(),
        inode: seen.ino(),
        size: seen.size(),
        modified: (seen.mtime(), seen.mtime_nsec()),
    })
}
