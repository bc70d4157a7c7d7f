//! What is demanded of every parser of foreign bytes, for any bytes: an answer, in bounds, and what
//! was accepted is written and read again as the same.
//!
//! `cargo holdfast test fuzz` runs each function here as a libFuzzer target, from the corpus in
//! `fuzz/corpora/NAME`. A panic is a finding. All of them are in one program (`main.rs`), which is told a name.
#![allow(clippy::panic, reason = "a panic is a finding")]

use holdfast_images::boot::{self, signature};
use holdfast_images::{package, root, sha256};
use holdfast_lifecycle::boot_loader::{BootLoader, Copy, Form, Place, outdated};
use holdfast_lifecycle::clock;
use holdfast_lifecycle::factory_reset::{Blank, Record};
use holdfast_lifecycle::log_line::{LineAssembler, MAX_LINE_BYTES};
use holdfast_lifecycle::partition_table as table;
use holdfast_lifecycle::slots::{self, RunningSlot, Slot};
use holdfast_lifecycle::uid_table::{self, UidTable};
use holdfast_manifest::elf as elf_file;
use holdfast_netlink as netlink;
use holdfast_networking::config::NetworkConfig;
use holdfast_networking::dhcp::{self, Answer, Client};
use holdfast_networking::name_proxy::{self, Decision, Kind, Lookup, Surroundings};
use holdfast_networking::resolution::Arriving;
use holdfast_networking::status::NetworkStatus;
use holdfast_networking::{dhcp6, packet_denied, route, sntp};
use holdfast_release::Memory;
use holdfast_release::bundle::{self, Index};
use holdfast_release::client::{Client as ReleaseClient, Trusted};
use holdfast_release::delta::{Bytes, DeltaError, Patcher};
use holdfast_release::fetch::{self, AgentRequest};
use holdfast_release::metadata::{self, Metadata, Root, Snapshot, Targets, Timestamp};
use holdfast_sandbox::app_manifest::AppManifest;
use holdfast_sandbox::component::ComponentList;
use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::network::{Connection, Destination, NetworkGrants};
use holdfast_sandbox::notify;
use holdfast_sandbox::package::{HEADER_BYTES, Header};
use holdfast_sandbox::policy::{self, admission};
use holdfast_sandbox::wire as protocol;
use holdfast_types::ComponentId;

use std::net::{IpAddr, Ipv4Addr};

mod core_notes;
mod device_port;
mod evidence;
mod reports;
mod service;
mod symbols;

pub use core_notes::core_notes;
pub use device_port::{device_message, http_head, identity_exchange, issued_certificate, voucher};
pub use evidence::{claims, tpm_attest, tpm_public, tpm_response};
pub use reports::{panic_text, report_batch, report_spool};
pub use service::{endorsement_certificate, proxy_header, service_settings};
pub use symbols::{program_symbols, symbol_answer, symbol_name};

/// One parser under test.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus as well.
pub const TARGETS: [(&str, Target); 51] = [
    ("admission_answer", admission_answer),
    ("app_manifest", app_manifest),
    ("app_package", app_package),
    ("boot_loader", boot_loader),
    ("boot_partition", boot_partition),
    ("boot_state", boot_state),
    ("claims", claims),
    ("command_line", command_line),
    ("component_list", component_list),
    ("core_notes", core_notes),
    ("device_message", device_message),
    ("dhcp6_message", dhcp6_message),
    ("dhcp_message", dhcp_message),
    ("dns_answer", dns_answer),
    ("dns_question", dns_question),
    ("elf", elf),
    ("encoded_manifest", encoded_manifest),
    ("endorsement_certificate", endorsement_certificate),
    ("erofs_image", erofs_image),
    ("http_head", http_head),
    ("identity_exchange", identity_exchange),
    ("issued_certificate", issued_certificate),
    ("uid_table", uid_table),
    ("log_line", log_line),
    ("netlink_message", netlink_message),
    ("network_config", network_config),
    ("network_status", network_status),
    ("notification", notification),
    ("package_header", package_header),
    ("panic_text", panic_text),
    ("partition_table", partition_table),
    ("program_symbols", program_symbols),
    ("proxy_header", proxy_header),
    ("release_bundle", release_bundle),
    ("release_delta", release_delta),
    ("release_metadata", release_metadata),
    ("report_batch", report_batch),
    ("report_spool", report_spool),
    ("reset_record", reset_record),
    ("service_settings", service_settings),
    ("sntp_answer", sntp_answer),
    ("symbol_answer", symbol_answer),
    ("symbol_name", symbol_name),
    ("tpm_attest", tpm_attest),
    ("tpm_public", tpm_public),
    ("tpm_response", tpm_response),
    ("trusted_releases", trusted_releases),
    ("update_memory", update_memory),
    ("update_message", update_message),
    ("voucher", voucher),
    ("wire", wire),
];

