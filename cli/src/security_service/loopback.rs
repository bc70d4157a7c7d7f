//! A service on this host's loopback, for a guest of `run --with-service`: its folder is made at its first use and kept beside the image.

use super::client::{self, Client};
use super::in_catalog::InCatalog;
use super::program;
use super::session::{self, Token};
use crate::invocation::Invocation;
use anyhow::{Context, Result, bail, ensure};
use holdfast_builder::failure::HostLacks;
use holdfast_builder::workspace;
use holdfast_images::manifest::SecurityServiceSource;
use holdfast_images::{app, package};
use holdfast_qemu::process::Process;
use holdfast_qemu::settings;
use holdfast_types::CatalogId;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where a guest finds this host in QEMU's user network.
const HOST_OF_GUEST: &str = "10.0.2.2";
/// Grades that the catalog takes: the guest's TPM is one in software, and boards without one have keys of software.
const GRADES: &str = "hardware-verified,hardware,software,emulated";
/// Connections of one device at once that the service takes.
const CONNECTIONS_OF_A_DEVICE: i64 = 8;
/// Time for the service to listen.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Time for it to answer what is being asked when it ends.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Names in the folder that are ours.
const TOKEN: &str = "owner.token";
const LOG: &str = "service.log";
/// Lines of the log that an error shows.
const TAIL_LINES: usize = 10;

/// A service's folder, with what images have to know of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    program: PathBuf,
    folder: PathBuf,
    catalog: CatalogId,
    /// Port of devices; management is at the next one.
    port: u16,
    _lock: File,
}

/// A service that runs, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    client: Client,
    catalog: CatalogId,
    process: Process,
}

fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// Refuses a port at which somebody else listens, before anything is built.
fn check_free(port: u16) -> Result<()> {
    match TcpListener::bind(loopback(port)) {
        Ok(_) => Ok(()),
        Err(error) => Err(HostLacks(format!(
            "--service-port: port {port} of 127.0.0.1 cannot be listened at ({error}); name another, of which the next one is free as well"
        ))
        .into()),
    }
}

/// Returns the id of the catalog that an installation has from its beginning, by the file of its root.
fn catalog_of(folder: &Path) -> Result<CatalogId> {
    let list = || format!("cannot list {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(list)? {
        let name = entry.with_context(list)?.file_name();
        let name = name.to_string_lossy();
        let id = name.strip_prefix("catalog-").and_then(|name| name.strip_suffix(".pem"));
        found.extend(id.and_then(CatalogId::parse));
    }
    match found.as_slice() {
        [id] => Ok(*id),
        _ => bail!(
            "{}: has {} files catalog-GUID.pem instead of one; remove the directory to begin anew",
            folder.display(),
            found.len()
        ),
    }
}

/// Returns the catalog that apps (directories and packages) name, if any does.
///
/// # Errors
/// An app cannot be read, or two name different catalogs.
pub(crate) fn catalog_of_apps(apps: &[PathBuf]) -> Result<Option<CatalogId>> {
    let mut found: Option<(CatalogId, &Path)> = None;
    for path in apps {
        let named = if path.is_dir() {
            app::load_manifest(path)?.catalog
        } else {
            let package = package::read(&workspace::read(path)?);
            package.with_context(|| path.display().to_string())?.manifest.catalog
        };
        match (named, found) {
            (Some(named), Some((other, earlier))) if named != other => bail!(
                "{}: Capabilities.DeviceAuthentication: is catalog {named}, and that of {} is {other}; a device belongs to one",
                path.display(),
                earlier.display()
            ),
            (Some(named), None) => found = Some((named, path.as_path())),
            _ => {}
        }
    }
    Ok(found.map(|(catalog, _)| catalog))
}

/// What a run asks of its service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Port of devices; management is at the next one.
    pub(crate) port: u16,
    /// How many devices there are, which all have the address of this host.
    pub(crate) devices: u16,
    /// Seconds from one check-in of a device to the next; as the settings have it where nothing is asked.
    pub(crate) check_in_every_s: Option<u32>,
}

/// Has the settings of a folder be what is asked.
fn set(folder: &Path, asked: Asked) -> Result<()> {
    let path = folder.join("settings.toml");
    let before: toml::Table = workspace::read_toml(&path)?;
    let mut settings = before.clone();
    for (table, port) in [("device", asked.port), ("management", asked.port.saturating_add(1))] {
        let listen = settings.get_mut(table).and_then(|table| table.get_mut("listen"));
        let listen =
            listen.with_context(|| format!("{}: {table}.listen: is missing", path.display()))?;
        *listen = toml::Value::String(loopback(port).to_string());
    }
    if let Some(device) = settings.get_mut("device").and_then(toml::Value::as_table_mut) {
        let most = i64::from(asked.devices).saturating_mul(CONNECTIONS_OF_A_DEVICE);
        let field = device.entry("most_per_address").or_insert(most.into());
        if field.as_integer().is_some_and(|before| before < most) {
            *field = most.into();
        }
        if let Some(every_s) = asked.check_in_every_s {
            device.insert("check_in_every_s".to_owned(), i64::from(every_s).into());
        }
    }
    if settings != before {
        session::reserve(&path)?.fill(&settings.to_string())?;
    }
    Ok(())
}

