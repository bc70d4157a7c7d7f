//! A Security Service that runs on this host, and what its owner asks of it.

use super::server::Server;
use crate::harness::artefacts::security_service;
use anyhow::{Context, Result, ensure};
use holdfast_images::hex;
use holdfast_qemu::settings;
use holdfast_repository::{Released, Repository};
use holdfast_types::CatalogId;
use regex::Regex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Name of the service, as images have it.
pub(crate) const HOST: &str = "service.example";
/// For its start, and for each of its answers.
const WITHIN: Duration = Duration::from_secs(60);
/// What it says once it listens.
const LISTENS: &str = r"devices at 127\.0\.0\.1:([0-9]+), management at 127\.0\.0\.1:([0-9]+) event=service_listening";

/// A service that runs, with a catalog, until it is dropped.
pub(crate) struct Installation {
    server: Server,
    agent: Agent,
    management: u16,
    /// Port of this host's loopback at which devices are taken.
    pub(crate) devices: u16,
    pub(crate) catalog: CatalogId,
    /// Certificate of the catalog's root, DER.
    pub(crate) root: Vec<u8>,
    /// The file that the service has it in, PEM, for programs of others that are to take the catalog's devices.
    pub(crate) root_file: PathBuf,
    /// Certificates of those who vouch for the service, DER.
    pub(crate) authorities: Vec<Vec<u8>>,
    token: String,
    _directory: TempDir,
}

/// Returns what follows a text, up to the end of its line.
fn behind<'a>(text: &'a str, what: &str) -> Result<&'a str> {
    let rest = text.split_once(what).with_context(|| format!("no `{what}` in {text}"))?.1;
    Ok(rest.lines().next().unwrap_or_default().trim())
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>> {
    let read = CertificateDer::pem_file_iter(path).with_context(|| path.display().to_string())?;
    let read: Result<Vec<_>, _> = read.map(|one| one.map(|der| der.to_vec())).collect();
    read.with_context(|| path.display().to_string())
}

