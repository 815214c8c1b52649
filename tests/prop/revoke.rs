//! The set of revocations against a plain list of them.

use proptest::prelude::*;
use std::sync::Arc;
use tollgate::identity::principal::{Marks, Method, Principal};
use tollgate::identity::revoke::entry::Revoked;
use tollgate::identity::revoke::set::{Added, Fresh, Set};

/// Some are easily taken for others when they stand side by side.
const TEXTS: [&str; 5] = ["a", "ab", "b", "", "1 a"];

/// What is done to both.
#[derive(Clone, Debug)]
enum Step {
    Add(Revoked, u64),
    Replace(Vec<(Revoked, u64)>),
    Forget(u64),
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(&TEXTS[..]).prop_map(ToOwned::to_owned)
}

fn revoked() -> impl Strategy<Value = Revoked> {
    prop_oneof![
        (text(), text()).prop_map(|(issuer, jti)| Revoked::Token { issuer, jti }),
        (text(), text(), 0u64..6).prop_map(|(issuer, subject, before)| Revoked::Subject {
            issuer,
            subject,
            before
        }),
        text().prop_map(|id| Revoked::Key { id }),
        (text(), text()).prop_map(|(issuer, kid)| Revoked::SigningKey { issuer, kid }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let entry = || (revoked(), 0u64..20);
    prop_oneof![
        6 => entry().prop_map(|(revoked, until)| Step::Add(revoked, until)),
        1 => prop::collection::vec(entry(), 0..12).prop_map(Step::Replace),
        1 => (0u64..20).prop_map(Step::Forget),
    ]
}

fn caller() -> impl Strategy<Value = Principal> {
    let some = |share| prop::option::weighted(share, text());
    (
        some(0.8),
        some(0.8),
        some(0.8),
        some(0.8),
        some(0.5),
        prop::option::of(0u64..6),
    )
        .prop_map(|(issuer, jti, kid, user, key_id, issued_s)| Principal {
            user,
            key_id,
            marks: Marks {
                issuer: issuer.map(Arc::from),
                jti: jti.map(Box::from),
                issued_s,
                kid: kid.map(Box::from),
            },
            ..Principal::new(Method::Jwt, &"p".into())
        })
}

/// The naive twin.
#[derive(Default)]
struct Twin(Vec<(Revoked, u64)>);

impl Twin {
    fn put(&mut self, revoked: &Revoked, until: u64, most: usize) -> Added {
        if let Some(known) = self.0.iter_mut().find(|(known, _)| known == revoked) {
            known.1 = until;
            return Added::Known;
        }
        if self.0.len() >= most {
            return Added::Full;
        }
        self.0.push((revoked.clone(), until));
        Added::New
    }

    fn covers(&self, caller: &Principal) -> bool {
        let Marks {
            issuer,
            jti,
            issued_s,
            kid,
        } = &caller.marks;
        let by = |wanted: &str| issuer.as_deref() == Some(wanted);
        self.0.iter().any(|(revoked, _)| match revoked {
            Revoked::Token { issuer, jti: id } => by(issuer) && jti.as_deref() == Some(id),
            Revoked::SigningKey { issuer, kid: id } => by(issuer) && kid.as_deref() == Some(id),
            Revoked::Key { id } => caller.key_id.as_ref() == Some(id),
            Revoked::Subject {
                issuer,
                subject,
                before,
            } => {
                let old = issued_s.is_none_or(|issued| issued <= *before);
                by(issuer) && caller.user.as_ref() == Some(subject) && old
            }
        })
    }
}

proptest! {
    /// Callers are remembered between the steps, as a cache of verified tokens remembers them.
    #[test]
    fn the_set_covers_whom_the_list_covers(
        steps in prop::collection::vec(step(), 1..30),
        callers in prop::collection::vec(caller(), 1..20),
        most in prop_oneof![Just(usize::MAX), 1usize..6],
    ) {
        let (set, mut twin) = (Set::default(), Twin::default());
        for step in steps {
            match step {
                Step::Add(revoked, until) => {
                    prop_assert_eq!(set.add(&revoked, until, most), twin.put(&revoked, until, most));
                }
                Step::Replace(all) => {
                    let mut fresh = Fresh::default();
                    twin = Twin::default();
                    for (revoked, until) in all {
                        let put = fresh.put(&revoked, until, most);
                        prop_assert_eq!(put, twin.put(&revoked, until, most) != Added::Full);
                    }
                    set.replace(fresh);
                }
                Step::Forget(now) => {
                    set.forget(now);
                    twin.0.retain(|(_, until)| *until > now);
                }
            }
            prop_assert_eq!(set.len(), twin.0.len());
            for caller in &callers {
                prop_assert_eq!(set.covers(caller), twin.covers(caller), "{:?} {:?}", caller.marks, twin.0);
            }
            // A copy knows as much, and those who were compared with another set are compared anew.
            let copy = set.copied();
            for caller in &callers {
                prop_assert_eq!(copy.covers(caller), twin.covers(caller));
            }
        }
    }

    /// Whatever is written is read as what it was.
    #[test]
    fn a_text_says_one_thing(a in revoked(), b in revoked()) {
        prop_assert_eq!(a.to_string().parse(), Ok(a.clone()));
        prop_assert_eq!(a == b, a.to_string() == b.to_string());
    }
}