impl Prepared {
    /// Prepares the service of a folder: makes it where there is none, with a catalog of this name, and of this id where apps name one
    /// already.
    ///
    /// # Errors
    /// A port is taken, the program is missing, or the folder cannot be made or read.
    pub(crate) fn new(
        invocation: &Invocation,
        folder: &Path,
        (name, id): (&str, Option<CatalogId>),
        asked: Asked,
    ) -> Result<Self> {
        let port = asked.port;
        let management = port.saturating_add(1);
        check_free(port)?;
        check_free(management)?;
        let program = program::find(invocation)?;
        let folder = std::path::absolute(folder).context("the folder of the service is no path")?;
        if !folder.exists() {
            let mut init = Command::new(&program);
            init.arg("--folder").arg(&folder).args(["init", "--catalog", name, "--grades", GRADES]);
            init.args(["--name", "127.0.0.1", "--name", HOST_OF_GUEST]);
            init.args(["--device", &loopback(port).to_string()]);
            init.args(["--management", &loopback(management).to_string()]);
            if let Some(id) = id {
                init.args(["--catalog-id", &id.to_string()]);
            }
            holdfast_builder::process::output(&mut init)?;
            eprintln!("made a Security Service in {}", folder.display());
        }
        let lock = lock(&folder)?;
        set(&folder, asked)?;
        let catalog = catalog_of(&folder)?;
        Ok(Self { program, folder, catalog, port, _lock: lock })
    }

    /// Returns what an image says of the service, in place of `[service]`.
    pub(crate) fn source(&self) -> SecurityServiceSource {
        SecurityServiceSource {
            url: format!("https://{HOST_OF_GUEST}:{}", self.port),
            authorities: vec![self.folder.join("authorities.pem")],
            catalog: self.catalog.to_string(),
            catalog_root: self.folder.join(format!("catalog-{}.pem", self.catalog)),
            reports: true,
        }
    }

    /// Returns where a copy of the guest's console lies.
    pub(crate) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Returns the command by which people log in.
    pub(crate) fn login(&self, program: &str) -> String {
        let word = |name: &str| {
            holdfast_builder::process::shell_word(&self.folder.join(name).display().to_string())
        };
        format!(
            "{program} login {} --authorities {} --token-file {}",
            self.url(),
            word("authorities.pem"),
            word(TOKEN)
        )
    }

    fn url(&self) -> String {
        format!("https://{}", loopback(self.port.saturating_add(1)))
    }

    /// Starts the service, and waits until it listens.
    ///
    /// # Errors
    /// It ends, is silent for too long, or does not take its owner's token.
    pub(crate) fn start(&self) -> Result<Running> {
        let path = self.folder.join(LOG);
        let failed = || format!("cannot write {}", path.display());
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = log.with_context(failed)?;
        let mut run = Command::new(&self.program);
        run.arg("--folder").arg(&self.folder).arg("run").stdin(Stdio::null());
        run.stdout(log.try_clone().with_context(failed)?).stderr(log);
        let child =
            run.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let process = Process::new(child)?;
        let authorities = workspace::read_text(&self.folder.join("authorities.pem"))?;
        let client = Client::new(&self.url(), &authorities, None)?;
        let mut running = Running { client, catalog: self.catalog, process };
        running.wait_ready(&path)?;
        let token = self.owner(&running.client)?;
        running.client = running.client.clone().with_token(token);
        let known = running.client.get(&["v1", "catalogs", &self.catalog.to_string()]);
        known.with_context(|| {
            let folder = self.folder.display();
            format!("{folder}: does not take the token of its owner, which is good for 90 days; remove the directory to begin anew")
        })?;
        Ok(running)
    }

    /// Returns the owner's token, which is taken by a ticket at first use.
    fn owner(&self, client: &Client) -> Result<Token> {
        let path = self.folder.join(TOKEN);
        if path.exists() {
            let text = session::read_secret(&path)?;
            return Token::of_text(&text).with_context(|| path.display().to_string());
        }
        let place = session::reserve(&path)?;
        let mut ask = Command::new(&self.program);
        let said = holdfast_builder::process::output(
            ask.arg("--folder").arg(&self.folder).arg("first-owner"),
        )?;
        let url = client::ticket_url(&said)
            .context("`holdfast-service first-owner` has printed no URL")?;
        let (_, ticket) = client::split_ticket(url)?;
        let ticket = ticket.context("`holdfast-service first-owner` has printed no ticket")?;
        let (token, _) = client.take_ticket(&ticket)?;
        place.fill(&format!("{}\n", token.secret()))?;
        Ok(token)
    }
}

impl Running {
    /// Returns the catalog of the guest.
    pub(crate) fn catalog(&self) -> InCatalog {
        InCatalog::new(self.client.clone(), self.catalog.to_string())
    }

