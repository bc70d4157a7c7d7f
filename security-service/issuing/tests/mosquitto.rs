//! What a broker that has never heard of us makes of our certificates: it takes full ones and reads the device's id from them, and
//! refuses those for updates.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_evidence::messages::{CatalogId, DeviceId, Profile};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::Purpose;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::leaf::{Common, Leaf};
use holdfast_service_issuing::authority::{make_issuing, make_root};
use holdfast_service_issuing::issuer::LeafIssuer;
use holdfast_types::Version;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const CATALOG: CatalogId = CatalogId([0xca; 16]);
const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn write_pem(path: &Path, certificates: &[&[u8]]) {
    let der = path.with_extension("der");
    let mut pem = Vec::new();
    for certificate in certificates {
        fs::write(&der, certificate).unwrap();
        let mut convert = Command::new("openssl");
        let converted = convert.args(["x509", "-inform", "der", "-in"]).arg(&der).output();
        pem.extend(converted.unwrap().stdout);
    }
    fs::write(path, pem).unwrap();
}

/// A broker that asks for certificates of the catalog, until it is dropped.
struct Broker {
    process: Child,
    port: u16,
    directory: TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Broker {
    fn start(root: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        write_pem(&at("catalog.pem"), &[root]);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let own = own.self_signed(&key).unwrap();
        fs::write(at("broker.pem"), own.pem()).unwrap();
        fs::write(at("broker.key"), key.serialize_pem()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Somebody may take the port meanwhile.
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = port.local_addr().unwrap().port();
            let path = |name| at(name).display().to_string();
            let config = format!(
                "listener {port} 127.0.0.1\nuser root\ncafile {}\ncertfile {}\nkeyfile {}\n\
                 require_certificate true\nuse_identity_as_username true\nlog_dest file {}\n",
                path("catalog.pem"),
                path("broker.pem"),
                path("broker.key"),
                path("log"),
            );
            fs::write(at("broker.conf"), config).unwrap();
            let mut command = Command::new("/usr/sbin/mosquitto");
            command.arg("-c").arg(at("broker.conf")).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = command.spawn().unwrap();
            while process.try_wait().unwrap().is_none() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Self { process, port, directory };
                }
                assert!(Instant::now() < deadline, "the broker does not listen");
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(Instant::now() < deadline, "the broker does not start");
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap()
    }

    /// True if a client with this certificate has published something.
    fn takes(&self, chain: &[&[u8]], key: &KeyPair) -> bool {
        write_pem(&self.at("client.pem"), chain);
        fs::write(self.at("client.key"), key.serialize_pem()).unwrap();
        let mut client = Command::new("timeout");
        client.args([&PATIENCE.as_secs().to_string(), "mosquitto_pub"]);
        client.args(["-h", "localhost", "-p", &self.port.to_string(), "-q", "1"]);
        client.args(["-t", "readings", "-m", "1", "--cafile"]).arg(self.at("broker.pem"));
        client.arg("--cert").arg(self.at("client.pem")).arg("--key").arg(self.at("client.key"));
        client.output().unwrap().status.success()
    }
}

#[test]
fn mosquitto_takes_full_certificates_and_refuses_those_for_updates() {
    let root = make_root(&CATALOG, now()).unwrap();
    let issuing = make_issuing(&CATALOG, root.key.serialized_der(), now()).unwrap();
    let key = issuing.key.serialize_der();
    let (certificate, end) = (issuing.certificate.clone(), issuing.not_after);
    let issuer = LeafIssuer::new(&CATALOG, &issuing.serial, certificate, &key, end).unwrap();
    let broker = Broker::start(&root.certificate);
    let takes = |profile: Profile| {
        let key = KeyPair::generate().unwrap();
        let common = Common {
            catalog: CATALOG,
            device: DeviceId([0xde; 32]),
            grade: Grade::Hardware,
            profile,
            version: Version { major: 1, minor: 4, patch: 0 },
            index: 7,
            now: now(),
            valid_s: 3600,
        };
        let point = Point::from_uncompressed(key.der_bytes()).unwrap();
        let leaf = issuer.issue(&Leaf::new(&common, Purpose::Device, point)).unwrap();
        broker.takes(&[&leaf, &issuing.certificate], &key)
    };
    assert!(takes(Profile::Full), "{}", broker.log());
    let user = format!("u'{}'", "de".repeat(32));
    assert!(broker.log().contains(&user), "{}", broker.log());
    assert!(!broker.log().contains("certificate verify failed"), "{}", broker.log());
    assert!(!takes(Profile::UpdateOnly), "{}", broker.log());
    assert!(broker.log().contains("certificate verify failed"), "{}", broker.log());
}
