//! Every file of a corpus is run through its target by the unit tests too, without a fuzzer.
//!
//! This is no integration test: for one, `cargo test` would build and link libFuzzer's program as well.
//!
//! `HOLDFAST_WRITE_FIXTURES=1` writes seeds that are missing: something valid for each target.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::tests_outside_test_module,
    reason = "the module is there in tests alone, and a panic is a failed test"
)]

use crate::{TARGETS, device_port, evidence, reports, service, symbols};
use holdfast_images::board::Board;
use holdfast_images::boot::{self, Parts};
use holdfast_images::disk;
use holdfast_images::key::PrivateKey;
use holdfast_images::verity;
use holdfast_lifecycle::boot_loader::{BootLoader, Copy, Form, Partition, TABLE_BYTES};
use holdfast_lifecycle::factory_reset::{Blank, Kept, Record};
use holdfast_lifecycle::partition_table::{ENTRIES_BYTES, Header, Mending, Table, mend};
use holdfast_lifecycle::slots::{self, BootState, RunningSlot, Slot};
use holdfast_lifecycle::uid_table::UidTable;
use holdfast_networking::config::NetworkConfig;
use holdfast_networking::refused_traffic::{Place, RefusedGroup};
use holdfast_networking::route;
use holdfast_networking::status::{AppStatus, InterfaceStatus, NetworkStatus, Traffic};
use holdfast_release::RepositoryName;
use holdfast_release::assignment::Assigned;
use holdfast_release::bundle::Index;
use holdfast_release::client::{Client, Trusted};
use holdfast_release::fetch::{AgentRequest, Answer, Fetch};
use holdfast_release::metadata::Role;
use holdfast_release::{Memory, Staged};
use holdfast_repository::{self as repositories, Lifetimes, Roles};
use holdfast_sandbox::component::{App, ComponentList, FORMAT_VERSION, ImageDescription, Service};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::peripheral::{Access, BoardPeripheral, Kind};
use holdfast_sandbox::policy::{self, admission};
use holdfast_sandbox::reset_order::{Order, Partitions};
use holdfast_sandbox::wire::{
    self, ClaimedApp, ClockRequest, ComponentState, ComponentStatus, DeviceClaims, IdentityRequest,
    ManageRequest, NetworkRequest, Reply, ReportRequest, Request, ShutdownRequest, VethsRequest,
};
use holdfast_types::{CatalogId, ClockSource, ComponentId, Phase, Version};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn golden() -> Vec<u8> {
    fs::read(repository().join("images/tests/packages/golden.app")).unwrap()
}

fn manifest() -> Vec<u8> {
    br#"{"SchemaVersion": 1, "Name": "x", "EntryPoint": "/bin/app", "CmdArgs": ["-a"],
 "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11", "Capabilities": {
 "AllowedConnections": ["example.org"], "AllowedTcpServerPorts": [80], "Gpio": [1, "$LED"],
 "Uart": [0], "WifiConfig": true, "MutableStorage": {"SizeKB": 8},
 "I2cMaster": ["$I"], "Pwm": [], "Adc": [], "SpiMaster": []}, "ApplicationType": "Default",
 "Holdfast": {"Version": "1.2.3", "RollbackIndex": 4, "LeastOsVersion": "0.1.0",
 "Limits": {"MemoryKiB": 4096, "CpuPercent": 50, "Processes": 4, "OpenFiles": 32,
 "TemporaryKiB": 64, "LogLinesPerSecond": 4}, "RestartPolicy": "OnFailure",
 "ReadyWithinMs": 1000, "WatchdogMs": 1000, "Critical": true}}"#
        .to_vec()
}

