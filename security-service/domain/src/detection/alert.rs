//! Alerts: which changes of findings somebody is told of at once, what the hourly digest has and what is told, and how a webhook is
//! signed, addressed and tried again. Nothing here sends anything.

use super::finding::Severity;
use super::register::{Change, FleetFinding, Register, State};
use super::rule::Rule;
use ring::hmac;
use serde::{Deserialize, Serialize};
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
    /// There are too many open findings: some made room for worse ones, or have none. Told once, until there is room again.
    Overflow,
}

/// Most findings that one alert tells of: a digest of more is several alerts.
pub const MAX_TOLD: usize = 100;

/// What was told already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    grown: BTreeSet<u64>,
    digest_at: u64,
    /// That there are too many was told.
    #[serde(default)]
    overflow: bool,
}

impl Alerts {
    /// Takes what has changed at `now`, and returns what is to be told: each change once, and growth once an hour. `has_room`: there is room in
    /// the register.
    pub fn take(&mut self, changes: &[Change], has_room: bool, now: u64) -> Vec<Alert> {
        let mut alerts = Vec::new();
        self.overflow &= !has_room;
        for change in changes {
            match change {
                Change::Opened(number) | Change::Reopened(number) | Change::Worsened(number) => {
                    alerts.push(Alert::Finding(*number));
                }
                Change::Grown(number) => {
                    self.grown.insert(*number);
                }
                Change::Displaced(number) => {
                    self.grown.remove(number);
                }
                Change::NoRoom => {}
            }
            let overflows = matches!(change, Change::Displaced(_) | Change::NoRoom);
            if overflows && !std::mem::replace(&mut self.overflow, true) {
                alerts.push(Alert::Overflow);
            }
        }
        if !self.grown.is_empty() && now.saturating_sub(self.digest_at) >= DIGEST_S {
            self.digest_at = now;
            alerts.push(Alert::Digest(std::mem::take(&mut self.grown)));
        }
        alerts
    }
}

impl Alerts {
    /// True while something has grown that the next digest is to tell of.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.grown.is_empty()
    }
}

/// Whose findings an alert tells of.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The catalog's id.
    pub catalog: &'a str,
    /// The product; empty for devices that are in none.
    pub product: &'a str,
    /// The group.
    pub group: &'a str,
}

/// An alert, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The worst severity of what it tells of.
    pub severity: Severity,
    /// `finding`, `digest` or `overflow`.
    pub kind: &'static str,
    /// JSON.
    pub body: String,
}

#[derive(Serialize)]
struct Body<'a> {
    catalog: &'a str,
    product: &'a str,
    group: &'a str,
    at: u64,
    kind: &'static str,
    findings: Vec<Told>,
}

#[derive(Serialize)]
struct Told {
    number: u64,
    rule: Rule,
    severity: Severity,
    about: String,
    devices: u32,
    first: u64,
    last: u64,
    sees: &'static str,
    remedy: &'static str,
}

impl Told {
    fn of(finding: &FleetFinding) -> Self {
        let FleetFinding { number, key, severity, evidence, .. } = finding;
        Self {
            number: *number,
            rule: key.rule,
            severity: *severity,
            about: key.about.to_string(),
            devices: evidence.count,
            first: evidence.first,
            last: evidence.last,
            sees: key.rule.sees(),
            remedy: key.rule.remedy(),
        }
    }
}

/// Returns alerts of a group as they are sent at `now`. What has no finding any more is not told of.
#[must_use]
pub fn messages(alerts: &[Alert], register: &Register, place: Place<'_>, now: u64) -> Vec<Message> {
    let mut messages = Vec::new();
    for alert in alerts {
        let (kind, numbers) = match alert {
            Alert::Finding(number) => ("finding", vec![*number]),
            Alert::Digest(numbers) => ("digest", numbers.iter().copied().collect()),
            Alert::Overflow => ("overflow", worst(register)),
        };
        let findings = numbers.iter().filter_map(|number| register.get(*number));
        let mut findings: Vec<&FleetFinding> = findings.collect();
        findings.sort_by_key(|finding| (finding.severity, finding.number));
        for some in findings.chunks(MAX_TOLD) {
            messages.extend(message(kind, some, place, now));
        }
    }
    messages
}

/// Returns the numbers of the worst findings that are open, as many as one alert tells of.
fn worst(register: &Register) -> Vec<u64> {
    let open = register.findings().iter().filter(|finding| finding.state == State::Open);
    let mut open: Vec<&FleetFinding> = open.collect();
    open.sort_by_key(|finding| (finding.severity, finding.number));
    open.iter().take(MAX_TOLD).map(|finding| finding.number).collect()
}

