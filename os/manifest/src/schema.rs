//! The schema of an app manifest as one table.
//!
//! The check of a document, the JSON schema for editors and the reference page in `docs/` are all
//! made from [`TOP_LEVEL`], so that none of them can say what another does not. More than half of
//! this file is that table, which stands in one piece so that it can be read beside the page; the
//! check and the words for what was expected follow it.

use crate::document::Value;
use crate::fault::Fault;
use holdfast_sandbox::app_manifest::bounds::{self, Bounds};
use holdfast_sandbox::network::grants::{MAX_ENTRIES, MAX_RANGES};
use holdfast_sandbox::network::{Destination, PortRange};
use holdfast_types::Version;
use holdfast_types::is_clean_absolute;
use holdfast_types::is_guid;

/// Support of this OS version for a field that asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// The field has its effect.
    Full,
    /// Accepted; nothing on this OS depends on it.
    NoEffect,
    /// Part of the schema, but an image cannot be built with it yet.
    NotYet,
}

/// The values that a field takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Boolean,
    Integer {
        least: i64,
        most: i64,
    },
    Text {
        most_bytes: usize,
    },
    Guid,
    /// `major.minor.patch`.
    Version,
    /// Absolute, without `.` and `..`.
    Path,
    Choice(&'static [&'static str]),
    /// A host name, an IP address, a prefix or a DNS-SD service name.
    Host,
    /// A [`Kind::Host`], or an object that says ports and protocol as well.
    Connection,
    /// A port, or a range such as `"8000-8010"`.
    Ports,
    /// A number, or a name from the board's hardware definition.
    Peripheral,
    List {
        of: &'static Kind,
        /// 0, or 1 where no list means everything: then an empty one would have to mean nothing, and hardly
        /// anybody would read it so.
        least: usize,
        most: usize,
        distinct: bool,
    },
    Object(&'static [Field]),
}

/// One field of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) support: Support,
    /// One sentence for the reference and for editors.
    pub(super) about: &'static str,
}

const fn field(
    name: &'static str,
    kind: Kind,
    required: bool,
    support: Support,
    about: &'static str,
) -> Field {
    Field { name, kind, required, support, about }
}

/// A number within the bounds that the encoding for init and a plan have as well.
const fn within(bounds: Bounds) -> Kind {
    Kind::Integer { least: bounds.least as i64, most: bounds.most as i64 }
}

const PORTS: Kind = Kind::List {
    of: &Kind::Integer { least: 1, most: 65_535 },
    least: 0,
    most: 64,
    distinct: true,
};
/// The object form of a [`Kind::Connection`].
pub(super) const CONNECTION: &[Field] = &[
    field("Host", Kind::Host, true, Support::Full, "Who."),
    field("Protocol", Kind::Choice(&["Tcp", "Udp"]), false, Support::Full, "Both, unless said."),
    field(
        "Ports",
        Kind::List { of: &Kind::Ports, least: 1, most: MAX_RANGES, distinct: true },
        false,
        Support::Full,
        "Ports and ranges of ports, one at least; without the field, all.",
    ),
];
const PERIPHERALS: Kind = Kind::List { of: &Kind::Peripheral, least: 0, most: 64, distinct: true };

