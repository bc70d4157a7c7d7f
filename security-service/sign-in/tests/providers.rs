//! The service as a client of a provider that misbehaves: each refusal beside a control that signs in.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_service_alerts::connect::{Resolver, system_resolver};
use holdfast_service_alerts::trust::Trust;
use holdfast_service_domain::sign_in_settings::ProviderSettings;
use holdfast_service_sign_in::SignInError;
use holdfast_service_sign_in::http::HttpClient;
use holdfast_service_sign_in::provider::{Polled, Provider, SignedIn};
use holdfast_test_provider::{
    Behaviour, CLIENT_ID, CLIENT_SECRET, Provider as Fake, Signing, Subject, parameter,
};
use serde_json::{Value, json};
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What is changed in a token.
type Change = fn(&mut Value);

const NOW: u64 = 1_790_000_000;
const REDIRECT: &str = "https://service.example:8444/v1/sign-in/company/callback";

/// Writes the file of the client's secret, which its owner alone can read.
fn write_secret(folder: &Path, text: &str) {
    let path = folder.join("client-secret");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

struct Scene {
    fake: Fake,
    provider: Provider,
    now: Arc<AtomicU64>,
    _folder: TempDir,
}

fn settings(issuer: &str) -> ProviderSettings {
    ProviderSettings {
        name: "company".to_owned(),
        issuer: issuer.to_owned(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: Some("client-secret".into()),
        scopes: vec!["profile".to_owned()],
        groups_claim: Some("groups".to_owned()),
    }
}

/// `localhost` may be an address of IPv6 first, at which nobody listens.
fn resolver(port: u16) -> Resolver {
    Arc::new(move |_, _| {
        Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) })
    })
}

fn scene() -> Scene {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = now.clone();
    let fake = Fake::start(Arc::new(move || clock.load(Ordering::SeqCst)));
    let folder = tempfile::tempdir().unwrap();
    write_secret(folder.path(), CLIENT_SECRET);
    std::fs::write(folder.path().join("provider.pem"), &fake.authority).unwrap();
    let trust = Trust::read(folder.path(), Some("provider.pem".as_ref())).unwrap();
    let http = HttpClient::new(resolver(fake.address.port()), trust.tls);
    let http = http.with_deadline(Duration::from_secs(5));
    let settings = settings(&fake.issuer);
    let provider = Provider::new(folder.path(), settings, REDIRECT.to_owned(), http).unwrap();
    Scene { fake, provider, now, _folder: folder }
}

impl Scene {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Signs somebody in by the browser's way.
    async fn sign_in(&self) -> Result<SignedIn, SignInError> {
        let begun = self.provider.begin().await?;
        let subject = Subject::new("ines", &["owners", "staff"]);
        let back = self.fake.sign_in(&begun.url, &subject);
        let code = parameter(back.split_once('?').unwrap().1, "code").unwrap();
        self.provider.finish(code, begun.verifier, &begun.nonce, self.now()).await
    }
}

#[tokio::test]
async fn a_person_signs_in_and_brings_her_groups() {
    let scene = scene();
    let signed_in = scene.sign_in().await.unwrap();
    let groups = vec!["owners".to_owned(), "staff".to_owned()];
    let (issuer, name) = (scene.fake.issuer.clone(), "ines".to_owned());
    assert_eq!(signed_in, SignedIn { issuer, subject: "ines".to_owned(), name, groups });
    scene.sign_in().await.unwrap();
    assert_eq!(scene.fake.asked("/jwks"), 1, "keys are kept");
}

#[tokio::test]
async fn an_id_token_that_is_not_signed_by_the_provider_is_refused() {
    let scene = scene();
    for signing in [
        Signing::None,
        Signing::OtherKey,
        Signing::Damaged,
        Signing::PublicKeyAsSecret,
        Signing::ClientSecret,
    ] {
        scene.fake.behave(|_| {});
        scene.sign_in().await.expect("the control");
        scene.fake.behave(|behaviour| behaviour.signing = signing);
        let refused = scene.sign_in().await;
        assert!(
            matches!(refused, Err(SignInError::IdToken(_) | SignInError::Refused(_))),
            "{signing:?}: {refused:?}"
        );
    }
    assert!(scene.fake.asked("/jwks") <= 2, "strangers do not have keys fetched again and again");
}

