//! Programs that nobody of ours has written, set up as their manuals say: OpenSSL's client and server, curl and Mosquitto. Each takes a
//! device with a full certificate, and refuses one whose certificate is good for updates alone.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_evidence::messages::{CatalogId, DeviceId, Profile};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::Purpose;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::leaf::{Common, Leaf};
use holdfast_service_issuing::authority::{make_issuing, make_root, make_service_root};
use holdfast_service_issuing::issuer::LeafIssuer;
use holdfast_service_issuing::pem::pem;
use holdfast_service_issuing::server_certificate;
use holdfast_types::Version;
use rcgen::{KeyPair, PublicKeyData};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Longest wait for a server that starts, or for an answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// MQTT 3.1.1: CONNECT of a client `d` that begins anew, 60 s between signs of life.
const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01d";
/// CONNACK that accepts.
const ACCEPTED: &[u8] = &[0x20, 2, 0, 0];

/// A catalog's authority, two devices of it, and a server with a name, all as files.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let this = Self { directory };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let catalog = CatalogId([0xca; 16]);
        let root = make_root(&catalog, now).unwrap();
        let issuing = make_issuing(&catalog, root.key.serialized_der(), now).unwrap();
        let (certificate, key) = (issuing.certificate.clone(), issuing.key.serialize_der());
        let end = issuing.not_after;
        let issuer = LeafIssuer::new(&catalog, &issuing.serial, certificate, &key, end).unwrap();
        this.write("catalog.pem", &pem("CERTIFICATE", &root.certificate));
        this.write("issuing.pem", &pem("CERTIFICATE", &issuing.certificate));
        for (name, profile, id) in [
            ("full", Profile::Full, 0xde),
            ("update-only", Profile::UpdateOnly, 0xdf),
            ("peer", Profile::Full, 0xe0),
        ] {
            let key = KeyPair::generate().unwrap();
            let common = Common {
                catalog,
                device: DeviceId([id; 32]),
                grade: Grade::Hardware,
                profile,
                version: Version { major: 1, minor: 4, patch: 0 },
                index: 7,
                now,
                valid_s: 3600,
            };
            let point = Point::from_uncompressed(key.der_bytes()).unwrap();
            let leaf = issuer.issue(&Leaf::new(&common, Purpose::Device, point)).unwrap();
            // As devices send it: the leaf, and what has issued it.
            this.write(
                &format!("{name}.pem"),
                &(pem("CERTIFICATE", &leaf) + &pem("CERTIFICATE", &issuing.certificate)),
            );
            this.write(&format!("{name}.key"), &key.serialize_pem());
        }
        let root = make_service_root(now).unwrap();
        let names = ["broker.example", "localhost"].map(str::to_owned);
        let (certificate, key) =
            server_certificate::make(root.key.serialized_der(), &names, now).unwrap();
        this.write("authorities.pem", &pem("CERTIFICATE", &root.certificate));
        this.write("broker.pem", &pem("CERTIFICATE", &certificate));
        this.write("broker.key", &key.serialize_pem());
        this
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A server that ends with the test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server at a port that was free a moment before, and waits until it listens.
    fn start(make: impl FnOnce(u16) -> Command) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut command = make(address.port());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("the server runs (Debian packages openssl, mosquitto)");
        let mut this = Self { child, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = this.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < DEADLINE, "it does not listen: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        this
    }

    /// OpenSSL's server, which demands a certificate of the catalog.
    fn openssl(files: &Files, more: &[&str]) -> Self {
        Self::start(|port| {
            let mut command = Command::new("openssl");
            command.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-naccept", "64"]);
            command.arg("-cert").arg(files.path("broker.pem"));
            command.arg("-key").arg(files.path("broker.key"));
            command.arg("-CAfile").arg(files.path("catalog.pem"));
            command.args(["-Verify", "4", "-verify_return_error"]).args(more);
            command
        })
    }

    /// Mosquitto, which takes a client's name from its certificate.
    fn mosquitto(files: &Files, certificate: &str) -> Self {
        Self::start(|port| {
            let line = |key: &str, name: String| format!("{key} {}\n", files.path(&name).display());
            let config = [
                "user root\npersistence false\nallow_anonymous false\n".to_owned(),
                format!("listener {port} 127.0.0.1\nrequire_certificate true\n"),
                "use_identity_as_username true\ntls_version tlsv1.3\n".to_owned(),
                line("log_dest file", "mosquitto.log".to_owned()),
                line("cafile", "catalog.pem".to_owned()),
                line("certfile", format!("{certificate}.pem")),
                line("keyfile", format!("{certificate}.key")),
            ];
            files.write("mosquitto.conf", &config.concat());
            let mut command = Command::new("/usr/sbin/mosquitto");
            command.arg("-c").arg(files.path("mosquitto.conf"));
            command
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// OpenSSL's client with a device's certificate. Returns what the server has said to these bytes.
fn s_client(
    files: &Files,
    server: &Server,
    device: &str,
    authorities: &Path,
    say: &[u8],
) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-connect"]);
    command.arg(server.address.to_string());
    command.arg("-CAfile").arg(authorities);
    command.arg("-cert").arg(files.path(&format!("{device}.pem")));
    command.arg("-cert_chain").arg(files.path("issuing.pem"));
    command.arg("-key").arg(files.path(&format!("{device}.key")));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut said = [0; 64];
        let length = output.read(&mut said).unwrap_or(0);
        let _ = sender.send(said[..length].to_vec());
    });
    // One that was refused has closed its end by then.
    let _ = input.write_all(say).and_then(|()| input.flush());
    let said = receiver.recv_timeout(DEADLINE).unwrap_or_default();
    drop(input);
    let _ = child.kill();
    let _ = child.wait();
    said
}

