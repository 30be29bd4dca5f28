//! Where somebody comes from, as far as it says who is there: what wrong tries, waiting connections and refusals are counted by.
//!
//! Invariant: one customer is one place, or whoever has many addresses would be many. An IPv6 address counts by its /64, which is what
//! one customer has to choose from; behind a unix socket, where there is no address, the user of the system counts (`SO_PEERCRED`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of an accepted connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// As policy and record see it.
    pub address: String,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place(String);

impl Peer {
    pub fn tcp(peer: SocketAddr) -> Peer {
        Peer { address: peer.ip().to_canonical().to_string(), place: Place::of(peer.ip()) }
    }

    /// The system's user at the other end; where the system does not tell, all are one.
    pub fn unix(user: Option<u32>) -> Peer {
        let place = user.map_or_else(|| "local".to_owned(), |user| format!("local, uid {user}"));
        Peer { address: "local".to_owned(), place: Place(place) }
    }
}

impl Place {
    pub fn of(address: IpAddr) -> Place {
        Place(match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_is_one_place() {
        let place = |address: &str| Place::of(address.parse().expect("an address")).to_string();
        for (address, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ] {
            assert_eq!(place(address), expected, "{address}");
        }
        assert_ne!(Peer::unix(Some(0)).place, Peer::unix(Some(1_000)).place);
        assert_eq!(Peer::unix(Some(0)).address, Peer::unix(None).address, "a policy knows them as one");
    }
}
