//! The schema of an app manifest as one table.
//!
//! The check of a document, the JSON schema for editors and the reference page in `docs/` are all
//! made from [`TOP_LEVEL`], so that none of them can say what another does not. This file is that table,
//! which stands in one piece so that it can be read beside the page.

mod check;

pub(super) use check::{check, expected};

use holdfast_sandbox::app_manifest::bounds::{self, Bounds};
use holdfast_sandbox::network::grants::{MAX_ENTRIES, MAX_RANGES};

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

/// Names of the capabilities that claim peripherals.
pub(super) fn peripheral_fields() -> impl Iterator<Item = &'static str> {
    let claims =
        |kind: &Kind| matches!(kind, Kind::List { of, .. } if matches!(of, Kind::Peripheral));
    CAPABILITIES.iter().filter(move |field| claims(&field.kind)).map(|field| field.name)
}
