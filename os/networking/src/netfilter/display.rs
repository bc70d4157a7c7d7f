//! Rules for people, in the words of `nft` (nft(8)).

use super::{Action, Match, Rule, Side};
use std::fmt;

/// Formats a rule in the words of `nft`.
impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            match one {
                Match::From(name) => write!(formatter, "iifname {name} ")?,
                Match::FromDevices(prefix, true) => write!(formatter, "iifname {prefix}* ")?,
                Match::FromDevices(prefix, false) => write!(formatter, "iifname != {prefix}* ")?,
                Match::To(name) => write!(formatter, "oifname {name} ")?,
                Match::ToDevices(prefix, true) => write!(formatter, "oifname {prefix}* ")?,
                Match::ToDevices(prefix, false) => write!(formatter, "oifname != {prefix}* ")?,
                Match::Source(address, length, true) => {
                    write!(formatter, "saddr {address}/{length} ")?;
                }
                Match::Source(address, length, false) => {
                    write!(formatter, "saddr != {address}/{length} ")?;
                }
                Match::Destination(address, length) => {
                    write!(formatter, "daddr {address}/{length} ")?;
                }
                Match::DestinationIn(set, _) => write!(formatter, "daddr @{set} ")?,
                Match::DestinationAndPortIn(set, _) => {
                    write!(formatter, "daddr . dport @{set} ")?;
                }
                Match::Protocol(number) => write!(formatter, "l4proto {number} ")?,
                Match::SourcePort(port) => write!(formatter, "sport {port} ")?,
                Match::Ports(range) => write!(formatter, "dport {range} ")?,
                Match::State(states) => write!(formatter, "ct state {states:#x} ")?,
                Match::Translated => write!(formatter, "ct status dnat ")?,
                Match::Icmp6(kind) => write!(formatter, "icmpv6 type {kind} ")?,
                Match::Owner(uid) => write!(formatter, "skuid {uid} ")?,
                Match::OverConnections(most) => write!(formatter, "ct count over {most} ")?,
                Match::OverConnectionsFrom(set, _, length, most) => {
                    write!(formatter, "add @{set} {{ saddr/{length} ct count over {most} }} ")?;
                }
                Match::OverRate(rate, burst) => {
                    write!(formatter, "limit rate over {rate}/second burst {burst} packets ")?;
                }
                Match::Rate(rate) => write!(formatter, "limit rate {rate}/second ")?,
            }
        }
        match &self.action {
            Action::Accept => formatter.write_str("accept"),
            Action::Drop => formatter.write_str("drop"),
            Action::Reject => formatter.write_str("reject with icmpx admin-prohibited"),
            Action::Log(group, prefix) => write!(formatter, "log group {group} prefix {prefix}"),
            Action::Dispatch(Side::From, map) => write!(formatter, "iifname vmap @{map}"),
            Action::Dispatch(Side::To, map) => write!(formatter, "oifname vmap @{map}"),
            Action::Continue(chain) => write!(formatter, "goto {chain}"),
            Action::Untracked => formatter.write_str("notrack"),
            Action::Timeouts(name) => write!(formatter, "ct timeout set {name}"),
            Action::Masquerade => formatter.write_str("masquerade"),
            Action::Translate(address) => write!(formatter, "dnat to {address}"),
        }
    }
}
