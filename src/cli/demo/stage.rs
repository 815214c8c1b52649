//! The stage: services, token issuer and gateway, on the addresses of `conf/demo.yaml` or on free ones.

use super::issuer::Issuer;
use super::serve::{Host, Served, Service};
use super::services::{Echo, Orders};
use super::tokens::Mint;
use crate::base::clock::Clock;
use crate::config::{self, Loaded};
use crate::server::Server;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

/// The config, as it is in the repository.
const CONFIG: &str = include_str!("../../../conf/demo.yaml");
/// The API keys it refers to.
const KEYS: &str = include_str!("../../../conf/demo/keys.yaml");

/// Which addresses are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Those of `conf/demo.yaml`.
    Fixed,
    /// Free ones; the access log is off then.
    Free,
}

/// Everybody who has an address; [`PLACES`] says more of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where clients come in.
    Gateway,
    /// The operator's port.
    Admin,
    /// The token issuer.
    Issuer,
    /// Users v1, one instance.
    Users1a,
    /// Users v1, another.
    Users1b,
    /// Users v2.
    Users2,
    /// Users v2, newer still.
    Canary,
    /// Orders.
    Orders,
    /// Products.
    Products,
    /// Payments.
    Payments,
    /// A tenant's service.
    Acme,
    /// Another tenant's.
    Globex,
}

/// Everybody's port in `conf/demo.yaml`, in the order of [`Place`].
pub const PLACES: [(Place, u16, &str); 12] = [
    (Place::Gateway, 8080, "the gateway"),
    (Place::Admin, 9901, "the gateway's admin port"),
    (Place::Issuer, 9100, "token issuer"),
    (Place::Users1a, 9101, "users v1, instance a (5 s)"),
    (Place::Users1b, 9102, "users v1, instance b (5 s)"),
    (Place::Users2, 9103, "users v2 (5 s)"),
    (Place::Canary, 9104, "users v2, canary (5 s)"),
    (Place::Orders, 9105, "orders, which can fail (10 s)"),
    (Place::Products, 9106, "products, open to all (5 s)"),
    (Place::Payments, 9107, "payments (15 s)"),
    (Place::Acme, 9108, "the tenant acme's service"),
    (Place::Globex, 9109, "the tenant globex's service"),
];

/// Why the demo cannot begin.
#[derive(Debug)]
pub struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fault(doing: &str, why: impl fmt::Display) -> Fault {
    Fault(format!("{doing}: {why}"))
}

/// Where everybody is.
#[derive(Clone, Debug)]
pub struct Addresses([SocketAddr; PLACES.len()]);

impl Addresses {
    /// The address of `place` and this path.
    pub fn url(&self, place: Place, path: &str) -> String {
        format!("http://{}{path}", self.0[place as usize])
    }

    /// A path of the gateway's.
    pub fn gateway(&self, path: &str) -> String {
        self.url(Place::Gateway, path)
    }

    /// The value of `Authorization` with a token of `name`, fetched when the line is run.
    pub fn token(&self, name: &str) -> String {
        let url = self.url(Place::Issuer, &format!("/token/{name}"));
        format!("Bearer $(curl -s {url})")
    }

