//! The program as a process, with what the kernel says that it uses.

use holdfast_evidence::messages::CatalogId;
use holdfast_service_clients::{Installed, ServiceProcess, Target};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Units of times in `/proc/PID/stat` in a second (`proc(5)`; a constant of Linux's interface on all of its architectures that we run on).
const TICKS_PER_S: f64 = 100.0;

/// The service, in a folder of its own.
pub(crate) struct Service {
    process: ServiceProcess,
    pub(crate) catalog: CatalogId,
    token: String,
    _directory: TempDir,
}

impl Service {
    /// Makes a folder and starts the program.
    pub(crate) fn start(program: &Path, database: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("service");
        let command = || {
            let mut command = Command::new(program);
            command.arg("--folder").arg(&folder).stdin(Stdio::null());
            command
        };
        let mut init = command();
        init.args(["init", "--catalog", "load", "--name", "service.example"]);
        init.args(["--device", "127.0.0.1:0", "--management", "127.0.0.1:0"]);
        init.args(["--database", database, "--grades", "software,emulated"]);
        let installed = Installed::of(init.output().unwrap(), &folder);
        // All devices have one address here.
        let settings = folder.join("settings.toml");
        let text = std::fs::read_to_string(&settings).unwrap();
        let wider = text.replace("most_per_address = 8", "most_per_address = 256");
        assert_ne!(text, wider);
        std::fs::write(&settings, wider).unwrap();
        let process = ServiceProcess::start(command(), &installed.authorities, |_| {});
        let token = installed.first_owner(&process.management);
        let this = Self { process, catalog: installed.catalog, token, _directory: directory };
        let boot = "b0".repeat(32);
        this.post("/releases", &json!({"boot": boot, "version": "1.4.0", "index": 7}));
        this
    }

    /// Where devices ask it.
    pub(crate) fn device(&self) -> &Target {
        &self.process.device
    }

    fn post(&self, path: &str, body: &Value) {
        let headers = format!("Authorization: Bearer {}\r\n", self.token);
        let path = format!("/v1/catalogs/{}{path}", self.catalog);
        let answer =
            self.process.management.ask("POST", &path, &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Claims devices, at most a thousand.
    pub(crate) fn claim(&self, ids: impl Iterator<Item = String>, grade: &str) {
        let devices: Vec<Value> =
            ids.map(|device| json!({"device": device, "grade": grade})).collect();
        self.post("/claims", &json!({"devices": devices}));
    }

    /// Seconds of processors that its process has used, in user space and in the kernel.
    pub(crate) fn processor_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The name, which may have blanks, is in parentheses; `utime` and `stime` are the 12th and 13th field behind it.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / TICKS_PER_S
    }

    /// KiB of memory that it has resident.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().split(' ').next().unwrap().parse().unwrap()
    }
}