fn claims() -> Reply {
    let version = Version { major: 1, minor: 4, patch: 0 };
    Reply::Claims(DeviceClaims {
        boot_id: [0x6b; 16],
        image: "pump".to_owned(),
        board: "qemu-virt".to_owned(),
        version,
        rollback_index: 7,
        slot: Slot::B,
        phase: Phase::Committed,
        apps: vec![ClaimedApp {
            id: ComponentId([0xa1; 16]),
            version,
            rollback_index: 3,
            root_hash: [0x41; 32],
            catalog: Some(CatalogId([0xca; 16])),
        }],
        is_debugged: false,
        clock: ClockSource::Network,
        last_reset: "kernel-panic".to_owned(),
        kernel_fault: Some(0xc051_2340),
        has_tpm: true,
    })
}

fn network_status() -> Vec<u8> {
    let interface = InterfaceStatus {
        name: "eth0".to_owned(),
        is_up: true,
        addresses: vec![("10.77.0.50".parse().unwrap(), 24)],
        lease: None,
    };
    let app = AppStatus {
        name: "sensor".to_owned(),
        traffic: Traffic::default(),
        refused: 1,
        refusals: vec!["TCP".to_owned()],
        component_id: ComponentId([7; 16]),
        refused_groups: vec![RefusedGroup {
            protocol: 6,
            port: Some(23),
            place: Place::Public,
            is_granted_name: false,
            count: 3,
            addresses_log2: 1,
        }],
    };
    let (interfaces, apps) = (vec![interface], vec![app]);
    NetworkStatus { interfaces, apps, ..NetworkStatus::default() }.encode().unwrap()
}

/// A server of stratum 2 that shows the year 2027.
fn sntp_answer() -> Vec<u8> {
    let mut message = vec![0; 48];
    message[..2].copy_from_slice(&[0x24, 2]);
    message[32] = 0xef;
    message[40] = 0xef;
    message
}

fn list() -> ComponentList {
    let version = Version { major: 1, minor: 0, patch: 0 };
    let plan = policy::admission_plan("a", "/usr/lib/holdfast/a");
    ComponentList {
        format_version: FORMAT_VERSION,
        image: ImageDescription {
            name: "hello".to_owned(),
            product: "hello".to_owned(),
            version,
            board: "qemu-virt".to_owned(),
            memory_kib: 65_536,
            hostname: "holdfast".to_owned(),
            build_time: 1_700_000_000,
            development: true,
            debugged: None,
            has_tpm: true,
        },
        services: vec![Service { name: "probe".to_owned(), uid: 101, plan: plan.clone() }],
        apps: vec![App { name: "app".to_owned(), component_id: ComponentId([7; 16]) }],
        peripherals: vec![BoardPeripheral {
            name: "$LED".to_owned(),
            kind: Kind::Gpio,
            access: Access::Line { chip: "pins".to_owned(), line: 3 },
        }],
        admission: Some(Service { name: "admission".to_owned(), uid: 100, plan }),
    }
}

/// A FIT around a few bytes and the smallest device tree: Devicetree Specification 5.
fn boot_partition() -> Vec<u8> {
    let words: [u32; 18] = [
        0xd00d_feed,
        72,
        56,
        72,
        40,
        17,
        16,
        0,
        0,
        16, // header
        0,
        0,
        0,
        0, // no reserved memory
        1,
        0,
        2,
        9, // the root node, without a name
    ];
    let tree: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let board = Board::load(&repository().join("images/boards"), "qemu-virt", Path::new("x"));
    let board = board.unwrap();
    boot::build(&Parts {
        kernel: b"kernel",
        device_tree: &tree,
        board: &board.name,
        console: &board.console,
        disk: &board.disk,
        addresses: &board.addresses,
        rollback_index: 1,
        root: &verity::hash_root(&[1; 8192]).unwrap(),
    })
    .unwrap()
}

/// An offer as a server sends it (RFC 2131, figure 1).
fn dhcp_offer() -> Vec<u8> {
    let mut message = vec![2, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0, 0, 0, 0, 0, 10, 0, 0, 50];
    message.extend([0; 8]);
    message.extend([2, 0, 0, 0, 0, 1]);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 2, 54, 4, 10, 0, 0, 1, 51, 4, 0, 0, 14, 16]);
    message.extend([1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 0, 1, 6, 4, 10, 0, 0, 2, 255]);
    message
}