    /// The addresses of `conf/demo.yaml`.
    pub fn fixed() -> Self {
        Self(PLACES.map(|(_, port, _)| local(port)))
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Everything that runs. The gateway ends before what is behind it.
pub struct Stage {
    /// The gateway.
    pub server: Server,
    /// Where everybody is.
    pub at: Addresses,
    /// What makes the issuer's tokens.
    pub mint: Arc<Mint>,
    _host: Host,
}

impl Stage {
    /// Starts everything.
    ///
    /// # Errors
    /// A port is taken, or the gateway does not start.
    pub fn open(ports: Ports) -> Result<Self, Fault> {
        let clock = Clock::system();
        let mint = Mint::new(clock.clone()).map_err(|e| fault("the demo's own keys", e))?;
        let mint = Arc::new(mint);
        let (served, mut at) = services(ports, &mint)?;
        let host = Host::start(served).map_err(|e| fault("cannot start the services", e))?;
        let loaded = load(&config(ports, &at))?;
        // Nobody reloads a story.
        let (asks, _) = tokio::sync::mpsc::channel(1);
        let server = Server::start(&loaded, clock, asks)
            .map_err(|e| fault("the gateway does not start", e))?;
        for (place, address) in [
            (Place::Gateway, server.address("public")),
            (Place::Admin, server.admin_address()),
        ] {
            let address = address.ok_or_else(|| fault("the gateway", "has no address"))?;
            at.0[place as usize] = address;
        }
        Ok(Self {
            server,
            at,
            mint,
            _host: host,
        })
    }
}

/// Binds everybody's socket. The gateway's own two are only tried: it binds them itself.
fn services(ports: Ports, mint: &Arc<Mint>) -> Result<(Vec<Served>, Addresses), Fault> {
    let (mut served, mut at) = (Vec::new(), Addresses::fixed());
    for (place, port, what) in PLACES {
        let service = service(place, mint);
        if ports == Ports::Free && service.is_none() {
            at.0[place as usize] = local(0);
            continue;
        }
        let port = if ports == Ports::Fixed { port } else { 0 };
        let bound = TcpListener::bind(local(port)).map_err(|why| taken(port, what, &why))?;
        let address = bound.local_addr();
        at.0[place as usize] = address.map_err(|why| taken(port, what, &why))?;
        served.extend(service.map(|service| (bound, service)));
    }
    Ok((served, at))
}

fn taken(port: u16, what: &str, why: &std::io::Error) -> Fault {
    Fault(format!(
        "port {port} of {what} cannot be had: {why}\n\
         Find out who has it with `ss -ltnp 'sport = :{port}'` and stop that, or run \
         `tollgate demo --check`, which takes free ports."
    ))
}

/// Who answers at a place; nobody where the gateway itself does.
fn service(place: Place, mint: &Arc<Mint>) -> Option<Arc<dyn Service>> {
    let (service, version, instance) = match place {
        Place::Gateway | Place::Admin => return None,
        Place::Issuer => {
            let mint = mint.clone();
            return Some(Arc::new(Issuer { mint }));
        }
        Place::Orders => return Some(Arc::new(Orders::new())),
        Place::Users1a => ("users", "v1", "a"),
        Place::Users1b => ("users", "v1", "b"),
        Place::Users2 => ("users", "v2", "stable"),
        Place::Canary => ("users", "v2", "canary"),
        Place::Products => ("products", "v1", "a"),
        Place::Payments => ("payments", "v1", "a"),
        Place::Acme => ("app-of-acme", "v1", "a"),
        Place::Globex => ("app-of-globex", "v1", "a"),
    };
    let echo = Echo {
        service,
        version,
        instance,
    };
    Some(Arc::new(echo))
}

/// The config's text with everybody's real address in it.
fn config(ports: Ports, at: &Addresses) -> String {
    if ports == Ports::Fixed {
        return CONFIG.to_owned();
    }
    let quiet = CONFIG.replace("access: stdout", "access: off");
    PLACES.iter().fold(quiet, |text, (place, port, _)| {
        let real = at.0[*place as usize];
        text.replace(&local(*port).to_string(), &real.to_string())
    })
}

/// Loads the config. The key file it refers to is written for as long as that takes, since the
/// program may be all there is.
fn load(text: &str) -> Result<Loaded, Fault> {
    let folder = Folder::new().map_err(|e| fault("cannot write to the temporary folder", e))?;
    let env = |name: &str| std::env::var(name).ok();
    config::parse(text, "conf/demo.yaml", &folder.0, &env).map_err(|e| fault("conf/demo.yaml", e))
}

/// A folder that goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let name = format!("tollgate-demo-{}", uuid::Uuid::new_v4());
        let folder = Self(std::env::temp_dir().join(name));
        let keys = folder.0.join("demo");
        fs::create_dir(&folder.0)?;
        fs::create_dir(&keys)?;
        fs::write(keys.join("keys.yaml"), KEYS)?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing in it matters.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_places_and_the_config_agree() {
        for (index, (place, port, _)) in PLACES.into_iter().enumerate() {
            assert_eq!(place as usize, index);
            let address = local(port).to_string();
            assert_eq!(CONFIG.matches(&address).count(), 1, "{address}");
        }
        assert_eq!(CONFIG.matches("127.0.0.1").count(), PLACES.len());
        assert_eq!(CONFIG.matches("access: stdout").count(), 1);
    }

    #[test]
    fn it_loads_with_and_without_real_addresses() {
        let mut at = Addresses::fixed();
        at.0 = PLACES.map(|(_, port, _)| local(port + 30_000));
        for ports in [Ports::Fixed, Ports::Free] {
            let loaded = load(&config(ports, &at));
            let loaded = loaded.unwrap_or_else(|why| panic!("{ports:?}: {why}"));
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        }
    }
}
