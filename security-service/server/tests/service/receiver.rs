//! A receiver of webhooks on loopback, with a certificate of its own, that keeps what comes.

use rcgen::generate_simple_self_signed;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The status of a receiver that takes a connection and says nothing.
pub(crate) const HANGS: u16 = 0;

/// A receiver, until its process ends.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) pem: String,
    /// The status that it answers from now on.
    pub(crate) status: Arc<AtomicU16>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    pub(crate) fn start(status: u16) -> Self {
        let made = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(builder.with_single_cert(vec![certificate], key.into()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://127.0.0.1:{}/hook", listener.local_addr().unwrap().port());
        let (status, requests) = (Arc::new(AtomicU16::new(status)), Arc::default());
        let receiver = Self { url, pem: made.cert.pem(), status, requests };
        let (status, requests) = (receiver.status.clone(), receiver.requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, requests) = (config.clone(), requests.clone());
                let status = status.load(Ordering::SeqCst);
                std::thread::spawn(move || serve(stream.unwrap(), config, status, &requests));
            }
        });
        receiver
    }

    /// Writes the certificates of receivers as the file of authorities that the settings name.
    pub(crate) fn vouch_for(receivers: &[&Self], path: &Path) {
        let pems: Vec<&str> = receivers.iter().map(|receiver| receiver.pem.as_str()).collect();
        std::fs::write(path, pems.concat()).unwrap();
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The numbers of the alerts that came, in the order in which they did.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let number = |request: &String| {
            let head = request.to_lowercase();
            let line = head.lines().find_map(|line| line.strip_prefix("holdfast-alert: "));
            line.unwrap().rsplit_once('.').unwrap().1.parse().unwrap()
        };
        self.requests().iter().map(number).collect()
    }

    /// Waits until so many requests have come.
    pub(crate) fn wait_for(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.requests().len() < count {
            assert!(Instant::now() < until, "{} of {count} came", self.requests().len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, status: u16, requests: &Mutex<Vec<String>>) {
    if status == HANGS {
        std::thread::sleep(Duration::from_secs(600));
    }
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                requests.lock().unwrap().push(text);
                break;
            }
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}
