//! Alerts: which changes of findings somebody is told of at once, what the hourly digest has, and how a webhook is signed,
//! addressed and tried again. Nothing here sends anything.

use super::finding::Severity;
use super::register::{Change, FleetFinding, Register, State};
use super::rule::Rule;
use ring::hmac;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Name of the header with the signature of a webhook: `t=SECONDS,v1=HEX`.
pub const SIGNATURE_HEADER: &str = "Holdfast-Signature";
/// Seconds between two digests.
pub const DIGEST_S: u64 = 60 * 60;
/// Seconds until a webhook that has failed is tried again, for each failure; after the last it is given up.
pub const RETRY_S: [u64; 7] = [10, 30, 120, 600, 1800, 3600, 7200];

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alert {
    /// A finding, by its number: it is new, goes on after it was closed, or is worse.
    Finding(u64),
    /// Findings whose evidence has grown within the hour, by their numbers.
    Digest(BTreeSet<u64>),
}

/// What was told already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alerts {
    grown: BTreeSet<u64>,
    digest_at: u64,
}

impl Alerts {
    /// Takes what has changed at `now`, and returns what is to be told: each change once, and growth once an hour.
    pub fn take(&mut self, changes: &[Change], now: u64) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for change in changes {
            match change {
                Change::Opened(number) | Change::Reopened(number) | Change::Worsened(number) => {
                    alerts.push(Alert::Finding(*number));
                }
                Change::Grown(number) => {
                    self.grown.insert(*number);
                }
                Change::NoRoom => {}
            }
        }
        if !self.grown.is_empty() && now.saturating_sub(self.digest_at) >= DIGEST_S {
            self.digest_at = now;
            alerts.push(Alert::Digest(std::mem::take(&mut self.grown)));
        }
        alerts
    }
}

/// Returns the value of [`SIGNATURE_HEADER`] for a body that is sent at `now`. The time is signed with it, so that whoever
/// receives it can refuse what is old.
#[must_use]
pub fn signature(secret: &[u8], body: &[u8], now: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, &[now.to_string().as_bytes(), b".", body].concat());
    let mut value = format!("t={now},v1=");
    for byte in tag.as_ref() {
        // Writing to a text does not fail.
        let _ = write!(value, "{byte:02x}");
    }
    value
}

/// Returns the seconds until a webhook is tried again that has failed so often; `None` where it is given up.
#[must_use]
pub fn retry_s(failures: usize) -> Option<u64> {
    RETRY_S.get(failures.checked_sub(1)?).copied()
}

/// True where a webhook may be sent to an address. Asked of each address after its name was resolved, and the connection goes to that very
/// address: a name that resolves to the service's own network would have it ask there for whoever has set the webhook.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By the registry of special-purpose addresses (RFC 6890).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_of_protocols = (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99);
    let is_of_benchmarks = a == 198 && (18..20).contains(&b);
    !(a == 0
        || a >= 240
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || is_shared
        || is_of_protocols
        || is_of_benchmarks)
}

/// Global unicast addresses (2000::/3) without those that hold an address of IPv4, which may be any, and documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let is_global = first & 0xe000 == 0x2000;
    let is_6to4 = first == 0x2002;
    // Teredo, benchmarks, ORCHID and others of 2001::/23; and 2001:db8::/32, 3fff::/20.
    let is_special = first == 0x2001 && (second < 0x200 || second == 0xdb8);
    let is_documentation = first == 0x3fff && second < 0x1000;
    is_global && !is_6to4 && !is_special && !is_documentation
}

/// Returns the open findings in Prometheus' text format, with a line for each rule and severity.
#[must_use]
pub fn metrics(register: &Register) -> String {
    let open = |finding: &&FleetFinding| finding.state == State::Open;
    metrics_of(|rule, severity| {
        let of = |finding: &&FleetFinding| finding.key.rule == rule && finding.severity == severity;
        let count = register.findings().iter().filter(open).filter(of).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    })
}

