//! A server of mail on loopback that takes one mail a connection, and keeps what was said to it.

use crate::https::certificate;
use holdfast_service_alerts::trust::Trust;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How a server is secured, or that it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Starttls,
    Tls,
    Silent,
}

/// A server that runs until the test's runtime ends.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) trust: Trust,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// The lines that clients have said, each behind `tls ` where it came encrypted.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

pub(crate) async fn start(kind: Kind) -> Server {
    let (config, trust) = certificate("127.0.0.1");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server { port, trust, said: Arc::default() };
    let said = server.said.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, said) = (acceptor.clone(), said.clone());
            tokio::spawn(async move {
                match kind {
                    Kind::Silent => tokio::time::sleep(Duration::from_secs(600)).await,
                    Kind::Tls => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            session(stream, false, true, true, &said).await;
                        }
                    }
                    Kind::Plain | Kind::Starttls => {
                        let offers = kind == Kind::Starttls;
                        let upgraded = session(stream, offers, false, true, &said).await;
                        if let Some(stream) = upgraded
                            && let Ok(stream) = acceptor.accept(stream).await
                        {
                            session(stream, false, true, false, &said).await;
                        }
                    }
                }
            });
        }
    });
    server
}

/// Serves a client; returns the connection where he wants TLS on it.
async fn session<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    offers_tls: bool,
    is_tls: bool,
    greets: bool,
    said: &Mutex<Vec<String>>,
) -> Option<S> {
    let mut stream = BufReader::new(stream);
    if greets {
        stream.write_all(b"220 mail.example ESMTP\r\n").await.ok()?;
        stream.flush().await.ok()?;
    }
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        said.lock().unwrap().push(format!("{}{line}", if is_tls { "tls " } else { "" }));
        let verb = line.split(' ').next().unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            _ if in_data && line != "." => continue,
            _ if in_data => {
                in_data = false;
                "250 taken\r\n".to_owned()
            }
            "EHLO" => {
                let tls = if offers_tls { "250-STARTTLS\r\n" } else { "" };
                format!("250-mail.example\r\n{tls}250 AUTH PLAIN\r\n")
            }
            "STARTTLS" => "220 go\r\n".to_owned(),
            "AUTH" => "235 known\r\n".to_owned(),
            "DATA" => {
                in_data = true;
                "354 go\r\n".to_owned()
            }
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => "250 ok\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        match verb.as_str() {
            "STARTTLS" => return Some(stream.into_inner()),
            "QUIT" if !in_data => return None,
            _ => {}
        }
    }
}
