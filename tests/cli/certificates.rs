//! Certificates as an operator meets them: what `check` says of them, and SIGHUP.

use super::process::{Folder, Running, Service, call};
use rcgen::{CertificateParams, KeyPair};
use std::time::Duration;
use tollgate::base::clock::Clock;

/// A certificate that ends in so many days, and its key.
fn pair(name: &str, days: u64) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let end = Clock::system().now().unix_s() + days * 86_400 + 60;
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    (cert.pem(), key.serialize_pem())
}

fn write(folder: &Folder, stem: &str, (cert, key): &(String, String)) {
    folder.write(&format!("{stem}.pem"), cert);
    folder.write(&format!("{stem}.key"), key);
}

fn config(folder: &Folder, certificates: &str, target: &str) -> String {
    let text = format!(
        "listeners:\n\
         - {{ name: public, address: \"127.0.0.1:0\", tls: {{ certificates: [{certificates}] }} }}\n\
         upstreams: [{{ name: up, targets: [\"{target}\"] }}]\n\
         routes: [{{ name: all, match: {{ path: / }}, auth: none, to: up }}]\n"
    );
    folder.write("a.yaml", &text)
}

#[test]
fn check_judges_certificates_as_run_does() {
    let folder = Folder::new();
    write(&folder, "a", &pair("a.test", 100));
    write(&folder, "b", &pair("b.test", 100));
    let swapped = "{ cert: a.pem, key: b.key }, { cert: b.pem, key: b.key }";
    let path = config(&folder, swapped, "127.0.0.1:1");
    let fault = format!(
        "{path}:2:85: listeners[public].tls.certificates[0].key: does not belong to the certificate \
         (found another key than the one it was made for, want that one)\n"
    );
    for command in ["check", "run"] {
        let bad = call(&[command, "-c", &path]);
        assert_eq!((bad.code, bad.stdout.as_str()), (Some(64), ""), "{command}");
        assert_eq!(bad.stderr, fault, "{command}");
    }
    write(&folder, "a", &pair("a.test", 5));
    let both = "{ cert: a.pem, key: a.key }, { cert: b.pem, key: b.key }";
    let path = config(&folder, both, "127.0.0.1:1");
    let good = call(&["check", "-c", &path]);
    assert_eq!(good.code, Some(0));
    assert!(
        good.stdout.contains(": ok (1 listeners,"),
        "{}",
        good.stdout
    );
    let warning = format!(
        "warning: {path}:2:73: listeners[public].tls.certificates[0].cert: ends in 5 days (found its end at "
    );
    assert!(good.stderr.starts_with(&warning), "{}", good.stderr);
    assert_eq!(good.stderr.lines().count(), 1);
}

#[test]
fn sighup_takes_up_certificates() {
    let (folder, service) = (Folder::new(), Service::open());
    write(&folder, "a", &pair("a.test", 5));
    let entry = "{ cert: a.pem, key: a.key }";
    let path = config(&folder, entry, &service.address());
    let mut gateway = Running::start(&path);
    write(&folder, "a", &pair("a.test", 100));
    gateway.signal("HUP");
    gateway.says("a.pem has changed and is in use now; it ends at ");
    gateway.says("listener public: certificates: 1 changed, 0 as before, 0 not usable");
    gateway.says("a.yaml: 0 changes");
    folder.write("a.key", "oops");
    gateway.signal("HUP");
    let said = gateway.says("not reloaded, everything stays as it is: ");
    let why = "holds no private key (found no block such as `BEGIN PRIVATE KEY`, want PEM)";
    assert!(said.contains(why), "{said}");
    gateway.signal("TERM");
    assert_eq!(gateway.end(), Some(0));
}