/// A process's answer about a package (`policy::admission`).
pub fn admission_answer(bytes: &[u8]) {
    if let Ok(manifest) = admission::read(bytes) {
        plan(&manifest);
    }
}

/// A message of a DHCP server, at every state of a client.
pub fn dhcp_message(bytes: &[u8]) {
    let lease = Answer::parse(bytes).and_then(|answer| answer.lease(None).ok());
    if let Some((lease, _)) = lease {
        assert!((8..=32).contains(&lease.prefix) && lease.renewal.0 < lease.renewal.1);
        assert!(lease.seconds.is_none_or(|seconds| seconds >= dhcp::LEAST_LEASE_S));
        assert!(lease.routes.len() <= dhcp::MAX_ROUTES);
    }
    // Its transaction is made to fit, or nothing of it would be looked at.
    let mut client = Client::new([2, 0, 0, 0, 0, 1], 7);
    client.link_up(0);
    let mut now = 0;
    for _ in 0..8 {
        let mut message = bytes.to_vec();
        for event in client.on_time(now) {
            match (event, message.get_mut(4..8)) {
                (dhcp::Event::Send(_, asked), Some(place)) => {
                    place.copy_from_slice(asked.get(4..8).unwrap_or_default());
                }
                (dhcp::Event::Look(_), _) => {
                    let _ = client.on_neighbour(None, now);
                }
                _ => {}
            }
        }
        if let Some(place) = message.get_mut(28..34) {
            place.copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        }
        let _ = client.on_message(&message, now);
        now = client.deadline().unwrap_or(now);
    }
}

/// A message of a DHCPv6 server.
pub fn dhcp6_message(bytes: &[u8]) {
    let mut client = dhcp6::Client::new([2, 0, 0, 0, 0, 1], 7);
    client.on_router(true, 0);
    let asked = client.on_time(0).unwrap_or_default();
    let mut message = bytes.to_vec();
    if let (Some(place), Some(transaction)) = (message.get_mut(1..4), asked.get(1..4)) {
        place.copy_from_slice(transaction);
    }
    if let Some(Ok(answer)) = client.on_message(&message, 1) {
        assert!(answer.name_servers.len() <= dhcp::MAX_SERVERS && answer.seconds >= 600);
    }
}

fn networked_app() -> NetworkedApp {
    let connections = ["example.com", "_http._tcp.local"];
    NetworkedApp {
        name: "app".to_owned(),
        component_id: ComponentId([1; 16]),
        uid: 1001,
        grants: NetworkGrants {
            connections: connections
                .iter()
                .filter_map(|name| Destination::parse(name).map(Connection::to))
                .collect(),
            ..NetworkGrants::default()
        },
    }
}

