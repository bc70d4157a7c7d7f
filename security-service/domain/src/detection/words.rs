//! What rules speak of, in words: for alerts, lists and logs. Nothing of it is a text that a device or a stranger has chosen.

use super::containment::Action;
use super::finding::About;
use super::subject::{CrashSite, Destination, Network, Part, Subject};
use holdfast_failure_reports::record::{Crash, End, Outcome, Panic, Place, Protocol, Where};
use std::fmt::{Display, Formatter, Result};
use std::net::{Ipv4Addr, Ipv6Addr};

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::App(id) => write!(f, "app {id}"),
            Self::Service(name) => write!(f, "service {}", name.as_str()),
            Self::Os => f.write_str("os"),
            Self::Unknown => f.write_str("what no device has attested"),
        }
    }
}

impl Display for Subject {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (self.version, &self.part) {
            (Some(version), part) => write!(f, "{part} {version}"),
            (None, Part::Unknown) => write!(f, "{}", self.part),
            (None, part) => write!(f, "{part} of a version that no device has attested"),
        }
    }
}

impl Display for Destination {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
            Protocol::Other => "another protocol",
        })?;
        if let Some(port) = self.port {
            write!(f, " {port}")?;
        }
        f.write_str(match self.to {
            Where::Public => ", public",
            Where::Private => ", private",
            Where::Link => ", on the link",
            Where::Multicast => ", multicast",
            Where::Device => ", on the device",
        })
    }
}

fn place(place: &Place, f: &mut Formatter<'_>) -> Result {
    match &place.build_id {
        Some(build_id) => write!(f, "{build_id}+{:#x}", place.offset),
        None => write!(f, "{:#x}", place.offset),
    }
}

impl Display for CrashSite {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.end.word())?;
        if let End::Exit(number) | End::Signal(number) = self.end {
            write!(f, " {number}")?;
        }
        if let Some(Crash { pc, .. }) = &self.crash {
            f.write_str(" at ")?;
            place(pc, f)?;
        }
        if let Some(Panic { message, file, line }) = &self.panic {
            write!(f, ", panic {message:016x} in file {file:04x} at line {line}")?;
        }
        Ok(())
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "committed",
        Outcome::FellBack => "fell back",
        Outcome::RefusedSignature => "refused for its signature",
        Outcome::RefusedExpired => "refused, as its metadata has expired",
        Outcome::RefusedRollback => "refused below the floor",
        Outcome::RefusedContent => "refused for its content",
        Outcome::Failed => "failed",
        Outcome::Declined => "declined for its cost",
    }
}

impl Display for About {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Subject(subject) => write!(f, "{subject}"),
            Self::Destination(part, destination) => write!(f, "{part} to {destination}"),
            Self::Crash(subject, site) => write!(f, "{subject}, {site}"),
            Self::Refusal(part, why) => write!(f, "releases of {part}: {}", outcome(*why)),
            Self::Device(finding) => f.write_str(finding.word()),
            Self::Group => f.write_str("all devices of the group"),
            Self::Service => f.write_str("the service"),
        }
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::new(a, b, c, 0)),
            Self::V6([a, b, c, d, e, g]) => {
                let segment = |high, low| u16::from_be_bytes([high, low]);
                let (one, two, three) = (segment(a, b), segment(c, d), segment(e, g));
                write!(f, "{}/48", Ipv6Addr::new(one, two, three, 0, 0, 0, 0, 0))
            }
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::HaltDeployments(part) => write!(f, "halt deployments of {part}"),
            Self::ResumeDeployments(part) => write!(f, "resume deployments of {part}"),
            Self::QuarantineVersion(subject) => write!(f, "quarantine {subject}"),
            Self::EndQuarantine(subject) => write!(f, "end the quarantine of {subject}"),
            Self::QuarantineDevice(device) => write!(f, "quarantine device {device}"),
            Self::EndQuarantineOfDevice(device) => {
                write!(f, "end the quarantine of device {device}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_failure_reports::samples;
    use holdfast_types::{ComponentId, Version};

    #[test]
    fn what_a_finding_is_about_is_said_in_words() {
        let version = Some(Version { major: 2, minor: 1, patch: 0 });
        let part = || Part::App(ComponentId([0x25; 16]));
        let app = "app 25252525-2525-2525-2525-252525252525";
        let site = CrashSite::of(&samples::ended());
        let to = Destination::of(&samples::refused());
        for (about, text) in [
            (About::Subject(Subject { part: part(), version }), format!("{app} 2.1.0")),
            (About::Destination(part(), to), format!("{app} to tcp 23, public")),
            (
                About::Crash(Subject { part: part(), version }, site),
                format!(
                    "{app} 2.1.0, signal 11 at {}+0x12a44, panic 0123456789abcdef in file 3344 at line 42",
                    "b1".repeat(20)
                ),
            ),
            (
                About::Refusal(Part::Os, Outcome::RefusedExpired),
                "releases of os: refused, as its metadata has expired".to_owned(),
            ),
            (
                About::Subject(Subject { part: Part::Unknown, version: None }),
                "what no device has attested".to_owned(),
            ),
        ] {
            assert_eq!(about.to_string(), text);
        }
    }
}
