//! Tests of plans, and the manifests and plans that tests of other modules begin with.

#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::*;
use crate::app_manifest::{AppManifest, DEFAULT_STABLE_FOR_MS};
use crate::network::{Connection, Destination, NetworkGrants};
use crate::reset_order::Order;
use holdfast_types::{ComponentId, Version};
use proptest::prelude::*;

/// The manifest of an app that asks for nothing.
pub(crate) fn manifest() -> AppManifest {
    AppManifest {
        name: "a".to_owned(),
        component_id: ComponentId([0x25; 16]),
        entry_point: "/bin/app".to_owned(),
        cmd_args: Vec::new(),
        version: Version { major: 0, minor: 1, patch: 0 },
        rollback_index: 0,
        least_os: Version::default(),
        storage_kib: None,
        network: NetworkGrants::default(),
        limits: Limits::default(),
        updates: UpdateAccess::None,
        sets_report_level: false,
        catalog: None,
        restart: RestartPolicy::Always,
        ready_within_ms: None,
        watchdog_ms: None,
        critical: false,
        stable_for_ms: DEFAULT_STABLE_FOR_MS,
        unsupported: Vec::new(),
        peripherals: Vec::new(),
    }
}

/// The plan of an app whose manifest asks for what `change` sets.
pub(crate) fn plan_of(change: impl FnOnce(&mut AppManifest)) -> Plan {
    let mut manifest = manifest();
    change(&mut manifest);
    app_plan(&manifest, &[])
}

/// A grant to a name.
pub(crate) fn connections() -> Vec<Connection> {
    Destination::parse("example.com").into_iter().map(Connection::to).collect()
}

fn grants() -> ServiceGrants {
    ServiceGrants::none("/usr/lib/holdfast/services/a", "a")
}

#[test]
fn no_grant_in_no_power_out() {
    for plan in [plan_of(|_| {}), service_plan(&grants())] {
        assert_eq!(plan.check(), Ok(()));
        assert!(plan.capabilities.is_empty() && plan.descriptors.is_empty());
        assert!(!plan.requests.any());
        assert_eq!(plan.system_calls, SystemCalls::Local);
        assert_eq!(plan.network, Network::None);
        let Root::Own(mounts) = &plan.root else { panic!("it sees the system") };
        let writable: Vec<&str> =
            mounts.iter().filter(|m| m.source.is_writable()).map(|m| m.target.as_str()).collect();
        assert_eq!(writable, ["/crash", "/tmp"], "the notes of a crash alone outlive it");
    }
}

#[test]
fn nothing_is_writable_and_executable_and_an_app_never_sees_the_system() {
    let plan = plan_of(|manifest| manifest.storage_kib = Some(65_536));
    let Root::Own(mounts) = plan.root else { panic!("it sees the system") };
    assert!(mounts.iter().all(|m| !(m.source.is_writable() && m.source.is_executable())));
    assert!(mounts.iter().any(|m| m.target == "/data"));
}

#[test]
fn who_defers_updates_is_told_of_them_as_well() {
    let with = |updates| plan_of(|manifest| manifest.updates = updates);
    assert!(with(UpdateAccess::Told).is_within(&with(UpdateAccess::Defers)));
    assert!(!with(UpdateAccess::Defers).is_within(&with(UpdateAccess::Told)));
}

#[test]
fn no_service_faces_the_network_and_writes_what_boots() {
    let reaches = |change: fn(&mut ServiceGrants)| {
        let mut grants = grants();
        change(&mut grants);
        let plan = service_plan(&grants);
        plan.check().map_err(|(_, reason)| reason)
    };
    assert_eq!(reaches(|g| g.app_store = true), Ok(()));
    assert_eq!(reaches(|g| g.requests.update = true), Ok(()));
    let network = || NetworkGrants { tcp_server_ports: vec![80], ..NetworkGrants::default() };
    let refused = "whoever writes what boots has no network";
    let with = |change: fn(&mut ServiceGrants)| {
        let mut grants = grants();
        change(&mut grants);
        grants.network = network();
        service_plan(&grants).check().map_err(|(_, reason)| reason)
    };
    assert_eq!(with(|g| g.requests.uplink = true), Ok(()));
    assert_eq!(with(|g| g.app_store = true), Err(refused));
    assert_eq!(with(|g| g.requests.update = true), Err(refused));
}

