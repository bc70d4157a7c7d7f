//! The endpoints, over TLS on loopback: one thread for each connection, one request on each.

use crate::jwt::{CLIENT_SECRET, encode};
use crate::state::{CLIENT_ID, Clock, State, id_token, parameter};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::generate_simple_self_signed;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn start(state: Arc<Mutex<State>>, clock: Clock) -> (SocketAddr, String) {
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = builder.with_single_cert(vec![certificate], key.into()).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (state, clock, config) = (state.clone(), clock.clone(), config.clone());
            // Whoever goes away in the middle is none of ours.
            thread::spawn(move || drop(serve(stream, config, &state, &clock, address.port())));
        }
    });
    (address, made.cert.pem())
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    state: &Mutex<State>,
    clock: &Clock,
    port: u16,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length = header("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let issuer = format!("https://localhost:{port}");
    let mut state = state.lock().unwrap();
    state.requests.push(path.clone());
    let answered = match path.as_str() {
        "/.well-known/openid-configuration" => match state.behaviour.metadata.clone() {
            Some(answer) => answer,
            None => answer(200, &metadata(&issuer)),
        },
        "/jwks" => answer(200, &state.key.set()),
        "/device" => device(&mut state, &issuer),
        "/token" => {
            let form = Form { body: &body, authorization: header("authorization") };
            token(&mut state, &issuer, &form, clock())
        }
        _ => answer(404, &json!({})),
    };
    drop(state);
    reader.get_mut().write_all(answered.as_bytes())?;
    reader.get_mut().conn.send_close_notify();
    reader.get_mut().flush()
}

fn answer(status: u16, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "device_authorization_endpoint": format!("{issuer}/device"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn device(state: &mut State, issuer: &str) -> String {
    state.number += 1;
    let (user, device) = (format!("USER-{}", state.number), format!("device-{}", state.number));
    state.devices.insert(user.clone(), (device.clone(), None));
    let url = format!("{issuer}/activate");
    answer(
        200,
        &json!({
            "device_code": device, "user_code": user, "verification_uri": url,
            "verification_uri_complete": format!("{url}?code={user}"),
            "expires_in": 600, "interval": 5,
        }),
    )
}

struct Form<'f> {
    body: &'f str,
    authorization: Option<String>,
}

impl Form<'_> {
    fn of(&self, name: &str) -> Option<String> {
        parameter(self.body, name)
    }

    /// True if the client is the service, with its secret.
    fn is_of_client(&self) -> bool {
        match self.authorization.as_deref().and_then(|value| value.strip_prefix("Basic ")) {
            Some(basic) => {
                let text = String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap();
                let (id, secret) = text.split_once(':').unwrap();
                let secret = parameter(&format!("s={secret}"), "s").unwrap();
                id == CLIENT_ID && secret == CLIENT_SECRET
            }
            None => {
                let secret = self.of("client_secret").unwrap_or_default();
                self.of("client_id").as_deref() == Some(CLIENT_ID) && secret == CLIENT_SECRET
            }
        }
    }
}

fn refused(error: &str) -> String {
    answer(400, &json!({ "error": error }))
}

fn token(state: &mut State, issuer: &str, form: &Form<'_>, now: u64) -> String {
    if !form.is_of_client() {
        return refused("invalid_client");
    }
    let (subject, nonce) = match form.of("grant_type").unwrap().as_str() {
        "authorization_code" => {
            // A code is good once.
            let Some(code) = state.codes.remove(&form.of("code").unwrap()) else {
                return refused("invalid_grant");
            };
            let verifier = form.of("code_verifier").unwrap_or_default();
            let hash = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
            let is_good = encode(hash.as_ref()) == code.challenge;
            if !is_good || form.of("redirect_uri") != Some(code.redirect) {
                return refused("invalid_grant");
            }
            (code.subject, Some(code.nonce))
        }
        "urn:ietf:params:oauth:grant-type:device_code" => {
            let wanted = form.of("device_code").unwrap();
            let user = state.devices.iter().find(|(_, (device, _))| *device == wanted);
            let Some((user, (_, decision))) = user else { return refused("invalid_grant") };
            match decision.clone() {
                None if state.behaviour.slows_down => return refused("slow_down"),
                None => return refused("authorization_pending"),
                Some(Err(())) => return refused("access_denied"),
                Some(Ok(subject)) => {
                    let user = user.clone();
                    state.devices.remove(&user);
                    (subject, None)
                }
            }
        }
        _ => return refused("unsupported_grant_type"),
    };
    let token = match state.behaviour.replayed.clone() {
        Some(token) => token,
        None => id_token(state, issuer, &subject, nonce.as_deref(), now),
    };
    answer(200, &json!({ "access_token": "a", "token_type": "Bearer", "id_token": token }))
}
