//! Network addresses: canonical client addresses and lists of networks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Folds an IPv4 address written as IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) back to IPv4, so
/// that one client has one address.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// What counts as one client by address: an IPv4 address (/32) or an IPv6 /64, since one customer
/// owns at least that much (RFC 6177).
pub fn client_prefix(ip: IpAddr) -> [u8; 8] {
    match canonical(ip) {
        IpAddr::V4(v4) => {
            let o = v4.octets();
            [0, 0, 0, 4, o[0], o[1], o[2], o[3]]
        }
        IpAddr::V6(v6) => {
            let o = v6.octets();
            [o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]]
        }
    }
}

/// The first bits of an address, so many of an IPv4 and of an IPv6 one (1 to 32, 1 to 128), and which of the
/// two it is.
pub fn prefix(ip: IpAddr, ipv4: u8, ipv6: u8) -> [u8; 17] {
    let mut first = [0; 17];
    match canonical(ip) {
        IpAddr::V4(v4) => {
            let mask = u32::MAX << 32_u8.saturating_sub(ipv4).min(31);
            first[0] = 4;
            first[1..5].copy_from_slice(&(v4.to_bits() & mask).to_be_bytes());
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX << 128_u8.saturating_sub(ipv6).min(127);
            first[0] = 6;
            first[1..].copy_from_slice(&(v6.to_bits() & mask).to_be_bytes());
        }
    }
    first
}

/// A network in CIDR notation; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(ipnet::IpNet);

impl Network {
    /// Whether the address, in its canonical form, lies in this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&canonical(ip))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = text.parse::<ipnet::IpNet>().ok();
        let net = net.or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from));
        let net = net.ok_or_else(|| {
            format!(
                "found `{text}`, want a network such as `10.0.0.0/8` or an address such as `192.0.2.1`"
            )
        })?;
        let base = net.trunc();
        if base != net {
            return Err(format!(
                "found `{text}`, want `{base}`: bits are set beyond the prefix length"
            ));
        }
        match plain_ipv4(net) {
            None => Ok(Self(net)),
            Some(plain) => Err(format!(
                "found `{text}`, want `{plain}`: IPv4 clients are known by their IPv4 address"
            )),
        }
    }
}

/// The IPv4 network that one written as IPv6 (`::ffff:10.0.0.0/104`) stands for. It would never hold
/// an address in its canonical form.
fn plain_ipv4(net: ipnet::IpNet) -> Option<ipnet::Ipv4Net> {
    let ipnet::IpNet::V6(net) = net else {
        return None;
    };
    let (address, length) = (net.addr().to_ipv4_mapped()?, net.prefix_len());
    ipnet::Ipv4Net::new(address, length.checked_sub(96)?).ok()
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A short list of networks, tried one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<Network>);

impl Networks {
    /// Whether any of the networks holds the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|n| n.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a test address")
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        assert_eq!(canonical(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(
            client_prefix(ip("::ffff:192.0.2.1")),
            client_prefix(ip("192.0.2.1"))
        );
        let net: Network = "192.0.2.0/24".parse().expect("a network");
        assert!(net.contains(ip("::ffff:192.0.2.77")));
    }

    #[test]
    fn one_ipv6_customer_is_one_client() {
        assert_eq!(
            client_prefix(ip("2001:db8:1:2:3::4")),
            client_prefix(ip("2001:db8:1:2:ffff::"))
        );
        assert_ne!(
            client_prefix(ip("2001:db8:1:2::")),
            client_prefix(ip("2001:db8:1:3::"))
        );
    }

    #[test]
    fn a_network_is_checked_and_printed() {
        let all = ["10.0.0.0/8", "::1/128", "2001:db8::/32"];
        for text in all {
            assert_eq!(
                text.parse::<Network>().map(|n| n.to_string()),
                Ok(text.into())
            );
        }
        assert_eq!(
            "127.0.0.1".parse::<Network>().map(|n| n.to_string()),
            Ok("127.0.0.1/32".into())
        );
        assert!(
            "10.0.0.1/8"
                .parse::<Network>()
                .is_err_and(|e| e.contains("want `10.0.0.0/8`"))
        );
        for (mapped, plain) in [
            ("::ffff:10.0.0.0/104", "`10.0.0.0/8`"),
            ("::ffff:0:0/96", "`0.0.0.0/0`"),
            ("::ffff:192.0.2.1", "`192.0.2.1/32`"),
        ] {
            let fault = mapped.parse::<Network>().expect_err(mapped);
            assert!(fault.contains(&format!("want {plain}")), "{fault}");
        }
        for wider in ["::/0", "::/80", "::fffe:0:0/95"] {
            assert!(wider.parse::<Network>().is_ok(), "{wider}");
        }
        assert!(
            "ten"
                .parse::<Network>()
                .is_err_and(|e| e.contains("found `ten`"))
        );
    }
}