#[test]
fn mosquitto_takes_a_device_with_a_full_certificate_and_refuses_one_for_updates_alone() {
    let files = Files::new();
    let server = Server::mosquitto(&files, "broker");
    let connect =
        |device: &str| s_client(&files, &server, device, &files.path("authorities.pem"), CONNECT);
    assert_eq!(connect("full"), ACCEPTED, "the control");
    assert_eq!(connect("update-only"), b"");
    // A device whose certificate another catalog has issued is as good as nobody.
    let foreign = Files::new();
    std::fs::copy(foreign.path("full.pem"), files.path("foreign.pem")).unwrap();
    std::fs::copy(foreign.path("full.key"), files.path("foreign.key")).unwrap();
    assert_eq!(connect("foreign"), b"");
    assert_eq!(connect("full"), ACCEPTED, "the control, afterwards");
}

/// Mosquitto's own client publishes, and the broker's log says who it is, or why it is refused.
#[test]
fn mosquitto_takes_full_certificates_and_refuses_those_for_updates() {
    let files = Files::new();
    let server = Server::mosquitto(&files, "broker");
    let log = || std::fs::read_to_string(files.path("mosquitto.log")).unwrap();
    let takes = |device: &str| {
        let mut client = Command::new("timeout");
        client.args([&DEADLINE.as_secs().to_string(), "mosquitto_pub"]);
        client.args(["-h", "localhost", "-p", &server.address.port().to_string(), "-q", "1"]);
        client.args(["-t", "readings", "-m", "1", "--cafile"]).arg(files.path("authorities.pem"));
        client.arg("--cert").arg(files.path(&format!("{device}.pem")));
        client.arg("--key").arg(files.path(&format!("{device}.key")));
        client.output().unwrap().status.success()
    };
    assert!(takes("full"), "{}", log());
    let user = format!("u'{}'", "de".repeat(32));
    assert!(log().contains(&user), "{}", log());
    assert!(!log().contains("certificate verify failed"), "{}", log());
    assert!(!takes("update-only"), "{}", log());
    assert!(log().contains("certificate verify failed"), "{}", log());
}

/// Devices among themselves: the broker is a device as well, with a full certificate or with none that is one of a server.
#[test]
fn a_device_is_believed_as_a_server_by_its_full_certificate_alone() {
    let files = Files::new();
    for (device, expected) in [("peer", ACCEPTED), ("update-only", b"")] {
        let server = Server::mosquitto(&files, device);
        let said = s_client(&files, &server, "full", &files.path("catalog.pem"), CONNECT);
        assert_eq!(said, expected, "a broker with the certificate of `{device}`");
    }
}

#[test]
fn openssl_s_server_takes_full_certificates_and_refuses_those_for_updates() {
    let files = Files::new();
    // What comes is sent back, its letters in the other order.
    let server = Server::openssl(&files, &["-rev", "-quiet"]);
    let ask =
        |device: &str| s_client(&files, &server, device, &files.path("authorities.pem"), b"abc\n");
    assert_eq!(ask("full"), b"cba\n", "the control");
    assert_eq!(ask("update-only"), b"");
}

fn curl(files: &Files, server: &Server, device: &str) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]);
    command.arg(files.path("authorities.pem"));
    command.arg("--cert").arg(files.path(&format!("{device}.pem")));
    command.arg("--key").arg(files.path(&format!("{device}.key")));
    let port = server.address.port();
    command.args(["--resolve", &format!("broker.example:{port}:127.0.0.1")]);
    command.arg(format!("https://broker.example:{port}/"));
    command.output().expect("curl runs (Debian package curl)")
}

#[test]
fn curl_reaches_a_server_with_a_full_certificate_and_not_with_one_for_updates() {
    let files = Files::new();
    let server = Server::openssl(&files, &["-www"]);
    let full = curl(&files, &server, "full");
    let said = String::from_utf8_lossy(&full.stdout).into_owned();
    assert!(full.status.success() && said.contains("TLSv1.3"), "the control: {full:?}");
    let update = curl(&files, &server, "update-only");
    assert!(!update.status.success() && update.stdout.is_empty(), "{update:?}");
}