/// A name server's answer, or one of the local link. Over TCP, a length stands in front of it.
pub fn dns_answer(bytes: &[u8]) {
    if let Ok(Some(message)) = Arriving::default().take(bytes) {
        assert!(message.len() <= name_proxy::MAX_TCP_ANSWER_BYTES);
    }
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let app = networked_app();
    for (name, kind) in [
        ("example.com", Kind::A),
        ("example.com", Kind::Aaaa),
        ("_http._tcp.local", Kind::Ptr),
        ("a._http._tcp.local", Kind::Srv),
    ] {
        let Some(connection) = app.grants.connections.first() else {
            return;
        };
        let on_link = name.ends_with("local");
        let lookup = Lookup { grant: connection.to.clone(), name: name.to_owned(), kind, on_link };
        // A link on which everybody is.
        let near = vec![("0.0.0.0".parse().ok(), 0), ("::".parse().ok(), 0)];
        let near = near.into_iter().filter_map(|(address, length)| Some((address?, length)));
        let around = Surroundings { near: near.collect(), translated: Vec::new() };
        let around = if on_link { around } else { Surroundings::default() };
        let Some(Ok(outcome)) = lookup.read_answer(id, bytes, &around) else {
            continue;
        };
        for record in &outcome.records {
            let holds = name_proxy::LEAST_TTL_S..=name_proxy::MOST_TTL_S;
            assert!(holds.contains(&record.ttl));
            let near = record.as_address().is_some_and(|a| a.is_loopback() || a.is_multicast());
            assert!(!near, "{record:?}");
        }
        assert!(outcome.records.len() <= name_proxy::MAX_RECORDS);
    }
}

/// An app's question for a name.
pub fn dns_question(bytes: &[u8]) {
    let Some(asked) = name_proxy::read_question(bytes) else {
        return;
    };
    let app = networked_app();
    match name_proxy::decide(&asked, &app, std::slice::from_ref(&app), &[]) {
        Decision::Ask(lookup) => {
            let question = lookup.question(1, true).unwrap_or_default();
            assert!(!question.is_empty(), "what is granted can be asked for");
        }
        Decision::Answer(reply) | Decision::Refuse(reply) => {
            assert!(reply.len() <= name_proxy::MAX_QUESTION_BYTES, "{} bytes", reply.len());
        }
    }
}

/// What the kernel says of devices and refused packets, with a stranger's bytes in it.
pub fn netlink_message(bytes: &[u8]) {
    for message in netlink::messages(bytes) {
        let _ = (message.error(), route::read(&message));
        if let Some(denied) = packet_denied::read(&message) {
            let app = networked_app();
            assert!(!denied.explain(&app, std::slice::from_ref(&app), None).is_empty());
        }
    }
}

/// The configuration of a device's network.
pub fn network_config(bytes: &[u8]) {
    if let Ok(config) = NetworkConfig::decode(bytes) {
        assert_eq!(config.encode().as_deref(), Ok(bytes), "it is written as another");
        let _ = config.check();
    }
}

/// What the network service says of the network.
pub fn network_status(bytes: &[u8]) {
    if let Ok(status) = NetworkStatus::decode(bytes) {
        let _ = status.to_string();
        assert_eq!(status.encode().as_deref(), Ok(bytes), "it is written as another");
    }
}

/// A file of a repository's metadata, as one of each role.
pub fn release_metadata(bytes: &[u8]) {
    read_metadata::<Root>(bytes);
    read_metadata::<Timestamp>(bytes);
    read_metadata::<Snapshot>(bytes);
    if let Some(targets) = read_metadata::<Targets>(bytes) {
        for (path, target) in &targets.targets {
            if target.check(path).is_ok() {
                let place = target.place(path).unwrap_or_default();
                assert!(place.starts_with("targets/") && !place.contains(".."), "{place}");
            }
        }
    }
}

fn read_metadata<M: Metadata>(bytes: &[u8]) -> Option<M> {
    let (read, envelope) = metadata::read::<M>(bytes).ok()?;
    // Signed over a form that has one reading, and that reading has one form.
    if let Ok(form) = metadata::canonical(&envelope.signed) {
        // Control characters stand as they are in it, which is no JSON.
        if let Ok(again) = serde_json::from_slice(&form) {
            assert_eq!(metadata::canonical(&again), Ok(form), "another form");
        }
    }
    Some(read)
}

