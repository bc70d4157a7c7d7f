//! The names of the rules.

use serde::{Deserialize, Serialize};

macro_rules! rules {
    ($($variant:ident = $word:literal: $sees:literal, $does:literal);+ $(;)?) => {
        /// A rule of threat detection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Rule {
            $(#[doc = $sees] $variant),+
        }

        impl Rule {
            /// All rules.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// Returns its name, as JSON, metrics and pages have it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Returns what it sees, in one sentence.
            #[must_use]
            pub fn sees(self) -> &'static str {
                match self { $(Self::$variant => $sees),+ }
            }

            /// Returns what to do about it, in one sentence or two.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $does),+ }
            }
        }
    };
}

rules! {
    Scan = "scan":
        "An app's packets to many addresses at few ports were refused on one device.",
        "Look at the app's crashes on that device and quarantine the device; where others follow, it is an outbreak.";
    Outbreak = "outbreak":
        "Devices that run the same version of an app try many addresses at the same port.",
        "Contain: the version gets no certificates for peers and is not deployed further. Then release a correction.";
    ExploitThenCall = "exploit-then-call":
        "A component has crashed at the same place on several devices, and each then tried a destination that is new for it.",
        "Contain, and treat the crash as a vulnerability that is used: its place is in the evidence.";
    Sandbox = "sandbox":
        "A component made a system call that its sandbox refuses, or its package did not verify.",
        "On one device: a defect of the app, or of the storage. On several: contain, and look at the crash group.";
    NewDestination = "new-destination":
        "Several devices have begun to try a destination that no manifest grants and none of them has tried before.",
        "Ask who wrote the app whether it is theirs; where it is, grant it or remove it.";
    Flood = "flood":
        "An app sends and receives far more in an hour than its version does on other devices.",
        "Look at what the app was asked to do; contain where it was nobody.";
    Measurement = "measurement":
        "A device has measured what is no release, or claims what does not agree with it.",
        "The device has no certificates already. Find out who had it in hand, and reinstall it.";
    Clone = "clone":
        "Two devices use one identity, or a device's state was put back.",
        "Retire the identity and enrol the right device anew.";
    Rollback = "rollback":
        "Devices were offered releases that are not signed, expired, or older than they may take.",
        "With signatures: somebody is between devices and repository, or has its server. With expiry: publish a new timestamp.";
    Fallback = "fallback":
        "A release fails on a share of its devices, which return to the one before.",
        "Contain: it is not deployed further. Then look at the crash groups that are new in it.";
    BootLoop = "boot-loop":
        "Devices that run a release fail to stay up and boot again and again.",
        "Contain: it is not deployed further. The records have the reasons of the resets.";
    Silence = "silence":
        "More devices than chance explains have not checked in, or the service itself was away.",
        "Look at the way to the service first: other groups, name servers, certificates of the service.";
    Clock = "clock":
        "Clocks of devices were set back, were to be set to what they refuse, or run ahead.",
        "Look at the time servers of these networks.";
    Enrol = "enrol":
        "Somebody tries to enrol again and again and does not hold the key.",
        "Refuse the network in front of the service, where it is nobody's factory.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_one_name() {
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{}\"", rule.word()));
        }
    }
}