/// The whole document.
pub(super) const TOP_LEVEL: &[Field] = &[
    field(
        "SchemaVersion",
        Kind::Integer { least: 1, most: 1 },
        true,
        Support::Full,
        "Version of this schema.",
    ),
    field(
        "Name",
        Kind::Text { most_bytes: 256 },
        true,
        Support::Full,
        "Name of the app for people; the component's name on the device is made from it.",
    ),
    field(
        "ComponentId",
        Kind::Guid,
        true,
        Support::Full,
        "Identity of the app, the same for its whole life.",
    ),
    field(
        "EntryPoint",
        Kind::Path,
        true,
        Support::Full,
        "Path of the program in the app's own files, which the app sees below /app.",
    ),
    field(
        "CmdArgs",
        Kind::List { of: &Kind::Text { most_bytes: 1024 }, least: 0, most: 64, distinct: false },
        false,
        Support::Full,
        "Arguments for the program.",
    ),
    field(
        "TargetBetaApis",
        Kind::Text { most_bytes: 64 },
        false,
        Support::NotYet,
        "Set of preview interfaces that the app was built for.",
    ),
    field(
        "ApplicationType",
        Kind::Choice(&["Default", "RealTimeCapable", "Debugger"]),
        false,
        Support::NotYet,
        "Kind of the app; this OS version runs `Default` apps.",
    ),
    field(
        "MallocVersion",
        Kind::Integer { least: 1, most: 2 },
        false,
        Support::NoEffect,
        "Allocator of the C library; an app brings its own C library, which decides.",
    ),
    field(
        "Capabilities",
        Kind::Object(CAPABILITIES),
        true,
        Support::Full,
        "Everything the app is granted; empty grants nothing.",
    ),
    field(
        "Holdfast",
        Kind::Object(EXTENSIONS),
        false,
        Support::Full,
        "What this OS adds to the schema: limits, and how the app is supervised.",
    ),
];

const CAPABILITIES: &[Field] = &[
    field(
        "AllowedConnections",
        Kind::List { of: &Kind::Connection, least: 0, most: MAX_ENTRIES, distinct: true },
        false,
        Support::Full,
        "Hosts the app may connect to: names, IP addresses and prefixes, or DNS-SD names such as \
         `_http._tcp.local`, which are open at the ports that instances on the local link name. An \
         object `{\"Host\": …, \"Protocol\": \"Tcp\", \"Ports\": [443, \"8000-8010\"]}` \
         says more closely what is allowed.",
    ),
    field(
        "AllowedTcpServerPorts",
        PORTS,
        false,
        Support::Full,
        "TCP ports on which the network reaches the app: by 64 connections at once, 16 of one address. An app \
         without any cannot listen. Each port is one app's.",
    ),
    field(
        "AllowedUdpServerPorts",
        PORTS,
        false,
        Support::Full,
        "UDP ports on which the network reaches the app, within the same bounds. Each port is one app's.",
    ),
    field(
        "AllowedApplicationConnections",
        Kind::List { of: &Kind::Guid, least: 0, most: MAX_ENTRIES, distinct: true },
        false,
        Support::Full,
        "Component ids of apps whose server ports it may connect to, where they name it as well; \
         their host names are `NAME.app.internal`.",
    ),
    field(
        "Gpio",
        PERIPHERALS,
        false,
        Support::Full,
        "GPIO lines of the board, each for this app alone.",
    ),
    field(
        "Uart",
        PERIPHERALS,
        false,
        Support::Full,
        "Serial ports of the board, each for this app alone.",
    ),
    field(
        "I2cMaster",
        PERIPHERALS,
        false,
        Support::Full,
        "I2C controllers of the board, each for this app alone.",
    ),
    field(
        "SpiMaster",
        PERIPHERALS,
        false,
        Support::Full,
        "SPI controllers of the board, each for this app alone.",
    ),
    field("Pwm", PERIPHERALS, false, Support::NotYet, "PWM controllers, each for this app alone."),
    field(
        "Adc",
        PERIPHERALS,
        false,
        Support::NotYet,
        "Analogue inputs, each controller for this app alone.",
    ),
    field(
        "I2sSubordinate",
        PERIPHERALS,
        false,
        Support::NotYet,
        "I2S controllers, each for this app alone.",
    ),
    field(
        "MutableStorage",
        Kind::Object(&[field(
            "SizeKB",
            within(bounds::STORAGE_KIB),
            true,
            Support::Full,
            "Room in KiB.",
        )]),
        false,
        Support::Full,
        "Storage that outlives the app's restarts and updates, at /data.",
    ),
    field("SystemTime", Kind::Boolean, false, Support::NotYet, "May set the system's time."),
    field(
        "TimeSyncConfig",
        Kind::Boolean,
        false,
        Support::NotYet,
        "May configure time synchronisation.",
    ),
    field("SntpService", Kind::Boolean, false, Support::NotYet, "May run an SNTP server."),
    field("DhcpService", Kind::Boolean, false, Support::NotYet, "May run a DHCP server."),
    field("WifiConfig", Kind::Boolean, false, Support::NotYet, "May configure Wi-Fi."),
    field(
        "EnterpriseWifiConfig",
        Kind::Boolean,
        false,
        Support::NotYet,
        "May configure Wi-Fi with certificates.",
    ),
    field(
        "NetworkConfig",
        Kind::Boolean,
        false,
        Support::NotYet,
        "May configure network interfaces.",
    ),
    field(
        "ReadNetworkProxyConfig",
        Kind::Boolean,
        false,
        Support::NotYet,
        "May read the proxy's settings.",
    ),
    field(
        "HardwareAddressConfig",
        Kind::Boolean,
        false,
        Support::NotYet,
        "May set hardware addresses.",
    ),
    field(
        "CertStore",
        Kind::Boolean,
        false,
        Support::NotYet,
        "May install and remove certificates.",
    ),
    field(
        "DeviceAuthentication",
        Kind::Guid,
        false,
        Support::Full,
        "Catalog for whose service the app gets a certificate of its own: that of the image's `[service]`.",
    ),
    field(
        "PowerControls",
        Kind::List {
            of: &Kind::Choice(&["ForceReboot", "ForcePowerDown", "SetPowerProfile"]),
            least: 0,
            most: 3,
            distinct: true,
        },
        false,
        Support::NotYet,
        "What it may do to the device's power.",
    ),
    field(
        "SystemEventNotifications",
        Kind::Boolean,
        false,
        Support::Full,
        "Is told of coming updates.",
    ),
    field(
        "SoftwareUpdateDeferral",
        Kind::Boolean,
        false,
        Support::Full,
        "May put off an update for a while.",
    ),
];

