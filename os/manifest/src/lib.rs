//! `app_manifest.json`: what an app is and everything it is granted.
//!
//! Field names and meaning are those of Azure Sphere's application manifest, schema version 1,
//! which is accepted unchanged; what this OS adds stands under the key `Holdfast`. The table in
//! `schema` decides what a document may hold; [`published`] writes it down for editors and
//! people.

mod document;
pub mod elf;
mod fault;
mod json;
pub mod published;
mod schema;
mod typed;

use document::Value;
pub use fault::Fault;
use holdfast_sandbox::app_manifest::{AppManifest, MAX_BYTES};
use holdfast_sandbox::network::Protocol;
use holdfast_sandbox::policy::shares;
use schema::Kind;
use thiserror::Error;
use typed::typed;

/// An error of parsing an app manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AppManifestError {
    /// The document is longer than [`MAX_BYTES`].
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// The document is no JSON; the text says where, and what it is instead where that can be told.
    #[error("{0}")]
    Json(String),
    /// The document does not follow the schema.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faults(Vec<Fault>),
}

/// Reads a manifest and checks it in every field.
///
/// # Errors
/// Too long, no JSON, or all that does not follow the schema, in the document's order.
pub fn parse(bytes: &[u8]) -> Result<AppManifest, AppManifestError> {
    if bytes.len() > MAX_BYTES {
        return Err(AppManifestError::TooLong);
    }
    // JSON may begin with a byte order mark, as some editors write it (RFC 8259, section 8.1).
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let document: Value = serde_json::from_slice(bytes)
        .map_err(|error| AppManifestError::Json(json::complaint(bytes, &error)))?;
    let mut faults = Vec::new();
    schema::check(&Kind::Object(schema::TOP_LEVEL), &document, "", &mut faults);
    if faults.is_empty() { Ok(typed(&document)) } else { Err(AppManifestError::Faults(faults)) }
}

