#![allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]

use super::*;
use crate::software_keys::SoftwareKey;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use std::thread;
use zbus::export::ordered_stream::OrderedStreamExt;
use zbus::object_server::Interface;
use zbus::zvariant::DynamicType;

const INTERFACE: &str = "org.holdfast.Identity1";
/// For what another thread does.
const WAIT: Duration = Duration::from_secs(60);
const ROOT: &[u8] = b"root";

fn id(number: u8) -> ComponentId {
    ComponentId([number; 16])
}

fn authenticating(number: u8) -> AuthenticatingApp {
    AuthenticatingApp { name: format!("app-{number}"), id: id(number) }
}

/// Certificates that end in the year 2100.
fn held() -> Standing {
    Standing {
        chain: vec![b"leaf".to_vec(), b"issuing".to_vec()],
        until: 4_102_444_800,
        grade: "emulated",
    }
}

/// What connections have in common, and the ends that the service has.
fn shared() -> (Arc<Shared>, watch::Sender<Standings>, Receiver<Job>, UnixStream) {
    let (send_jobs, jobs) = channel();
    let (woken, wake) = UnixStream::pair().unwrap();
    wake.set_nonblocking(true).unwrap();
    let (standings, seen) = watch::channel(Standings::new());
    let anchors = vec![ROOT.to_vec()];
    (Arc::new(Shared { anchors, standings: seen, jobs: send_jobs, wake }), standings, jobs, woken)
}

async fn client(shared: &Arc<Shared>, app: &App) -> zbus::Connection {
    let (theirs, ours) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let uid = Some(rustix::process::getuid().as_raw());
    let call = Call { app: app.clone(), stream: ours, uid };
    tokio::spawn(serve_connection(Arc::clone(shared), call));
    zbus::connection::Builder::unix_stream(theirs).p2p().build().await.unwrap()
}

async fn call(
    client: &zbus::Connection,
    method: &str,
    body: &(impl serde::Serialize + DynamicType),
) -> Result<zbus::Message, String> {
    let answer = client.call_method(None::<&str>, PATH, Some(INTERFACE), method, body);
    timeout(WAIT, answer).await.unwrap().map_err(|error| error.to_string())
}

async fn sign(client: &zbus::Connection, role: &str, hash: &[u8]) -> Result<Vec<u8>, String> {
    let answer = call(client, "SignTls13", &(role, hash)).await?;
    Ok(answer.body().deserialize().unwrap())
}

#[test]
fn the_interface_is_the_one_that_is_published() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/org.holdfast.Identity1.xml");
    let mut xml = format!(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node name=\"{PATH}\">\n"
    );
    let identity = Identity { app: App::new(authenticating(1)), shared: shared().0 };
    identity.introspect_to_writer(&mut xml, 2);
    xml.push_str("</node>\n");
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(path, &xml).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == xml, "HOLDFAST_WRITE_DOCS=1 writes it");
}

#[tokio::test]
async fn an_app_is_told_of_its_certificate_and_signs_with_its_key() {
    let (shared, standings, jobs, _woken) = shared();
    let app = App::new(authenticating(1));
    let identity = Identity { app: app.clone(), shared: Arc::clone(&shared) };
    let client = client(&shared, &app).await;
    let mut signals = zbus::MessageStream::from(&client);
    assert_eq!((identity.ready(), identity.until(), identity.grade().as_str()), (false, 0, ""));
    let none = call(&client, "Certificate", &()).await.unwrap_err();
    assert!(none.contains("no certificate for this app"), "{none}");
    let none = sign(&client, "client", &[1; 32]).await.unwrap_err();
    assert!(none.contains("no certificate for this app"), "{none}");
    let roots: Vec<Vec<u8>> =
        call(&client, "Anchors", &()).await.unwrap().body().deserialize().unwrap();
    assert_eq!(roots, [ROOT]);
    // Another app's certificate is nothing to this one.
    standings.send_replace(Standings::from([(id(2), held())]));
    standings.send_replace(Standings::from([(id(2), held()), (id(1), held())]));
    let mut members = Vec::new();
    while members.last().map(String::as_str) != Some("Renewed") {
        let message = timeout(WAIT, signals.next()).await.unwrap().unwrap().unwrap();
        if message.message_type() == zbus::message::Type::Signal {
            members.push(message.header().member().unwrap().to_string());
        }
    }
    assert_eq!(members, [&["PropertiesChanged"; 3][..], &["Renewed"]].concat());
    let chain: Vec<Vec<u8>> =
        call(&client, "Certificate", &()).await.unwrap().body().deserialize().unwrap();
    assert_eq!(chain, held().chain);
    let properties = (identity.ready(), identity.until(), identity.grade());
    assert_eq!(properties, (true, held().until, "emulated".to_owned()));
    // The service, which has the key.
    let key = SoftwareKey::read(&SoftwareKey::make().unwrap()).unwrap();
    let point = key.point().uncompressed();
    thread::spawn(move || {
        while let Ok(Job { app, content, answer }) = jobs.recv() {
            assert_eq!(app, id(1));
            let _ = answer.send(Ok(key.sign(&content).unwrap().to_der()));
        }
    });
    for (role, side) in [("client", Role::Client), ("server", Role::Server)] {
        let signature = sign(&client, role, &[7; 32]).await.unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point);
        key.verify(&signed_content(side, &[7; 32]), &signature).unwrap();
        key.verify(&signed_content(side, &[8; 32]), &signature).unwrap_err();
    }
    // Certificates for updates alone: the app has none any more.
    standings.send_replace(Standings::from([(id(1), Standing::default())]));
    let gone = sign(&client, "client", &[1; 32]).await.unwrap_err();
    assert!(gone.contains("no certificate for this app") && !identity.ready(), "{gone}");
    standings.send_replace(Standings::from([(id(1), Standing { until: 1, ..held() })]));
    assert!(!identity.ready(), "they have ended");
}

