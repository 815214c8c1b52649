//! One line of the story: what a curl line says, as data. The line is printed from it, and read back
//! into it before it is played, so that what is played is what is printed.

use super::words;
use std::fmt;

/// One request, with `$(curl -s …)` not yet put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The whole address, path as it is to be sent.
    pub url: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

/// The body of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// None.
    #[default]
    None,
    /// A text.
    Text(String),
    /// So many zero bytes.
    Zeros(usize),
}

impl Body {
    /// The bytes to send; none where there is no body.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::None => None,
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Zeros(count) => Some(vec![0; *count]),
        }
    }

    /// The method that curl takes where none is given.
    fn usual_method(&self) -> &'static str {
        match self {
            Self::None => "GET",
            Self::Text(_) | Self::Zeros(_) => "POST",
        }
    }
}

/// How often a request is sent, and what is shown of the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Once, the whole answer.
    Once,
    /// Once, the lines of the body that hold a text.
    Lines(String),
    /// So often, the statuses.
    Statuses(usize),
    /// So often, how many bodies hold each value of a member of their JSON.
    Tally(usize, String),
}

impl Manner {
    /// How often the request is sent.
    pub fn times(&self) -> usize {
        match self {
            Self::Once | Self::Lines(_) => 1,
            Self::Statuses(times) | Self::Tally(times, _) => *times,
        }
    }
}

/// What one curl line does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Seconds to wait before.
    pub wait_s: u64,
    /// How the request is sent.
    pub manner: Manner,
    /// The request.
    pub request: Request,
}

const STATUS_ONLY: &str = "-s -o /dev/null -w '%{http_code} '";

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wait_s > 0 {
            write!(f, "sleep {}; ", self.wait_s)?;
        }
        let request = &self.request;
        match &self.manner {
            Manner::Once => write!(f, "{}", Curl("-si", request)),
            Manner::Lines(text) => {
                let text = words::quoted(text);
                write!(f, "{} | grep {text}", Curl("-s", request))
            }
            Manner::Statuses(times) => {
                let curl = Curl(STATUS_ONLY, request);
                write!(f, "for i in $(seq {times}); do {curl}; done; echo")
            }
            Manner::Tally(times, member) => {
                let (curl, text) = (Curl("-s", request), format!("\"{member}\":"));
                let text = words::quoted(&text);
                write!(f, "for i in $(seq {times}); do {curl}; done")?;
                write!(f, " | grep {text} | sort | uniq -c")
            }
        }
    }
}

/// A call of curl: how it shows the answer, and the request.
struct Curl<'a>(&'a str, &'a Request);

impl fmt::Display for Curl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(shown, request) = self;
        if let Body::Zeros(count) = request.body {
            write!(f, "head -c {count} /dev/zero | ")?;
        }
        write!(f, "curl {shown}")?;
        if request.method != request.body.usual_method() {
            write!(f, " -X {}", request.method)?;
        }
        for (name, value) in &request.headers {
            write!(f, " -H {}", words::quoted(&format!("{name}: {value}")))?;
        }
        match &request.body {
            Body::None => (),
            Body::Text(text) => write!(f, " -d {}", words::quoted(text))?,
            Body::Zeros(_) => write!(f, " --data-binary @-")?,
        }
        // Else curl resolves dot segments itself, newer ones escaped dots too.
        if request.url.contains("/.") || request.url.contains("%2e") {
            write!(f, " --path-as-is")?;
        }
        write!(f, " {}", words::quoted(&request.url))
    }
}

impl Script {
    /// Reads a line that was printed.
    ///
    /// # Errors
    /// It holds something that no script prints.
    pub fn read(line: &str) -> Result<Self, String> {
        let (wait_s, line) = match line.strip_prefix("sleep ") {
            Some(rest) => {
                let (seconds, rest) = rest.split_once("; ").ok_or("sleep without an end")?;
                (number(seconds)?, rest)
            }
            None => (0, line),
        };
        let (manner, call) = manner(line)?;
        Ok(Self {
            wait_s,
            manner,
            request: request(call)?,
        })
    }
}