/// Peripherals and server ports that more than one of these components claims: each fault with the index of
/// the component whose claim came second.
#[must_use]
pub fn contested(manifests: &[&AppManifest]) -> Vec<(usize, Fault)> {
    let mut faults = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        for claim in &manifest.peripherals {
            let owner = manifests.iter().take(index).find(|earlier| {
                earlier.peripherals.iter().any(|p| p.kind == claim.kind && p.id == claim.id)
            });
            if let Some(owner) = owner {
                let reason = format!("{} {} belongs to `{}`", claim.kind, claim.id, owner.name);
                faults.push((index, Fault { path: claim.path.clone(), reason }));
            }
        }
        for protocol in Protocol::ALL {
            for (at, port) in manifest.network.server_ports(protocol).iter().enumerate() {
                let serves =
                    |earlier: &&&AppManifest| earlier.network.server_ports(protocol).contains(port);
                if let Some(owner) = manifests.iter().take(index).find(serves) {
                    let path = format!("{}[{at}]", shares::field(protocol));
                    let reason = format!("{protocol} port {port} belongs to `{}`", owner.name);
                    faults.push((index, Fault { path, reason }));
                }
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::app_manifest::{
        EncodedManifestError, Limits, RestartPolicy, UpdateAccess,
    };
    use holdfast_sandbox::network::{Connection, Destination, NetworkGrants};
    use holdfast_types::{CatalogId, ComponentId};
    use proptest::prelude::*;

    const MINIMAL: &str = r#"{"SchemaVersion": 1, "Name": "hello", "EntryPoint": "/bin/app",
        "ComponentId": "25025d2c-66da-4448-bae1-ac26fcdd3627", "Capabilities": {}}"#;

    /// Every field and capability of Azure Sphere's schema, none of ours.
    const AZURE_SPHERE: &str = r#"{
        "SchemaVersion": 1,
        "Name": "Ärzte & Söhne GmbH: Pump Controller (rev. 2)",
        "ComponentId": "25025D2C-66DA-4448-BAE1-AC26FCDD3627",
        "EntryPoint": "/bin/app",
        "CmdArgs": ["--verbose", ""],
        "TargetBetaApis": "Beta2004",
        "ApplicationType": "Default",
        "MallocVersion": 2,
        "Capabilities": {
            "AllowedConnections": ["global.azure-devices-provisioning.net", "192.168.1.2",
                "fe80::1", "_http._tcp.local"],
            "AllowedTcpServerPorts": [80, 65535],
            "AllowedUdpServerPorts": [1],
            "AllowedApplicationConnections": ["005180BC-402F-4CB3-A662-72937DBCDE47"],
            "Gpio": ["$AVNET_MT3620_SK_GPIO0", 1, 2],
            "Uart": ["ISU0", "$UART"],
            "I2cMaster": ["$I2C"],
            "SpiMaster": [0],
            "Pwm": ["PWM-CONTROLLER-0"],
            "Adc": ["ADC-CONTROLLER-0"],
            "I2sSubordinate": ["$I2S"],
            "MutableStorage": {"SizeKB": 64},
            "SystemTime": true, "TimeSyncConfig": true, "SntpService": true, "DhcpService": true,
            "WifiConfig": true, "EnterpriseWifiConfig": true, "NetworkConfig": true,
            "ReadNetworkProxyConfig": true, "HardwareAddressConfig": true, "CertStore": true,
            "DeviceAuthentication": "77304f1f-9530-4157-8598-30bc1f3d66f0",
            "PowerControls": ["ForceReboot", "ForcePowerDown", "SetPowerProfile"],
            "SystemEventNotifications": true,
            "SoftwareUpdateDeferral": true
        }
    }"#;

    fn faults(text: &str) -> Vec<String> {
        match parse(text.as_bytes()) {
            Err(AppManifestError::Faults(faults)) => faults.iter().map(Fault::to_string).collect(),
            other => panic!("expected faults, got {other:?}"),
        }
    }

    fn fault(from: &str, to: &str) -> String {
        assert!(MINIMAL.contains(from));
        let found = faults(&MINIMAL.replace(from, to));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    #[test]
    fn a_manifest_of_azure_sphere_is_accepted_unchanged() {
        let manifest = parse(AZURE_SPHERE.as_bytes()).unwrap();
        assert_eq!(manifest.component_id.to_string(), "25025d2c-66da-4448-bae1-ac26fcdd3627");
        assert_eq!(manifest.storage_kib, Some(64));
        assert_eq!(manifest.cmd_args, ["--verbose", ""]);
        assert_eq!(manifest.peripherals.len(), 10);
        assert_eq!(
            manifest.network,
            NetworkGrants {
                connections: [
                    "global.azure-devices-provisioning.net",
                    "192.168.1.2",
                    "fe80::1",
                    "_http._tcp.local",
                ]
                .map(|host| Connection::to(Destination::parse(host).unwrap()))
                .into(),
                tcp_server_ports: vec![80, 65_535],
                udp_server_ports: vec![1],
                applications: vec![
                    ComponentId::parse("005180bc-402f-4cb3-a662-72937dbcde47").unwrap()
                ],
            }
        );
        // Everything but storage and network has to wait for a later version, and each is named.
        assert_eq!(manifest.updates, UpdateAccess::Defers);
        assert_eq!(manifest.catalog, CatalogId::parse("77304f1f-9530-4157-8598-30bc1f3d66f0"));
        assert_eq!(manifest.unsupported.len(), 15, "{:?}", manifest.unsupported);
        assert!(manifest.unsupported.contains(&"Capabilities.SystemTime".to_owned()));
        assert!(!manifest.unsupported.iter().any(|path| path.contains("MutableStorage")));
    }

    #[test]
    fn an_app_has_to_do_with_updates_as_far_as_its_manifest_says() {
        let updates = |capabilities: &str| {
            let text = MINIMAL.replace("{}", capabilities);
            parse(text.as_bytes()).unwrap().updates
        };
        assert_eq!(updates("{}"), UpdateAccess::None);
        assert_eq!(
            updates(r#"{"SystemEventNotifications": false, "SoftwareUpdateDeferral": false}"#),
            UpdateAccess::None
        );
        assert_eq!(updates(r#"{"SystemEventNotifications": true}"#), UpdateAccess::Told);
        assert_eq!(updates(r#"{"SoftwareUpdateDeferral": true}"#), UpdateAccess::Defers);
    }

    #[test]
    fn what_is_not_asked_for_is_not_unsupported() {
        let manifest =
            parse(MINIMAL.replace("{}", r#"{"Gpio": [], "WifiConfig": false}"#).as_bytes());
        assert_eq!(manifest.unwrap().unsupported, Vec::<String>::new());
    }

    #[test]
    fn the_extensions_have_defaults_and_are_read() {
        let manifest = parse(MINIMAL.as_bytes()).unwrap();
        assert_eq!((manifest.limits, manifest.restart), (Limits::default(), RestartPolicy::Always));
        let text = MINIMAL.replace(
            "{}}",
            r#"{}, "Holdfast": {"Limits": {"MemoryKiB": 512, "Processes": 3}, "Critical": true,
                "RestartPolicy": "Never", "ReadyWithinMs": 5000, "WatchdogMs": 700}}"#,
        );
        let manifest = parse(text.as_bytes()).unwrap();
        assert_eq!((manifest.limits.memory_kib, manifest.limits.processes), (512, 3));
        assert_eq!(manifest.limits.cpu_percent, 50);
        assert_eq!((manifest.ready_within_ms, manifest.watchdog_ms), (Some(5000), Some(700)));
        assert!(manifest.critical && manifest.restart == RestartPolicy::Never);
    }

    #[test]
    fn each_fault_names_its_path_and_the_remedy() {
        let version = fault("\"SchemaVersion\": 1", "\"SchemaVersion\": 2");
        assert_eq!(version, "SchemaVersion: must be 1, is 2");
        let version = fault("\"SchemaVersion\": 1", "\"SchemaVersion\": \"1\"");
        assert_eq!(version, "SchemaVersion: must be an integer, 1, is a string");
        let id = fault("25025d2c-", "");
        assert!(id.starts_with("ComponentId: must be a GUID such as"), "{id}");
        let path = fault("/bin/app", "/bin/../app");
        assert!(path.starts_with("EntryPoint: must be an absolute path"), "{path}");
        let unknown = fault("{}}", r#"{"Gpoi": [1]}}"#);
        assert!(unknown.starts_with("Capabilities.Gpoi: is not a field; fields here are"));
        let twice = fault("\"Name\": \"hello\",", "\"Name\": \"hello\", \"Name\": \"other\",");
        assert_eq!(twice, "Name: is there twice");
        let twice = fault("{}}", r#"{"Gpio": [1, 2, 1]}}"#);
        assert_eq!(twice, "Capabilities.Gpio[2]: is there twice");
        let port = fault("{}}", r#"{"AllowedTcpServerPorts": [80, 65536]}}"#);
        assert_eq!(
            port,
            "Capabilities.AllowedTcpServerPorts[1]: must be from 1 to 65535, is 65536"
        );
        let power = fault("{}}", r#"{"PowerControls": ["Explode"]}}"#);
        assert!(power.contains("PowerControls[0]: must be one of \"ForceReboot\""), "{power}");
        let memory = fault("{}}", r#"{}, "Holdfast": {"Limits": {"MemoryKiB": 1}}}"#);
        assert_eq!(memory, "Holdfast.Limits.MemoryKiB: must be from 256 to 1048576, is 1");
        for (number, kind) in [
            ("1.5", "a number that is no integer"),
            ("9223372036854775808", "an integer that is too large"),
            ("123456789012345678901234567890", "an integer that is too large"),
            ("-9223372036854775809", "an integer that is too large"),
        ] {
            let size = format!("{{\"MutableStorage\": {{\"SizeKB\": {number}}}}}}}");
            let found = fault("{}}", &size);
            assert!(found.ends_with(&format!("is {kind}")), "{number}: {found}");
        }
        let control = fault("hello", "he\\u0007llo");
        assert_eq!(control, "Name: must not hold control characters");
    }

    #[test]
    fn a_connection_may_say_protocol_and_ports() {
        let text = MINIMAL.replace(
            "{}}",
            r#"{"AllowedConnections": ["a.example",
                {"Host": "10.0.0.0/8", "Protocol": "Udp", "Ports": [53, "8000-8010"]}]}}"#,
        );
        let manifest = parse(text.as_bytes()).unwrap();
        let said: Vec<String> =
            manifest.network.connections.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            ["a.example, TCP and UDP, every port", "10.0.0.0/8, UDP, port 53 8000-8010"]
        );
        let wrong = fault("{}}", r#"{"AllowedConnections": ["10.0.0.1/8"]}}"#);
        assert!(wrong.starts_with("Capabilities.AllowedConnections[0]: must be a host name"));
        let wrong = fault("{}}", r#"{"AllowedConnections": [{"Host": "a", "Ports": ["9-8"]}]}}"#);
        assert!(wrong.starts_with("Capabilities.AllowedConnections[0].Ports[0]: must be a port"));
        let wrong = fault("{}}", r#"{"AllowedConnections": [{"Ports": [1]}]}}"#);
        assert!(wrong.starts_with("Capabilities.AllowedConnections[0].Host: is missing"));
    }

    #[test]
    fn a_document_that_is_no_object_is_said_without_a_path() {
        for (text, kind) in [("[]", "an array"), ("7", "an integer"), ("\"x\"", "a string")] {
            assert_eq!(faults(text), [format!("must be an object, is {kind}")]);
        }
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let found = faults(r#"{"SchemaVersion": 3, "Nom": "x", "Capabilities": []}"#);
        let paths: Vec<&str> = found.iter().filter_map(|f| f.split(':').next()).collect();
        assert_eq!(
            paths,
            ["SchemaVersion", "Nom", "Capabilities", "Name", "ComponentId", "EntryPoint"]
        );
    }

    #[test]
    fn what_is_no_json_says_where() {
        let error = parse(b"{\"SchemaVersion\": 1,}").unwrap_err().to_string();
        assert!(error.contains("line 1 column 21"), "{error}");
        let error = parse(&[MINIMAL.as_bytes(), b"x"].concat()).unwrap_err();
        assert!(error.to_string().contains("trailing characters"), "{error}");
        let long = " ".repeat(MAX_BYTES + 1);
        assert_eq!(parse(long.as_bytes()), Err(AppManifestError::TooLong));
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_utf_16_and_comments_are_named() {
        let marked = [b"\xef\xbb\xbf", MINIMAL.as_bytes()].concat();
        assert_eq!(parse(&marked), parse(MINIMAL.as_bytes()));
        let twice = [b"\xef\xbb\xbf", marked.as_slice()].concat();
        parse(&twice).unwrap_err();
        let wide: Vec<u8> = MINIMAL.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let error = parse(&[b"\xff\xfe", wide.as_slice()].concat()).unwrap_err();
        assert_eq!(error.to_string(), "is in UTF-16; save it as UTF-8");
        let commented = MINIMAL.replacen(',', ", // scope id\n", 1);
        let error = parse(commented.as_bytes()).unwrap_err().to_string();
        assert!(error.ends_with("has a comment (`//`), and JSON has none; take it out"), "{error}");
    }

    #[test]
    fn an_empty_list_grants_nothing() {
        let of =
            |capabilities: &str| parse(MINIMAL.replace("{}", capabilities).as_bytes()).unwrap();
        let nothing = of("{}").network;
        for name in [
            "AllowedConnections",
            "AllowedTcpServerPorts",
            "AllowedUdpServerPorts",
            "AllowedApplicationConnections",
            "Gpio",
            "PowerControls",
        ] {
            let manifest = of(&format!("{{\"{name}\": []}}"));
            assert_eq!(
                (manifest.network, manifest.peripherals.len()),
                (nothing.clone(), 0),
                "{name}"
            );
        }
        // Where it would have to mean nothing, while no list means everything, there is none.
        let empty = fault("{}}", r#"{"AllowedConnections": [{"Host": "a", "Ports": []}]}}"#);
        assert_eq!(
            empty,
            "Capabilities.AllowedConnections[0].Ports: must have at least 1 entry, has none; without the \
             field, everything is meant"
        );
    }

    #[test]
    fn a_peripheral_belongs_to_one_component() {
        let one = parse(MINIMAL.replace("{}", r#"{"Gpio": [3, 4]}"#).as_bytes());
        let two = parse(
            MINIMAL
                .replace("hello", "other")
                .replace("{}", r#"{"Gpio": [4], "Pwm": [3]}"#)
                .as_bytes(),
        );
        let found = contested(&[&one.unwrap(), &two.unwrap()]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].0, found[0].1.to_string().as_str()),
            (1, "Capabilities.Gpio[0]: Gpio 4 belongs to `hello`")
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_or_read_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..256)
        ) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_changed_byte_is_refused_or_read_never_a_panic(
            at in any::<prop::sample::Index>(), value in any::<u8>()
        ) {
            let mut bytes = AZURE_SPHERE.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = parse(&bytes);
        }

        #[test]
        fn what_a_manifest_says_is_what_is_read(
            name in "[^\\p{C}\"\\\\]{1,40}",
            id in any::<[u8; 16]>(),
            args in proptest::collection::vec("[a-zA-Z0-9=/. -]{0,20}", 0..5),
            storage in 0u32..65_536,
            memory in 256u32..1_000_000,
            percent in 1u32..=100,
        ) {
            let id = ComponentId(id);
            let text = serde_json::json!({
                "SchemaVersion": 1, "Name": name, "ComponentId": id.to_string(),
                "EntryPoint": "/bin/app", "CmdArgs": args,
                "Capabilities": {"MutableStorage": {"SizeKB": storage}},
                "Holdfast": {"Limits": {"MemoryKiB": memory, "CpuPercent": percent}},
            }).to_string();
            let manifest = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(&manifest.name, &name);
            prop_assert_eq!(manifest.component_id, id);
            prop_assert_eq!(&manifest.cmd_args, &args);
            prop_assert_eq!(manifest.storage_kib.unwrap_or(0), storage);
            prop_assert_eq!(manifest.limits.memory_kib, memory);
            prop_assert_eq!(manifest.limits.cpu_percent, percent);
            prop_assert_eq!(&manifest.unsupported, &Vec::<String>::new());
            let encoded = manifest.encode().unwrap();
            prop_assert_eq!(AppManifest::decode(&encoded), Ok(manifest));
        }

        #[test]
        fn changed_encodings_are_refused_or_in_bounds(
            at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<bool>()
        ) {
            let mut bytes = parse(AZURE_SPHERE.as_bytes()).unwrap().encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if cut {
                bytes.truncate(at);
            }
            if let Ok(manifest) = AppManifest::decode(&bytes) {
                prop_assert_eq!(holdfast_sandbox::policy::app_plan(&manifest, &[]).check(), Ok(()));
            }
        }
    }

    #[test]
    fn an_encoding_out_of_bounds_is_refused() {
        let mut manifest = parse(MINIMAL.as_bytes()).unwrap();
        manifest.limits.memory_kib = u32::MAX;
        let bytes = manifest.encode().unwrap();
        assert_eq!(AppManifest::decode(&bytes), Err(EncodedManifestError::Field("MemoryKiB")));
        let mut bytes = parse(MINIMAL.as_bytes()).unwrap().encode().unwrap();
        bytes.push(0);
        assert!(matches!(AppManifest::decode(&bytes), Err(EncodedManifestError::Encoding(_))));
    }
}