/// A question for example.com (RFC 1035, 4.1).
fn dns_question() -> Vec<u8> {
    b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01".to_vec()
}

/// Its answer, by way of another name.
fn dns_answer() -> Vec<u8> {
    let mut message = dns_question();
    message[2] = 0x81;
    message[7] = 2;
    message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x0c");
    message.extend(b"\xc0\x29\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\x00\x71\x07");
    message
}

/// The files of a repository that releases nothing, in the order in which a client wants them.
fn repository_files() -> Vec<Vec<u8>> {
    const NOW: u64 = 1_800_000_000;
    let key = PrivateKey::from_secret(&[1; 32], true);
    let of_role = |role| (role, (vec![key.public()], 1));
    let roles = Roles { keys: Role::ALL.map(of_role).into() };
    let directory = tempfile::tempdir().unwrap();
    let mut root = repositories::Repository::first_root(&roles, 1_000_000_000, NOW).unwrap();
    root.sign(&key);
    let mut repository = repositories::Repository::create(directory.path(), &root).unwrap();
    let mut targets = repository.next_targets(BTreeMap::new(), 1_000_000_000, NOW).unwrap();
    targets.sign(&key);
    repository.publish(&targets, &[key], Lifetimes::default(), NOW).unwrap();
    ["1.root", "timestamp", "1.snapshot", "1.targets"]
        .map(|name| fs::read(directory.path().join(format!("metadata/{name}.json"))).unwrap())
        .to_vec()
}

/// What a device keeps of it.
fn trusted(files: &[Vec<u8>]) -> Vec<u8> {
    let mut client = Client::begin(&files[0], Trusted::default(), 0).unwrap();
    client.mark_missing().unwrap();
    files[1..].iter().for_each(|file| client.take(file.clone()).unwrap());
    client.trusted().encode().unwrap()
}

fn release_bundle() -> Vec<u8> {
    let files = [("os/metadata/timestamp.json".to_owned(), 7), ("os/targets/a".to_owned(), 5000)];
    Index::of(&files).encode().unwrap()
}

fn update_memory() -> Vec<u8> {
    let mut memory = Memory::default();
    memory.mark_failed(ReleaseSubject::App(ComponentId([7; 16])), [1; 32]);
    memory.begin_staging(Staged { subject: ReleaseSubject::Os, root_hash: [2; 32], reached: true });
    memory.mark_staged();
    memory.encode().unwrap()
}

/// A boot loader in two copies, and the start of a card.
fn boot_loaders() -> Vec<Vec<u8>> {
    let mut first_stage = vec![0u32; 1100];
    first_stage[1] = u32::from_le_bytes(*b"eGON");
    first_stage[2] = u32::from_le_bytes(*b".BT0");
    first_stage[4] = 4400;
    first_stage[3] = first_stage.iter().fold(0x5f0a_6c39, |sum, word| sum.wrapping_add(*word));
    let first_stage: Vec<u8> = first_stage.iter().flat_map(|word| word.to_le_bytes()).collect();
    let copy = |at, u_boot_at| Copy { at, first_stage: first_stage.clone(), u_boot_at };
    let loader = BootLoader {
        form: Form::Egon,
        partitions: vec![Partition { name: "boot-a".to_owned(), start: 4 << 20, length: 8 << 20 }],
        copies: [copy(0x2000, 0x28000), copy(0x20000, 0x90000)],
        u_boot: vec![7; 5000],
    };
    let mut table = vec![0; TABLE_BYTES];
    table[512..520].copy_from_slice(b"EFI PART");
    table[584] = 2;
    vec![loader.encode().unwrap(), table, first_stage]
}

