//! What a route asks of a caller who is known: scopes, roles, permissions, values of claims.

use crate::identity::claims::is_one_of;
use crate::identity::principal::Principal;
use crate::observe::reason::Reason;

/// What a caller must have to pass; all of it.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Scopes (RFC 6749 §3.3).
    pub scopes: Vec<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// For each permission the roles that give it, any of which will do.
    pub permissions: Vec<Vec<String>>,
    /// Claims, by their places in [`Principal::claims`], each with the values of which it must have one.
    pub claims: Vec<(usize, Vec<String>)>,
}

impl Demands {
    /// What the caller lacks first.
    pub fn unmet(&self, caller: &Principal) -> Option<Reason> {
        if caller.scopes.missing(&self.scopes).is_some() {
            return Some(Reason::ScopeInsufficient);
        }
        if self.roles.iter().any(|role| !caller.has_role(role)) {
            return Some(Reason::RoleInsufficient);
        }
        let given = |by: &Vec<String>| by.iter().any(|role| caller.has_role(role));
        if !self.permissions.iter().all(given) {
            return Some(Reason::PermissionInsufficient);
        }
        let met = |(at, values): &(usize, Vec<String>)| {
            let claim = caller.claims.get(*at).and_then(Option::as_ref);
            claim.is_some_and(|claim| is_one_of(claim, values))
        };
        (!self.claims.iter().all(met)).then_some(Reason::ClaimInsufficient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::principal::Method;
    use serde_json::json;

    #[test]
    fn every_demand_must_be_met() {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let caller = Principal {
            scopes: ["read"].into_iter().collect(),
            roles: texts(&["clerk"]),
            claims: Box::new([Some(json!(["acme", 7])), None]),
            ..Principal::new(Method::Jwt, &"corp".into())
        };
        let demands = Demands {
            scopes: texts(&["read"]),
            roles: texts(&["clerk"]),
            permissions: vec![texts(&["admin", "clerk"])],
            claims: vec![(0, texts(&["7", "x"]))],
        };
        assert_eq!(Demands::default().unmet(&caller), None);
        assert_eq!(demands.unmet(&caller), None);
        let lacking = |spoil: fn(&mut Demands)| {
            let mut demands = demands.clone();
            spoil(&mut demands);
            demands.unmet(&caller)
        };
        let scope = lacking(|d| d.scopes.push("write".into()));
        assert_eq!(scope, Some(Reason::ScopeInsufficient));
        let role = lacking(|d| d.roles.push("admin".into()));
        assert_eq!(role, Some(Reason::RoleInsufficient));
        let permission = lacking(|d| d.permissions.push(vec!["admin".into()]));
        assert_eq!(permission, Some(Reason::PermissionInsufficient));
        let nobodys = lacking(|d| d.permissions.push(Vec::new()));
        assert_eq!(nobodys, Some(Reason::PermissionInsufficient));
        for spoil in [
            (|d| d.claims[0].1 = vec!["8".into()]) as fn(&mut Demands),
            |d| d.claims.push((1, vec!["a".into()])),
            |d| d.claims.push((9, vec!["a".into()])),
        ] {
            assert_eq!(lacking(spoil), Some(Reason::ClaimInsufficient));
        }
    }
}