#[tokio::test]
async fn an_id_token_of_another_client_issuer_time_or_sign_in_is_refused() {
    let scene = scene();
    let refused: [(&str, Change); 14] = [
        ("another client", |claims| claims["aud"] = json!("other")),
        ("another client beside this", |claims| claims["aud"] = json!([CLIENT_ID, "other"])),
        ("a party that is not this", |claims| claims["azp"] = json!("other")),
        ("no client", |claims| drop(claims.as_object_mut().unwrap().remove("aud"))),
        ("another issuer", |claims| claims["iss"] = json!("https://other.example")),
        ("the issuer with a slash", |claims| {
            claims["iss"] = json!(format!("{}/", claims["iss"].as_str().unwrap()));
        }),
        ("expired", |claims| claims["exp"] = json!(NOW - 1)),
        ("no end", |claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        ("issued long ago", |claims| claims["iat"] = json!(NOW - 3600)),
        ("issued in the future", |claims| claims["iat"] = json!(NOW + 3600)),
        ("another nonce", |claims| claims["nonce"] = json!("other")),
        ("no nonce", |claims| drop(claims.as_object_mut().unwrap().remove("nonce"))),
        ("no subject", |claims| drop(claims.as_object_mut().unwrap().remove("sub"))),
        ("a subject without end", |claims| claims["sub"] = json!("s".repeat(300))),
    ];
    for (what, change) in refused {
        scene.fake.behave(|_| {});
        scene.sign_in().await.expect("the control");
        scene.fake.behave(|behaviour| behaviour.claims = Arc::new(change));
        let refused = scene.sign_in().await;
        assert!(refused.is_err(), "{what}: {refused:?}");
    }
    let own: fn(&mut Value) = |claims| claims["azp"] = json!(CLIENT_ID);
    scene.fake.behave(|behaviour| behaviour.claims = Arc::new(own));
    scene.sign_in().await.expect("the party is this one");
}

#[tokio::test]
async fn an_id_token_that_was_used_before_is_refused() {
    let scene = scene();
    scene.sign_in().await.expect("the control");
    let token = scene.fake.last_token();
    scene.fake.behave(|behaviour| behaviour.replayed = Some(token));
    let refused = scene.sign_in().await;
    assert!(matches!(refused, Err(SignInError::IdToken(_))), "{refused:?}");
}

#[tokio::test]
async fn a_header_that_asks_for_what_is_not_understood_is_refused() {
    let scene = scene();
    let refused: [fn(&mut Value); 3] = [
        |header| header["crit"] = json!(["exp"]),
        |header| header["cty"] = json!("JWT"),
        |header| header["alg"] = json!("ES999"),
    ];
    for change in refused {
        scene.fake.behave(|_| {});
        scene.sign_in().await.expect("the control");
        scene.fake.behave(|behaviour| behaviour.header = Arc::new(change));
        scene.sign_in().await.unwrap_err();
    }
}

#[tokio::test]
async fn a_code_is_exchanged_with_its_own_verifier_alone() {
    let scene = scene();
    let begun = scene.provider.begin().await.unwrap();
    let other = scene.provider.begin().await.unwrap();
    let subject = Subject::new("ines", &[]);
    let code = |back: &str| parameter(back.split_once('?').unwrap().1, "code").unwrap();
    let back = scene.fake.sign_in(&begun.url, &subject);
    let finish = scene.provider.finish(code(&back), other.verifier, &begun.nonce, NOW);
    assert!(matches!(finish.await, Err(SignInError::Refused(_))), "a verifier of another sign-in");
    let again = scene.provider.begin().await.unwrap();
    let back = scene.fake.sign_in(&again.url, &subject);
    let control = scene.provider.finish(code(&back), again.verifier, &again.nonce, NOW);
    control.await.expect("the control");
    assert_ne!((begun.state, begun.nonce), (again.state, again.nonce));
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_once_a_minute_at_most() {
    let scene = scene();
    scene.sign_in().await.expect("the control");
    scene.fake.rotate("key-2");
    // The keys were fetched a moment ago: whoever asks for others has to wait.
    assert!(scene.sign_in().await.is_err(), "keys are fetched once a minute at most");
    assert_eq!(scene.fake.asked("/jwks"), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    scene.sign_in().await.expect("the control");
    assert_eq!(scene.fake.asked("/jwks"), 2);
}

#[tokio::test]
async fn a_person_signs_in_by_a_code_from_the_command_line() {
    let scene = scene();
    let begun = scene.provider.begin_device().await.unwrap();
    let poll = async || scene.provider.poll_device(&begun.device_code, 5, NOW).await;
    assert!(matches!(poll().await.unwrap(), Polled::Pending(5)));
    scene.fake.behave(|behaviour| behaviour.slows_down = true);
    assert!(matches!(poll().await.unwrap(), Polled::Pending(10)), "it is asked more slowly");
    scene.fake.decide(&begun.user_code, Some(Subject::new("ines", &["owners"])));
    let Polled::SignedIn(signed_in) = poll().await.unwrap() else { panic!("signed in") };
    assert_eq!((signed_in.subject.as_str(), signed_in.groups.len()), ("ines", 1));
    assert!(poll().await.is_err(), "a code is good once");
    let refused = scene.provider.begin_device().await.unwrap();
    scene.fake.decide(&refused.user_code, None);
    let ended = scene.provider.poll_device(&refused.device_code, 5, NOW).await;
    assert!(matches!(ended, Err(SignInError::Ended(_))), "{ended:?}");
    let unsigned: fn(&mut Behaviour) = |behaviour| behaviour.signing = Signing::OtherKey;
    let forged = scene.provider.begin_device().await.unwrap();
    scene.fake.behave(unsigned);
    scene.fake.decide(&forged.user_code, Some(Subject::new("ines", &["owners"])));
    let forged = scene.provider.poll_device(&forged.device_code, 5, NOW).await;
    assert!(matches!(forged, Err(SignInError::IdToken(_))), "{forged:?}");
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_provider_that_redirects_lies_or_never_ends_is_not_followed() {
    let large = "x".repeat(300 * 1024);
    let json = "200 OK\r\nContent-Type: application/json";
    for (what, metadata) in [
        ("a redirect", answer("302 Found\r\nLocation: https://localhost:1/", "")),
        ("too much", answer(json, &large)),
        ("a length that is a lie", format!("HTTP/1.1 {json}\r\nContent-Length: 900\r\n\r\n{{}}")),
        ("no JSON", answer(json, "<html>")),
        ("another issuer", answer(json, "{\"issuer\":\"https://other.example\"}")),
        ("an error", answer("500 X", "{}")),
    ] {
        let scene = scene();
        scene.fake.behave(|behaviour| behaviour.metadata = Some(metadata));
        let refused = scene.sign_in().await;
        assert!(matches!(refused, Err(SignInError::Discovery(_))), "{what}: {refused:?}");
        scene.fake.behave(|_| {});
        scene.sign_in().await.expect("the control, and the way back");
    }
}

#[tokio::test]
async fn a_provider_that_nobody_vouches_for_or_that_is_silent_is_an_error_in_time() {
    let good = scene();
    let folder = tempfile::tempdir().unwrap();
    write_secret(folder.path(), CLIENT_SECRET);
    let other = Fake::start(Arc::new(|| NOW));
    std::fs::write(folder.path().join("other.pem"), &other.authority).unwrap();
    let trust = Trust::read(folder.path(), Some("other.pem".as_ref())).unwrap();
    let with = |issuer: &str, resolver: Resolver| {
        let http = HttpClient::new(resolver, trust.tls.clone());
        let http = http.with_deadline(Duration::from_millis(500));
        let settings = settings(issuer);
        Provider::new(folder.path(), settings, REDIRECT.to_owned(), http).unwrap()
    };
    let stranger = with(&good.fake.issuer, resolver(good.fake.address.port()));
    assert!(matches!(stranger.begin().await, Err(SignInError::Discovery(_))));
    with(&other.issuer, resolver(other.address.port())).begin().await.expect("the control");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
        let _ = stream.shutdown().await;
    });
    let silent = with(&format!("https://localhost:{port}"), resolver(port));
    let began = std::time::Instant::now();
    assert!(matches!(silent.begin().await, Err(SignInError::Discovery(_))));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_secret_that_is_not_there_is_an_error_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let trust = Trust::new(Vec::new()).unwrap();
    let http = HttpClient::new(system_resolver(), trust.tls);
    let make = || {
        let settings = settings("https://id.example");
        Provider::new(folder.path(), settings, REDIRECT.to_owned(), http.clone())
    };
    assert!(matches!(make(), Err(SignInError::Secret { .. })));
    write_secret(folder.path(), " \n");
    assert!(matches!(make(), Err(SignInError::Setting { .. })));
    write_secret(folder.path(), "s\n");
    make().expect("the control");
    let path = folder.path().join("client-secret");
    std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(make(), Err(SignInError::Setting { .. })), "others can read it");
}
