//! Certificates that change while they are served: taken up whole or not at all, seen without being
//! asked, and no client notices.

use super::support::pki::{Authority, Leaf, PKCS_RSA_SHA256, Trust};
use super::support::tls::{End, meet, runtime};
use super::support::{eventually, stderr};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

fn one() -> (End, Authority, Leaf) {
    let authority = Authority::new("ca");
    let leaf = authority.server(&["a.test"]);
    let end = End::new("", &[("a", &leaf)]);
    (end, authority, leaf)
}

/// Puts a text where another is, at once, as an editor or `mv` does.
fn swap(path: &Path, text: &str) {
    let draft = path.with_extension("new");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

/// Asserts which certificate a client gets that was never there before.
#[track_caller]
fn serves(end: &End, name: &str, leaf: &Leaf) {
    assert_eq!(end.meet(&Trust::all().client(), name).leaf(), leaf.der);
}

#[track_caller]
fn reloads(end: &End, failed: u64, ok: u64) {
    end.counts("tollgate_certificate_reloads_total", "\"failed\"", failed);
    end.counts("tollgate_certificate_reloads_total", "\"ok\"", ok);
}

/// What was logged that holds all of these.
fn logged(parts: &[&str]) -> usize {
    let lines = stderr::lines();
    let holds = |line: &&String| parts.iter().all(|part| line.contains(part));
    lines.iter().filter(holds).count()
}

#[test]
fn a_changed_pair_is_seen_and_taken_up() {
    let (end, authority, old) = one();
    end.tls.poll();
    serves(&end, "a.test", &old);
    let new = authority.server(&["a.test", "b.test"]);
    new.write(end.dir(), "a");
    end.tls.poll();
    serves(&end, "a.test", &new);
    let met = end.meet(&Trust::all().client(), "a.test");
    assert!(met.info().covers("b.test"));
    reloads(&end, 0, 1);
    end.tls.poll();
    end.tls.poll();
    reloads(&end, 0, 1);
}

#[test]
fn a_half_written_pair_is_never_served() {
    let (end, authority, old) = one();
    let new = authority.server(&["a.test"]);
    let (cert, key) = (end.dir().join("a.pem"), end.dir().join("a.key"));
    swap(&cert, &new.cert);
    end.tls.poll();
    serves(&end, "a.test", &old);
    reloads(&end, 0, 0);
    // It stays so: that is no moment between two writes any more.
    end.tls.poll();
    end.tls.poll();
    serves(&end, "a.test", &old);
    reloads(&end, 1, 0);
    let shown = key.display().to_string();
    let told = [
        "ERROR",
        &shown,
        "does not belong to the certificate",
        "what was in use before",
    ];
    assert_eq!(logged(&told), 1);
    swap(&key, &new.key);
    end.tls.poll();
    serves(&end, "a.test", &new);
    reloads(&end, 1, 1);
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let (end, authority, old) = one();
    let (cert, key) = (end.dir().join("a.pem"), end.dir().join("a.key"));
    let nameless = authority.server(&[]);
    let mut failed = 0;
    for (cert_text, key_text) in [
        (&old.cert[..100], &*old.key),
        ("", ""),
        (&*old.cert, "no key"),
        (&*nameless.cert, &*nameless.key),
    ] {
        swap(&cert, cert_text);
        swap(&key, key_text);
        failed += 1;
        let done = end.tls.reload();
        assert_eq!((done.changed, done.unchanged, done.failed), (0, 0, 1));
        serves(&end, "a.test", &old);
        reloads(&end, failed, 0);
    }
    fs::remove_file(&cert).unwrap();
    assert_eq!(end.tls.reload().failed, 1);
    serves(&end, "a.test", &old);
    old.write(end.dir(), "a");
    let done = end.tls.reload();
    assert_eq!((done.changed, done.unchanged, done.failed), (0, 1, 0));
    assert_eq!(
        done.to_string(),
        "listener public: certificates: 0 changed, 1 as before, 0 not usable"
    );
}

#[test]
fn of_several_the_good_ones_are_taken_up() {
    let authority = Authority::new("ca");
    let (a, b) = (authority.server(&["a.test"]), authority.server(&["b.test"]));
    let end = End::new("", &[("a", &a), ("b", &b)]);
    let (new_a, greedy_b) = (
        authority.server(&["a.test"]),
        authority.server(&["a.test", "b.test"]),
    );
    new_a.write(end.dir(), "a");
    greedy_b.write(end.dir(), "b");
    let done = end.tls.reload();
    assert_eq!((done.changed, done.failed), (1, 1));
    serves(&end, "a.test", &new_a);
    serves(&end, "b.test", &b);
    // Once the other gives the name up, it can.
    let other_a = authority.server(&["c.test"]);
    other_a.write(end.dir(), "a");
    assert_eq!(end.tls.reload().changed, 2);
    serves(&end, "a.test", &greedy_b);
    serves(&end, "c.test", &other_a);
}

#[test]
fn a_folder_swapped_behind_a_link_is_seen() {
    let authority = Authority::new("ca");
    let (old, new) = (authority.server(&["a.test"]), authority.server(&["a.test"]));
    let folder = tempfile::tempdir().unwrap();
    for (name, leaf) in [("1", &old), ("2", &new)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        leaf.write(&folder.path().join(name), "a");
    }
    let point = |at: &str| {
        symlink(at, folder.path().join("draft")).unwrap();
        fs::rename(folder.path().join("draft"), folder.path().join("data")).unwrap();
    };
    point("1");
    let path = folder.path().join("data");
    let entry = format!("{{ cert: {0}/a.pem, key: {0}/a.key }}", path.display());
    let end = End::with_entries("", &entry, &[]);
    serves(&end, "a.test", &old);
    point("2");
    end.tls.poll();
    serves(&end, "a.test", &new);
    reloads(&end, 0, 1);
}

#[test]
fn metrics_show_the_certificates_in_use() {
    let authority = Authority::new("ca");
    let (rsa, ec) = (
        authority.server_with(&PKCS_RSA_SHA256, &["a.test"]),
        authority.server(&["a.test"]),
    );
    let settings = "client_certificates: { mode: optional, ca: ca.pem }";
    let entries = "{ cert: r.pem, key: r.key }, { cert: e.pem, key: e.key }";
    let leaves = [("r", &rsa), ("e", &ec)];
    let ca = [("ca.pem", &*authority.pem())];
    let end = End::with_files(settings, entries, &leaves, &ca).unwrap_or_else(|f| panic!("{f:?}"));
    // rcgen's own end of time: 4096-01-01.
    let end_s = 67_090_118_400;
    let name = "tollgate_certificate_not_after_seconds";
    for kind in ["rsa", "ecdsa", "client_ca"] {
        end.counts(name, &format!("kind=\"{kind}\",listener=\"public\""), end_s);
    }
    authority.server(&["b.test"]).write(end.dir(), "e");
    end.tls.reload();
    end.counts(name, "certificate=\"a.test\",kind=\"ecdsa\"", 0);
    end.counts(name, "certificate=\"b.test\",kind=\"ecdsa\"", end_s);
}

#[test]
fn an_end_in_sight_is_warned_of_once_a_day() {
    use super::support::pki::{self, PKCS_ECDSA_P256_SHA256};
    let authority = Authority::new("ca");
    let now = tollgate::base::clock::Clock::system().now().unix_s();
    let day = 86_400;
    let params = pki::valid(pki::server(&["soon.test"]), now - day, now + 20 * day + 60);
    let leaf = authority.sign(&PKCS_ECDSA_P256_SHA256, params);
    let end = End::new("", &[("soon", &leaf)]);
    let told: Vec<_> = end.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1);
    let place = "t.yaml:4:33: listeners[public].tls.certificates[0].cert: ends in 20 days (found its end at ";
    assert!(told[0].starts_with(place), "{}", told[0]);
    let warned = |days: u64| logged(&["WARN", &format!("ends in {days} days"), &told[0][..40]]);
    let before = [20, 19, 18].map(warned);
    end.tls.poll();
    assert_eq!(
        [20, 19, 18].map(warned),
        before,
        "it was told when it was loaded"
    );
    for _ in 0..2 {
        end.clock.advance(Duration::from_secs(day));
        end.tls.poll();
        end.tls.poll();
    }
    let after = [before[0], before[1] + 1, before[2] + 1];
    assert_eq!([20, 19, 18].map(warned), after);
}

