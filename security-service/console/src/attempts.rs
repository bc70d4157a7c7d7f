//! How often somebody may try to sign in. Tokens have 256 random bits, which nobody finds by trying: what is bounded is the work and the log.

use std::collections::HashMap;
use std::net::IpAddr;

/// Attempts that fail of one network within [`WITHIN_S`].
const MOST: u32 = 10;
/// Seconds after which attempts are forgotten.
const WITHIN_S: u64 = 300;
/// Networks that are remembered; where there are more, nobody who is not known signs in until some are forgotten.
const NETWORKS: usize = 4096;

/// Attempts that have failed lately, by network.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: HashMap<IpAddr, (u64, u32)>,
}

/// The address by which attempts are counted: of IPv6 the /64, which one host has for itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

impl Attempts {
    /// Counts an attempt as failed, which [`succeeded`](Self::succeeded) takes back.
    ///
    /// # Errors
    /// There were too many; returned are the seconds to wait.
    pub(crate) fn begin(&mut self, address: IpAddr, now: u64) -> Result<(), u64> {
        let network = network(address);
        if self.failed.len() >= NETWORKS && !self.failed.contains_key(&network) {
            self.failed.retain(|_, (since, _)| now.saturating_sub(*since) < WITHIN_S);
            if self.failed.len() >= NETWORKS {
                return Err(WITHIN_S);
            }
        }
        let (since, times) = self.failed.entry(network).or_insert((now, 0));
        if now.saturating_sub(*since) >= WITHIN_S {
            (*since, *times) = (now, 0);
        }
        if *times >= MOST {
            return Err(since.saturating_add(WITHIN_S).saturating_sub(now).max(1));
        }
        *times = times.saturating_add(1);
        Ok(())
    }

    /// Forgets the attempts of a network, whose person has signed in.
    pub(crate) fn succeeded(&mut self, address: IpAddr) {
        self.failed.remove(&network(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_fail_and_then_one_waits() {
        let mut attempts = Attempts::default();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..MOST {
            attempts.begin(of("192.0.2.1"), 1000).unwrap();
        }
        assert_eq!(attempts.begin(of("192.0.2.1"), 1100), Err(200));
        assert_eq!(attempts.begin(of("::ffff:192.0.2.1"), 1299), Err(1));
        attempts.begin(of("192.0.2.2"), 1100).expect("another network");
        attempts.begin(of("192.0.2.1"), 1300).expect("it has waited");
        for _ in 0..MOST {
            attempts.begin(of("2001:db8::1"), 1000).unwrap();
        }
        attempts.begin(of("2001:db8::2"), 1000).unwrap_err();
        attempts.succeeded(of("2001:db8::3"));
        attempts.begin(of("2001:db8::2"), 1000).unwrap();
    }

    #[test]
    fn a_crowd_of_networks_takes_no_room_without_end() {
        let mut attempts = Attempts::default();
        for network in 0..u32::try_from(NETWORKS).unwrap() + 10 {
            let _ = attempts.begin(IpAddr::V4(network.into()), 1000);
        }
        assert_eq!(attempts.failed.len(), NETWORKS);
        attempts.begin(IpAddr::V4(u32::MAX.into()), 1000).unwrap_err();
        attempts.begin(IpAddr::V4(u32::MAX.into()), 1000 + WITHIN_S).unwrap();
    }
}
