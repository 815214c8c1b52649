//! A step of the story: what it shows, the curl line, and what must come back.

use super::client::Answer;
use super::script::{Body, Manner, Request, Script};
use serde_json::Value;
use std::collections::BTreeMap;

/// Several steps on one subject.
pub struct Act {
    /// The subject.
    pub title: &'static str,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One step.
pub struct Step {
    /// What it shows, in a line.
    pub shows: &'static str,
    /// The curl line.
    pub script: Script,
    statuses: Statuses,
    checks: Vec<Check>,
}

/// The statuses that must come.
enum Statuses {
    /// Always this one.
    All(u16),
    /// The first at least once, then the second to the end; the first so often, where it is known.
    Turn(u16, u16, Option<usize>),
}

/// What else must hold. Of several answers, the last is looked at.
enum Check {
    /// The header has this value.
    Header(&'static str, &'static str),
    /// The header is there.
    Present(&'static str),
    /// The JSON has this at the pointer; numbers and lists as JSON writes them.
    Json(&'static str, &'static str),
    /// The JSON has nothing at the pointer.
    Absent(&'static str),
    /// The body holds this.
    Holds(&'static str),
    /// So many of the bodies have this value at the tallied member.
    Tally(&'static [(&'static str, usize)]),
}

impl Step {
    /// A GET of `url`, which must be answered with 200.
    pub fn get(shows: &'static str, url: String) -> Self {
        Self {
            shows,
            script: Script {
                wait_s: 0,
                manner: Manner::Once,
                request: Request {
                    method: "GET".to_owned(),
                    url,
                    ..Request::default()
                },
            },
            statuses: Statuses::All(200),
            checks: Vec::new(),
        }
    }

    /// With another method.
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.script.request.method);
        self
    }

    /// With a header field.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let field = (name.to_owned(), value.to_owned());
        self.script.request.headers.push(field);
        self
    }

    /// As a POST of this body, unless a method is given after it.
    pub fn body(mut self, body: Body) -> Self {
        self.script.request.body = body;
        self.method("POST")
    }

    /// After so many seconds.
    pub fn wait(mut self, seconds: u64) -> Self {
        self.script.wait_s = seconds;
        self
    }

    /// Sent and shown in this manner.
    pub fn manner(mut self, manner: Manner) -> Self {
        self.script.manner = manner;
        self
    }

    /// Answered with this status each time.
    pub fn status(mut self, status: u16) -> Self {
        self.statuses = Statuses::All(status);
        self
    }

    /// Answered with `first`, from some time on with `then`; `after` so many, where it is known.
    pub fn turn(mut self, first: u16, then: u16, after: Option<usize>) -> Self {
        self.statuses = Statuses::Turn(first, then, after);
        self
    }

    /// Refused with this status and reason code.
    pub fn refused(self, status: u16, code: &'static str) -> Self {
        self.status(status).json("/code", code)
    }

    fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// The answer's header has this value.
    pub fn header(self, name: &'static str, value: &'static str) -> Self {
        self.check(Check::Header(name, value))
    }

    /// The answer has this header.
    pub fn present(self, name: &'static str) -> Self {
        self.check(Check::Present(name))
    }

    /// The answer's JSON has this value at the pointer (RFC 6901).
    pub fn json(self, pointer: &'static str, value: &'static str) -> Self {
        self.check(Check::Json(pointer, value))
    }

    /// The answer's JSON has nothing at the pointer.
    pub fn absent(self, pointer: &'static str) -> Self {
        self.check(Check::Absent(pointer))
    }

    /// The answer's body holds this.
    pub fn holds(self, text: &'static str) -> Self {
        self.check(Check::Holds(text))
    }

    /// So many answers have this value at the tallied member.
    pub fn tally(self, counts: &'static [(&'static str, usize)]) -> Self {
        self.check(Check::Tally(counts))
    }

    /// What must come back, in words.
    pub fn expectation(&self) -> String {
        let mut all = vec![match self.statuses {
            Statuses::All(status) => status.to_string(),
            Statuses::Turn(first, then, None) => format!("{first} at first, then {then}"),
            Statuses::Turn(first, then, Some(n)) => format!("{n} times {first}, then {then}"),
        }];
        all.extend(self.checks.iter().map(Check::words));
        all.join(", ")
    }

    /// Everything that is wrong with the answers.
    pub fn faults(&self, answers: &[Answer]) -> Vec<String> {
        let came: Vec<u16> = answers.iter().map(|a| a.status).collect();
        let mut faults = Vec::new();
        if !self.statuses.hold(&came) {
            faults.push(format!("status {came:?}, want {}", self.expectation()));
        }
        let Some(last) = answers.last() else {
            return vec!["no answer".to_owned()];
        };
        for check in &self.checks {
            let found = check.found(last, answers, &self.script.manner);
            faults.extend(found.map(|found| format!("{found}, want {}", check.words())));
        }
        if !faults.is_empty() {
            faults.push(format!("the body: {}", last.body.trim_end()));
        }
        faults
    }
}