impl Installation {
    /// Makes a new one, whose catalog takes every grade, and starts it.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(|settings| settings)
    }

    /// The same for a fleet, whose devices all have this host's address, and check in as often as this.
    pub(crate) fn with_settings(check_in_every_s: u32, devices: usize) -> Result<Self> {
        // Two for what a device asks, and two for what it fetches.
        let most = devices.saturating_mul(4).max(8);
        let lines = format!("[device]\ncheck_in_every_s = {check_in_every_s}\n");
        Self::start_with(|settings| {
            let settings = settings.replacen("[device]\n", &lines, 1);
            let per_address = Regex::new("(?m)^most_per_address = [0-9]+$");
            let most = format!("most_per_address = {most}");
            per_address.map(|line| line.replace(&settings, most).into_owned()).unwrap_or(settings)
        })
    }

    /// Makes a new one with other settings, and starts it.
    fn start_with(change: impl FnOnce(String) -> String) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let folder = directory.path().join("service");
        let program = security_service()?;
        let mut init = Command::new(&program);
        init.arg("--folder").arg(&folder).args(["init", "--catalog", "pumps"]);
        init.args(["--name", HOST, "--name", "127.0.0.1"]);
        init.args(["--device", "127.0.0.1:0", "--management", "127.0.0.1:0"]);
        init.args(["--grades", "hardware-verified,hardware,software,emulated"]);
        let made = init.output().context("cannot start the service")?;
        let said = String::from_utf8_lossy(&made.stdout).into_owned();
        ensure!(made.status.success(), "{said}{}", String::from_utf8_lossy(&made.stderr));
        let catalog = CatalogId::parse(behind(&said, "catalog pumps: ")?).context("no catalog")?;
        let ticket = behind(&said, "/v1/first-owner/")?;
        let root_file = folder.join(format!("catalog-{catalog}.pem"));
        let root = certificates(&root_file)?;
        let root = root.into_iter().next().context("the catalog has no root")?;
        let authorities = certificates(&folder.join("authorities.pem"))?;
        let settings_file = folder.join("settings.toml");
        fs::write(&settings_file, change(fs::read_to_string(&settings_file)?))?;
        let mut run = Command::new(&program);
        let server = Server::start(run.arg("--folder").arg(&folder).arg("run"))?;
        let mut installation = Self {
            server,
            agent: agent(&authorities),
            management: 0,
            devices: 0,
            catalog,
            root,
            root_file,
            authorities,
            token: String::new(),
            _directory: directory,
        };
        let listens = Regex::new(LISTENS)?;
        let within = settings::scaled(WITHIN);
        let (line, _) = installation.server.log.wait_from(0, &listens, within)?;
        let ports = listens.captures(&line).context("no ports")?;
        let port =
            |index| -> Result<u16> { Ok(ports.get(index).context("no port")?.as_str().parse()?) };
        (installation.devices, installation.management) = (port(1)?, port(2)?);
        let owner = installation.request("POST", &format!("first-owner/{ticket}"), None)?;
        let token = owner.get("token").and_then(Value::as_str).context("no token")?;
        installation.token = token.to_owned();
        Ok(installation)
    }

    /// Asks management for something, which must be done.
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("https://127.0.0.1:{}/v1/{path}", self.management);
        let token = format!("Bearer {}", self.token);
        let answer = match (method, body) {
            ("GET", _) => self.agent.get(&url).header("Authorization", &token).call(),
            (_, Some(body)) => {
                self.agent.post(&url).header("Authorization", &token).send(body.to_string())
            }
            (_, None) => self.agent.post(&url).header("Authorization", &token).send_empty(),
        };
        let mut answer = answer.with_context(|| format!("{method} {path}"))?;
        let text = answer.body_mut().read_to_string()?;
        ensure!(answer.status() == 200, "{method} {path}: {}: {text}", answer.status());
        serde_json::from_str(&text).with_context(|| format!("{method} {path}: {text}"))
    }

    pub(super) fn of_catalog(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        self.request(method, &format!("catalogs/{}/{path}", self.catalog), body)
    }

    /// Adds a release that devices may run.
    pub(crate) fn add_release(&self, released: &Released) -> Result<()> {
        let release = &released.release;
        let release = json!({
            "boot": boot(released)?,
            "version": release.version.to_string(),
            "index": release.rollback_index,
        });
        self.of_catalog("POST", "releases", Some(&release)).map(drop)
    }

    /// Withdraws a release, or takes that back.
    pub(crate) fn set_withdrawn(&self, released: &Released, is_withdrawn: bool) -> Result<()> {
        let verb = if is_withdrawn { "withdraw" } else { "restore" };
        let path = format!("releases/{}/{verb}", boot(released)?);
        self.of_catalog("POST", &path, None).map(drop)
    }

    /// Claims a device with a grade.
    pub(crate) fn claim(&self, device: &str, grade: &str) -> Result<()> {
        let claim = json!({"devices": [{"device": device, "grade": grade}]});
        self.of_catalog("POST", "claims", Some(&claim)).map(drop)
    }

    /// Returns a device, as it is shown to the owner.
    pub(crate) fn device(&self, device: &str) -> Result<Value> {
        self.of_catalog("GET", &format!("devices/{device}"), None)
    }

    /// Returns the devices in a state.
    pub(crate) fn devices_in(&self, state: &str) -> Result<Vec<Value>> {
        let listed = self.of_catalog("GET", &format!("devices?state={state}"), None)?;
        let items = listed.get("items").and_then(Value::as_array).context("no list")?;
        Ok(items.clone())
    }

    /// Gives the service a program with its symbols.
    pub(crate) fn add_symbols(&self, build_id: &str, program: &[u8]) -> Result<()> {
        self.put(&format!("symbols/{build_id}"), program)
    }

    /// Has the catalog trust the root of a repository.
    pub(crate) fn trust(&self, name: &str, directory: &Path) -> Result<()> {
        let root = fs::read_to_string(directory.join("metadata/1.root.json"))?;
        let root = json!({ "root": root }).to_string();
        self.put(&format!("repositories/{name}/root"), root.as_bytes())
    }

    /// Sends the files of a repository and has devices served it.
    pub(crate) fn serve(&self, name: &str, directory: &Path) -> Result<()> {
        let repository = Repository::open(directory)?;
        for (path, target) in repository.targets() {
            let place = target.place(&path).with_context(|| path.clone())?;
            let digest = target.sha256().with_context(|| path.clone())?;
            let bytes = fs::read(directory.join(place))?;
            self.put(&format!("release-files/{}", hex(&digest)), &bytes)?;
        }
        let mut metadata = BTreeMap::new();
        for path in repository.metadata_files() {
            let file = path.rsplit('/').next().unwrap_or_default().to_owned();
            metadata.insert(file, fs::read_to_string(directory.join(&path))?);
        }
        let body = json!({ "metadata": metadata, "serve": true });
        self.of_catalog("POST", &format!("repositories/{name}/metadata"), Some(&body)).map(drop)
    }

    /// Puts something below the catalog.
    pub(super) fn put(&self, below: &str, body: &[u8]) -> Result<()> {
        let path = format!("catalogs/{}/{below}", self.catalog);
        let url = format!("https://127.0.0.1:{}/v1/{path}", self.management);
        let token = format!("Bearer {}", self.token);
        let put = self.agent.put(&url).header("Authorization", &token);
        let mut answer = put.send(body).with_context(|| format!("PUT {path}"))?;
        let text = answer.body_mut().read_to_string()?;
        ensure!((200..300).contains(&answer.status().as_u16()), "PUT {path}: {text}");
        Ok(())
    }

    /// Returns a page of the console, below its catalog.
    pub(crate) fn page(&self, below: &str) -> Result<String> {
        let url = format!("https://127.0.0.1:{}/console/{}/{below}", self.management, self.catalog);
        let token = format!("Bearer {}", self.token);
        let asked = self.agent.get(&url).header("Authorization", &token);
        let mut answer = asked.header("Accept", "text/html").call()?;
        let text = answer.body_mut().read_to_string()?;
        ensure!(answer.status() == 200, "{below}: {}: {text}", answer.status());
        Ok(text)
    }

    /// Returns the crash groups, as they are shown to the owner.
    pub(crate) fn crashes(&self) -> Result<Vec<Value>> {
        let listed = self.of_catalog("GET", "crashes", None)?;
        let items = listed.get("items").and_then(Value::as_array).context("no list")?;
        Ok(items.clone())
    }

    /// Returns what devices have reported, as it is shown to the owner.
    pub(crate) fn reports(&self) -> Result<Vec<Value>> {
        let listed = self.of_catalog("GET", "reports", None)?;
        let items = listed.get("items").and_then(Value::as_array).context("no list")?;
        Ok(items.clone())
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.server.log.text()
    }
}

/// What the boot loader extends PCR 8 with for a release, in hexadecimal.
fn boot(released: &Released) -> Result<String> {
    Ok(hex(&released.release.boot_digest().context("it is no release of an OS")?))
}

fn agent(authorities: &[Vec<u8>]) -> Agent {
    let roots: Vec<Certificate<'static>> =
        authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .http_status_as_error(false)
        .timeout_global(Some(settings::scaled(WITHIN)))
        .build()
        .into()
}
