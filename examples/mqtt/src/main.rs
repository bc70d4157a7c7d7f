//! An app that publishes readings to an MQTT broker and takes commands from it, with its certificate in place of a password.
//!
//! Its manifest grants the broker by name (`AllowedConnections`) and asks for a certificate (`DeviceAuthentication`). Who may
//! vouch for the broker stands in `root/ca.pem`; whom the broker takes, and which device it is, the broker decides by the
//! certificate. When that is renewed the app connects anew, and when it is lost the app is gone: no connection outlives its certificate.

use embedded_io_adapters::tokio_1::FromTokio;
use holdfast_sdk_identity::{Credentials, Identity};
use rust_mqtt::Bytes;
use rust_mqtt::buffer::AllocBuffer;
use rust_mqtt::client::Client;
use rust_mqtt::client::event::Event;
use rust_mqtt::client::options::{
    ConnectOptions, DisconnectOptions, PublicationOptions, SubscriptionOptions, TopicReference,
};
use rust_mqtt::config::KeepAlive;
use rust_mqtt::types::{MqttString, TopicFilter, TopicName};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::error::Error;
use std::fmt::Debug;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Who may vouch for the broker.
const AUTHORITIES: &str = "/app/ca.pem";
/// For the connection, and for the broker's answer to anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(10);
/// Seconds without a packet after which the broker takes the app for gone: longer than between two readings.
const KEEP_ALIVE: KeepAlive = KeepAlive::Seconds(NonZero::<u16>::MIN.saturating_add(29));

/// One subscription, one command and one reading under way at a time, and no more properties than MQTT needs.
type Mqtt<'a> = Client<'a, 'a, FromTokio<TlsStream<TcpStream>>, AllocBuffer, 1, 1, 1, 0, 0, 0, 0>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().ok_or("CmdArgs must name the broker")?;
    let port: u16 = arguments.next().ok_or("CmdArgs must name the broker's port")?.parse()?;
    let identity = Identity::connect()?;
    let tls = TlsConnector::from(Arc::new(identity.client_for(authorities()?)?));
    loop {
        let credentials = identity.certificate().await;
        let own = credentials.own();
        println!("this is device {} with release {}", own.device, own.release.version);
        match talk(&identity, &credentials, &tls, &host, port).await {
            Ok(()) => println!("the certificate is not the newest any more"),
            // Such as: no network yet, a broker that nobody vouches for, a certificate that it does not take.
            Err(error) => {
                println!("{host}: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

fn authorities() -> Result<RootCertStore, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(AUTHORITIES)? {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// Connects, and talks to the broker until the certificate is renewed or lost.
async fn talk(
    identity: &Identity,
    credentials: &Credentials,
    tls: &TlsConnector,
    host: &str,
    port: u16,
) -> Result<(), Box<dyn Error>> {
    let device = credentials.own().device.as_str();
    let (readings, commands) = (format!("readings/{device}"), format!("commands/{device}"));
    let name = ServerName::try_from(host.to_owned())?;
    let stream = timeout(PATIENCE, TcpStream::connect((host, port))).await??;
    let stream = timeout(PATIENCE, tls.connect(name, stream)).await??;
    let mut buffer = AllocBuffer;
    let mut mqtt = Mqtt::new(&mut buffer);
    let options = ConnectOptions::new().clean_start().keep_alive(KEEP_ALIVE);
    let connected = mqtt.connect(FromTokio::new(stream), &options, Some(text(device)?));
    timeout(PATIENCE, connected).await?.map_err(failed("cannot connect"))?;
    let filter = TopicFilter::new(text(&commands)?).ok_or("no filter")?;
    let subscription = SubscriptionOptions::new().at_least_once();
    mqtt.subscribe(filter, &subscription).await.map_err(failed("cannot subscribe"))?;
    println!("connected to {host}");
    let topic = TopicName::new(text(&readings)?).ok_or("no topic")?;
    let publication = PublicationOptions::new(TopicReference::Name(topic)).at_least_once();
    let mut times = interval(EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut reading, mut acknowledged) = (0u32, 0u32);
    loop {
        tokio::select! {
            _ = times.tick() => {
                if acknowledged < reading {
                    return Err("the broker does not acknowledge readings".into());
                }
                reading = reading.wrapping_add(1);
                let payload = reading.to_string();
                let sent = mqtt.publish(&publication, Bytes::from(payload.as_bytes()));
                timeout(PATIENCE, sent).await?.map_err(failed("cannot publish"))?;
            }
            header = mqtt.poll_header() => {
                let header = header.map_err(failed("cannot receive"))?;
                let event = timeout(PATIENCE, mqtt.poll_body(header)).await?;
                match event.map_err(failed("cannot receive"))? {
                    Event::Suback(answer) if answer.reason_code.is_erroneous() => {
                        return Err(format!("no subscription: {:?}", answer.reason_code).into());
                    }
                    Event::PublishAcknowledged(_) => {
                        acknowledged = reading;
                        println!("reading {reading} is published");
                    }
                    Event::Publish(command) => {
                        let command = String::from_utf8_lossy(command.message.as_bytes());
                        println!("command: {}", command.escape_default());
                    }
                    _ => {}
                }
            }
            () = identity.outdated(credentials) => {
                let gone = mqtt.disconnect(&DisconnectOptions::new());
                timeout(PATIENCE, gone).await?.map_err(failed("cannot disconnect"))?;
                return Ok(());
            }
        }
    }
}

fn text(text: &str) -> Result<MqttString<'_>, Box<dyn Error>> {
    MqttString::from_str(text).map_err(|error| format!("{text}: {error:?}").into())
}

fn failed<E: Debug>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error:?}")
}
