//! The service manager's watchdog (`sd_watchdog_enabled`(3)): it is told that all is well only if each
//! worker has run a timer and the own admin port has answered, each within a second. Not a public
//! listener: a flood of connections there must not have a gateway ended that holds out against it.

use super::{Server, notify};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What must answer does so within this time.
const WITHIN: Duration = Duration::from_secs(1);

/// How often it is seen whether all this is to end.
const LOOK: Duration = Duration::from_millis(100);

/// How often the service manager is told: more than twice in the time that it waits; none if
/// it does not watch.
pub fn every() -> Option<Duration> {
    let wait: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    // One that comes late must not be one too few.
    (wait > 0).then(|| Duration::from_micros(wait * 2 / 5))
}

/// Tells it for as long as all is well, until `ending`.
pub fn run(server: &Server, every: Duration, ending: &AtomicBool) {
    let mut well = true;
    loop {
        match server.alive() {
            Ok(()) => {
                notify::tell("WATCHDOG=1");
                well = true;
            }
            Err(why) if well => {
                log::error!("the watchdog is not told that all is well: {why}");
                well = false;
            }
            Err(_) => {}
        }
        let looks = every.as_millis() / LOOK.as_millis();
        for _ in 0..=looks {
            if ending.load(Relaxed) {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Server {
    /// Whether every worker and the admin port do their work.
    ///
    /// # Errors
    /// What does not.
    pub fn alive(&self) -> Result<(), String> {
        let beats = async {
            let Some(edge) = &self.edge else {
                return Ok(true);
            };
            tokio::time::timeout(WITHIN, edge.beat()).await
        };
        match self.background.block_on(beats) {
            Some(Ok(true)) | None => {}
            Some(Ok(false)) => return Err("a worker is gone".to_owned()),
            Some(Err(_)) => return Err("a worker has run no timer for a second".to_owned()),
        }
        let Some(admin) = &self.admin else {
            return Ok(());
        };
        let answered = match (admin.socket.address(), &admin.path) {
            (Some(address), _) => ask_tcp(address),
            (None, Some(path)) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(WITHIN))?;
                ask(stream)
            }),
            (None, None) => return Ok(()),
        };
        match answered {
            Ok(true) => Ok(()),
            Ok(false) => Err("the admin port answers something else than 200".to_owned()),
            Err(why) => Err(format!("the admin port does not answer: {why}")),
        }
    }
}

fn ask_tcp(address: SocketAddr) -> std::io::Result<bool> {
    let stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    ask(stream)
}

fn ask(mut stream: impl Read + Write) -> std::io::Result<bool> {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(start == *b"HTTP/1.1 200")
}