/// A delta, which is read before anything is known of it but its length.
pub fn release_delta(bytes: &[u8]) {
    const RELEASE: u64 = 1 << 16;
    let mut made = 0u64;
    let mut patcher = Patcher::new(RELEASE);
    let taken = bytes.chunks(97).try_for_each(|piece| {
        patcher.take(piece, |bytes| {
            made = made.saturating_add(match bytes {
                Bytes::New(new) => u64::try_from(new.len()).unwrap_or(u64::MAX),
                Bytes::Copied { bytes, .. } => bytes,
            });
            Ok::<(), DeltaError>(())
        })
    });
    assert!(made <= RELEASE, "it makes {made} bytes");
    assert!(taken.is_err() || patcher.finish().is_err() || made == RELEASE, "it is not whole");
}

/// What a slot brings for its board's boot loader, and what a card has in front of its partitions.
pub fn boot_loader(bytes: &[u8]) {
    if let Ok(loader) = BootLoader::decode(bytes) {
        assert_eq!(loader.encode().as_deref(), Ok(bytes), "it is written as another");
    }
    // What the boot ROM starts it starts wherever more follows.
    if Form::Egon.starts(bytes) {
        assert!(Form::Egon.starts(&[bytes, &[1]].concat()));
    }
    let empty = BootLoader {
        form: Form::Egon,
        partitions: Vec::new(),
        copies: [0, 1].map(|at| Copy { at, first_stage: Vec::new(), u_boot_at: at }),
        u_boot: Vec::new(),
    };
    let _ = empty.fits(bytes, &[]);
    let found = empty.judge(Place::First, bytes, bytes);
    let _ = outdated(found, found);
}

/// A partition table, of which the other one is made: both are whole then.
pub fn partition_table(bytes: &[u8]) {
    const SECTORS: u64 = 1 << 20;
    let read = |header: Option<&[u8]>, entries: Option<&[u8]>, place| {
        table::Table::of(table::Header::read(header?, place)?, entries?.to_vec())
    };
    let own =
        |place| read(bytes.get(..table::SECTOR_BYTES), bytes.get(table::SECTOR_BYTES..), place);
    let (first, second) = (own(1), own(SECTORS - 1));
    match table::mend(SECTORS, first.as_ref(), second.as_ref()) {
        table::Mending::None => panic!("one header cannot be at two places"),
        table::Mending::Lost => {}
        table::Mending::First(writes) | table::Mending::Second(writes) => {
            let [(entries_at, entries), (place, header)] = writes.as_slice() else {
                panic!("a table is two pieces");
            };
            assert!(entries_at < place || *place == 1, "its header is first");
            let made = read(Some(header), Some(entries), *place);
            let made = made.as_ref();
            let (first, second) =
                if *place == 1 { (made, second.as_ref()) } else { (first.as_ref(), made) };
            assert_eq!(table::mend(SECTORS, first, second), table::Mending::None);
        }
    }
}

/// What the device knows of resets, and the file systems that it writes.
pub fn reset_record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        let again = record.encode();
        assert!(record == Record::default() || again.as_deref() == Ok(bytes), "written as another");
    }
    if let Ok(blank) = Blank::parse(bytes) {
        assert!(blank.used.iter().all(|(at, block)| *at < blank.blocks && block.len() == 4096));
    }
}

/// What a device keeps of a repository.
pub fn trusted_releases(bytes: &[u8]) {
    if let Ok(trusted) = Trusted::decode(bytes) {
        assert_eq!(trusted.encode().as_deref(), Ok(bytes), "it is written as another");
        let root = include_bytes!("../corpora/release_metadata/seed-0");
        if let Ok(client) = ReleaseClient::begin(root, trusted, 0) {
            assert!(client.wants().is_some() && client.targets().is_none());
        }
    }
}

/// What the update agent remembers of releases.
pub fn update_memory(bytes: &[u8]) {
    if let Ok(memory) = Memory::decode(bytes) {
        let mut settled = memory.clone();
        settled.reconcile(&[]);
        assert!(settled.reconcile(&[]).is_none(), "what has failed is looked at again");
        assert!(settled.encode().is_ok_and(|bytes| bytes.len() <= Memory::MAX_ENCODED_BYTES));
    }
}