    fn wait_ready(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now().checked_add(settings::scaled(START_WITHIN));
        loop {
            if self.client.is_ready() {
                return Ok(());
            }
            let ended = self.process.try_wait().context("cannot tell how the service is")?;
            if ended.is_some() || deadline.is_some_and(|at| Instant::now() >= at) {
                let what = if ended.is_some() { "has ended" } else { "does not listen" };
                bail!("the service {what}; {} ends with:\n{}", log.display(), tail(log));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    /// Lets the service answer what it is being asked.
    fn drop(&mut self) {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let Some(id) = id else { return };
        if kill_process(id, Signal::TERM).is_err() {
            return;
        }
        let deadline = Instant::now().checked_add(END_WITHIN);
        while matches!(self.process.try_wait(), Ok(None))
            && deadline.is_some_and(|at| Instant::now() < at)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(TAIL_LINES);
    lines.get(skip..).unwrap_or_default().join("\n")
}

/// Keeps other runs out of a folder until the result is dropped.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("in-use");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    ensure!(
        file.try_lock().is_ok(),
        "{}: is the service of another run; end that one first",
        folder.display()
    );
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "25025d2c-66da-4448-bae1-ac26fcdd3627";

    #[test]
    fn a_port_that_is_taken_is_named_with_the_option() {
        let taken = TcpListener::bind(loopback(0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_free(port).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--service-port: port {port} of 127.0.0.1")), "{error}");
        drop(taken);
        check_free(port).unwrap();
    }

    #[test]
    fn the_catalog_of_a_folder_is_the_one_whose_root_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("catalog-nonsense.pem"), "").unwrap();
        assert!(catalog_of(folder.path()).is_err(), "the name has no id");
        fs::write(at(&format!("catalog-{ID}.pem")), "").unwrap();
        assert_eq!(catalog_of(folder.path()).unwrap().to_string(), ID);
        fs::write(at(&format!("catalog-{}.pem", ID.replace('2', "3"))), "").unwrap();
        let error = catalog_of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has 2 files"), "{error}");
    }

    #[test]
    fn apps_of_one_device_name_one_catalog() {
        let scratch = tempfile::tempdir().unwrap();
        let app = |name: &str, capabilities: &str| {
            let directory = scratch.path().join(name);
            fs::create_dir(&directory).unwrap();
            let text = format!(
                r#"{{"SchemaVersion": 1, "Name": "{name}", "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11",
                "EntryPoint": "/bin/{name}", "CmdArgs": [], "Capabilities": {{{capabilities}}}}}"#
            );
            fs::write(directory.join("app_manifest.json"), text).unwrap();
            directory
        };
        let other = ID.replace('2', "3");
        let plain = app("plain", "");
        let one = app("one", &format!("\"DeviceAuthentication\": \"{ID}\""));
        let two = app("two", &format!("\"DeviceAuthentication\": \"{other}\""));
        assert_eq!(catalog_of_apps(std::slice::from_ref(&plain)).unwrap(), None);
        let found = catalog_of_apps(&[plain, one.clone(), one.clone()]).unwrap();
        assert_eq!(found.unwrap().to_string(), ID);
        let error = catalog_of_apps(&[one, two]).unwrap_err().to_string();
        assert!(error.contains("a device belongs to one"), "{error}");
    }

    #[test]
    fn the_settings_of_a_folder_are_what_the_run_asks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        let text = "[device]\nlisten = \"0.0.0.0:1\"\nmost_requests = 7\n[management]\nlisten = \"127.0.0.1:2\"\n";
        fs::write(&path, text).unwrap();
        let asked = Asked { port: 8543, devices: 1, check_in_every_s: None };
        set(folder.path(), asked).unwrap();
        let settings: toml::Table = workspace::read_toml(&path).unwrap();
        assert_eq!(settings["device"]["listen"].as_str(), Some("127.0.0.1:8543"));
        assert_eq!(settings["device"]["most_requests"].as_integer(), Some(7));
        assert_eq!(settings["management"]["listen"].as_str(), Some("127.0.0.1:8544"));
        assert_eq!(settings["device"].get("check_in_every_s"), None);
        let fleet = Asked { devices: 20, check_in_every_s: Some(60), ..asked };
        set(folder.path(), fleet).unwrap();
        // What was asked once is kept: a day is no more what the folder has.
        set(folder.path(), asked).unwrap();
        let settings: toml::Table = workspace::read_toml(&path).unwrap();
        assert_eq!(settings["device"]["most_per_address"].as_integer(), Some(160));
        assert_eq!(settings["device"]["check_in_every_s"].as_integer(), Some(60));
        assert_eq!(settings["device"]["most_requests"].as_integer(), Some(7));
        fs::write(&path, "[device]\n").unwrap();
        let error = set(folder.path(), asked).unwrap_err().to_string();
        assert!(error.ends_with("device.listen: is missing"), "{error}");
    }

    #[test]
    fn a_folder_is_of_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).unwrap_err().to_string().contains("another run"));
        drop(held);
        lock(folder.path()).unwrap();
    }
}
