//! An app of tests that authenticates as a part of the device, and asks for more than that. Lines of its output say what it
//! was given.
//!
//! Without an argument it does what an app does with its grant; with `flood` it asks without end and reads no reply. Without the
//! grant it looks for a way around it.

mod flood;

use holdfast_evidence::issued::certified_key;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};
use zbus::export::ordered_stream::OrderedStreamExt;

/// The socket of an app with the grant.
const SOCKET: &str = "/run/identity";
/// A file that tests put into its package: the most that it says may be reported of failures.
const REPORT_LEVEL: &str = "/app/report-level";
/// Lengths of what is no SHA-256.
const OTHER_LENGTHS: [usize; 5] = [0, 31, 33, 64, 1024];
/// Signatures after which it says how long they took.
const A_ROUND: u32 = 16;

/// What `identity` offers: docs/org.holdfast.Identity1.xml.
#[zbus::proxy(interface = "org.holdfast.Identity1", default_path = "/org/holdfast/Identity1")]
trait Identity {
    fn certificate(&self) -> zbus::Result<Vec<Vec<u8>>>;
    fn anchors(&self) -> zbus::Result<Vec<Vec<u8>>>;
    fn sign_tls13(&self, role: &str, transcript_hash: &[u8]) -> zbus::Result<Vec<u8>>;

    #[zbus(property)]
    fn until(&self) -> zbus::Result<u64>;

    #[zbus(property)]
    fn grade(&self) -> zbus::Result<String>;

    #[zbus(property)]
    fn ready(&self) -> zbus::Result<bool>;

    #[zbus(signal)]
    fn renewed(&self) -> zbus::Result<()>;
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(level) = std::fs::read_to_string(REPORT_LEVEL) {
        let path = std::env::var_os("NOTIFY_SOCKET").ok_or("no NOTIFY_SOCKET")?;
        UnixDatagram::unbound()?.send_to(format!("X_HOLDFAST_REPORTS={level}").as_bytes(), path)?;
        println!("says that no more than {level} is reported");
    }
    let Ok(address) = std::env::var("HOLDFAST_IDENTITY") else {
        return without_the_grant();
    };
    if std::env::args().nth(1).is_some_and(|argument| argument == "flood") {
        return flood::flood(SOCKET);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(authenticate(&address))
}

fn without_the_grant() -> Result<(), Box<dyn std::error::Error>> {
    match UnixStream::connect(SOCKET) {
        Ok(_) => println!("has a socket without the grant"),
        Err(error) => println!("has no socket: {error}"),
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

async fn authenticate(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let connection = zbus::connection::Builder::address(address).p2p().build().await?;
    let identity = IdentityProxy::builder(&connection).destination("org.holdfast").build().await?;
    let mut renewed = identity.receive_renewed().await?;
    let mut is_ready = identity.ready().await?;
    if is_ready {
        show(&identity).await?;
    } else {
        let refused = identity.sign_tls13("client", &[1; 32]).await;
        println!("has no certificate: {}", said(refused.err()));
    }
    let mut rounds = Rounds::default();
    loop {
        tokio::select! {
            Some(_) = renewed.next() => show(&identity).await?,
            () = tokio::time::sleep(Duration::from_millis(250)) => {
                let was_ready = std::mem::replace(&mut is_ready, identity.ready().await?);
                if was_ready && !is_ready {
                    println!("has no certificate any more");
                }
                if is_ready {
                    rounds.sign(&identity).await;
                }
            }
        }
    }
}

fn said(error: Option<zbus::Error>) -> String {
    error.map_or_else(|| "it was signed".to_owned(), |error| error.to_string())
}

/// Shows what it was given, and what it is refused.
async fn show(identity: &IdentityProxy<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let chain = identity.certificate().await?;
    let leaf = chain.first().ok_or("an empty chain")?;
    let point = certified_key(leaf)?.uncompressed();
    println!(
        "has {} certificates of grade {} until {}, below {} roots",
        chain.len(),
        identity.grade().await?,
        identity.until().await?,
        identity.anchors().await?.len()
    );
    for role in ["client", "server"] {
        let signature = identity.sign_tls13(role, &[7; 32]).await?;
        // RFC 8446, 4.4.3.
        let context = format!("{}TLS 1.3, {role} CertificateVerify\0", " ".repeat(64));
        let content = [context.as_bytes(), &[7; 32]].concat();
        let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        let verified = verified.verify(&content, &signature).is_ok();
        println!(
            "signs as {role}, which {} by its certificate",
            if verified { "verifies" } else { "fails" }
        );
    }
    for length in OTHER_LENGTHS {
        let refused = identity.sign_tls13("client", &vec![1; length]).await;
        println!("asks to sign {length} bytes: {}", said(refused.err()));
    }
    let refused = identity.sign_tls13("TLS 1.3, client", &[1; 32]).await;
    println!("asks to sign in another role: {}", said(refused.err()));
    Ok(())
}

/// How long signatures take.
#[derive(Debug, Default)]
struct Rounds {
    signed: u32,
    failed: u32,
    longest: Duration,
}

impl Rounds {
    async fn sign(&mut self, identity: &IdentityProxy<'_>) {
        let began = Instant::now();
        match identity.sign_tls13("server", &[3; 32]).await {
            Ok(_) => self.signed = self.signed.saturating_add(1),
            Err(_) => self.failed = self.failed.saturating_add(1),
        }
        self.longest = self.longest.max(began.elapsed());
        if self.signed.saturating_add(self.failed) >= A_ROUND {
            let Self { signed, failed, longest } = std::mem::take(self);
            println!(
                "signed {signed} times, {failed} failed, the longest took {} ms",
                longest.as_millis()
            );
        }
    }
}