#[test]
fn no_service_faces_the_network_and_has_the_devices_keys() {
    let mut keys = grants();
    keys.requests.identity = true;
    assert_eq!(service_plan(&keys).check(), Ok(()));
    keys.network = NetworkGrants { tcp_server_ports: vec![80], ..NetworkGrants::default() };
    let refused = "whoever has the device's keys has no network";
    assert_eq!(service_plan(&keys).check(), Err(("network", refused)));
    let mut system = grants();
    (system.requests.identity, system.system_network) = (true, true);
    assert_eq!(service_plan(&system).check(), Err(("network", refused)));
}

#[test]
fn no_service_faces_the_network_and_records_failures() {
    let mut records = grants();
    records.requests.report = true;
    assert_eq!(service_plan(&records).check(), Ok(()));
    records.network = NetworkGrants { tcp_server_ports: vec![80], ..NetworkGrants::default() };
    let refused = "whoever records failures has no network";
    assert_eq!(service_plan(&records).check(), Err(("network", refused)));
}

#[test]
fn an_app_authenticates_for_the_catalog_that_its_manifest_names() {
    let with = |catalog| plan_of(|manifest| manifest.catalog = catalog);
    let [one, other] = [Some(CatalogId([1; 16])), Some(CatalogId([2; 16]))];
    assert_eq!(with(one).catalog, one);
    assert!(with(None).is_within(&with(one)) && with(one).is_within(&with(one)));
    assert!(!with(one).is_within(&with(other)) && !with(one).is_within(&with(None)));
}

#[test]
fn who_looks_for_an_order_sees_nothing_that_was_written_on_the_device() {
    let order = Order { digest: [7; 32], partitions: crate::reset_order::Partitions::default() };
    let plan = order_plan(&admission_plan("admission", "/usr/lib/holdfast/x"), &order).unwrap();
    plan.check().unwrap();
    let Root::Own(mounts) = &plan.root else { panic!("the system's root") };
    assert!(mounts.iter().all(|mount| matches!(mount.source, Source::Directory(_))));
    assert!(plan.requests == Requests::default() && plan.network == Network::None);
    assert_eq!(plan.args, [ORDER_ARGUMENT.to_owned(), order.to_argument().unwrap()]);
}

#[test]
fn a_plan_out_of_bounds_is_refused() {
    let refused = |change: fn(&mut Plan)| {
        let mut plan = service_plan(&grants());
        change(&mut plan);
        plan.check().expect_err("was accepted").0
    };
    assert_eq!(refused(|p| p.program = "/app/../sbin/init".to_owned()), "program");
    assert_eq!(refused(|p| p.capabilities = vec![64]), "capabilities");
    assert_eq!(refused(|p| p.descriptors = vec!["/etc/x".to_owned()]), "descriptors");
    assert_eq!(refused(|p| p.watchdog_ms = Some(1)), "watchdog_ms");
    assert_eq!(refused(|p| p.limits.processes = 0), "limits");
    let own = |target: &str, source| Root::Own(vec![Mount { target: target.to_owned(), source }]);
    let root = |root: Root| {
        let mut plan = service_plan(&grants());
        plan.root = root;
        plan.check().is_err()
    };
    assert!(root(own("/../etc", Source::Devices)));
    assert!(root(own("/", Source::Devices)));
    assert!(root(own("/x", Source::Directory("/etc".to_owned()))));
    assert!(root(own("/x", Source::Directory("/usr/lib/holdfast/../../..".to_owned()))));
    let mount = Mount { target: "/dev".to_owned(), source: Source::Devices };
    assert!(root(Root::Own(vec![mount.clone(), mount])));
}