/// What `update` and `uplink` say to each other.
pub fn update_message(bytes: &[u8]) {
    if let Ok(request) = AgentRequest::decode(bytes) {
        assert_eq!(request.encode().as_deref(), Ok(bytes), "it is written as another");
        if let AgentRequest::Fetch(fetch) = request {
            let leads_out = |part| matches!(part, "" | "." | "..");
            assert!(!fetch.path.split('/').any(leads_out), "{}", fetch.path);
        }
    }
    if let Ok(answer) = fetch::Answer::decode(bytes) {
        assert_eq!(answer.encode().as_deref(), Ok(bytes), "it is written as another");
    }
}

/// The beginning of a card, and its index.
pub fn release_bundle(bytes: &[u8]) {
    const MEDIUM: u64 = 1 << 24;
    let _ = bundle::index_bytes(bytes);
    let index = bytes.get(4096..).unwrap_or(bytes);
    if let Ok(index) = Index::decode(index, MEDIUM) {
        let lies = |entry: &bundle::Entry| entry.at.saturating_add(entry.length) <= MEDIUM;
        assert!(index.entries.iter().all(lies), "a file lies outside");
    }
}

/// A message of a time server. What it repeats of the question is made to fit.
pub fn sntp_answer(bytes: &[u8]) {
    const NONCE: [u8; 8] = *b"question";
    const SHOWN_US: u64 = 1_800_000_000_000_000;
    let mut message = bytes.to_vec();
    if let Some(place) = message.get_mut(24..32) {
        place.copy_from_slice(&NONCE);
    }
    let server = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let at = sntp::Instant { monotonic_us: 1_000_000, shown_us: SHOWN_US };
    if let Some(sntp::Answer::Behind(behind, doubt)) = sntp::read(&message, NONCE, 0, at) {
        assert!(behind.unsigned_abs() < 69 * 31_556_952 * 1_000_000 && doubt >= 0);
    }
    let mut client = sntp::Client::new();
    client.ask(&[(server, NONCE)], 0);
    client.on_message(server, &message, at);
    let outcome = client.on_time(sntp::ANSWER_WITHIN_MS);
    assert!(outcome.is_some(), "a round without an end");
    if let Some(sntp::Outcome::Agreed { behind_us, .. }) = outcome {
        let floor = SHOWN_US / 1_000_000;
        let mut judge = clock::Judge::new(floor, holdfast_sandbox::clock::Source::Floor);
        let verdict = judge.judge(SHOWN_US, behind_us, 0);
        assert!(
            behind_us >= 0 || verdict == holdfast_sandbox::clock::Verdict::BeforeFloor,
            "before the floor"
        );
    }
}

/// An `app_manifest.json`.
pub fn app_manifest(bytes: &[u8]) {
    let Ok(manifest) = holdfast_manifest::parse(bytes) else {
        return;
    };
    let encoded = manifest.encode();
    let again = encoded.ok().and_then(|encoded| AppManifest::decode(&encoded).ok());
    assert_eq!(again, Some(manifest.clone()), "it is read back as another");
    plan(&manifest);
}

/// A manifest as one process hands it to another.
pub fn encoded_manifest(bytes: &[u8]) {
    if let Ok(manifest) = AppManifest::decode(bytes) {
        assert_eq!(manifest.encode().ok().as_deref(), Some(bytes), "two encodings of one manifest");
        plan(&manifest);
    }
}

/// Whatever was accepted makes a plan within bounds.
fn plan(manifest: &AppManifest) {
    if let Err((field, reason)) = policy::app_plan(manifest, &[]).check() {
        panic!("its plan is refused: {field}: {reason}");
    }
}

/// A whole app package.
pub fn app_package(bytes: &[u8]) {
    if let Ok(package) = package::read(bytes) {
        plan(&package.manifest);
    }
}

/// The header of an app package, at the start of a file of the length it states.
pub fn package_header(bytes: &[u8]) {
    let stated = bytes.get(16..24).and_then(|length| length.first_chunk::<8>());
    let length = stated.map_or(0, |length| u64::from_le_bytes(*length));
    if let Ok(header) = Header::parse(bytes, length) {
        let signature = bytes.get(448..512).and_then(|s| s.first_chunk::<64>());
        let encoded = signature.map(|signature| header.encode(signature).to_vec());
        assert_eq!(encoded.as_deref(), bytes.get(..HEADER_BYTES), "two encodings of one header");
    }
}

