//! A broker on this host that asks for certificates of a catalog, and knows nothing else of it: Debian's Mosquitto.

use super::server::Server;
use anyhow::{Context, Result, bail, ensure};
use holdfast_qemu::settings;
use holdfast_qemu::web_server::Authority;
use regex::Regex;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Name of the broker, for which its certificate is.
pub(crate) const NAME: &str = "broker.example.com";
const PROGRAM: &str = "/usr/sbin/mosquitto";
/// For its start, for each of its clients on this host, and for what it logs of what has happened.
const WITHIN: Duration = Duration::from_secs(60);
/// Starts until it has ports that nobody has taken meanwhile.
const STARTS: usize = 5;
/// Mosquitto's log line once it listens at all of its ports.
const RUNS: &str = "mosquitto version [0-9.]+ running";
/// Mosquitto's last log line where somebody has one of them.
const TAKEN: &str = "Address already in use";

/// A broker that runs, until it is dropped.
pub(crate) struct Mosquitto {
    server: Server,
    /// The port at which devices are taken, of this host's loopback.
    pub(crate) port: u16,
    /// The port of the test's own clients, which are not asked who they are.
    observer: u16,
    directory: TempDir,
}

/// A port that is free now: Mosquitto does not say which one it has been given for 0.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Starts the program at these ports, with what lies in a directory. Settings are for the listener that they follow.
fn start(directory: &Path, port: u16, observer: u16) -> Result<Server> {
    let at = directory.display();
    let config = format!(
        "per_listener_settings true\nuser root\nlog_dest stderr\nlog_type all\n\
         listener {port} 127.0.0.1\ncafile {at}/catalog.pem\ncertfile {at}/broker.pem\n\
         keyfile {at}/broker.key\nrequire_certificate true\nuse_identity_as_username true\n\
         acl_file {at}/acl\ntls_version tlsv1.3\n\
         listener {observer} 127.0.0.1\nallow_anonymous true\n"
    );
    let path = directory.join("broker.conf");
    fs::write(&path, config)?;
    Server::start(Command::new(PROGRAM).arg("-c").arg(&path))
}

/// Waits until the broker listens. False where it has not got its ports.
fn listens(server: &Server) -> Result<bool> {
    let outcome = Regex::new(&format!("{RUNS}|{TAKEN}"))?;
    let (said, _) = server.log.wait_from(0, &outcome, settings::scaled(WITHIN))?;
    Ok(said != TAKEN)
}

impl Mosquitto {
    /// Starts one that takes holders of certificates below the root in a file, and lets each write and read topics of its own
    /// alone. `authority` vouches for it.
    pub(crate) fn start(catalog_root: &Path, authority: &Authority) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (certificate, key) = authority.certify_pem(&[NAME])?;
        let write = |name: &str, contents: &[u8]| fs::write(directory.path().join(name), contents);
        write("catalog.pem", &fs::read(catalog_root)?)?;
        write("authority.pem", authority.certificate.as_bytes())?;
        write("broker.pem", certificate.as_bytes())?;
        write("broker.key", key.as_bytes())?;
        // The one of the example, as whoever follows it has it.
        let acl = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/mqtt/acl");
        write("acl", &fs::read(acl)?)?;
        for _ in 0..STARTS {
            let (port, observer) = (free_port()?, free_port()?);
            let server = start(directory.path(), port, observer)?;
            if listens(&server)? {
                return Ok(Self { server, port, observer, directory });
            }
        }
        bail!("there are no ports for the broker")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.server.log.text()
    }

    /// How often it has logged a text.
    pub(crate) fn times(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until its log is so. It logs what has happened shortly after those who cause it have gone on.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is_so(self) {
            let is_over = begun.elapsed() > settings::scaled(WITHIN);
            ensure!(!is_over, "{what} does not come in the broker's log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs a client on this host, which is ended where it takes too long.
    fn client(&self, program: &str, port: u16, arguments: &[&str]) -> Result<Output> {
        let seconds = settings::scaled(WITHIN).as_secs().to_string();
        let mut client = Command::new("timeout");
        client.args([&seconds, program, "-h", "127.0.0.1", "-p", &port.to_string()]);
        client.args(arguments).stdin(Stdio::null());
        client.output().with_context(|| format!("cannot start {program}"))
    }

    /// Returns the next message below a topic: the topic, a space, and what it says.
    pub(crate) fn next_message(&self, topic: &str) -> Result<String> {
        let heard = self.client("mosquitto_sub", self.observer, &["-t", topic, "-v", "-C", "1"])?;
        ensure!(heard.status.success(), "nothing at {topic}; the broker says:\n{}", self.log());
        Ok(String::from_utf8(heard.stdout)?.trim().to_owned())
    }

    /// Publishes a message.
    pub(crate) fn publish(&self, topic: &str, message: &str) -> Result<()> {
        let arguments = ["-q", "1", "-t", topic, "-m", message];
        let published = self.client("mosquitto_pub", self.observer, &arguments)?;
        ensure!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
        Ok(())
    }

    /// True if a client without a certificate is taken where devices are. It believes the broker whatever its address is.
    pub(crate) fn takes_strangers(&self) -> Result<bool> {
        let authority = self.directory.path().join("authority.pem").display().to_string();
        let stranger = ["--cafile", &authority, "--insecure", "-t", "readings", "-m", "1"];
        Ok(self.client("mosquitto_pub", self.port, &stranger)?.status.success())
    }
}
