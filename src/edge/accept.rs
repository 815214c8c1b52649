//! Workers and listeners: one thread a worker with its own runtime, one accept loop a listener on
//! each, opened and closed while it runs.

use super::connection::{Counsel, Door, serve};
use super::open::Entrance;
use super::sweep;
use crate::base::clock::{Clock, Now};
use crate::exchange::listener::{Listener, Patience};
use pingora::apps::HttpServerApp;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

/// A bound socket, not yet accepting.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

impl Socket {
    /// Binds a TCP address. One socket serves all workers: with one each (`SO_REUSEPORT`) closing a
    /// listener would reset what waits in its backlog.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        use socket2::{Domain, Protocol, Type};
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // `[::]` takes IPv4 too, whatever the machine's own default; the config's check counts on it.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(65_535)?;
        Ok(Self::Tcp(socket.into()))
    }

    /// The address it is bound to; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// There are no file descriptors left.
    pub fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(tcp) => tcp.try_clone().map(Self::Tcp),
            Self::Unix(unix) => unix.try_clone().map(Self::Unix),
        }
    }
}

/// What a worker is asked to do.
enum Order {
    /// Begins to accept; the listener of this name stops.
    Open(Socket, Arc<Entrance>, Arc<str>),
    Close(Arc<str>, End, oneshot::Sender<()>),
    /// Answers once a timer has run.
    Beat(oneshot::Sender<()>),
    Quit,
}

/// Why a listener accepts no more.
enum End {
    /// It closes.
    Closed,
    /// Another listener or another process accepts on the same socket.
    Replaced,
}

/// A socket as each worker has it.
pub struct Shares(Vec<Socket>);

/// One thread that accepts and serves.
struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// A set of workers that serve the same listeners.
pub struct Edge {
    workers: Vec<Worker>,
}

impl Edge {
    /// Starts `count` workers; each makes its own app, and with it its own pool of upstream
    /// connections.
    ///
    /// # Errors
    /// A thread or its runtime could not be made.
    pub fn start<A, F>(
        name: &str,
        count: usize,
        clock: &Clock,
        counsel: &Counsel,
        make: F,
    ) -> io::Result<Self>
    where
        A: HttpServerApp + Send + Sync + 'static,
        F: Fn() -> Arc<A>,
    {
        let mut workers = Vec::with_capacity(count);
        for n in 0..count {
            let (orders, inbox) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let entered = runtime.enter();
            let app = make();
            drop(entered);
            let (clock, counsel) = (clock.clone(), counsel.clone());
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{n}"))
                .spawn(move || runtime.block_on(work(inbox, app, clock, counsel)))?;
            workers.push(Worker {
                orders,
                thread: Some(thread),
            });
        }
        Ok(Self { workers })
    }

    /// Shares a socket between the workers.
    ///
    /// # Errors
    /// There are no file descriptors left.
    pub fn share(&self, socket: &Socket) -> io::Result<Shares> {
        let shares: io::Result<Vec<_>> = self.workers.iter().map(|_| socket.share()).collect();
        shares.map(Shares)
    }

    /// Begins to accept on a socket, on every worker. A listener that accepts on the same one stops,
    /// its connections stay; `replaces`: its name, where that is another.
    pub fn open(&self, shares: Shares, entrance: &Arc<Entrance>, replaces: Option<&Arc<str>>) {
        let replaces = replaces.unwrap_or(&entrance.listener.name);
        for (worker, share) in self.workers.iter().zip(shares.0) {
            let order = Order::Open(share, entrance.clone(), replaces.clone());
            // A worker that is gone serves nothing; the others do.
            let _ = worker.orders.send(order);
        }
    }

    /// Stops accepting and lets connections end; returns once the socket is closed.
    pub async fn close(&self, listener: &Listener, now: Now, patience: Patience) {
        listener.stop(now, patience);
        self.end(listener, || End::Closed).await;
    }

    /// The same for a socket on which another process accepts: what waits there is its.
    pub async fn leave(&self, listener: &Listener, now: Now, patience: Patience) {
        listener.stop(now, patience);
        self.end(listener, || End::Replaced).await;
    }

    async fn end(&self, listener: &Listener, why: impl Fn() -> End) {
        for worker in &self.workers {
            let (done, closed) = oneshot::channel();
            let order = Order::Close(listener.name.clone(), why(), done);
            if worker.orders.send(order).is_ok() {
                let _ = closed.await;
            }
        }
    }

