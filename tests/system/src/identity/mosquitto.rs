//! A broker on this host that asks for certificates of a catalog, and knows nothing else of it: Debian's Mosquitto.

use anyhow::{Context, Result, bail, ensure};
use holdfast_qemu::console::Console;
use holdfast_qemu::settings;
use holdfast_qemu::web_server::Authority;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Its name, for which its certificate is.
pub(crate) const NAME: &str = "broker.example.com";
const PROGRAM: &str = "/usr/sbin/mosquitto";
/// For its start, and for each of its clients on this host.
const WITHIN: Duration = Duration::from_secs(60);
/// Starts until it has a port that nobody has taken meanwhile.
const STARTS: usize = 5;

/// A broker that runs, until it is dropped.
pub(crate) struct Mosquitto {
    process: Child,
    log: Console,
    /// The port at which devices are taken, of this host's loopback.
    pub(crate) port: u16,
    /// The port at which the test is, which nobody is asked at.
    observer: u16,
    directory: TempDir,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn pem(certificate: &[u8], directory: &Path) -> Result<Vec<u8>> {
    let der = directory.join("root.der");
    fs::write(&der, certificate)?;
    let mut convert = Command::new("openssl");
    let converted = convert.args(["x509", "-inform", "der", "-in"]).arg(&der).output()?;
    ensure!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));
    Ok(converted.stdout)
}

/// Starts the program at these ports, with what lies in a directory.
fn run(directory: &Path, port: u16, observer: u16) -> Result<(Child, Console)> {
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
    let mut process = Command::new(PROGRAM)
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the broker")?;
    let stderr = process.stderr.take().context("the broker has no output")?;
    Ok((process, Console::collect(stderr, None)))
}

/// Waits until it takes connections at all ports. False where it has ended.
fn listens(process: &mut Child, ports: [u16; 2]) -> Result<bool> {
    let begun = Instant::now();
    let is_open = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
    while !ports.iter().all(is_open) {
        if process.try_wait()?.is_some() {
            return Ok(false);
        }
        if begun.elapsed() > settings::scaled(WITHIN) {
            let _ = process.kill();
            let _ = process.wait();
            bail!("the broker does not listen");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

impl Mosquitto {
    /// Starts one that takes holders of certificates below this root, DER, and lets each write and read topics of its own.
    pub(crate) fn start(root: &[u8], authority: &Authority) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (certificate, key) = authority.certify_pem(&[NAME])?;
        let write = |name: &str, contents: &[u8]| fs::write(directory.path().join(name), contents);
        write("catalog.pem", &pem(root, directory.path())?)?;
        write("authority.pem", authority.certificate.as_bytes())?;
        write("broker.pem", certificate.as_bytes())?;
        write("broker.key", key.as_bytes())?;
        write("acl", b"pattern write readings/%u\npattern read commands/%u\n")?;
        for _ in 0..STARTS {
            let (port, observer) = (free_port()?, free_port()?);
            let (mut process, log) = run(directory.path(), port, observer)?;
            if listens(&mut process, [port, observer])? {
                return Ok(Self { process, log, port, observer, directory });
            }
            let log = log.text();
            ensure!(log.contains("Address already in use"), "the broker does not start:\n{log}");
        }
        bail!("there is no port for the broker")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Runs a client on this host.
    fn client(&self, program: &str, port: u16, arguments: &[&str]) -> Result<Output> {
        let seconds = settings::scaled(WITHIN).as_secs().to_string();
        let mut client = Command::new("timeout");
        client.args([&seconds, program, "-h", "127.0.0.1", "-p", &port.to_string()]);
        client.args(arguments);
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

    /// True if a client without a certificate is taken where devices are.
    pub(crate) fn takes_strangers(&self) -> Result<bool> {
        let authority = self.directory.path().join("authority.pem").display().to_string();
        let stranger = ["--cafile", &authority, "--insecure", "-t", "readings", "-m", "1"];
        Ok(self.client("mosquitto_pub", self.port, &stranger)?.status.success())
    }
}
