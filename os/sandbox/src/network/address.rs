//! The veth pair (veth(4)) and its addresses between the system and an app's network namespace.
//!
//! Everything follows from the app's uid, so that init, the service and a test say the same
//! without asking each other. IPv4 addresses are of 198.18.0.0/15 (RFC 2544), which no network
//! that a device is plugged into uses; IPv6 ones are unique local (RFC 4193). Neither leaves the
//! device: the firewall gives what does the address of the interface.

use crate::network::grants::masked;
use holdfast_types::uid::{FIRST_APP_UID, LAST_UID};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First address of 198.18.0.0/15.
const BASE_V4: u32 = 0xc612_0000;
/// `fd68:6f6c:6466::/48`.
const BASE_V6: u128 = 0xfd68_6f6c_6466 << 80;
/// Every app's addresses, and the system's towards them: prefixes and their lengths.
pub const APPS: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)), 15),
    (IpAddr::V6(Ipv6Addr::new(0xfd68, 0x6f6c, 0x6466, 0, 0, 0, 0, 0)), 48),
];
/// Length of the IPv4 prefix of a veth pair (RFC 3021).
pub const VETH_PREFIX_V4: u8 = 31;
/// Length of the IPv6 prefix of a veth pair (RFC 6164).
pub const VETH_PREFIX_V6: u8 = 127;
/// Prefix of the names of the system's ends of all veth pairs.
pub const VETH_NAMES: &str = "app";
/// Name of the device that an app sees.
pub const APP_DEVICE: &str = "eth0";

/// True for an address of a veth pair between the system and an app.
#[must_use]
pub fn is_of_apps(address: IpAddr) -> bool {
    APPS.iter().any(|(prefix, length)| masked(address, *length) == Some(*prefix))
}

/// The veth pair (veth(4)) between the system and one app's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Veth {
    uid: u32,
}

impl Veth {
    /// Returns the veth pair of the app with this uid.
    #[must_use]
    pub fn of(uid: u32) -> Self {
        Self { uid }
    }

    /// Uids number less than 65,536, so that two of the 131,072 addresses belong to each: apps first, services
    /// behind them.
    fn index(self) -> u32 {
        let apps = LAST_UID.saturating_sub(FIRST_APP_UID).saturating_add(1);
        let index = self.uid.checked_sub(FIRST_APP_UID);
        index.unwrap_or_else(|| apps.saturating_add(self.uid)) & 0xffff
    }

    /// Name of the system's end.
    #[must_use]
    pub fn device(self) -> String {
        format!("{VETH_NAMES}{}", self.uid)
    }

    /// The uid in the name of a system's end.
    #[must_use]
    pub fn uid_of_device(name: &str) -> Option<u32> {
        name.strip_prefix(VETH_NAMES)?.parse().ok()
    }

    /// The system's address, which is the app's gateway and name server.
    #[must_use]
    pub fn system_v4(self) -> Ipv4Addr {
        (BASE_V4 | (self.index() << 1)).into()
    }

    /// The app's address.
    #[must_use]
    pub fn app_v4(self) -> Ipv4Addr {
        (BASE_V4 | (self.index() << 1) | 1).into()
    }

    /// The system's address, which is the app's gateway.
    #[must_use]
    pub fn system_v6(self) -> Ipv6Addr {
        (BASE_V6 | (u128::from(self.index()) << 64)).into()
    }

    /// The app's address.
    #[must_use]
    pub fn app_v6(self) -> Ipv6Addr {
        (BASE_V6 | (u128::from(self.index()) << 64) | 1).into()
    }

    /// Returns the app's `/etc/resolv.conf`. musl waits for so many seconds in all, and asks so often meanwhile: longer
    /// than the proxy takes at most (`resolution::WITHIN_MS`), which says itself that nobody knows.
    #[must_use]
    pub fn resolver_file(self) -> String {
        format!("nameserver {}\noptions timeout:8 attempts:4\n", self.system_v4())
    }
}

/// Contents of the app's `/etc/hosts`.
pub const HOSTS_FILE: &str = "127.0.0.1 localhost\n::1 localhost\n";

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::uid::FIRST_SERVICE_UID;
    use std::collections::BTreeSet;

    #[test]
    fn everybody_has_addresses_of_its_own_in_the_range_of_apps() {
        let mut seen = BTreeSet::new();
        for uid in FIRST_SERVICE_UID..=LAST_UID {
            let veth = Veth::of(uid);
            for address in [veth.system_v4(), veth.app_v4()] {
                assert!(seen.insert(u128::from(address.to_bits())), "{address} is given twice");
                assert!(is_of_apps(address.into()), "{address}");
            }
            for address in [veth.system_v6(), veth.app_v6()] {
                assert!(seen.insert(address.to_bits()), "{address} is given twice");
                assert!(is_of_apps(address.into()), "{address}");
            }
            assert_eq!(Veth::uid_of_device(&veth.device()), Some(uid));
            assert!(veth.device().len() < 16, "longer than a device's name may be");
        }
    }
}
