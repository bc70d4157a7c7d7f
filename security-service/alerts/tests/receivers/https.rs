//! A receiver of HTTP on loopback, with TLS or without, that answers as a test has it.

use holdfast_service_alerts::trust::Trust;
use rcgen::generate_simple_self_signed;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a receiver does once it has read a request.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// It answers this and closes.
    Answers(String),
    /// It sends a byte of headers each 50 ms, for ever.
    Drips,
    /// It answers 200 with a body that has no end.
    NeverEnds,
    /// It answers with headers that have no end.
    EndlessHeaders,
    /// It says nothing.
    Silent,
}

/// A receiver that runs until the test's runtime ends.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    pub(crate) trust: Trust,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Receiver {
    /// The requests that came, each with its headers and its body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// How many connections were made, requests or not.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

pub(crate) fn answer(status: &str) -> Behaviour {
    Behaviour::Answers(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
}

/// A certificate for a name, with the configuration of a server that has it.
pub(crate) fn certificate(name: &str) -> (ServerConfig, Trust) {
    let made = generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = builder.with_single_cert(vec![certificate.clone()], key.into()).unwrap();
    (config, Trust::new(vec![certificate]).unwrap())
}

/// Starts a receiver over TLS whose certificate names `name`.
pub(crate) async fn https(name: &str, behaviour: Behaviour) -> Receiver {
    let (config, trust) = certificate(name);
    start(Some(TlsAcceptor::from(Arc::new(config))), trust, behaviour).await
}

/// Starts a receiver without TLS.
pub(crate) async fn http(behaviour: Behaviour) -> Receiver {
    start(None, Trust::new(Vec::new()).unwrap(), behaviour).await
}

async fn start(acceptor: Option<TlsAcceptor>, trust: Trust, behaviour: Behaviour) -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (requests, connections) = (Arc::default(), Arc::default());
    let receiver = Receiver { port, trust, requests, connections };
    let (requests, connections) = (receiver.requests.clone(), receiver.connections.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            *connections.lock().unwrap() += 1;
            let (acceptor, behaviour) = (acceptor.clone(), behaviour.clone());
            let requests = requests.clone();
            tokio::spawn(async move {
                match acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, behaviour, &requests).await;
                        }
                    }
                    None => serve(stream, behaviour, &requests).await,
                }
            });
        }
    });
    receiver
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    behaviour: Behaviour,
    requests: &Mutex<Vec<String>>,
) {
    let Some(request) = read(&mut stream).await else { return };
    requests.lock().unwrap().push(request);
    let _ = match behaviour {
        Behaviour::Answers(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            stream.shutdown().await
        }
        Behaviour::Drips => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await;
            while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
        Behaviour::NeverEnds => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(head).await;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
            Ok(())
        }
        Behaviour::EndlessHeaders => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            let line = format!("X: {}\r\n", "x".repeat(4096));
            while stream.write_all(line.as_bytes()).await.is_ok() {}
            Ok(())
        }
        Behaviour::Silent => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            Ok(())
        }
    };
}

/// Reads a request with its body.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
}