const EXTENSIONS: &[Field] = &[
    field("Version", Kind::Version, false, Support::Full, "Version of the app; 0.1.0 unless said."),
    field(
        "RollbackIndex",
        Kind::Integer { least: 0, most: 0x7fff_ffff },
        false,
        Support::Full,
        "Raise it with a release that mends a weakness: devices that had it refuse lower ones.",
    ),
    field(
        "LeastOsVersion",
        Kind::Version,
        false,
        Support::Full,
        "Oldest OS version that the app runs on.",
    ),
    field(
        "SetsReportLevel",
        Kind::Boolean,
        false,
        Support::Full,
        "May say for the device's owner how much the device reports of its failures at most, by `sd_notify`.",
    ),
    field("Limits", Kind::Object(LIMITS), false, Support::Full, "What the app may use at most."),
    field(
        "RestartPolicy",
        Kind::Choice(&["Always", "OnFailure", "Never"]),
        false,
        Support::Full,
        "When it is started again after its end; `Always` unless said. A failure is a signal or an \
         exit code other than 0.",
    ),
    field(
        "ReadyWithinMs",
        within(bounds::INTERVAL_MS),
        false,
        Support::Full,
        "Milliseconds within which it must send `READY=1`; without it, it is ready once it runs.",
    ),
    field(
        "WatchdogMs",
        within(bounds::INTERVAL_MS),
        false,
        Support::Full,
        "Milliseconds within which it must send `WATCHDOG=1`, again and again, once it is ready.",
    ),
    field(
        "Critical",
        Kind::Boolean,
        false,
        Support::Full,
        "A release of the OS is good only if this app gets ready and stays so.",
    ),
    field(
        "StableForMs",
        within(bounds::INTERVAL_MS),
        false,
        Support::Full,
        "Milliseconds for which a critical app must stay ready, 5000 unless said: only then is a \
         release good.",
    ),
];

