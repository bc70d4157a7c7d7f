//! Encoder of rulesets as `nfnetlink` messages to the kernel (linux/netfilter/nf_tables.h).
//!
//! A batch takes effect whole or not at all. Numbers of this family are big-endian; a value that is compared with a
//! register has the register's byte order.

use super::{
    Action, AddressSet, Chain, DeviceMap, Element, Hook, Match, Rule, Ruleset, Side, Timeouts,
    Version,
};
use holdfast_netlink::{APPEND, CREATE, Message};
use std::net::IpAddr;

/// `NFPROTO_INET`: both IP versions.
const INET: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`, as it stands in a message's type.
const NFTABLES: u16 = 10;
/// `NFT_OBJECT_CT_TIMEOUT`.
const TIMEOUTS: u32 = 7;
/// `NFT_REG_1`, the register that every value is loaded to: 16 bytes wide.
const REGISTER: u32 = 1;
/// `NFT_REG32_00`, the first four bytes of it.
const FIRST_SHORT_REGISTER: u32 = 8;
/// Name of the one table.
const TABLE: &str = "holdfast";

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
const NEW_OBJECT: u16 = 18;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new((NFTABLES << 8) | kind, flags, &header(INET, 0))
}

/// Puts messages between the marks that make them one transaction. Only the last one is acknowledged: thousands of
/// answers would not fit the queue of a socket.
fn batch(mut messages: Vec<Message>) -> Vec<Message> {
    let mark = |kind| Message::new(kind, 0, &header(0, NFTABLES));
    let last = messages.pop().map(Message::acknowledged);
    let mut all = vec![mark(BATCH_BEGIN)];
    all.extend(messages);
    all.extend(last);
    all.push(mark(BATCH_END));
    all
}

/// Makes the messages that replace the whole table by the ruleset.
#[must_use]
pub fn install(ruleset: &Ruleset) -> Vec<Message> {
    let table = |kind, flags| message(kind, flags).with_text(1, TABLE);
    // Made so that it can be deleted, deleted so that it is empty, and made.
    let mut messages =
        vec![table(NEW_TABLE, CREATE), table(DELETE_TABLE, 0), table(NEW_TABLE, CREATE)];
    messages.extend(ruleset.timeouts.iter().map(timeouts_message));
    messages.extend(ruleset.chains.iter().map(chain_message));
    let mut id = 0u32;
    for set in &ruleset.sets {
        id = id.saturating_add(1);
        messages.push(set_message(set, id));
    }
    for map in &ruleset.maps {
        id = id.saturating_add(1);
        messages.push(map_message(&map.name, id));
        if !map.chains.is_empty() {
            messages.push(map_elements(map));
        }
    }
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            messages.push(rule_message(&chain.name, rule));
        }
    }
    batch(messages)
}

/// Makes the messages that add elements to sets; an element that is there already gets the new timeout.
#[must_use]
pub fn add_elements(elements: &[Element]) -> Vec<Message> {
    batch(elements.iter().map(|element| element_message(NEW_ELEMENT, CREATE, element)).collect())
}

/// Makes the messages that remove elements from sets.
#[must_use]
pub fn delete_elements(elements: &[Element]) -> Vec<Message> {
    batch(elements.iter().map(|element| element_message(DELETE_ELEMENT, 0, element)).collect())
}

fn chain_message(chain: &Chain) -> Message {
    let mut message = message(NEW_CHAIN, CREATE).with_text(1, TABLE).with_text(3, &chain.name);
    if let Some(hook) = chain.base {
        // Number of the hook and priority (linux/netfilter_ipv4.h): raw, filter, and both translations; and
        // whether what no rule decides about is gone.
        let (number, priority, kind, drops) = match hook {
            Hook::Arriving => (0u32, -300i32, "filter", false),
            Hook::Prerouting => (0, -100, "nat", false),
            Hook::Input => (1, 0, "filter", true),
            Hook::Forward => (2, 0, "filter", true),
            Hook::Sent => (3, -300, "filter", false),
            Hook::Output => (3, 0, "filter", true),
            Hook::Postrouting => (4, 100, "nat", false),
        };
        message.put_nested(4, |nest| {
            nest.put(1, &number.to_be_bytes());
            nest.put(2, &priority.to_be_bytes());
        });
        message.put(5, &u32::from(!drops).to_be_bytes());
        message.put_text(7, kind);
    }
    message
}

fn timeouts_message(timeouts: &Timeouts) -> Message {
    let mut message = message(NEW_OBJECT, CREATE).with_text(1, TABLE).with_text(2, timeouts.name);
    number(&mut message, 3, TIMEOUTS);
    message.with_nested(4, |data| {
        data.put(2, &[timeouts.protocol]);
        data.put_nested(3, |states| {
            for (state, seconds) in timeouts.seconds {
                number(states, *state, *seconds);
            }
        });
    })
}

fn set_message(set: &AddressSet, id: u32) -> Message {
    const TIMEOUT: u32 = 0x10;
    const EVALUATED: u32 = 0x20;
    // Types are for programs that print rules: 7 is an IPv4 address, 8 an IPv6 address, 13 a port, and one behind
    // the other in steps of six bits.
    let kind: u32 = if set.version == Version::V4 { 7 } else { 8 };
    let kind = if set.with_ports { kind << 6 | 13 } else { kind };
    let port_bytes = if set.with_ports { PORT_BYTES } else { 0 };
    let flags = if set.timeouts { TIMEOUT } else { 0 } | if set.counts { EVALUATED } else { 0 };
    let mut message = message(NEW_SET, CREATE)
        .with_text(1, TABLE)
        .with_text(2, &set.name)
        .with(3, &flags.to_be_bytes())
        .with(4, &kind.to_be_bytes())
        .with(5, &set.version.bytes().saturating_add(port_bytes).to_be_bytes());
    message.put_nested(9, |nest| nest.put(1, &set.most.to_be_bytes()));
    message.put(10, &id.to_be_bytes());
    message
}

/// Bytes of a port in a key: registers have four.
const PORT_BYTES: u32 = 4;
/// Bytes of a device's name in a register.
const DEVICE_BYTES: u32 = 16;

fn map_message(name: &str, id: u32) -> Message {
    const MAP: u32 = 8;
    const DEVICE_NAME: u32 = 41;
    const VERDICT: u32 = 0xffff_ff00;
    message(NEW_SET, CREATE)
        .with_text(1, TABLE)
        .with_text(2, name)
        .with(3, &MAP.to_be_bytes())
        .with(4, &DEVICE_NAME.to_be_bytes())
        .with(5, &DEVICE_BYTES.to_be_bytes())
        .with(6, &VERDICT.to_be_bytes())
        .with(7, &0u32.to_be_bytes())
        .with(10, &id.to_be_bytes())
}

fn map_elements(map: &DeviceMap) -> Message {
    message(NEW_ELEMENT, CREATE).with_text(1, TABLE).with_text(2, &map.name).with_nested(
        3,
        |elements| {
            for (device, chain) in &map.chains {
                elements.put_nested(1, |element| {
                    element.put_nested(1, |key| key.put(1, &device_register(device)));
                    element.put_nested(2, |data| put_verdict(data, GOTO, Some(chain)));
                });
            }
        },
    )
}

fn element_message(kind: u16, flags: u16, element: &Element) -> Message {
    message(kind, flags).with_text(1, TABLE).with_text(2, &element.set).with_nested(3, |elements| {
        elements.put_nested(1, |one| {
            let mut key = octets(element.address);
            if let Some(port) = element.port {
                key.extend(port.to_be_bytes());
                key.extend([0; 2]);
            }
            one.put_nested(1, |nest| nest.put(1, &key));
            if let Some(timeout) = element.timeout_ms {
                one.put(4, &timeout.to_be_bytes());
                one.put(5, &timeout.to_be_bytes());
            }
        });
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn device_register(name: &str) -> Vec<u8> {
    let mut register = name.as_bytes().to_vec();
    register.resize(16, 0);
    register
}

const ACCEPT: i32 = 1;
const DROP: i32 = 0;
const GOTO: i32 = -4;

fn put_verdict(nest: &mut Message, code: i32, chain: Option<&str>) {
    nest.put_nested(2, |verdict| {
        verdict.put(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            verdict.put_text(2, chain);
        }
    });
}

fn rule_message(chain: &str, rule: &Rule) -> Message {
    message(NEW_RULE, CREATE | APPEND).with_text(1, TABLE).with_text(2, chain).with_nested(
        4,
        |expressions| {
            for one in &rule.matches {
                put_match(expressions, one);
            }
            put_action(expressions, &rule.action);
        },
    )
}

fn put_expression(expressions: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    expressions.put_nested(1, |element| {
        element.put_text(1, name);
        element.put_nested(2, fill);
    });
}

fn number(nest: &mut Message, kind: u16, value: u32) {
    nest.put(kind, &value.to_be_bytes());
}

#[derive(Clone, Copy)]
enum Compare {
    Equal = 0,
    Different = 1,
    AtMost = 3,
    AtLeast = 5,
}

fn compare(expressions: &mut Message, how: Compare, value: &[u8]) {
    put_expression(expressions, "cmp", |nest| {
        number(nest, 1, REGISTER);
        number(nest, 2, how as u32);
        nest.put_nested(3, |data| data.put(1, value));
    });
}

/// Loads a property that the kernel knows of a packet beside its bytes (`enum nft_meta_keys`).
fn load_meta(expressions: &mut Message, key: u32) {
    put_expression(expressions, "meta", |nest| {
        number(nest, 1, REGISTER);
        number(nest, 2, key);
    });
}

#[derive(Clone, Copy)]
enum Header {
    Network = 1,
    Transport = 2,
}

fn load_payload(expressions: &mut Message, base: Header, offset: u32, length: u32) {
    load_payload_to(expressions, REGISTER, base, offset, length);
}

fn load_payload_to(
    expressions: &mut Message,
    register: u32,
    base: Header,
    offset: u32,
    length: u32,
) {
    put_expression(expressions, "payload", |nest| {
        number(nest, 1, register);
        number(nest, 2, base as u32);
        number(nest, 3, offset);
        number(nest, 4, length);
    });
}

fn mask(expressions: &mut Message, mask: &[u8]) {
    put_expression(expressions, "bitwise", |nest| {
        number(nest, 1, REGISTER);
        number(nest, 2, REGISTER);
        number(nest, 3, u32::try_from(mask.len()).unwrap_or(0));
        nest.put_nested(4, |data| data.put(1, mask));
        nest.put_nested(5, |data| data.put(1, &vec![0; mask.len()]));
    });
}

/// Matches bits of a property of the connection (`enum nft_ct_keys`).
fn connection_bits(expressions: &mut Message, key: u32, bits: u32) {
    put_expression(expressions, "ct", |nest| {
        number(nest, 1, REGISTER);
        number(nest, 2, key);
    });
    mask(expressions, &bits.to_ne_bytes());
    compare(expressions, Compare::Different, &0u32.to_ne_bytes());
}

fn version(expressions: &mut Message, version: Version) {
    load_meta(expressions, 15);
    compare(expressions, Compare::Equal, &[version.family()]);
}

/// Masks the loaded address to its first bits.
fn mask_prefix(expressions: &mut Message, of: Version, length: u8) {
    if u32::from(length) < of.bytes().saturating_mul(8) {
        let all = match of {
            Version::V4 => IpAddr::V4(u32::MAX.into()),
            Version::V6 => IpAddr::V6(u128::MAX.into()),
        };
        mask(
            expressions,
            &holdfast_sandbox::network::grants::masked(all, length).map(octets).unwrap_or_default(),
        );
    }
}

fn put_address(
    expressions: &mut Message,
    address: IpAddr,
    length: u8,
    (v4_offset, v6_offset): (u32, u32),
    how: Compare,
) {
    let of = Version::of(address);
    version(expressions, of);
    if length == 0 {
        return;
    }
    let offset = if of == Version::V4 { v4_offset } else { v6_offset };
    load_payload(expressions, Header::Network, offset, of.bytes());
    mask_prefix(expressions, of, length);
    compare(expressions, how, &octets(address));
}

/// Offsets of source and destination in IPv4 and IPv6 headers (RFC 791, RFC 8200).
const SOURCE: (u32, u32) = (12, 8);
const DESTINATION: (u32, u32) = (16, 24);
const FROM_NAME: u32 = 6;
const TO_NAME: u32 = 7;

fn is_or_not(is: bool) -> Compare {
    if is { Compare::Equal } else { Compare::Different }
}

fn put_match(expressions: &mut Message, one: &Match) {
    match one {
        Match::From(name) | Match::To(name) => {
            let is_from = matches!(one, Match::From(_));
            load_meta(expressions, if is_from { FROM_NAME } else { TO_NAME });
            compare(expressions, Compare::Equal, &device_register(name));
        }
        Match::FromDevices(prefix, is) => {
            load_meta(expressions, FROM_NAME);
            compare(expressions, is_or_not(*is), prefix.as_bytes());
        }
        Match::ToDevices(prefix, is) => {
            load_meta(expressions, TO_NAME);
            compare(expressions, is_or_not(*is), prefix.as_bytes());
        }
        Match::Source(address, length, is) => {
            put_address(expressions, *address, *length, SOURCE, is_or_not(*is));
        }
        Match::Destination(address, length) => {
            put_address(expressions, *address, *length, DESTINATION, Compare::Equal);
        }
        Match::DestinationIn(set, of) | Match::DestinationAndPortIn(set, of) => {
            version(expressions, *of);
            let offset = if *of == Version::V4 { DESTINATION.0 } else { DESTINATION.1 };
            load_payload(expressions, Header::Network, offset, of.bytes());
            if matches!(one, Match::DestinationAndPortIn(..)) {
                // Into the register of four bytes behind the address; those of the one of 16 bytes are the first.
                let behind = FIRST_SHORT_REGISTER.saturating_add(of.bytes() / 4);
                load_payload_to(expressions, behind, Header::Transport, 2, 2);
            }
            put_expression(expressions, "lookup", |nest| {
                nest.put_text(1, set);
                number(nest, 2, REGISTER);
            });
        }
        Match::Protocol(protocol) => {
            load_meta(expressions, 16);
            compare(expressions, Compare::Equal, &[*protocol]);
        }
        Match::SourcePort(port) => {
            load_payload(expressions, Header::Transport, 0, 2);
            compare(expressions, Compare::Equal, &port.to_be_bytes());
        }
        Match::Ports(range) => {
            load_payload(expressions, Header::Transport, 2, 2);
            if range.first == range.last {
                compare(expressions, Compare::Equal, &range.first.to_be_bytes());
            } else {
                compare(expressions, Compare::AtLeast, &range.first.to_be_bytes());
                compare(expressions, Compare::AtMost, &range.last.to_be_bytes());
            }
        }
        Match::State(states) => connection_bits(expressions, 0, *states),
        // IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h).
        Match::Translated => connection_bits(expressions, 2, 1 << 5),
        Match::Icmp6(kind) => {
            load_meta(expressions, 16);
            compare(expressions, Compare::Equal, &[58]);
            load_payload(expressions, Header::Transport, 0, 1);
            compare(expressions, Compare::Equal, &[*kind]);
        }
        Match::Owner(uid) => {
            load_meta(expressions, 10);
            compare(expressions, Compare::Equal, &uid.to_ne_bytes());
        }
        Match::OverConnections(most) => {
            put_expression(expressions, "connlimit", |nest| put_over(nest, *most));
        }
        Match::OverConnectionsFrom(set, of, length, most) => {
            version(expressions, *of);
            let offset = if *of == Version::V4 { SOURCE.0 } else { SOURCE.1 };
            load_payload(expressions, Header::Network, offset, of.bytes());
            mask_prefix(expressions, *of, *length);
            put_expression(expressions, "dynset", |nest| {
                nest.put_text(1, set);
                number(nest, 3, 0); // NFT_DYNSET_OP_ADD
                number(nest, 4, REGISTER);
                nest.put_nested(7, |counted| {
                    counted.put_text(1, "connlimit");
                    counted.put_nested(2, |nest| put_over(nest, *most));
                });
            });
        }
        Match::Rate(per_second) => {
            put_expression(expressions, "limit", |nest| {
                put_limit(nest, *per_second, *per_second, 0);
            });
        }
        Match::OverRate(per_second, burst) => {
            put_expression(expressions, "limit", |nest| {
                put_limit(nest, *per_second, *burst, 1); // NFT_LIMIT_F_INV
            });
        }
    }
}

fn put_over(connlimit: &mut Message, most: u32) {
    number(connlimit, 1, most);
    number(connlimit, 2, 1); // NFT_CONNLIMIT_F_INV: when there are more.
}

fn put_limit(limit: &mut Message, per_second: u32, burst: u32, flags: u32) {
    limit.put(1, &u64::from(per_second).to_be_bytes());
    limit.put(2, &1u64.to_be_bytes());
    number(limit, 3, burst);
    number(limit, 4, 0);
    number(limit, 5, flags);
}

fn put_immediate_verdict(expressions: &mut Message, code: i32, chain: Option<&str>) {
    put_expression(expressions, "immediate", |nest| {
        number(nest, 1, 0); // NFT_REG_VERDICT
        nest.put_nested(2, |data| put_verdict(data, code, chain));
    });
}

fn put_action(expressions: &mut Message, action: &Action) {
    match action {
        Action::Accept => put_immediate_verdict(expressions, ACCEPT, None),
        Action::Drop => put_immediate_verdict(expressions, DROP, None),
        Action::Reject => put_expression(expressions, "reject", |nest| {
            number(nest, 1, 2); // NFT_REJECT_ICMPX_UNREACH
            nest.put(2, &[3]); // NFT_REJECT_ICMPX_ADMIN_PROHIBITED
        }),
        Action::Log(group, prefix) => put_expression(expressions, "log", |nest| {
            nest.put(1, &group.to_be_bytes());
            nest.put_text(2, prefix);
            number(nest, 3, 64);
            nest.put(4, &1u16.to_be_bytes()); // Not kept back to be sent with others.
        }),
        Action::Dispatch(side, map) => {
            load_meta(expressions, if *side == Side::From { FROM_NAME } else { TO_NAME });
            put_expression(expressions, "lookup", |nest| {
                nest.put_text(1, map);
                number(nest, 2, REGISTER);
                number(nest, 3, 0); // NFT_REG_VERDICT
            });
        }
        Action::Continue(chain) => put_immediate_verdict(expressions, GOTO, Some(chain)),
        Action::Untracked => put_expression(expressions, "notrack", |_| {}),
        Action::Timeouts(name) => put_expression(expressions, "objref", |nest| {
            number(nest, 1, TIMEOUTS);
            nest.put_text(2, name);
        }),
        Action::Masquerade => put_expression(expressions, "masq", |_| {}),
        Action::Translate(address) => {
            put_expression(expressions, "immediate", |nest| {
                number(nest, 1, REGISTER);
                nest.put_nested(2, |data| data.put(1, &octets(*address)));
            });
            put_expression(expressions, "nat", |nest| {
                number(nest, 1, 1); // NFT_NAT_DNAT
                number(nest, 2, u32::from(Version::of(*address).family()));
                number(nest, 3, REGISTER);
            });
        }
    }
}