fn message(
    kind: &'static str,
    findings: &[&FleetFinding],
    place: Place<'_>,
    now: u64,
) -> Option<Message> {
    let severity = findings.iter().map(|finding| finding.severity).min()?;
    let Place { catalog, product, group } = place;
    let findings = findings.iter().map(|finding| Told::of(finding)).collect();
    let body = Body { catalog, product, group, at: now, kind, findings };
    // Texts and numbers: nothing in it fails to be written.
    let body = serde_json::to_string(&body).ok()?;
    Some(Message { severity, kind, body })
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
    use crate::detection::subject::{Destination, Part};
    use holdfast_failure_reports::record::{Protocol, Where};

    #[test]
    fn a_finding_is_told_once_and_its_growth_once_an_hour() {
        let mut alerts = Alerts::default();
        let start = 100_000;
        assert_eq!(alerts.take(&[Change::Opened(1)], true, start), [Alert::Finding(1)]);
        let told = alerts.take(&[Change::Grown(1)], true, start + 60);
        assert_eq!(told, [Alert::Digest(BTreeSet::from([1]))]);
        for minute in 2..61 {
            assert_eq!(
                alerts.take(&[Change::Grown(1), Change::Grown(2)], true, start + minute * 60),
                []
            );
        }
        let told = alerts.take(&[], true, start + 61 * 60);
        assert_eq!(told, [Alert::Digest(BTreeSet::from([1, 2]))]);
        assert_eq!(alerts.take(&[], true, start + 10 * DIGEST_S), [], "nothing has grown");
        let worse = [Change::Worsened(1), Change::Reopened(2), Change::NoRoom];
        let told = [Alert::Finding(1), Alert::Finding(2), Alert::Overflow];
        assert_eq!(alerts.take(&worse, true, start), told);
    }

    #[test]
    fn an_overflow_is_told_once_until_there_is_room_again() {
        let mut alerts = Alerts::default();
        let full = [Change::Displaced(1), Change::Opened(1001), Change::NoRoom];
        assert_eq!(alerts.take(&full, false, 60), [Alert::Overflow, Alert::Finding(1001)]);
        assert_eq!(alerts.take(&[Change::NoRoom], false, 120), []);
        assert_eq!(alerts.take(&[], true, 180), []);
        assert_eq!(alerts.take(&[Change::NoRoom], false, 240), [Alert::Overflow]);
    }

    #[test]
    fn an_overflow_names_the_worst_that_is_open() {
        let mut register = Register::default();
        for (about, severity) in [(About::Group, Severity::Today), (About::Service, Severity::Now)]
        {
            let key = Key { rule: Rule::Silence, about };
            register.take(&[Detection { key, severity, evidence: Evidence::default() }], 5);
        }
        let place = Place { catalog: "c", product: "pump", group: "eval" };
        let told = messages(&[Alert::Overflow], &register, place, 60);
        assert_eq!((told.len(), told[0].kind, told[0].severity), (1, "overflow", Severity::Now));
        assert!(told[0].body.find("\"number\":2") < told[0].body.find("\"number\":1"));
    }

    #[test]
    fn an_alert_says_of_each_finding_what_it_is_and_what_to_do() {
        let mut register = Register::default();
        let evidence = Evidence { count: 9, first: 3, last: 5, ..Evidence::default() };
        for (about, severity) in [(About::Group, Severity::Today), (About::Service, Severity::Now)]
        {
            let key = Key { rule: Rule::Silence, about };
            register.take(&[Detection { key, severity, evidence: evidence.clone() }], 5);
        }
        let place = Place { catalog: "c", product: "pump", group: "eval" };
        let told = messages(&[Alert::Finding(1)], &register, place, 60);
        assert_eq!((told.len(), told[0].kind, told[0].severity), (1, "finding", Severity::Today));
        let expected = format!(
            "{{\"catalog\":\"c\",\"product\":\"pump\",\"group\":\"eval\",\"at\":60,\"kind\":\"finding\",\
            \"findings\":[{{\"number\":1,\"rule\":\"silence\",\"severity\":2,\
            \"about\":\"all devices of the group\",\"devices\":9,\"first\":3,\"last\":5,\
            \"sees\":\"{}\",\"remedy\":\"{}\"}}]}}",
            Rule::Silence.sees(),
            Rule::Silence.remedy()
        );
        assert_eq!(told[0].body, expected);
        let digest = Alert::Digest(BTreeSet::from([1, 2, 3]));
        let told = messages(&[digest, Alert::Finding(7)], &register, place, 60);
        assert_eq!((told.len(), told[0].kind, told[0].severity), (1, "digest", Severity::Now));
        assert!(
            told[0].body.find("\"number\":2") < told[0].body.find("\"number\":1"),
            "the worst first"
        );
    }

    #[test]
    fn a_digest_of_many_findings_is_several_alerts() {
        let mut register = Register::default();
        for port in 0..250u16 {
            let to = Destination { protocol: Protocol::Tcp, port: Some(port), to: Where::Public };
            let key = Key { rule: Rule::NewDestination, about: About::Destination(Part::Os, to) };
            let (severity, evidence) = (Severity::Today, Evidence::default());
            register.take(&[Detection { key, severity, evidence }], 5);
        }
        let place = Place { catalog: "c", product: "", group: "" };
        let digest = Alert::Digest((1..=250).collect());
        let told = messages(&[digest], &register, place, 60);
        let counts = told.iter().map(|one| one.body.matches("\"number\"").count());
        assert_eq!(counts.collect::<Vec<_>>(), [100, 100, 50]);
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
            let open = |finding: &&FleetFinding| finding.state == State::Open;
            let text = metrics_of(|rule, severity| {
                let of = |it: &&FleetFinding| it.key.rule == rule && it.severity == severity;
                let count = register.findings().iter().filter(open).filter(of).count();
                u64::try_from(count).unwrap()
            });
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