const LIMITS: &[Field] = &[
    field(
        "MemoryKiB",
        within(bounds::MEMORY_KIB),
        false,
        Support::Full,
        "Memory in KiB, its share of the kernel's and /tmp included; 8192 unless said. That of all components \
         must fit the machine.",
    ),
    field(
        "CpuPercent",
        within(bounds::CPU_PERCENT),
        false,
        Support::Full,
        "Share of all processors, in percent; 50 unless said.",
    ),
    field(
        "Processes",
        within(bounds::PROCESSES),
        false,
        Support::Full,
        "Processes and threads at once; 16 unless said.",
    ),
    field(
        "OpenFiles",
        within(bounds::OPEN_FILES),
        false,
        Support::Full,
        "Open descriptors of one process; 64 unless said.",
    ),
    field(
        "TemporaryKiB",
        within(bounds::TEMPORARY_KIB),
        false,
        Support::Full,
        "Room in /tmp, which is memory and empty at every start; 256 unless said.",
    ),
    field(
        "LogLinesPerSecond",
        within(bounds::LOG_LINES_PER_SECOND),
        false,
        Support::Full,
        "Lines it may print each second in the long run, four times that at once; 16 unless said.",
    ),
    field(
        "WriteKiBPerSecond",
        within(bounds::WRITE_KIB_PER_SECOND),
        false,
        Support::Full,
        "KiB it may write to its storage each second; 2048 unless said. What is beyond waits.",
    ),
    field(
        "WritesPerSecond",
        within(bounds::WRITES_PER_SECOND),
        false,
        Support::Full,
        "Times it may write there each second; 128 unless said.",
    ),
    field(
        "WriteMiBPerDay",
        within(bounds::WRITE_MIB_PER_DAY),
        false,
        Support::Full,
        "MiB it may write there in a day, which begins with the device's start; 1024 unless said. After that \
         it writes slowly until the day is over, and the log says so.",
    ),
];

/// Checks `value` against `kind` and adds what is wrong to `faults`, each with its path.
pub(super) fn check(kind: &Kind, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let mut refuse = |reason: String| faults.push(Fault { path: path.to_owned(), reason });
    match (kind, value) {
        (Kind::Boolean, Value::Boolean(_)) => {}
        (Kind::Integer { least, most }, Value::Integer(number)) => {
            if number < least || number > most {
                refuse(format!("must be {}, is {number}", range(*least, *most)));
            }
        }
        (Kind::Object(fields), Value::Object(entries)) => {
            check_object(fields, entries, path, faults);
        }
        (Kind::Connection, Value::Object(entries)) => {
            check_object(CONNECTION, entries, path, faults);
        }
        (Kind::Ports, Value::Integer(port)) => {
            if !(1..=65_535).contains(port) {
                refuse(format!("must be {}, is {port}", range(1, 65_535)));
            }
        }
        (Kind::List { of, least, most, distinct }, Value::List(items)) => {
            if items.len() < *least {
                refuse(format!(
                    "must have at least {least} entry, has none; without the field, everything is meant"
                ));
                return;
            }
            if items.len() > *most {
                refuse(format!("must have at most {most} entries, has {}", items.len()));
                return;
            }
            for (index, item) in items.iter().enumerate() {
                let here = format!("{path}[{index}]");
                if *distinct && items.iter().take(index).any(|earlier| earlier == item) {
                    faults.push(Fault { path: here, reason: "is there twice".to_owned() });
                    continue;
                }
                check(of, item, &here, faults);
            }
        }
        (Kind::Peripheral, Value::Integer(number)) => {
            if !(0..=1023).contains(number) {
                refuse(format!("must be {}, is {number}", range(0, 1023)));
            }
        }
        (
            Kind::Text { .. }
            | Kind::Guid
            | Kind::Version
            | Kind::Path
            | Kind::Choice(_)
            | Kind::Host
            | Kind::Connection
            | Kind::Ports
            | Kind::Peripheral,
            Value::Text(text),
        ) => {
            if let Err(reason) = check_text(kind, text) {
                refuse(reason);
            }
        }
        (kind, found) => refuse(format!("must be {}, is {}", expected(kind), found.kind())),
    }
}