impl Statuses {
    fn hold(&self, came: &[u16]) -> bool {
        match *self {
            Self::All(status) => came.iter().all(|c| *c == status),
            Self::Turn(first, then, after) => {
                let at = came.iter().take_while(|c| **c == first).count();
                let rest = &came[at..];
                let turned = at > 0 && !rest.is_empty() && rest.iter().all(|c| *c == then);
                turned && after.is_none_or(|n| n == at)
            }
        }
    }
}

impl Check {
    fn words(&self) -> String {
        let last = |pointer: &str| pointer.rsplit('/').next().unwrap_or_default().to_owned();
        match self {
            Self::Header(name, value) => format!("{name}: {value}"),
            Self::Present(name) => format!("with {name}"),
            Self::Json("/code", code) => (*code).to_owned(),
            Self::Json(pointer, value) => format!("{} {value}", last(pointer)),
            Self::Absent(pointer) => format!("no {}", last(pointer)),
            Self::Holds(text) => (*text).to_owned(),
            Self::Tally(counts) => {
                let counts = counts.iter().map(|(value, n)| format!("{n} times {value}"));
                counts.collect::<Vec<_>>().join(" and ")
            }
        }
    }

    /// What is there instead; none if the check holds.
    fn found(&self, last: &Answer, all: &[Answer], manner: &Manner) -> Option<String> {
        match self {
            Self::Header(name, value) => {
                let found = header(last, name);
                (found != Some(value)).then(|| format!("{name}: {}", found.unwrap_or("-")))
            }
            Self::Present(name) => header(last, name).is_none().then(|| format!("no {name}")),
            Self::Json(pointer, value) => {
                let found = member(last, pointer);
                let wrong = found.as_deref() != Some(*value);
                wrong.then(|| format!("{pointer} {}", found.as_deref().unwrap_or("-")))
            }
            Self::Absent(pointer) => member(last, pointer).map(|v| format!("{pointer} {v}")),
            Self::Holds(text) => (!last.body.contains(text)).then(|| "another body".to_owned()),
            Self::Tally(counts) => {
                let Manner::Tally(_, name) = manner else {
                    return Some("nothing is tallied".to_owned());
                };
                let found = tallied(all, name);
                let wanted = counts.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect();
                (found != wanted).then(|| format!("{found:?}"))
            }
        }
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name)?.to_str().ok()
}

/// The value at a pointer; a text as it is, everything else as JSON.
fn member(answer: &Answer, pointer: &str) -> Option<String> {
    let json: Value = serde_json::from_str(&answer.body).ok()?;
    match json.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn tallied(answers: &[Answer], name: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        let value = member(answer, &format!("/{name}"));
        *counts.entry(value.unwrap_or_default()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-a", http::HeaderValue::from_static("1"));
        let body = body.to_owned();
        Answer {
            status,
            headers,
            body,
        }
    }

    #[test]
    fn a_right_answer_has_no_faults_and_each_wrong_one_has() {
        let step = || Step::get("", String::new());
        let good = [answer(200, r#"{"a": "b", "n": 1}"#)];
        let right = step().header("x-a", "1").present("x-a").json("/a", "b");
        let right = right.json("/n", "1").absent("/c").holds("\"b\"");
        assert_eq!(right.faults(&good), Vec::<String>::new());
        for wrong in [
            step().status(201),
            step().header("x-a", "2"),
            step().present("x-b"),
            step().json("/a", "c"),
            step().json("/c", "c"),
            step().absent("/a"),
            step().holds("zzz"),
            step().tally(&[("b", 1)]),
        ] {
            assert!(!wrong.faults(&good).is_empty(), "{}", wrong.expectation());
        }
        assert!(!step().faults(&[]).is_empty());
    }

    #[test]
    fn a_turn_of_statuses() {
        let holds = |after, came: &[u16]| Statuses::Turn(1, 2, after).hold(came);
        assert!(holds(None, &[1, 1, 2]) && holds(Some(2), &[1, 1, 2, 2]));
        for came in [&[1, 1][..], &[2, 2], &[1, 2, 1], &[], &[1, 3]] {
            assert!(!holds(None, came), "{came:?}");
        }
        assert!(!holds(Some(1), &[1, 1, 2]));
    }

    #[test]
    fn answers_are_tallied() {
        let step = Step::get("", String::new()).manner(Manner::Tally(3, "v".into()));
        let step = step.tally(&[("a", 2), ("b", 1)]);
        let answers = ["a", "b", "a"].map(|v| answer(200, &format!("{{\"v\": \"{v}\"}}")));
        assert_eq!(step.faults(&answers), Vec::<String>::new());
        assert!(!step.faults(&answers[..2]).is_empty());
    }
}