/// The first table of a disk as images have it, its header and its entries: a device keeps that whole.
fn partition_table() -> Vec<u8> {
    let partition =
        disk::Partition { name: "bootstate".to_owned(), start: 4 << 20, length: 8 << 20 };
    let layout = disk::Layout { length: 32 << 20, entry_array: 2016, partitions: vec![partition] };
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(layout.length).unwrap();
    layout.write_tables(&mut file, b"identity").unwrap();
    let read = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    let last = (32 << 20) / 512 - 1;
    let tables = [1, last].map(|place| {
        let header = Header::read(&read(place * 512, 512), place).unwrap();
        let entries = read(header.entries_at() * 512, ENTRIES_BYTES);
        Table::of(header, entries).unwrap()
    });
    let [first, second] = &tables;
    assert_eq!(mend(last + 1, Some(first), Some(second)), Mending::None);
    let Mending::First(writes) = mend(last + 1, None, Some(second)) else {
        panic!("the first one is not made");
    };
    for (sector, bytes) in writes {
        assert!(read(sector * 512, bytes.len()) == bytes, "sector {sector} is another");
    }
    [read(512, 512), read(2016 * 512, ENTRIES_BYTES)].concat()
}

fn reset_records() -> Vec<Vec<u8>> {
    let order =
        Order { digest: [3; 32], partitions: Partitions::parse("state-data", '-').unwrap() };
    let kept = Kept { time_floor: 1_800_000_000, ..Kept::default() };
    let record = Record { pending: Some((order, kept)), done: Some([4; 32]) };
    let mut file_system = vec![0; 3 * 4096];
    file_system[5000] = 7;
    vec![record.encode().unwrap(), Blank::shorten(&file_system)]
}

fn update_messages() -> Vec<Vec<u8>> {
    let path = "metadata/timestamp.json".to_owned();
    let fetch = Fetch { repository: RepositoryName::Os, path, from: 7, most_bytes: 4097 };
    let assigned = Answer::Assigned(Some(Assigned::new([], 1000)));
    let answers = [Answer::Piece(b"abc".to_vec()), Answer::End, Answer::failed("why"), assigned];
    let answers = answers.map(|answer| answer.encode().unwrap());
    let requests = [AgentRequest::Fetch(fetch), AgentRequest::Assigned(None)];
    requests.map(|request| request.encode().unwrap()).into_iter().chain(answers).collect()
}

