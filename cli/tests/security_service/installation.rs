//! An installation of the service for one test: its program runs in a process of its own, on SQLite in a temporary folder.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for the service to listen.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A service that runs, with a user of its management.
pub(crate) struct Installation {
    pub(crate) directory: TempDir,
    pub(crate) folder: PathBuf,
    /// URL of management.
    pub(crate) url: String,
    /// Id of the catalog `pumps`.
    pub(crate) catalog: String,
    process: Option<Child>,
}

/// The program of the service: the one that whoever runs all tests has built, or the newest one of this checkout.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = std::env::var_os("HOLDFAST_SERVICE_PROGRAM").map(PathBuf::from);
        if let Some(built) = built.filter(|built| built.is_file()) {
            return built;
        }
        let output = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "holdfast-service"])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let executable = messages.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).unwrap();
            let is_it = message["target"]["name"] == "holdfast-service";
            message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
        });
        executable.unwrap()
    })
}

/// Two ports at which nobody listens.
pub(crate) fn free_ports() -> [u16; 2] {
    let listeners = [0; 2].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Installation {
    pub(crate) fn new() -> Self {
        Self::with_settings("")
    }

    /// One with more in its settings.
    pub(crate) fn with_settings(more: &str) -> Self {
        Self::init(&[], more)
    }

    /// One of a catalog whose root's key is kept elsewhere, by its id and the certificate of the root.
    pub(crate) fn of_root(catalog: &str, root: &str) -> Self {
        Self::init(&["--catalog-id", catalog, "--root", root], "")
    }

    fn init(arguments: &[&str], more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("service");
        let [device, management] = free_ports();
        let output = Command::new(program())
            .arg("--folder")
            .arg(&folder)
            .args(["init", "--catalog", "pumps", "--name", "127.0.0.1"])
            .args(arguments)
            .args(["--grades", "hardware-verified,hardware,software,emulated"])
            .args(["--device", &format!("127.0.0.1:{device}")])
            .args(["--management", &format!("127.0.0.1:{management}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let settings = folder.join("settings.toml");
        let written = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, format!("{written}\n{more}")).unwrap();
        let said = text(&output.stdout);
        let catalog = said.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
        let url = format!("https://127.0.0.1:{management}");
        let mut installation = Self { directory, folder, url, catalog, process: None };
        installation.start(management);
        installation
    }

    /// One whose first owner has logged in.
    pub(crate) fn owned() -> Self {
        Self::owned_with("")
    }

    /// One whose first owner has logged in, with more in its settings.
    pub(crate) fn owned_with(more: &str) -> Self {
        let installation = Self::with_settings(more);
        installation.log_in();
        installation
    }

    /// Logs the first owner in.
    pub(crate) fn log_in(&self) {
        let ticket = self.first_owner();
        let output = self.run_with(&self.login(&[]), &ticket);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    /// Runs the program of the service on its folder.
    pub(crate) fn service(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.arg("--folder").arg(&self.folder).args(arguments);
        command.current_dir(self.directory.path()).output().unwrap()
    }

    fn start(&mut self, management: u16) {
        let log = fs::File::create(self.directory.path().join("service.log")).unwrap();
        let process = Command::new(program())
            .arg("--folder")
            .arg(&self.folder)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let began = Instant::now();
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, management)).is_err() {
            let log = fs::read_to_string(self.directory.path().join("service.log")).unwrap();
            assert!(began.elapsed() < START_WITHIN, "the service does not listen: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the service as a kill does.
    pub(crate) fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// What `holdfast-service first-owner` prints.
    pub(crate) fn first_owner(&self) -> String {
        let output = Command::new(program())
            .arg("--folder")
            .arg(&self.folder)
            .arg("first-owner")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn authorities(&self) -> String {
        self.folder.join("authorities.pem").display().to_string()
    }

    /// `login` by standard input, with these arguments in front of the authorities.
    pub(crate) fn login(&self, arguments: &[&str]) -> Vec<String> {
        let words = [&["login"], arguments, &["--authorities"]].concat();
        words.into_iter().map(str::to_owned).chain([self.authorities()]).collect()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The tool, in the directory of the test, with a session of the test's own.
    pub(crate) fn command<S: AsRef<str>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command
            .args(arguments.iter().map(AsRef::as_ref))
            .current_dir(self.directory.path())
            .env("HOLDFAST_CONFIG", self.at("config"))
            .env("PATH", self.path())
            .stdin(Stdio::null());
        command
    }

    /// PATH with the program of the service in front, which `service doctor` looks for.
    fn path(&self) -> std::ffi::OsString {
        let own = program().parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::join_paths([own].into_iter().chain(std::env::split_paths(&path))).unwrap()
    }

    /// Runs the tool with a text on its standard input.
    pub(crate) fn run_with<S: AsRef<str>>(&self, arguments: &[S], input: &str) -> Output {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Whoever needs no input does not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// It must succeed; what it prints.
    pub(crate) fn succeeds<S: AsRef<str>>(&self, arguments: &[S]) -> String {
        let output = self.command(arguments).output().unwrap();
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// It must succeed with `--json` and print one document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.succeeds(&[arguments, &["--json"]].concat());
        let document = serde_json::from_str(&printed);
        document.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
    }

    /// The entries of a list.
    pub(crate) fn items(&self, arguments: &[&str]) -> Vec<Value> {
        self.json(arguments)["items"].as_array().unwrap().clone()
    }

    /// It must end with this exit code and say all of `parts`.
    pub(crate) fn fails<S: AsRef<str>>(&self, code: i32, arguments: &[S], parts: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert_said(&output, code, parts);
    }

    /// Moves the key of a catalog's root out of the service's folder, and returns where it is.
    pub(crate) fn take_root_key(&self, catalog: &str) -> PathBuf {
        let place = self.at("root.key");
        fs::rename(self.folder.join("roots").join(format!("{catalog}.key")), &place).unwrap();
        place
    }

    /// Makes a token by the owner's session, and returns the path of its file.
    pub(crate) fn token(&self, name: &str, role: &str) -> String {
        let file = format!("{name}.token");
        self.succeeds(&["token", "create", name, "--role", role, "--days", "1", "--output", &file]);
        self.at(&file).display().to_string()
    }

    /// Runs the tool with the session of another token.
    pub(crate) fn with_token(&self, token: &str) -> Session<'_> {
        let config =
            self.at(&format!("{}.config", Path::new(token).file_stem().unwrap().display()));
        let session = Session { installation: self, config };
        let login = [
            "login",
            &self.url,
            "--authorities",
            &self.authorities(),
            "--token-file",
            token,
            "--catalog",
            &self.catalog,
        ];
        let output = session.run(&login);
        assert!(output.status.success(), "{}", text(&output.stderr));
        session
    }
}

/// The session of another user.
pub(crate) struct Session<'i> {
    installation: &'i Installation,
    config: PathBuf,
}

impl Session<'_> {
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.installation.command(arguments);
        command.env("HOLDFAST_CONFIG", &self.config).output().unwrap()
    }

    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn fails(&self, code: i32, arguments: &[&str], parts: &[&str]) {
        assert_said(&self.run(arguments), code, parts);
    }
}

pub(crate) fn assert_said(output: &Output, code: i32, parts: &[&str]) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

/// An id as devices have it.
pub(crate) fn id(number: u32) -> String {
    format!("{number:064x}")
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.end();
    }
}
