//! The demo's services: each answers what it received, so that one sees what the gateway made of a
//! request. Orders fails when told to; reports take their time.

use super::serve::{Received, Reply, Service};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a report takes; longer than the route to it allows.
const REPORT: Duration = Duration::from_secs(3);

/// A service that echoes.
pub struct Echo {
    /// The service's name.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Which of several instances it is.
    pub instance: &'static str,
}

impl Service for Echo {
    fn answer(&self, request: &Received) -> Reply {
        match request.path() {
            "/health" => Reply::text(200, "ok"),
            "/annual" => Reply {
                after: REPORT,
                ..self.echo(request)
            },
            _ => self.echo(request),
        }
    }
}

impl Echo {
    fn echo(&self, request: &Received) -> Reply {
        let received = json!({
            "service": self.service,
            "version": self.version,
            "instance": self.instance,
            "method": request.method.as_str(),
            "path": request.target,
            "headers": headers(request),
            "body_bytes": request.body.len(),
        });
        Reply::json(200, &received)
    }
}

fn headers(request: &Received) -> Map<String, Value> {
    let mut shown = Map::new();
    for (name, value) in &request.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        shown.insert(name.as_str().to_owned(), value.into());
    }
    shown
}

/// The orders service: well, or failing, as `PUT /mood` says.
pub struct Orders {
    echo: Echo,
    failing: AtomicBool,
    requests: AtomicU64,
}

impl Orders {
    /// A service that is well.
    pub fn new() -> Self {
        Self {
            echo: Echo {
                service: "orders",
                version: "v1",
                instance: "a",
            },
            failing: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        }
    }

    fn mood(&self, request: &Received) -> Reply {
        match request.body.as_ref() {
            b"failing" => self.failing.store(true, Relaxed),
            b"well" => self.failing.store(false, Relaxed),
            _ => return Reply::text(400, "want `failing` or `well`"),
        }
        self.requests.store(0, Relaxed);
        Reply::text(200, "orders takes note")
    }
}

impl Service for Orders {
    fn answer(&self, request: &Received) -> Reply {
        match (request.method.as_str(), request.path()) {
            ("PUT", "/mood") => return self.mood(request),
            ("GET", "/count") => {
                let since = json!({ "requests_since_mood": self.requests.load(Relaxed) });
                return Reply::json(200, &since);
            }
            _ => self.requests.fetch_add(1, Relaxed),
        };
        if self.failing.load(Relaxed) {
            return Reply::json(500, &json!({ "error": "orders is in a bad mood" }));
        }
        self.echo.answer(request)
    }
}
