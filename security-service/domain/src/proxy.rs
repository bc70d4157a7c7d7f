//! The header of the PROXY protocol, version 2 (`proxy-protocol.txt` of HAProxy, 2.2): from whom a connection came to a load
//! balancer of layer 4. Whether it is read at all is a matter of who sends it: the listener reads it from listed addresses alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// Bytes in front of the addresses: signature, version with command, family with transport, and their length.
pub const PREFIX_BYTES: usize = 16;
/// Most bytes behind the prefix: addresses and what a balancer adds to them.
pub const MAX_REST_BYTES: usize = 1024;
/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Errors of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// It begins with something else.
    #[error("it does not begin as a header of the PROXY protocol, version 2")]
    Signature,
    /// Its command is neither of a connection from elsewhere nor of the balancer's own.
    #[error("its command is neither PROXY nor LOCAL")]
    Command,
    /// It is longer than is read.
    #[error("it has {0} bytes behind its prefix, and at most {MAX_REST_BYTES} are read")]
    TooLong(usize),
    /// It is of another transport than TCP over IPv4 or IPv6.
    #[error("its connection is not TCP over IPv4 or IPv6")]
    Transport,
    /// It ends before its addresses do.
    #[error("it ends before its addresses do")]
    Short,
}

/// The beginning of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// True for a connection of the balancer's own, such as a check of health.
    is_local: bool,
    /// Family and transport.
    family: u8,
    /// Bytes that follow.
    pub rest: usize,
}

impl Prefix {
    /// Reads the first bytes.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub fn read(bytes: &[u8; PREFIX_BYTES]) -> Result<Self, ProxyError> {
        let [signature @ .., command, family, high, low] = *bytes;
        if signature != SIGNATURE {
            return Err(ProxyError::Signature);
        }
        let is_local = match command {
            0x20 => true,
            0x21 => false,
            _ => return Err(ProxyError::Command),
        };
        let rest = usize::from(u16::from_be_bytes([high, low]));
        if rest > MAX_REST_BYTES {
            return Err(ProxyError::TooLong(rest));
        }
        Ok(Self { is_local, family, rest })
    }

    /// Returns the address that the connection came from, or nothing for one of the balancer's own. `rest` is what follows the
    /// prefix; what stands behind the addresses is not looked at.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub fn source(&self, rest: &[u8]) -> Result<Option<IpAddr>, ProxyError> {
        if self.is_local {
            return Ok(None);
        }
        // Both addresses, then both ports.
        match self.family {
            0x11 => {
                let addresses = rest.first_chunk::<12>().ok_or(ProxyError::Short)?;
                let [a, b, c, d, ..] = *addresses;
                Ok(Some(Ipv4Addr::new(a, b, c, d).into()))
            }
            0x21 => {
                let addresses = rest.first_chunk::<36>().ok_or(ProxyError::Short)?;
                let source = addresses.first_chunk::<16>().ok_or(ProxyError::Short)?;
                Ok(Some(IpAddr::from(Ipv6Addr::from(*source)).to_canonical()))
            }
            _ => Err(ProxyError::Transport),
        }
    }
}

/// Returns the header of a TCP connection between these addresses; both of one family.
#[must_use]
pub fn header(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let (family, addresses) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (0x11, [source.octets(), destination.octets()].concat())
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            (0x21, [octets(source), octets(destination)].concat())
        }
    };
    let ports = [0; 4];
    let length = u16::try_from(addresses.len().saturating_add(ports.len())).unwrap_or(u16::MAX);
    [&SIGNATURE[..], &[0x21, family], &length.to_be_bytes(), &addresses, &ports].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &[u8]) -> Result<Option<IpAddr>, ProxyError> {
        let (prefix, rest) = header.split_first_chunk::<PREFIX_BYTES>().unwrap();
        let prefix = Prefix::read(prefix)?;
        prefix.source(rest.get(..prefix.rest).ok_or(ProxyError::Short)?)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_header_names_who_connected_to_the_balancer() {
        for (source, destination) in [("192.0.2.7", "198.51.100.1"), ("2001:db8::7", "2001:db8::1")]
        {
            let header = header(address(source), address(destination));
            assert_eq!(read(&header), Ok(Some(address(source))));
            // What a balancer adds is not looked at.
            let mut more = [&header[..], &[0x04, 0, 3, 0, 0, 0]].concat();
            let length = u16::try_from(more.len() - PREFIX_BYTES).unwrap();
            more[14..16].copy_from_slice(&length.to_be_bytes());
            assert_eq!(read(&more), Ok(Some(address(source))));
        }
        let mapped = header(address("192.0.2.7"), address("2001:db8::1"));
        assert_eq!(read(&mapped), Ok(Some(address("192.0.2.7"))), "as it is counted otherwise");
    }

    #[test]
    fn a_connection_of_the_balancers_own_has_no_other_source() {
        let local = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        assert_eq!(read(&local), Ok(None));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let good = header(address("192.0.2.7"), address("198.51.100.1"));
        assert!(read(&good).is_ok(), "the control");
        let with = |at: usize, byte: u8| {
            let mut header = good.clone();
            header[at] = byte;
            read(&header)
        };
        assert_eq!(with(0, b'P'), Err(ProxyError::Signature));
        assert_eq!(with(12, 0x11), Err(ProxyError::Command), "version 1");
        assert_eq!(with(12, 0x22), Err(ProxyError::Command));
        assert_eq!(with(13, 0x12), Err(ProxyError::Transport), "UDP");
        assert_eq!(with(13, 0x31), Err(ProxyError::Transport), "a Unix socket");
        assert_eq!(with(14, 0xff), Err(ProxyError::TooLong(0xff0c)));
        assert_eq!(with(15, 11), Err(ProxyError::Short));
        assert_eq!(with(13, 0x21), Err(ProxyError::Short), "IPv6 needs more");
    }
}
