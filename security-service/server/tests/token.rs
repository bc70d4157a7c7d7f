//! Keys of roots in a token: SoftHSM2 behind PKCS #11, as any other module. The key is made in the token, does not leave it, and signs
//! what devices and relying parties believe.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_evidence::messages::{CatalogId, Profile};
use holdfast_service_clients::{Installed, ServiceProcess, SoftwareDevice, checked_in};
use holdfast_service_issuing::lint::verify_chain;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use webpki::KeyUsage;

/// Where Debian has the module.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "271828";

/// A token of the test's own, and a folder beside it.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let this = Self { directory };
        std::fs::create_dir(this.path("tokens")).unwrap();
        let config = format!("directories.tokendir = {}\n", this.path("tokens").display());
        std::fs::write(this.path("softhsm2.conf"), config).unwrap();
        this.write_pin(PIN);
        let mut make = this.command("softhsm2-util");
        make.args(["--init-token", "--free", "--label", "holdfast", "--so-pin", "314159"]);
        let made = make.args(["--pin", PIN]).output();
        let made = made.expect("softhsm2-util runs (Debian package softhsm2)");
        assert!(made.status.success(), "{made:?}");
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_pin(&self, pin: &str) {
        let path = self.path("pin");
        std::fs::write(&path, pin).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A command that finds the token.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.path("softhsm2.conf")).stdin(Stdio::null());
        command
    }

    fn service(&self) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_holdfast-service"));
        command.arg("--folder").arg(self.path("service"));
        command
    }

    fn init(&self) -> Output {
        let mut init = self.service();
        init.args(["init", "--catalog", "pumps", "--name", "service.example"]);
        init.args(["--device", "127.0.0.1:0", "--management", "127.0.0.1:0"]);
        init.args(["--token-module", MODULE, "--token-label", "holdfast", "--token-pin"]);
        init.arg(self.path("pin")).output().unwrap()
    }
}

fn done(
    service: &ServiceProcess,
    token: &str,
    catalog: CatalogId,
    path: &str,
    body: &Value,
) -> Value {
    let headers = format!("Authorization: Bearer {token}\r\n");
    let path = format!("/v1/catalogs/{catalog}{path}");
    let method = if body.is_null() { "GET" } else { "POST" };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = service.management.ask(method, &path, &headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn is_empty(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}

#[test]
fn a_root_in_a_token_signs_what_others_believe_and_its_key_stays_there() {
    let place = Place::new();
    let installed = Installed::of(place.init(), &place.path("service"));
    let catalog = installed.catalog;
    let start = || ServiceProcess::start(place.service(), &installed.authorities, |_| {});
    assert!(is_empty(&place.path("service/roots")), "no key of a root is a file");
    let root = place.path(&format!("service/catalog-{catalog}.pem"));
    let root = CertificateDer::from_pem_file(root).unwrap();
    let service = start();
    let token = installed.first_owner(&service.management);
    let release = json!({"boot": "b0".repeat(32), "version": "1.4.0", "index": 7});
    done(&service, &token, catalog, "/releases", &release);
    let mut device = SoftwareDevice::new(catalog);
    let claim = json!({"devices": [{"device": device.id.to_string(), "grade": "software"}]});
    done(&service, &token, catalog, "/claims", &claim);
    assert_eq!(device.enrol(&service.device).status, 200);
    let mut chain = || {
        let answer = checked_in(&device.check_in(&service.device));
        assert_eq!(answer.profile, Profile::Full);
        answer.certificates[0].chain.clone()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first = chain();
    verify_chain(&first[0].0, &first[1].0, &root, KeyUsage::client_auth(), now).unwrap();
    // The token signs the next issuing certificate as well, which the service finds at its next start.
    // Two that end in the same second would be sorted by their serial numbers.
    std::thread::sleep(Duration::from_millis(1100));
    let renewed = place.service().args(["renew", "--catalog", &catalog.to_string()]).output();
    assert!(renewed.as_ref().unwrap().status.success(), "{renewed:?}");
    drop(service);
    let service = start();
    let answer = checked_in(&device.check_in(&service.device));
    let next = &answer.certificates[0].chain;
    assert_ne!(next[1], first[1]);
    verify_chain(&next[0].0, &next[1].0, &root, KeyUsage::client_auth(), now).unwrap();
}

#[test]
fn a_token_that_does_not_open_is_named_with_its_remedy() {
    let place = Place::new();
    place.write_pin("000000");
    let refused = place.init();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("PIN"), "{said}");
    std::fs::remove_dir_all(place.path("service")).unwrap();
    place.write_pin(PIN);
    assert!(place.init().status.success(), "the control");
    // Without the token, nothing is renewed.
    let catalog = place.path("service").read_dir().unwrap().flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("catalog-")?.strip_suffix(".pem")?.to_owned())
    });
    let renew = || {
        let mut renew = place.service();
        renew.args(["renew", "--catalog", catalog.as_ref().unwrap()]).output().unwrap()
    };
    assert!(renew().status.success(), "the control");
    std::fs::rename(place.path("tokens"), place.path("tokens-elsewhere")).unwrap();
    std::fs::create_dir(place.path("tokens")).unwrap();
    let refused = renew();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("no token has the label"), "{said}");
}