#[test]
fn faults_are_told_with_their_places_all_at_once() {
    let authority = Authority::new("ca");
    let (a, b) = (authority.server(&["a.test"]), authority.server(&["a.test"]));
    let c = authority.server(&["c.test"]);
    let entries = "{ cert: a.pem, key: a.key }, { cert: b.pem, key: b.key }, \
                   { cert: c.pem, key: a.key }, { cert: ca.pem, key: c.key, names: [d.test] }";
    let settings = "client_certificates: { mode: required, ca: empty.pem }";
    let files = [("ca.pem", &*authority.pem()), ("empty.pem", "nothing")];
    let leaves = [("a", &a), ("b", &b), ("c", &c)];
    let faults = End::with_files(settings, entries, &leaves, &files)
        .err()
        .unwrap();
    let key = "listeners[public].tls";
    assert_eq!(
        faults,
        [
            format!(
                "t.yaml:4:203: {key}.client_certificates.ca: holds no certificate (found no block `BEGIN CERTIFICATE`, want PEM)"
            ),
            format!(
                "t.yaml:4:103: {key}.certificates[2].key: does not belong to the certificate (found another key than the one it was made for, want that one)"
            ),
            format!(
                "t.yaml:4:133: {key}.certificates[3].key: does not belong to the certificate (found another key than the one it was made for, want that one)"
            ),
            format!(
                "t.yaml:4:62: {key}.certificates[1].cert: serves a name that another with the same kind of key serves (found `a.test`, ecdsa, also at t.yaml:4:33, want it once, or `names` that tell them apart)"
            ),
        ]
    );
}