/// Returns counts of open findings in Prometheus' text format, with a line for each rule and severity.
#[must_use]
pub fn metrics_of(count: impl Fn(Rule, Severity) -> u64) -> String {
    let mut text = "# HELP holdfast_findings Findings of threat detection that are open.\n\
                    # TYPE holdfast_findings gauge\n"
        .to_owned();
    for rule in Rule::ALL {
        for severity in Severity::ALL {
            let count = count(rule, severity);
            let (rule, severity) = (rule.word(), u8::from(severity));
            // Writing to a text does not fail.
            let _ = writeln!(
                text,
                "holdfast_findings{{rule=\"{rule}\",severity=\"{severity}\"}} {count}"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::finding::{About, Detection, Evidence, Key};
    use crate::detection::register::Closing;

    #[test]
    fn a_finding_is_told_once_and_its_growth_once_an_hour() {
        let mut alerts = Alerts::default();
        let start = 100_000;
        assert_eq!(alerts.take(&[Change::Opened(1)], start), [Alert::Finding(1)]);
        let told = alerts.take(&[Change::Grown(1)], start + 60);
        assert_eq!(told, [Alert::Digest(BTreeSet::from([1]))]);
        for minute in 2..61 {
            assert_eq!(alerts.take(&[Change::Grown(1), Change::Grown(2)], start + minute * 60), []);
        }
        let told = alerts.take(&[], start + 61 * 60);
        assert_eq!(told, [Alert::Digest(BTreeSet::from([1, 2]))]);
        assert_eq!(alerts.take(&[], start + 10 * DIGEST_S), [], "nothing has grown");
        let worse = [Change::Worsened(1), Change::Reopened(2), Change::NoRoom];
        assert_eq!(alerts.take(&worse, start), [Alert::Finding(1), Alert::Finding(2)]);
    }

    /// As `printf '%s' '1800000000.{}' | openssl dgst -sha256 -hmac secret` has it.
    #[test]
    fn a_signature_is_of_time_and_body() {
        let value = signature(b"secret", b"{}", 1_800_000_000);
        let (time, tag) = value.split_once(",v1=").unwrap();
        assert_eq!(
            (time, tag),
            ("t=1800000000", "bb7079132825ac793cea8c013c1dd24d926b9b02132245b10588d9e5c0df70d7")
        );
        assert_ne!(value, signature(b"secret", b"{}", 1_800_000_001));
        assert_ne!(value, signature(b"secret", b"{ }", 1_800_000_000));
        assert_ne!(value, signature(b"Secret", b"{}", 1_800_000_000));
    }

    #[test]
    fn a_webhook_is_tried_for_some_hours_and_given_up() {
        let all: Vec<u64> = (1..20).map_while(retry_s).collect();
        assert_eq!(all, RETRY_S);
        assert_eq!(retry_s(0), None, "it has not failed");
    }

    #[test]
    fn no_webhook_goes_to_the_services_own_network() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "2001:10::1",
            "3fff::1",
            "fec0::1",
            "::10.0.0.1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in
            ["9.9.9.9", "172.32.0.1", "100.128.0.1", "2620:fe::fe", "2a00::1", "::ffff:9.9.9.9"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn metrics_count_what_is_open_by_rule_and_severity() {
        let mut register = Register::default();
        let line = |register: &Register| {
            let text = metrics(register);
            assert_eq!(text.lines().count(), 2 + Rule::ALL.len() * 3);
            text.lines()
                .find(|line| line.contains("\"silence\",severity=\"2\""))
                .unwrap()
                .to_owned()
        };
        assert!(line(&register).ends_with("} 0"));
        let (key, severity) = (Key { rule: Rule::Silence, about: About::Group }, Severity::Today);
        register.take(&[Detection { key, severity, evidence: Evidence::default() }], 5);
        assert_eq!(line(&register), "holdfast_findings{rule=\"silence\",severity=\"2\"} 1");
        let closing = Closing { at: 6, by: "ole".to_owned(), reason: "maintenance".to_owned() };
        register.close(1, closing).unwrap();
        assert!(line(&register).ends_with("} 0"));
    }
}