#[test]
fn a_plan_is_printed_line_by_line() {
    let text = plan_of(|manifest| manifest.cmd_args = vec!["-v".to_owned()]).to_string();
    for line in [
        "program       /app/bin/app -v",
        "mount         /app   read execute the package",
        "mount         /tmp   read write   memory, 256 KiB",
        "capabilities  none",
        "restart       always",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

/// Storage and limits, each within what a document may ask for.
fn asked() -> impl Strategy<Value = (u32, Limits)> {
    let limits = (
        256u32..100_000,
        1u32..=100,
        1u32..=256,
        8u32..=1024,
        0u32..65_536,
        1u32..=256,
        16u32..=65_536,
        4u32..=16_384,
        1u32..=1_048_576,
    );
    let limits = limits.prop_map(
        |(memory, cpu, processes, files, temporary, lines, bandwidth, writes, daily)| Limits {
            memory_kib: memory,
            cpu_percent: cpu,
            processes,
            open_files: files,
            temporary_kib: temporary,
            log_lines_per_second: lines,
            write_kib_per_second: bandwidth,
            writes_per_second: writes,
            write_mib_per_day: daily,
        },
    );
    (1u32..65_536, limits)
}

fn plan_asked((storage, limits): (u32, Limits)) -> Plan {
    plan_of(|manifest| {
        manifest.storage_kib = Some(storage);
        manifest.limits = limits;
    })
}

#[test]
fn the_killer_takes_every_app_before_any_service() {
    let (apps, services) = ([FIRST_APP_UID, 59_999], [0, 100, FIRST_APP_UID - 1]);
    for (app, service) in apps.into_iter().zip(services) {
        // The kernel adds a thousandth of all memory for each: no use of memory makes up for the difference.
        assert!(ended_first(app) - ended_first(service) > 1000);
        // -1000 would except it from the end by its own limit.
        assert!(ended_first(service) > -1000 && ended_first(app) <= 1000);
        assert_eq!(kept_kib(app, &Limits::default()), 0);
        assert_eq!(kept_kib(service, &Limits::default()), 4096);
    }
    let small = Limits { memory_kib: 1024, ..Limits::default() };
    assert_eq!(kept_kib(100, &small), 1024, "no more than it may have");
}

/// The same request with every number at least as large.
fn raised((storage, limits): (u32, Limits), by: &[u32; 10]) -> (u32, Limits) {
    let [a, b, c, d, e, f, g, h, i, j] = *by;
    let limits = Limits {
        memory_kib: (limits.memory_kib + b).min(1 << 20),
        cpu_percent: (limits.cpu_percent + c).min(100),
        processes: (limits.processes + d).min(256),
        open_files: (limits.open_files + e).min(1024),
        temporary_kib: (limits.temporary_kib + f).min(65_536),
        log_lines_per_second: (limits.log_lines_per_second + g).min(256),
        write_kib_per_second: (limits.write_kib_per_second + h).min(65_536),
        writes_per_second: (limits.writes_per_second + i).min(16_384),
        write_mib_per_day: (limits.write_mib_per_day + j).min(1 << 20),
    };
    ((storage + a).min(65_536), limits)
}

proptest! {
    #[test]
    fn every_manifest_makes_a_plan_in_bounds(asked in asked()) {
        let plan = plan_asked(asked);
        prop_assert_eq!(plan.check(), Ok(()));
        prop_assert!(plan.capabilities.is_empty() && plan.descriptors.is_empty());
        prop_assert!(matches!(plan.root, Root::Own(_)) && !plan.requests.any());
    }

    #[test]
    fn a_plan_is_monotonic_in_the_manifest(
        asked in asked(), by in proptest::array::uniform10(0u32..2000)
    ) {
        let (less, more) = (plan_asked(asked), plan_asked(raised(asked, &by)));
        prop_assert!(less.is_within(&more), "{}\n{}", less, more);
        prop_assert_eq!(more.is_within(&less), more == less);
    }
}
