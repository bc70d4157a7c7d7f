//! The program of the service as a process: what `holdfast-service init` has made, and `run` until it is killed.

use crate::Target;
use holdfast_evidence::messages::CatalogId;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Longest wait for a process to listen.
const DEADLINE: Duration = Duration::from_secs(60);

/// An installation that `init` has made.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Id of its catalog.
    pub catalog: CatalogId,
    /// Who vouches for its service.
    pub authorities: RootCertStore,
    ticket: String,
}

impl Installed {
    /// Reads what `init` has said, which must have ended well, and the folder that it has made.
    #[must_use]
    pub fn of(made: Output, folder: &Path) -> Self {
        assert!(made.status.success(), "{made:?}");
        let said = String::from_utf8(made.stdout).unwrap();
        let ticket = said.trim().rsplit('/').next().unwrap().to_owned();
        let catalog = said.lines().next().unwrap().rsplit(' ').next().unwrap();
        let catalog = CatalogId::parse(catalog).unwrap();
        let mut authorities = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(folder.join("authorities.pem")).unwrap();
        authorities.add(root).unwrap();
        Self { catalog, authorities, ticket }
    }

    /// Takes the ticket of the first owner, and returns the token that is given for it.
    #[must_use]
    pub fn first_owner(&self, management: &Target) -> String {
        let first = management.ask("POST", &format!("/v1/first-owner/{}", self.ticket), "", b"");
        first.json()["token"].as_str().unwrap().to_owned()
    }
}

/// A process that runs, until it is dropped.
#[derive(Debug)]
pub struct ServiceProcess {
    child: Child,
    /// Where devices ask it.
    pub device: Target,
    /// Where people and tools ask it.
    pub management: Target,
}

impl ServiceProcess {
    /// Starts it by a command that names the program and its folder, and waits until it listens. `say` is told each line of its log.
    pub fn start(
        mut command: Command,
        authorities: &RootCertStore,
        mut say: impl FnMut(&str) + Send + 'static,
    ) -> Self {
        let mut child = command.arg("run").stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, receiver) = channel();
        // Whoever reads it lets the service write.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                say(&line);
                if line.contains("event=service_listening") {
                    let _ = sender.send(line);
                }
            }
        });
        // `devices at A, management at B event=service_listening`
        let line = receiver.recv_timeout(DEADLINE).expect("a service that listens");
        let words: Vec<&str> = line.split_whitespace().collect();
        let target = |address: &str| Target {
            address: address.trim_end_matches(',').parse().unwrap(),
            authorities: authorities.clone(),
            before: Vec::new(),
        };
        Self { child, device: target(words[2]), management: target(words[5]) }
    }

    /// Kills it by SIGKILL, and waits until it is gone: what it holds is free then.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
