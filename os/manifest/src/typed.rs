//! The typed form of a manifest that follows the schema.

use crate::document::Value;
use crate::schema::{self, Field, Kind, Support};
use holdfast_sandbox::app_manifest::{
    AppManifest, DEFAULT_STABLE_FOR_MS, Limits, Peripheral, RestartPolicy, UpdateAccess,
};
use holdfast_sandbox::network::{Connection, Destination, NetworkGrants, PortRange, Protocol};
use holdfast_types::{CatalogId, ComponentId, Version};

/// The typed form of a document that the schema accepts.
pub(super) fn typed(document: &Value) -> AppManifest {
    let limits = at(document, "Holdfast.Limits");
    let default = Limits::default();
    let limit = |name, otherwise| limits.and_then(|l| number(l, name)).unwrap_or(otherwise);
    let holdfast = at(document, "Holdfast");
    let version = |name| holdfast.and_then(|h| text(h, name)).and_then(|v| v.parse().ok());
    let mut unsupported = Vec::new();
    collect_unsupported(schema::TOP_LEVEL, document, "", &mut unsupported);
    let id = text(document, "ComponentId").and_then(ComponentId::parse);
    AppManifest {
        name: text(document, "Name").unwrap_or_default().to_owned(),
        component_id: id.unwrap_or(ComponentId([0; 16])),
        entry_point: text(document, "EntryPoint").unwrap_or_default().to_owned(),
        cmd_args: list(document, "CmdArgs").filter_map(as_text).map(str::to_owned).collect(),
        version: version("Version").unwrap_or(Version { major: 0, minor: 1, patch: 0 }),
        rollback_index: holdfast.and_then(|h| number(h, "RollbackIndex")).map_or(0, u64::from),
        least_os: version("LeastOsVersion").unwrap_or_default(),
        storage_kib: number(document, "Capabilities.MutableStorage.SizeKB").filter(|k| *k > 0),
        network: network(document),
        limits: Limits {
            memory_kib: limit("MemoryKiB", default.memory_kib),
            cpu_percent: limit("CpuPercent", default.cpu_percent),
            processes: limit("Processes", default.processes),
            open_files: limit("OpenFiles", default.open_files),
            temporary_kib: limit("TemporaryKiB", default.temporary_kib),
            log_lines_per_second: limit("LogLinesPerSecond", default.log_lines_per_second),
            write_kib_per_second: limit("WriteKiBPerSecond", default.write_kib_per_second),
            writes_per_second: limit("WritesPerSecond", default.writes_per_second),
            write_mib_per_day: limit("WriteMiBPerDay", default.write_mib_per_day),
        },
        updates: update_access(document),
        catalog: text(document, "Capabilities.DeviceAuthentication").and_then(CatalogId::parse),
        sets_report_level: holdfast.and_then(|h| at(h, "SetsReportLevel"))
            == Some(&Value::Boolean(true)),
        restart: match holdfast.and_then(|h| text(h, "RestartPolicy")) {
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        },
        ready_within_ms: holdfast.and_then(|h| number(h, "ReadyWithinMs")),
        watchdog_ms: holdfast.and_then(|h| number(h, "WatchdogMs")),
        critical: holdfast.and_then(|h| at(h, "Critical")) == Some(&Value::Boolean(true)),
        stable_for_ms: holdfast
            .and_then(|h| number(h, "StableForMs"))
            .unwrap_or(DEFAULT_STABLE_FOR_MS),
        unsupported,
        peripherals: peripherals(document),
    }
}

/// The value at a path of keys.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| match value {
        Value::Object(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, v)| v),
        _ => None,
    })
}

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    at(value, path).and_then(as_text)
}

fn number(value: &Value, path: &str) -> Option<u32> {
    match at(value, path) {
        Some(Value::Integer(number)) => u32::try_from(*number).ok(),
        _ => None,
    }
}

fn list<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    match at(value, path) {
        Some(Value::List(items)) => items.iter(),
        _ => [].iter(),
    }
}

fn update_access(document: &Value) -> UpdateAccess {
    let granted =
        |name: &str| at(document, &format!("Capabilities.{name}")) == Some(&Value::Boolean(true));
    match (granted("SoftwareUpdateDeferral"), granted("SystemEventNotifications")) {
        (true, _) => UpdateAccess::Defers,
        (false, true) => UpdateAccess::Told,
        (false, false) => UpdateAccess::None,
    }
}

fn network(document: &Value) -> NetworkGrants {
    let ports = |path| -> Vec<u16> {
        list(document, path)
            .filter_map(|port| match port {
                Value::Integer(port) => u16::try_from(*port).ok(),
                _ => None,
            })
            .collect()
    };
    NetworkGrants {
        connections: list(document, "Capabilities.AllowedConnections")
            .filter_map(connection)
            .collect(),
        tcp_server_ports: ports("Capabilities.AllowedTcpServerPorts"),
        udp_server_ports: ports("Capabilities.AllowedUdpServerPorts"),
        applications: list(document, "Capabilities.AllowedApplicationConnections")
            .filter_map(as_text)
            .filter_map(ComponentId::parse)
            .collect(),
    }
}

/// One entry of `AllowedConnections`.
fn connection(entry: &Value) -> Option<Connection> {
    if let Some(host) = as_text(entry) {
        return Some(Connection::to(Destination::parse(host)?));
    }
    let ports = list(entry, "Ports").filter_map(|ports| match ports {
        Value::Integer(port) => u16::try_from(*port).ok().map(PortRange::one),
        Value::Text(range) => PortRange::parse(range),
        _ => None,
    });
    Some(Connection {
        to: Destination::parse(text(entry, "Host")?)?,
        protocol: match text(entry, "Protocol") {
            Some("Tcp") => Some(Protocol::Tcp),
            Some("Udp") => Some(Protocol::Udp),
            _ => None,
        },
        ports: ports.collect(),
    })
}

/// True when a value asks for nothing: false, an empty array, the default.
fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Boolean(asked) => !asked,
        Value::List(items) => items.is_empty(),
        Value::Text(text) => text == "Default",
        _ => false,
    }
}

fn collect_unsupported(fields: &[Field], value: &Value, path: &str, found: &mut Vec<String>) {
    for field in fields {
        let Some(value) = at(value, field.name) else {
            continue;
        };
        let here =
            if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        if field.support == Support::NotYet && !asks_for_nothing(value) {
            found.push(here);
        } else if let Kind::Object(fields) = field.kind {
            collect_unsupported(fields, value, &here, found);
        }
    }
}

fn peripherals(document: &Value) -> Vec<Peripheral> {
    let mut found = Vec::new();
    for kind in schema::peripheral_fields() {
        let path = format!("Capabilities.{kind}");
        for (index, claim) in list(document, &path).enumerate() {
            let id = match claim {
                Value::Integer(number) => number.to_string(),
                Value::Text(name) => name.clone(),
                _ => continue,
            };
            found.push(Peripheral { path: format!("{path}[{index}]"), kind: kind.to_owned(), id });
        }
    }
    found
}
