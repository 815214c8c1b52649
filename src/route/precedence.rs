//! Which of two entries goes first when both match: the documented order as an `Ord`.

use super::host::HostPattern;
use super::method::MethodSet;
use super::pattern::{PathPattern, Segment};

/// How specific an entry is. Of all that match a request, the greatest takes it: host first, then
/// the path from the left, then the method. The tree of each host is walked in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    host: HostRank,
    path: Vec<Step>,
    method: MethodRank,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Any,
    /// By its length: of two wildcards that match one host, the longer has more labels.
    Wildcard(usize),
    Exact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    PrefixEnd,
    ExactEnd,
    Parameter,
    Literal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MethodRank {
    Any,
    Listed,
}

impl Precedence {
    /// The precedence of an entry through one of its hosts (`None`: it has none).
    pub fn new(host: Option<&HostPattern>, path: &PathPattern, methods: Option<MethodSet>) -> Self {
        let host = match host {
            None => HostRank::Any,
            Some(host) if host.is_wildcard() => HostRank::Wildcard(host.name().len()),
            Some(_) => HostRank::Exact,
        };
        let steps = path.segments().iter().map(|segment| match segment {
            Segment::Literal(_) => Step::Literal,
            Segment::Parameter(_) => Step::Parameter,
        });
        let end = if path.is_prefix() {
            Step::PrefixEnd
        } else {
            Step::ExactEnd
        };
        let method = if methods.is_some() {
            MethodRank::Listed
        } else {
            MethodRank::Any
        };
        Self {
            host,
            path: steps.chain([end]).collect(),
            method,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads "host path methods"; `=` before the path makes it exact, `-` stands for any.
    fn precedence(line: &str) -> Precedence {
        let [host, path, methods] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("three words: {line}")
        };
        let host: Option<HostPattern> = (host != "-").then(|| host.parse().unwrap());
        let path = match path.strip_prefix('=') {
            Some(exact) => PathPattern::exact(exact),
            None => PathPattern::prefix(path),
        };
        Precedence::new(
            host.as_ref(),
            &path.unwrap(),
            (methods != "-").then(|| methods.parse().unwrap()),
        )
    }

    #[test]
    fn it_reads_as_documented() {
        let falling = "x.a.org / -|*.a.org =/a/b -|*.org =/a/b GET|- =/a/b GET|- =/a/b -|- /a/b GET|- /a/b -|\
                       - /a/{x} -|- /a/{x}/* -|- /a -|- /{x}/b -|- / GET|- / -";
        let lines: Vec<&str> = falling.split('|').collect();
        for pair in lines.windows(2) {
            assert!(
                precedence(pair[0]) > precedence(pair[1]),
                "{} must go before {}",
                pair[0],
                pair[1]
            );
        }
        assert_eq!(
            precedence("- /a/{x} GET"),
            precedence("- /b/{y} POST"),
            "names do not count"
        );
    }
}
