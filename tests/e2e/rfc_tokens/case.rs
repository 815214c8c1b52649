//! A rule, and tokens that keep it or break it.

use super::super::support::*;
use std::fmt;

/// A rule of a standard, or an attack.
pub struct Rule {
    /// Where it is written.
    pub section: &'static str,
    /// What it says, in short.
    says: &'static str,
    /// Tokens that keep or break it.
    pub cases: Vec<Case>,
}

/// A request with a token, and what must become of it.
pub struct Case {
    pub what: String,
    pub req: Req,
    /// A reason code; none if it passes.
    pub code: Option<&'static str>,
}

pub fn rule<const N: usize>(
    section: &'static str,
    says: &'static str,
    cases: [Vec<Case>; N],
) -> Rule {
    Rule {
        section,
        says,
        cases: cases.into_iter().flatten().collect(),
    }
}

pub fn good(what: &str, req: Req) -> Vec<Case> {
    vec![case(what, req, None)]
}

pub fn bad(code: &'static str, what: &str, req: Req) -> Vec<Case> {
    vec![case(what, req, Some(code))]
}

/// Several that pass, each shown by what it was made from.
pub fn all_good<T: fmt::Debug>(
    from: impl IntoIterator<Item = T>,
    make: impl Fn(&T) -> Req,
) -> Vec<Case> {
    let from = from.into_iter();
    from.map(|f| case(&format!("{f:?}"), make(&f), None))
        .collect()
}

/// Several that are refused for the same reason.
pub fn all_bad<T: fmt::Debug>(
    code: &'static str,
    from: impl IntoIterator<Item = T>,
    make: impl Fn(&T) -> Req,
) -> Vec<Case> {
    let from = from.into_iter();
    from.map(|f| case(&format!("{f:?}"), make(&f), Some(code)))
        .collect()
}

fn case(what: &str, req: Req, code: Option<&'static str>) -> Case {
    Case {
        what: what.to_owned(),
        req,
        code,
    }
}

impl Rule {
    /// How many tokens pass and how many are refused.
    pub fn count(&self) -> (usize, usize) {
        let good = self.cases.iter().filter(|case| case.code.is_none()).count();
        (good, self.cases.len() - good)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.section, self.says)
    }
}
