//! A TLS load client in blocking threads: handshakes a second, or many idle connections held.
//!
//! `hs-load ADDRESS THREADS SECONDS full|resumed|tls12-full|tls12-resumed|plain`
//! `hs-load ADDRESS hold|hold-plain COUNT`
//! The certificate of the server is not verified: what is measured is the server.

use pingora::tls::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslSession, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What one thread, and in the end all of them, did.
#[derive(Default)]
struct Count {
    done: u64,
    failed: u64,
    not_resumed: u64,
    said: Option<String>,
}

/// How the connections of a run are made.
#[derive(Clone, Copy)]
struct Mode {
    tls: bool,
    resume: bool,
    version: SslVersion,
}

impl Mode {
    fn parse(word: &str) -> Option<Self> {
        let (version, rest) = match word.strip_prefix("tls12-") {
            Some(rest) => (SslVersion::TLS1_2, rest),
            None => (SslVersion::TLS1_3, word),
        };
        let (tls, resume) = match rest {
            "full" => (true, false),
            "resumed" => (true, true),
            "plain" => (false, false),
            _ => return None,
        };
        Some(Self {
            tls,
            resume,
            version,
        })
    }
}

type Kept = Arc<Mutex<Option<SslSession>>>;

/// A client context that keeps the newest session it is given.
fn context(version: SslVersion, kept: &Kept) -> Result<SslContext> {
    let mut ctx: SslContextBuilder = SslContext::builder(SslMethod::tls())?;
    ctx.set_verify(SslVerifyMode::NONE);
    ctx.set_min_proto_version(Some(version))?;
    ctx.set_max_proto_version(Some(version))?;
    let groups = std::env::var("HS_GROUPS").unwrap_or_else(|_| "X25519:P-256".to_owned());
    #[cfg(feature = "boringssl")]
    ctx.set_curves_list(&groups)?;
    #[cfg(feature = "openssl")]
    ctx.set_groups_list(&groups)?;
    if let Ok(ciphers) = std::env::var("HS_CIPHERS") {
        ctx.set_cipher_list(&ciphers)?;
    }
    ctx.set_session_cache_mode(
        SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL_STORE,
    );
    let kept = Arc::clone(kept);
    ctx.set_new_session_callback(move |_, session| {
        *kept.lock().expect("not poisoned") = Some(session)
    });
    Ok(ctx.build())
}

fn connect(address: &str) -> Result<TcpStream> {
    let tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(tcp)
}

fn secure(
    ctx: &SslContext,
    session: Option<SslSession>,
    tcp: TcpStream,
) -> Result<pingora::tls::ssl::SslStream<TcpStream>> {
    let mut ssl = Ssl::new(ctx)?;
    ssl.set_hostname("bench.test")?;
    if let Some(session) = session {
        // SAFETY: the session was made by the context this `Ssl` is made from.
        unsafe { ssl.set_session(&session)? };
    }
    ssl.connect(tcp).map_err(|e| Error::other(e.to_string()))
}

/// One request with `Connection: close`, its answer read to the end.
fn exchange(mut stream: impl Read + Write, buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n")?;
    buffer.clear();
    if let Err(e) = stream.read_to_end(buffer) {
        // Some servers end TCP without a close_notify; the answer below tells whether it is whole.
        if buffer.is_empty() {
            return Err(e);
        }
    }
    if buffer.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(Error::other("no 200"))
    }
}

fn load(address: &str, mode: Mode, until: Instant) -> Result<Count> {
    let kept: Kept = Kept::default();
    let ctx = context(mode.version, &kept)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut count = Count::default();
    let mut first = true;
    while Instant::now() < until {
        let offered = if mode.resume {
            kept.lock().expect("not poisoned").clone()
        } else {
            None
        };
        let done = if mode.tls {
            connect(address)
                .and_then(|tcp| secure(&ctx, offered, tcp))
                .and_then(|mut stream| {
                    if mode.resume && !first && !stream.ssl().session_reused() {
                        count.not_resumed += 1;
                    }
                    if first {
                        let ssl = stream.ssl();
                        let cipher = ssl.current_cipher().map_or("?", |c| c.name());
                        #[cfg(feature = "boringssl")]
                        let group = ssl.curve_name().unwrap_or("?");
                        #[cfg(feature = "openssl")]
                        let group = "?"; // the crate does not tell
                        count.said = Some(format!("{} {cipher} {group}", ssl.version_str()));
                    }
                    exchange(&mut stream, &mut buffer)
                })
        } else {
            connect(address).and_then(|mut tcp| exchange(&mut tcp, &mut buffer))
        };
        match done {
            Ok(()) => count.done += 1,
            Err(e) => {
                count.failed += 1;
                count.said = Some(e.to_string());
            }
        }
        first = false;
    }
    Ok(count)
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Opens connections, sends one request on each and holds them until standard input ends.
fn hold(address: &str, number: usize, tls: bool) -> Result<()> {
    let ctx = context(SslVersion::TLS1_3, &Kept::default())?;
    let mut held = Vec::with_capacity(number);
    let mut buffer = [0; 4096];
    for _ in 0..number {
        let tcp = connect(address)?;
        let mut stream: Box<dyn Stream> = match tls {
            true => Box::new(secure(&ctx, None, tcp)?),
            false => Box::new(tcp),
        };
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench.test\r\n\r\n")?;
        let mut seen = Vec::new();
        while !whole(&seen) {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Err(Error::other("the server closed"));
            }
            seen.extend_from_slice(&buffer[..n]);
        }
        held.push(stream);
    }
    println!("holding {}", held.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Whether the header and as many body bytes as it announces have come.
fn whole(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "));
    length
        .and_then(|l| l.trim().parse::<usize>().ok())
        .is_some_and(|l| body.len() >= l)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (address, threads, seconds, mode) = match words[..] {
        [address, how @ ("hold" | "hold-plain"), number] => {
            let number = number.parse().expect("a number of connections");
            return match hold(address, number, how == "hold") {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("hold: {e}");
                    ExitCode::FAILURE
                }
            };
        }
        [address, threads, seconds, mode] => (address, threads, seconds, Mode::parse(mode)),
        _ => ("", "", "", None),
    };
    let (Some(mode), Ok(threads), Ok(seconds)) = (mode, threads.parse::<usize>(), seconds.parse())
    else {
        eprintln!(
            "usage: hs-load ADDRESS THREADS SECONDS full|resumed|tls12-full|tls12-resumed|plain"
        );
        eprintln!("       hs-load ADDRESS hold|hold-plain COUNT");
        return ExitCode::FAILURE;
    };
    let start = Instant::now();
    let until = start + Duration::from_secs(seconds);
    let all = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| load(address, mode, until)))
            .collect();
        let mut all = Count::default();
        for thread in running {
            let one = thread
                .join()
                .expect("no thread panics")
                .expect("the client context is made");
            all.done += one.done;
            all.failed += one.failed;
            all.not_resumed += one.not_resumed;
            all.said = one.said.or(all.said);
        }
        all
    });
    println!(
        "done {} failed {} not_resumed {} elapsed {:.3} said {}",
        all.done,
        all.failed,
        all.not_resumed,
        start.elapsed().as_secs_f64(),
        all.said.unwrap_or_default()
    );
    ExitCode::SUCCESS
}