/// The file system of a package or a slot.
pub fn erofs_image(bytes: &[u8]) {
    if let Ok(entries) = root::list(bytes) {
        for entry in entries.iter().take(8) {
            let _ = root::read_file(bytes, &entry.path);
        }
    }
}

/// A `boot` partition.
pub fn boot_partition(bytes: &[u8]) {
    for slot in [Slot::A, Slot::B] {
        let _ = boot::read(bytes, slot);
        let _ = signature::bytes_to_sign(bytes, &boot::configuration(slot));
    }
}

/// A copy of the boot state: as it is, and with the CRC that fits, which no fuzzer guesses.
pub fn boot_state(bytes: &[u8]) {
    let mut copy = [0; slots::COPY_BYTES];
    copy.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    one_copy(&copy);
    let crc = slots::checksum(copy.get(5..).unwrap_or_default()).to_le_bytes();
    copy.iter_mut().zip(crc).for_each(|(to, from)| *to = from);
    one_copy(&copy);
}

fn one_copy(bytes: &[u8]) {
    if let Ok((state, age)) = slots::read_copy(bytes) {
        assert_eq!(slots::copy(&state, age), bytes, "two encodings of one boot state");
    }
}

/// The kernel's command line, as init reads it.
pub fn command_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(release) = RunningSlot::from_command_line(text) {
        assert_eq!(
            RunningSlot::from_command_line(&release.words()),
            Ok(release),
            "read as another"
        );
    }
}

/// The list of components in a root file system.
pub fn component_list(bytes: &[u8]) {
    if let Ok(list) = ComponentList::decode(bytes) {
        assert_eq!(list.encode().ok().as_deref(), Some(bytes), "two encodings of one list");
    }
}

/// A program or library.
pub fn elf(bytes: &[u8]) {
    // The device looks at the start alone, and must not refuse what the host has taken.
    let start = bytes.get(..elf_file::SEGMENT_BYTES).unwrap_or(bytes);
    let _ = elf_file::check_segments(start);
    let _ = elf_file::check(bytes);
}

/// The table of uids on the `state` partition.
pub fn uid_table(bytes: &[u8]) {
    stored_table(bytes);
    // Behind the digest, which no fuzzer guesses.
    stored_table(&[bytes, &sha256(&[bytes])].concat());
}

fn stored_table(bytes: &[u8]) {
    if let Ok(table) = UidTable::decode(bytes) {
        assert!(bytes.len() <= uid_table::MAX_ENCODED_BYTES);
        assert_eq!(table.encode().ok().as_deref(), Some(bytes), "two encodings of one table");
    }
}

/// What a component prints.
pub fn log_line(bytes: &[u8]) {
    let mut lines = LineAssembler::new(u32::MAX);
    let mut emit = |lines: &[&str]| {
        for line in lines {
            // Every byte becomes four characters at most.
            assert!(line.len() <= 4 * MAX_LINE_BYTES, "a line of {} bytes", line.len());
            assert!(line.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{line:?}");
        }
        true
    };
    for part in bytes.chunks(100) {
        lines.push(part, 0, &mut emit);
    }
    lines.flush(&mut emit);
}

/// A datagram on a component's notify socket.
pub fn notification(bytes: &[u8]) {
    let _ = notify::parse(bytes);
}

/// A request to init, and its reply.
pub fn wire(bytes: &[u8]) {
    if let Ok(request) = protocol::decode_request(bytes) {
        let encoded = protocol::encode_request(&request).ok();
        assert_eq!(encoded.as_deref(), Some(bytes), "two encodings of one request");
    }
    if let Ok(reply) = protocol::decode_reply(bytes) {
        let encoded = protocol::encode_reply(&reply).ok();
        assert_eq!(encoded.as_deref(), Some(bytes), "two encodings of one reply");
    }
}

#[cfg(test)]
mod corpora;