/// Swaps under load: every handshake is completed, with the certificate before or the one behind.
#[test]
fn a_hundred_swaps_fail_no_handshake() {
    let (end, authority, first) = one();
    let pool: Vec<Leaf> = (0..4).map(|_| authority.server(&["a.test"])).collect();
    let known: Vec<_> = pool
        .iter()
        .chain([&first])
        .map(|leaf| leaf.der.clone())
        .collect();
    let (stop, done, resumed) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let (dir, tls) = (end.dir(), &end.tls);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (stop, done, resumed, known, trust) = (
                &stop,
                &done,
                &resumed,
                &known,
                Trust::all().only(&authority),
            );
            scope.spawn(move || {
                // One remembers its sessions, the others always begin anew.
                let lasting = trust.clone().client();
                while !stop.load(Relaxed) {
                    let fresh = || trust.clone().tls13().client();
                    let client = if worker == 0 {
                        lasting.clone()
                    } else {
                        fresh()
                    };
                    let met = runtime().block_on(meet(tls, &client, "a.test"));
                    assert!(known.contains(&met.leaf()));
                    resumed.fetch_add(u32::from(met.info().resumed), Relaxed);
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        for swap_no in 0..100 {
            let before = done.load(Relaxed);
            let leaf = &pool[swap_no % pool.len()];
            // Key and certificate come one after the other, and are looked at in between.
            swap(&dir.join("a.key"), &leaf.key);
            tls.poll();
            swap(&dir.join("a.pem"), &leaf.cert);
            tls.poll();
            eventually("a handshake", || done.load(Relaxed) > before);
        }
        stop.store(true, Relaxed);
    });
    reloads(&end, 0, 100);
    assert!(resumed.load(Relaxed) > 0 && done.load(Relaxed) >= 100);
    end.counts("tollgate_tls_handshake_failures_total", "", 0);
}