fn check_object(
    fields: &[Field],
    entries: &[(String, Value)],
    path: &str,
    faults: &mut Vec<Fault>,
) {
    let below = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    };
    for (index, (name, value)) in entries.iter().enumerate() {
        if entries.iter().take(index).any(|(earlier, _)| earlier == name) {
            faults.push(Fault { path: below(name), reason: "is there twice".to_owned() });
            continue;
        }
        match fields.iter().find(|field| field.name == name) {
            Some(field) => check(&field.kind, value, &below(name), faults),
            None => {
                let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
                faults.push(Fault {
                    path: below(name),
                    reason: format!("is not a field; fields here are {}", known.join(", ")),
                });
            }
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if !entries.iter().any(|(name, _)| name == field.name) {
            let reason = format!("is missing; it must be {}", expected(&field.kind));
            faults.push(Fault { path: below(field.name), reason });
        }
    }
}

fn check_text(kind: &Kind, text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    let fits = match kind {
        Kind::Text { most_bytes } => {
            if text.len() > *most_bytes {
                return Err(format!("must have at most {most_bytes} bytes, has {}", text.len()));
            }
            true
        }
        Kind::Guid => is_guid(text),
        Kind::Version => text.parse::<Version>().is_ok(),
        Kind::Path => text.len() <= 255 && is_clean_absolute(text),
        Kind::Choice(choices) => choices.contains(&text),
        Kind::Host | Kind::Connection => Destination::parse(text).is_some(),
        Kind::Ports => PortRange::parse(text).is_some(),
        Kind::Peripheral => {
            let name = text.strip_prefix('$').unwrap_or(text);
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            !name.is_empty() && name.len() <= 64 && name.bytes().all(is_part)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("must be {}, is `{text}`", expected(kind))) }
}

fn range(least: i64, most: i64) -> String {
    if least == most { least.to_string() } else { format!("from {least} to {most}") }
}

/// The values of a kind in words, to stand behind "must be".
pub(super) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "true or false".to_owned(),
        Kind::Integer { least, most } => format!("an integer, {}", range(*least, *most)),
        Kind::Text { most_bytes } => format!("a string of at most {most_bytes} bytes"),
        Kind::Guid => "a GUID such as \"25025d2c-66da-4448-bae1-ac26fcdd3627\"".to_owned(),
        Kind::Version => "three numbers such as \"1.0.0\"".to_owned(),
        Kind::Path => "an absolute path without `.` and `..`, such as \"/bin/app\"".to_owned(),
        Kind::Choice(choices) => format!("one of \"{}\"", choices.join("\", \"")),
        Kind::Host => "a host name, an IP address or prefix, or a DNS-SD name".to_owned(),
        Kind::Connection => {
            format!("{}, or an object with Host, Protocol and Ports", expected(&Kind::Host))
        }
        Kind::Ports => "a port from 1 to 65535, or a range such as \"8000-8010\"".to_owned(),
        Kind::Peripheral => "a number from 0 to 1023, or a name such as \"$LED\"".to_owned(),
        Kind::List { of, least, most, .. } => {
            let entries = if *least == 0 {
                format!("at most {most} entries")
            } else {
                format!("{least} to {most} entries")
            };
            format!("an array of {entries}, each {}", expected(of))
        }
        Kind::Object(_) => "an object".to_owned(),
    }
}

/// Names of the capabilities that claim peripherals.
pub(super) fn peripheral_fields() -> impl Iterator<Item = &'static str> {
    let claims =
        |kind: &Kind| matches!(kind, Kind::List { of, .. } if matches!(of, Kind::Peripheral));
    CAPABILITIES.iter().filter(move |field| claims(&field.kind)).map(|field| field.name)
}
