//! Who may pass a route.

use super::decode::{Decode, Entries, Spanned};
use super::decoder::Decoder;
use super::error::Place;
use super::fields::{conf, default, words};
use super::value::Scope;
use super::yaml::{Content, Node};

/// Who may pass a route.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthConf {
    /// `auth: none`: everyone.
    None,
    /// Whoever the identities know and who has what is required.
    Required(Box<RequiredAuthConf>),
}

conf! {
    /// What is asked of whoever wants to pass. `any`, `all` or both name who must know the client.
    pub struct RequiredAuthConf {
        /// Identities (issuers, lists of keys or certificates) by name, one of which must know the
        /// client. Default: none.
        any: Vec<Spanned<String>> = default("[]");
        /// Identities by name, each of which must know the client. Default: none.
        all: Vec<Spanned<String>> = default("[]");
        /// Whether those may pass who show no credential at all; one that is shown must be good.
        /// Default false.
        anonymous: Spanned<bool> = default("false");
        /// Scopes, all of which are required. Default: none.
        scopes: Vec<Spanned<Scope>> = default("[]");
        /// Roles, all of which are required. Default: none.
        roles: Vec<Spanned<String>> = default("[]");
        /// Permissions, all of which the client's roles must give (`identity.roles`). Default: none.
        permissions: Vec<Spanned<String>> = default("[]");
        /// Claims of the token, each with the value or the values of which it must have one.
        /// Default: none.
        claims: Entries<Values> = default("{}");
        /// Whether a key may come in the query, by the parameter that its list names. Default false.
        key_in_query: Spanned<bool> = default("false");
        /// Whether those are refused who may not pass, or only counted and logged. Default `enforce`.
        mode: Spanned<ModeConf> = default("enforce");
    }
}

words! {
    /// Whether something is done, or only said.
    pub enum ModeConf {
        /// It is done.
        Enforce = "enforce",
        /// It is counted and logged, and the request passes.
        DryRun = "dry_run",
    }
}

/// One value or several, any of which will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(pub Vec<Spanned<String>>);

impl Decode for Values {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        match &node.content {
            Content::Text { .. } if !node.is_nothing() => {
                Spanned::decode(node, d).map(|value| Self(vec![value]))
            }
            Content::List(items) if !items.is_empty() => Vec::decode(node, d).map(Self),
            _ => {
                d.wrong_form(node, "a value, or a list of values such as `[a, b]`");
                None
            }
        }
    }

    fn stand_in(_place: &Place) -> Self {
        Self(Vec::new())
    }
}

impl RequiredAuthConf {
    /// Every identity that it names.
    pub fn identities(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.all.iter().chain(&self.any)
    }
}

impl Decode for AuthConf {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        match &node.content {
            Content::Text { text, .. } if text == "none" => Some(Self::None),
            Content::Map(_) => {
                let required = RequiredAuthConf::decode(node, d)?;
                Some(Self::Required(Box::new(required)))
            }
            _ => {
                d.wrong_form(node, "`none`, or who may pass, such as `{ any: [corp] }`");
                None
            }
        }
    }

    fn stand_in(_place: &Place) -> Self {
        Self::None
    }
}
