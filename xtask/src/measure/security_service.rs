//! What the Security Service costs: `holdfast-service-load` measures the program, and the numbers become a section of their own.

use anyhow::{Context, Result};
use holdfast_builder::progress::Step;
use holdfast_builder::workspace::Workspace;
use holdfast_builder::{host, process};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::Command;

/// Title of the section of `docs/numbers.md`.
const TITLE: &str = "\n## Security Service\n";
/// Title of the section behind it, which people write: what a large fleet costs, beside what others ask.
const OF_A_FLEET: &str = "\n## Security Service and a large fleet\n";
/// What a check-in may cost of a processor, in milliseconds.
const AIM_PROCESSOR_MS: f64 = 0.6;
/// What a device may send and get in a day, in bytes.
const AIM_BYTES: u64 = 8192;

/// Numbers of one database.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OfDatabase {
    /// Time of a processor that the service's process has used for a check-in.
    processor_ms: f64,
    /// With devices on the same processors.
    check_ins_per_s: f64,
    /// Resident memory of the service's process afterwards.
    memory_kib: u64,
    /// Of a device with a TPM and one app, TLS included.
    bytes_up: u64,
    bytes_down: u64,
}

/// What was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ServiceNumbers {
    /// Devices in the database.
    stored: u64,
    /// Devices that check in.
    devices: u64,
    /// Threads that do it for them.
    threads: u64,
    check_ins: u64,
    sqlite: OfDatabase,
    postgresql: OfDatabase,
}

pub(super) fn measure(workspace: &Workspace) -> Result<ServiceNumbers> {
    host::ensure(&[host::TPM, host::DATABASE])?;
    let mut step = Step::begin("building the security service as it is released");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(&workspace.root).args(["build", "--quiet", "--release"]);
    build.args(["--package", "holdfast-service", "--package", "holdfast-service-load"]);
    workspace.share_jobs(&mut build);
    process::follow(&mut build, &mut step)?;
    step.done("built");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let built = workspace.root.join(target).join("release");
    let mut load = Command::new(built.join("holdfast-service-load"));
    let said = process::output(load.arg(built.join("holdfast-service")))?;
    serde_json::from_str(said.trim()).context("holdfast-service-load prints no numbers")
}

/// The section of `docs/numbers.md`.
pub(super) fn section(numbers: &ServiceNumbers, measured_by: &str) -> String {
    let ServiceNumbers { stored, devices, threads, check_ins, sqlite, postgresql } = numbers;
    let bytes = |of: &OfDatabase| of.bytes_up.saturating_add(of.bytes_down);
    format!(
        "{TITLE}\nMeasured {measured_by}: `holdfast-service` as it is released, with {stored} devices in the database, while \
         {devices} devices without a TPM check in\nfrom {threads} threads, {check_ins} times. They run on the same processors, so \
         that the rate is less than the service's own; the time of a processor is that\nof the service's process alone, without \
         the database's where that has processes. A check-in is a connection of its own. Bytes are those of\nTLS with its handshake, \
         of a device with a TPM and one app that checks in once a day.\n\n\
         | what | SQLite | PostgreSQL | aim |\n\
         | --- | ---: | ---: | ---: |\n\
         | time of a processor for a check-in (ms) | {:.3} | {:.3} | {AIM_PROCESSOR_MS} |\n\
         | check-ins in a second | {:.0} | {:.0} |  |\n\
         | memory of the service's process (KiB) | {} | {} |  |\n\
         | bytes that a device sends and gets in a day | {} | {} | {AIM_BYTES} |\n\
         | of it sent by the device | {} | {} |  |\n",
        sqlite.processor_ms,
        postgresql.processor_ms,
        sqlite.check_ins_per_s,
        postgresql.check_ins_per_s,
        sqlite.memory_kib,
        postgresql.memory_kib,
        bytes(sqlite),
        bytes(postgresql),
        sqlite.bytes_up,
        postgresql.bytes_up,
    )
}

/// Returns the section of the page about a large fleet, which stays as it is, up to what follows it.
pub(super) fn of_a_fleet<'p>(page: &'p str, next: &str) -> &'p str {
    let section = page.find(OF_A_FLEET).and_then(|at| page.get(at..)).unwrap_or_default();
    section.find(next).and_then(|end| section.get(..end)).unwrap_or(section)
}

/// Returns the page with another section in the place of the one that it has, or before what follows the numbers of images.
pub(super) fn replaced(page: &str, section: &str, next: &str) -> String {
    let end = page.find(OF_A_FLEET).or_else(|| page.find(next)).unwrap_or(page.len());
    let (before, after) = page.split_at(end);
    let begin = before.find(TITLE).unwrap_or(before.len());
    let kept = before.get(..begin).unwrap_or_default();
    format!("{kept}{section}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> ServiceNumbers {
        let of = |processor_ms| OfDatabase {
            processor_ms,
            check_ins_per_s: 1234.5,
            memory_kib: 20_000,
            bytes_up: 3000,
            bytes_down: 4000,
        };
        ServiceNumbers {
            stored: 100_000,
            devices: 320,
            threads: 16,
            check_ins: 5120,
            sqlite: of(0.5),
            postgresql: of(0.6),
        }
    }

    #[test]
    fn what_people_have_written_of_a_fleet_stays() {
        let next = "\n## Images of Buildroot\n";
        let fleet = format!("{OF_A_FLEET}\nA million.\n");
        let page = format!("# Numbers\n{TITLE}\nold\n{fleet}{next}\nsizes\n");
        assert_eq!(of_a_fleet(&page, next), fleet);
        assert_eq!(of_a_fleet("# Numbers\n", next), "");
        let written = replaced(&page, &format!("{TITLE}\nnew\n"), next);
        assert_eq!(written, page.replace("old", "new"));
    }

    #[test]
    fn the_section_is_replaced_and_what_stands_around_it_stays() {
        let section = section(&numbers(), "at commit a");
        assert!(section.contains("| 0.500 | 0.600 | 0.6 |"), "{section}");
        assert!(section.contains("| 7000 | 7000 | 8192 |"), "{section}");
        let (first, next) = ("# Numbers\n\n## Boards\n\nx\n", "\n## Images of Buildroot\n");
        let page = format!("{first}{next}y\n");
        let with = replaced(&page, &section, next);
        assert_eq!(with, format!("{first}{section}{next}y\n"));
        assert_eq!(replaced(&with, &section, next), with, "once");
        assert_eq!(replaced(first, &section, next), format!("{first}{section}"));
    }
}