#[tokio::test]
async fn an_app_signs_handshakes_and_nothing_else() {
    let (shared, standings, jobs, _woken) = shared();
    let client = client(&shared, &App::new(authenticating(1))).await;
    standings.send_replace(Standings::from([(id(1), held())]));
    for length in [0, 1, 31, 33, 48, 64, 1024] {
        let refused = sign(&client, "client", &vec![1; length]).await.unwrap_err();
        let expected = format!("must have 32 bytes, and has {length}");
        assert!(refused.contains("InvalidArgs") && refused.contains(&expected), "{refused}");
    }
    for role in ["", "Client", "TLS 1.3, client CertificateVerify"] {
        let refused = sign(&client, role, &[1; 32]).await.unwrap_err();
        assert!(refused.contains("must be `client` or `server`"), "{refused}");
    }
    call(&client, "SignTls13", &("client", "a text of exactly 32 characters.")).await.unwrap_err();
    call(&client, "Sign", &[1u8; 32].as_slice()).await.unwrap_err();
    assert!(jobs.try_recv().is_err(), "none of it came so far as to be signed");
    // The control.
    thread::spawn(move || {
        let Job { content, answer, .. } = jobs.recv_timeout(WAIT).unwrap();
        answer.send(Ok(content)).unwrap();
    });
    let signed = sign(&client, "client", &[1; 32]).await.unwrap();
    assert_eq!(signed, signed_content(Role::Client, &[1; 32]));
}

/// One app has as many signatures open as it may; another one gets its own all the same.
#[tokio::test]
async fn an_app_that_asks_for_too_much_is_refused_and_others_go_on() {
    const AT_ONCE: usize = 16;
    let (shared, standings, jobs, _woken) = shared();
    let (greedy, modest) = (App::new(authenticating(1)), App::new(authenticating(2)));
    // A bound is the app's, and not the connection's.
    let (first, second) = (client(&shared, &greedy).await, client(&shared, &greedy).await);
    let other = client(&shared, &modest).await;
    standings.send_replace(Standings::from([(id(1), held()), (id(2), held())]));
    let mut open = tokio::task::JoinSet::new();
    for number in 0..AT_ONCE {
        let client = if number % 2 == 0 { first.clone() } else { second.clone() };
        open.spawn(async move { sign(&client, "server", &[1; 32]).await });
    }
    let mut waiting = Vec::new();
    while waiting.len() < AT_ONCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
        waiting.extend(jobs.try_iter());
    }
    for client in [&first, &second] {
        let refused = sign(client, "server", &[1; 32]).await.unwrap_err();
        assert!(refused.contains("LimitsExceeded"), "{refused}");
        assert!(refused.contains("more than 16 signatures at once"), "{refused}");
    }
    let answered = thread::spawn(move || {
        let job = jobs.recv_timeout(WAIT).unwrap();
        assert_eq!(job.app, id(2));
        job.answer.send(Ok(b"signed".to_vec())).unwrap();
        jobs
    });
    assert_eq!(sign(&other, "server", &[1; 32]).await.unwrap(), b"signed");
    let jobs = answered.join().unwrap();
    for job in waiting {
        job.answer.send(Err(NotSigned)).unwrap();
    }
    while let Some(ended) = open.join_next().await {
        let failed = ended.unwrap().unwrap_err();
        assert!(failed.contains("could not be made"), "{failed}");
    }
    assert!(jobs.try_recv().is_err(), "what was refused came so far as to be signed");
}

/// With the sockets and threads that the service has.
#[test]
fn an_app_that_floods_is_read_slowly_and_its_neighbour_is_answered() {
    use std::os::unix::net::UnixListener;
    let directory = tempfile::tempdir().unwrap();
    let listeners: Vec<(AuthenticatingApp, OwnedFd)> = [1, 2]
        .map(|number| {
            let socket = UnixListener::bind(directory.path().join(number.to_string())).unwrap();
            (authenticating(number), OwnedFd::from(socket))
        })
        .into();
    let bus = Bus::start(listeners, vec![ROOT.to_vec()]).unwrap();
    bus.publish(|_| held());
    let path = directory.path().join("1");
    thread::spawn(move || {
        let uid: String = rustix::process::getuid().as_raw().to_string();
        let uid: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        stream.write_all(b"BEGIN\r\n").unwrap();
        // Calls, one after the other, for as long as they are read; it reads no reply.
        let call = zbus::Message::method_call(PATH, "Certificate").interface(INTERFACE);
        let call = call.build(&()).unwrap().data().to_vec();
        while stream.write_all(&call.repeat(64)).is_ok() {}
    });
    let path = directory.path().join("2");
    let neighbour = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::UnixStream::connect(path).await.unwrap();
            let builder = zbus::connection::Builder::unix_stream(stream.into_std().unwrap());
            let client = builder.p2p().build().await.unwrap();
            let mut signed = 0;
            for _ in 0..8 {
                signed += usize::from(sign(&client, "client", &[1; 32]).await.is_ok());
            }
            signed
        })
    });
    while !neighbour.is_finished() {
        let mut poll = Poll::new();
        bus.add_to(&mut poll);
        poll.wait(20).unwrap();
        for job in bus.jobs() {
            assert_eq!(job.app, id(2));
            job.answer.send(Ok(job.content)).unwrap();
        }
    }
    assert_eq!(neighbour.join().unwrap(), 8);
}
