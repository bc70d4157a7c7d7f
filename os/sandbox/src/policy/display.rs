//! A plan as text for people, one line for each thing that it allows.

use super::{CORE_KIB, Network, Plan, Readiness, Requests, Root, Source};
use crate::app_manifest::{Limits, RestartPolicy, UpdateAccess};
use crate::network::Protocol;
use std::fmt;

/// The plan for people: one line for each thing it allows.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [std::slice::from_ref(&self.program), &self.args[..]].concat();
        writeln!(f, "program       {}", words.join(" "))?;
        match &self.root {
            Root::System => writeln!(f, "file system   the whole system's")?,
            Root::Own(mounts) => {
                writeln!(f, "namespaces    own mounts, processes, host name")?;
                for mount in mounts {
                    let (what, kib) = match &mount.source {
                        Source::Package => ("the package".to_owned(), None),
                        Source::Directory(path) => (path.clone(), None),
                        Source::Temporary(kib) => ("memory".to_owned(), Some(kib)),
                        Source::Storage(kib) => ("storage".to_owned(), Some(kib)),
                        Source::Devices => ("null zero full random urandom".to_owned(), None),
                        Source::Notify => ("the notify socket".to_owned(), None),
                        Source::Resolver => ("resolv.conf, hosts".to_owned(), None),
                        Source::State => ("its part of the state partition".to_owned(), None),
                        Source::AppStore => ("the app packages".to_owned(), None),
                        Source::Crash => ("where it crashes".to_owned(), Some(&CORE_KIB)),
                    };
                    let access = match (mount.source.is_writable(), mount.source.is_executable()) {
                        (true, _) => "read write",
                        (false, true) => "read execute",
                        (false, false) => "read",
                    };
                    write!(f, "mount         {:<6} {access:<12} {what}", mount.target)?;
                    match kib {
                        Some(kib) => writeln!(f, ", {kib} KiB")?,
                        None => writeln!(f)?,
                    }
                }
            }
        }
        match &self.network {
            Network::None => writeln!(f, "network       none: an empty namespace")?,
            Network::System => writeln!(f, "network       the system's")?,
            Network::Granted(grants) => {
                writeln!(f, "network       own namespace, and nothing beside these:")?;
                for connection in &grants.connections {
                    writeln!(f, "connects to   {connection}")?;
                }
                for protocol in Protocol::ALL {
                    for port in grants.server_ports(protocol) {
                        writeln!(f, "serves        {protocol} port {port}")?;
                    }
                }
                for app in &grants.applications {
                    writeln!(f, "talks to      app {app}, if that names it as well")?;
                }
            }
        }
        writeln!(f, "capabilities  {}", list_or_none(&self.capabilities))?;
        writeln!(f, "system calls  {}", self.system_calls)?;
        writeln!(f, "descriptors   {}", list_or_none(&self.descriptors))?;
        for peripheral in &self.peripherals {
            writeln!(f, "peripheral    {peripheral}")?;
        }
        let Limits { memory_kib, cpu_percent, processes, open_files, .. } = self.limits;
        writeln!(
            f,
            "limits        {memory_kib} KiB memory, {cpu_percent} % CPU, {processes} processes, \
             {open_files} open files, {} log lines/s",
            self.limits.log_lines_per_second
        )?;
        if self.stores() {
            let Limits { write_kib_per_second, writes_per_second, write_mib_per_day, .. } =
                self.limits;
            writeln!(
                f,
                "writes        {write_kib_per_second} KiB and {writes_per_second} times a second, \
                 {write_mib_per_day} MiB a day"
            )?;
        }
        if self.requests.any() {
            let Requests {
                status,
                manage,
                shutdown,
                veths,
                clock,
                update,
                uplink,
                identity,
                report,
            } = self.requests;
            writeln!(
                f,
                "init          status {status}, manage {manage}, shut down {shutdown}, veth pairs of apps \
                 {veths}, set the clock {clock}, update {update}, fetch for updates {uplink}, \
                 attest the device {identity}, report failures {report}"
            )?;
        }
        match self.updates {
            UpdateAccess::None => {}
            UpdateAccess::Told => writeln!(f, "updates       is told of them")?,
            UpdateAccess::Defers => writeln!(f, "updates       is told of them, may put them off")?,
        }
        if let Some(catalog) = self.catalog {
            writeln!(f, "authenticates as a part of the device, for catalog {catalog}")?;
        }
        if self.sets_report_level {
            writeln!(f, "reports       may say how much the device reports at most")?;
        }
        let ready = match self.readiness {
            Readiness::Started => "once it runs".to_owned(),
            Readiness::Notify { within_ms } => format!("when it says so, within {within_ms} ms"),
        };
        writeln!(f, "ready         {ready}")?;
        match self.watchdog_ms {
            Some(ms) => writeln!(f, "watchdog      every {ms} ms")?,
            None => writeln!(f, "watchdog      none")?,
        }
        let restart = match self.restart {
            RestartPolicy::Always => "always",
            RestartPolicy::OnFailure => "on failure",
            RestartPolicy::Never => "never",
        };
        write!(f, "restart       {restart}")?;
        if self.critical {
            write!(f, ", critical: must stay ready for {} ms", self.stable_for_ms)?;
        }
        Ok(())
    }
}

fn list_or_none<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