    /// Returns once every worker has finished what it was computing and has run a timer; false if one
    /// is gone.
    pub async fn beat(&self) -> bool {
        let mut all = true;
        for worker in &self.workers {
            let (done, beaten) = oneshot::channel();
            all &= worker.orders.send(Order::Beat(done)).is_ok() && beaten.await.is_ok();
        }
        all
    }
}

impl Edge {
    /// Returns once every worker has finished what it was computing, or waits where `held` says so.
    pub async fn settle(&self, held: impl Fn(ThreadId) -> bool) {
        for worker in &self.workers {
            let (done, mut beaten) = oneshot::channel();
            if worker.orders.send(Order::Beat(done)).is_err() {
                continue;
            }
            let thread = worker.thread.as_ref().map(|handle| handle.thread().id());
            while !thread.is_some_and(&held) {
                let soon = tokio::time::timeout(Duration::from_millis(1), &mut beaten);
                if soon.await.is_ok() {
                    break;
                }
            }
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.orders.send(Order::Quit);
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// The life of a worker.
async fn work<A>(
    mut inbox: mpsc::UnboundedReceiver<Order>,
    app: Arc<A>,
    clock: Clock,
    counsel: Counsel,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let sweeper = tokio::spawn(sweep::run(clock.clone()));
    let (_keep, running) = watch::channel(false);
    let mut open: HashMap<Arc<str>, (oneshot::Sender<End>, _)> = HashMap::new();
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Open(socket, entrance, replaces) => {
                let listener = entrance.listener.clone();
                let name = listener.name.clone();
                let door = Arc::new(Door {
                    app: app.clone(),
                    listener,
                    entrance,
                    clock: clock.clone(),
                    counsel: counsel.clone(),
                    running: running.clone(),
                });
                let (close, closing) = oneshot::channel::<End>();
                let accepting = tokio::spawn(accept(socket, door, closing));
                if let Some((close, _)) = open.remove(&replaces) {
                    let _ = close.send(End::Replaced);
                }
                open.insert(name, (close, accepting));
            }
            Order::Beat(done) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let _ = done.send(());
            }
            Order::Close(name, why, done) => {
                if let Some((close, accepting)) = open.remove(&name) {
                    let _ = close.send(why);
                    let _ = accepting.await;
                }
                let _ = done.send(());
            }
            Order::Quit => break,
        }
    }
    sweeper.abort();
    app.http_cleanup().await;
}

/// Accepts until closed. Errors of accept(2) are of one connection or pass with time (no file
/// descriptors left): wait a little, go on.
async fn accept<A>(socket: Socket, door: Arc<Door<A>>, mut closing: oneshot::Receiver<End>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let listening = match socket {
        Socket::Tcp(tcp) => TcpListener::from_std(tcp).map(Listening::Tcp),
        Socket::Unix(unix) => unix
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(unix))
            .map(Listening::Unix),
    };
    let listening = match listening {
        Ok(listening) => listening,
        Err(e) => return log::error!("listener {}: cannot accept: {e}", door.listener.name),
    };
    let end = loop {
        let accepted = tokio::select! {
            accepted = listening.accept() => accepted,
            end = &mut closing => break end,
        };
        match accepted {
            Ok(accepted) => greet(accepted, &door),
            Err(e) => {
                log::warn!("listener {}: accept: {e}", door.listener.name);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    if let Ok(End::Replaced) = end {
        return;
    }
    // Whoever waits in the backlog believes to be connected, and would be reset. Clients that come
    // back at once must not keep the door open for ever.
    let backlog = async {
        while let Ok(accepted) = listening.accept().await {
            greet(accepted, &door);
        }
    };
    let _ = tokio::time::timeout(BACKLOG, backlog).await;
}

/// How long the backlog of a listener that closes is served.
const BACKLOG: Duration = Duration::from_millis(50);

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listening {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Fails only on a connection that is gone already.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream, peer))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

fn greet<A>(accepted: Accepted, door: &Arc<Door<A>>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let entrance = &door.entrance;
    let front = match accepted {
        Accepted::Tcp(stream, peer) if entrance.is_immediate() => entrance.admit(stream, peer),
        Accepted::Unix(stream) => entrance.admit_local(stream),
        Accepted::Tcp(stream, peer) => {
            let door = door.clone();
            // A handshake holds much: its future ends before the connection's begins.
            tokio::spawn(async move {
                if let Some(front) = Box::pin(door.entrance.open(stream, peer)).await {
                    serve(Box::new(front), door).await;
                }
            });
            return;
        }
    };
    if let Some(front) = front {
        tokio::spawn(serve(Box::new(front), door.clone()));
    }
}