/// Splits a line into how its call is made, and the call.
fn manner(line: &str) -> Result<(Manner, &str), String> {
    if let Some(rest) = line.strip_prefix("for i in $(seq ") {
        let (times, rest) = rest.split_once("); do ").ok_or("a loop without a body")?;
        let (call, after) = rest.split_once("; done").ok_or("a loop without an end")?;
        let times = number(times)?;
        if after == "; echo" {
            return Ok((Manner::Statuses(times), call));
        }
        let member = after
            .strip_prefix(" | grep '\"")
            .and_then(|a| a.strip_suffix("\":' | sort | uniq -c"));
        let member = member.ok_or_else(|| format!("after a loop: {after}"))?;
        return Ok((Manner::Tally(times, member.to_owned()), call));
    }
    match line.rsplit_once(" | grep ") {
        Some((call, text)) => Ok((Manner::Lines(words::one(text)?), call)),
        None => Ok((Manner::Once, line)),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// Reads a call of curl.
fn request(call: &str) -> Result<Request, String> {
    let mut request = Request::default();
    let mut zeros = None;
    let call = match call.strip_prefix("head -c ") {
        Some(rest) => {
            let (count, rest) = rest.split_once(" /dev/zero | ").ok_or("head of what")?;
            zeros = Some(number(count)?);
            rest
        }
        None => call,
    };
    let call = call.strip_prefix("curl ").ok_or("not a call of curl")?;
    let mut method = None;
    let mut words = words::split(call)?.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} of what"));
        match word.as_str() {
            "-s" | "-si" | "--path-as-is" => (),
            "-o" | "-w" => drop(value()?),
            "-X" => method = Some(value()?),
            "-H" => {
                let field = value()?;
                let (name, value) = field.split_once(": ").ok_or("a header without a value")?;
                request.headers.push((name.to_owned(), value.to_owned()));
            }
            "-d" => request.body = Body::Text(value()?),
            "--data-binary" => {
                let source = value()?;
                let count = zeros
                    .filter(|_| source == "@-")
                    .ok_or("a body from nowhere")?;
                request.body = Body::Zeros(count);
            }
            _ if word.starts_with("http://") => request.url = word,
            _ => return Err(format!("curl has no {word} here")),
        }
    }
    let usual = || request.body.usual_method().to_owned();
    request.method = method.unwrap_or_else(usual);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(url: &str) -> Request {
        Request {
            method: "GET".into(),
            url: url.into(),
            ..Request::default()
        }
    }

    #[test]
    fn every_form_is_read_as_it_is_printed() {
        let with = |manner, wait_s| Script {
            wait_s,
            manner,
            request: get("http://h:1/a"),
        };
        let mut rich = with(Manner::Once, 3);
        rich.request.headers = vec![
            (
                "Authorization".into(),
                "Bearer $(curl -s http://h:2/t)".into(),
            ),
            ("X-A".into(), "b c".into()),
        ];
        rich.request.url = "http://h:1/a/../b?c=d&e=f".into();
        let mut text = with(Manner::Once, 0);
        text.request.method = "PUT".into();
        text.request.body = Body::Text("{\"a\": 1}".into());
        let mut zeros = with(Manner::Once, 0);
        zeros.request.method = "POST".into();
        zeros.request.body = Body::Zeros(7);
        for script in [
            with(Manner::Once, 0),
            with(Manner::Lines("a\"b".into()), 0),
            with(Manner::Statuses(7), 1),
            with(Manner::Tally(20, "version".into()), 0),
            rich,
            text,
            zeros,
        ] {
            let line = script.to_string();
            assert_eq!(Script::read(&line), Ok(script), "{line}");
        }
    }

    #[test]
    fn what_no_script_prints_is_not_read() {
        for line in [
            "",
            "wget x",
            "curl --fail http://h/",
            "curl -H x",
            "sleep 3",
        ] {
            assert!(Script::read(line).is_err(), "{line}");
        }
    }
}