/// Something valid for every target, made by the code that writes it.
fn seeds() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let small = golden()[4096..].to_vec();
    let parsed = holdfast_manifest::parse(&manifest());
    let encoded = holdfast_manifest::parse(
        br#"{"SchemaVersion": 1, "Name": "x", "EntryPoint": "/bin/app", "Capabilities": {},
        "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11"}"#,
    );
    let encoded = encoded.unwrap().encode().unwrap();
    let rich = parsed.unwrap().encode().unwrap();
    let mut table = UidTable::default();
    for number in 1..4 {
        table.assign(ComponentId([number; 16]), None, &[]).unwrap();
    }
    table.raise_floor(ComponentId([2; 16]), 9);
    let status = Reply::Components(vec![ComponentStatus {
        name: "hello".to_owned(),
        state: ComponentState::Ready,
        uid: 1001,
        memory_kib: 400,
        memory_peak_kib: 800,
        processes: 2,
        restarts: 1,
        last_exit: Some(15),
    }]);
    let release = RunningSlot { slot: Slot::B, board: "qemu-virt".to_owned(), rollback_index: 3 };
    let request = |request: &Request| wire::encode_request(request).unwrap();
    let mut seeds = BTreeMap::from([
        ("admission_answer", vec![admission::accept(&encoded), admission::refuse("why")]),
        ("app_manifest", vec![manifest()]),
        ("app_package", vec![golden()]),
        ("boot_loader", boot_loaders()),
        ("boot_partition", vec![boot_partition()]),
        ("boot_state", vec![slots::copy(&BootState::factory(), 1)[..64].to_vec()]),
        ("command_line", vec![release.words().into_bytes()]),
        ("component_list", vec![list().encode().unwrap()]),
        ("core_notes", vec![core_notes()]),
        ("dhcp6_message", vec![[vec![7, 0, 0, 0, 0, 23, 0, 16], vec![0x20; 16]].concat()]),
        ("dhcp_message", vec![dhcp_offer()]),
        ("dns_answer", vec![dns_answer()]),
        ("dns_question", vec![dns_question()]),
        ("elf", vec![b"\x7fELF\x01\x01\x01".to_vec()]),
        ("encoded_manifest", vec![encoded, rich]),
        ("erofs_image", vec![small]),
        ("uid_table", vec![table.encode().unwrap(), UidTable::default().encode().unwrap()]),
        ("log_line", vec![b"one\ntwo\x1b[2J\xff\0three".to_vec()]),
        ("netlink_message", vec![route::add_address(3, [10, 0, 0, 5].into(), 24).finish(1)]),
        ("network_config", vec![NetworkConfig::default().encode().unwrap()]),
        ("network_status", vec![NetworkStatus::default().encode().unwrap(), network_status()]),
        (
            "notification",
            vec![
                b"STATUS=warm\nREADY=1\nWATCHDOG=1\nSTOPPING=1".to_vec(),
                b"X_HOLDFAST_REPORTS=off".to_vec(),
            ],
        ),
        ("package_header", vec![golden()[..4096].to_vec()]),
        ("partition_table", vec![partition_table()]),
        ("release_bundle", vec![release_bundle()]),
        ("release_delta", vec![holdfast_repository::delta(&golden(), &golden()[..8000])]),
        ("release_metadata", repository_files()),
        ("reset_record", reset_records()),
        ("sntp_answer", vec![sntp_answer()]),
        (
            "trusted_releases",
            vec![Trusted::default().encode().unwrap(), trusted(&repository_files())],
        ),
        ("update_memory", vec![update_memory()]),
        ("update_message", update_messages()),
        (
            "wire",
            vec![
                request(&NetworkRequest::Clock(ClockRequest::Behind(-1)).into()),
                request(&Request::Shutdown(ShutdownRequest::Reboot)),
                request(&Request::Veths(VethsRequest::Of(1003))),
                request(&Request::Manage(ManageRequest::Restart("hello".to_owned()))),
                wire::encode_reply(&status).unwrap(),
                request(&IdentityRequest::Claims.into()),
                wire::encode_reply(&claims()).unwrap(),
                request(&ReportRequest::LastOutput.into()),
            ],
        ),
    ]);
    seeds.extend(evidence::seeds());
    seeds.extend(device_port::seeds());
    seeds.extend(reports::seeds());
    seeds.extend(service::seeds());
    seeds.extend(symbols::seeds());
    seeds
}

#[test]
fn every_corpus_is_survived_by_its_target() {
    let mut seeds = seeds();
    for (name, target) in TARGETS {
        let directory = repository().join("fuzz/corpora").join(name);
        let seeds = seeds.remove(name).unwrap();
        for (index, seed) in seeds.iter().enumerate() {
            target(seed);
            let path = directory.join(format!("seed-{index}"));
            if std::env::var_os("HOLDFAST_WRITE_FIXTURES").is_some() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&path, seed).unwrap();
            }
            let found = fs::read(&path).unwrap_or_default();
            assert!(&found == seed, "{} is missing, or of an earlier version", path.display());
        }
        for entry in fs::read_dir(&directory).unwrap() {
            target(&fs::read(entry.unwrap().path()).unwrap());
        }
    }
    assert!(seeds.is_empty(), "seeds without a target: {seeds:?}");
}

/// Notes of the kernel on a crash.
fn core_notes() -> Vec<u8> {
    include_bytes!("../../os/lifecycle/src/core_notes/crash.bin").to_vec()
}
