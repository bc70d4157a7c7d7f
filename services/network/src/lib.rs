//! The network service: interfaces and their leases, the firewall, apps' veth pairs and their names.
//!
//! The service is one process that waits on its sockets and deadlines; `holdfast_networking` decides what to do. The
//! service may change the network and nothing else: it sees no files but its own, makes no process, and gets from
//! init a netlink socket for each app's namespace.
//!
//! The firewall is there before any device is switched on. When the service ends, the kernel goes on
//! with what was granted last, and names run out.

mod denied_packets;
mod init;
mod interface;
mod interfaces;
mod log;
mod names;
mod reports;
mod time;
mod veth;

use crate::denied_packets::DeniedPackets;
use crate::init::Init;
use crate::interfaces::Interfaces;
use crate::log::log;
use crate::names::Names;
use crate::reports::Reports;
use crate::time::Time;
use crate::veth::VethError;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::init_socket::{InitError, notify_ready};
use holdfast_linux::netlink::{NetlinkError, NetlinkSocket};
use holdfast_linux::poll::Poll;
use holdfast_linux::{PathError, capabilities, channel, file};
use holdfast_networking::config::{self, Addressing, NetworkConfig};
use holdfast_networking::firewall;
use holdfast_networking::status::{NetworkStatus, Traffic};
use holdfast_networking::{netfilter, route};
use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::policy::APP_DIRECTORY;
use holdfast_types::chain;
use holdfast_types::encoding::EncodingError;
use holdfast_types::event::network::{
    FIREWALL_INSTALLED, NETWORK_CONNECTED, NETWORK_DISCONNECTED, NETWORK_SERVICE_FAILED,
};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

/// Longest wait before the service checks its deadlines again, in milliseconds.
const LOOK_EVERY_MS: u64 = 60_000;

/// Time after the start at which traffic is first logged, in milliseconds.
const FIRST_COUNT_MS: u64 = 10_000;

/// Error that ends the service; init starts it again.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    File(#[from] PathError),
    #[error("cannot decode the configuration")]
    Config(#[source] EncodingError),
    #[error("cannot encode the status")]
    Status(#[from] EncodingError),
    #[error("no configuration: the image holds none for this service")]
    NoConfig,
    #[error("cannot {operation}")]
    Kernel { operation: &'static str, source: io::Error },
    #[error("cannot {operation}")]
    Netlink { operation: &'static str, source: NetlinkError },
    #[error("cannot set up the veth pair of {app}")]
    Veth { app: String, source: VethError },
}

fn kernel(operation: &'static str) -> impl FnOnce(io::Error) -> ServiceError {
    move |source| ServiceError::Kernel { operation, source }
}

fn netlink(operation: &'static str) -> impl FnOnce(NetlinkError) -> ServiceError {
    move |source| ServiceError::Netlink { operation, source }
}

/// Runs the service until it ends.
#[must_use]
pub fn run() -> ExitCode {
    let Err(error) = serve_forever();
    log(NETWORK_SERVICE_FAILED, format!("service failed: {}", chain(&error)));
    ExitCode::FAILURE
}

fn serve_forever() -> Result<std::convert::Infallible, ServiceError> {
    capabilities::keep_to_this_program()
        .map_err(kernel("empty the inheritable and ambient capability sets"))?;
    let mut init = Init::from_environment()?;
    let config = read_config()?;
    let networked = init.veths()?;
    let apps: Vec<NetworkedApp> = networked.iter().map(|(app, _)| app.clone()).collect();
    let mut firewall =
        NetlinkSocket::netfilter().map_err(kernel("open a netlink socket to the firewall"))?;
    install_firewall(&mut firewall, &config, &apps)?;
    let mut reports = Reports::default();
    let denied = DeniedPackets::listen().map_err(netlink("subscribe to denied packets"))?;
    let mut routes =
        NetlinkSocket::route(0).map_err(kernel("open a netlink socket to the devices"))?;
    let changes = NetlinkSocket::route(route::GROUPS)
        .map_err(kernel("subscribe to changes of the devices"))?;
    veth::remove_all(&mut routes).map_err(netlink("remove old veth pairs"))?;
    let mut names = Names::new();
    for (app, socket) in networked {
        let name = app.name.clone();
        let failed = |source| ServiceError::Veth { app: name, source };
        veth::set_up(&app, socket, &mut routes).map_err(failed)?;
        if app.grants.uses_names() {
            names.serve(&app).map_err(kernel("open the socket of a name proxy"))?;
        }
    }
    let mut time = Time::new(config.time_servers.clone());
    let mut interfaces = Interfaces::new(config, firewall);
    interfaces.find(&mut routes).map_err(netlink("list the devices"))?;
    log(FIREWALL_INSTALLED, format!("firewall installed for {} apps", apps.len()));
    notify_ready().map_err(kernel("notify init of readiness"))?;
    let (mut connected, mut count_at) = (false, monotonic_ms().saturating_add(FIRST_COUNT_MS));
    loop {
        let now = monotonic_ms();
        interfaces.on_time(&mut routes, now);
        names.on_time(&apps, &mut interfaces, &mut reports, now);
        if interfaces.is_connected() != connected {
            connected = !connected;
            if connected {
                log(NETWORK_CONNECTED, "connected");
            } else {
                let why = "no interface is up with an address that reaches beyond its link";
                log(NETWORK_DISCONNECTED, format!("not connected: {why}"));
            }
        }
        time.on_time(&mut init, &interfaces, &mut names, now)?;
        for asking in init.asking()? {
            let status = NetworkStatus {
                interfaces: interfaces.status(),
                name_servers: interfaces.name_servers(now).iter().map(SocketAddr::ip).collect(),
                time_servers: time.servers(),
                apps: traffic(&apps, &mut routes)?.map(|(app, t)| reports.status(app, t)).collect(),
            };
            // Whoever has gone away is told nothing.
            let _ = channel::send(&asking, &status.encode()?);
        }
        if now >= count_at {
            count_at = now.saturating_add(LOOK_EVERY_MS);
            traffic(&apps, &mut routes)?.for_each(|(app, t)| reports.count(now, app, t));
        }
        let deadlines = [interfaces.deadline(), names.deadline(), time.deadline(), Some(count_at)];
        let deadline = deadlines.into_iter().flatten().min();
        let wait = deadline.map_or(LOOK_EVERY_MS, |at| at.saturating_sub(now)).min(LOOK_EVERY_MS);
        let mut poll = Poll::new();
        poll.add(&changes);
        poll.add(denied.socket());
        interfaces.add_to(&mut poll);
        names.add_to(&mut poll);
        time.add_to(&mut poll);
        init.add_to(&mut poll);
        poll.wait(wait).map_err(kernel("wait for events"))?;

        let mut events = Vec::new();
        let whole = changes
            .hear(&mut |message| events.extend(route::read(message)))
            .map_err(kernel("receive changes of the devices"))?;
        let now = monotonic_ms();
        for event in events {
            interfaces.on_event(&mut routes, event, now);
        }
        if !whole {
            // More changed than fitted: look at everything anew.
            interfaces.find(&mut routes).map_err(netlink("list the devices"))?;
        }
        interfaces.receive(&mut routes, now);
        names.receive(&apps, &mut interfaces, &mut reports, now);
        denied
            .report(&apps, &names, &mut reports, now)
            .map_err(kernel("receive denied packets"))?;
    }
}

/// Returns the traffic of each app.
fn traffic<'app>(
    apps: &'app [NetworkedApp],
    routes: &mut NetlinkSocket,
) -> Result<impl Iterator<Item = (&'app NetworkedApp, Traffic)>, ServiceError> {
    let traffic = veth::traffic(routes).map_err(netlink("read the traffic counters"))?;
    Ok(apps.iter().map(move |app| (app, traffic.get(&app.uid).copied().unwrap_or_default())))
}

fn read_config() -> Result<NetworkConfig, ServiceError> {
    let path = Path::new(APP_DIRECTORY).join(config::FILE_NAME);
    let bytes = file::read_bounded(&path, config::MAX_ENCODED_BYTES)?;
    NetworkConfig::decode(&bytes.ok_or(ServiceError::NoConfig)?).map_err(ServiceError::Config)
}

fn install_firewall(
    firewall: &mut NetlinkSocket,
    config: &NetworkConfig,
    apps: &[NetworkedApp],
) -> Result<(), ServiceError> {
    let deaf: Vec<String> = config
        .interfaces
        .iter()
        .filter(|interface| interface.ipv6 != Addressing::Automatic)
        .map(|interface| interface.name.clone())
        .collect();
    let uid = rustix::process::getuid().as_raw();
    let ruleset = firewall::ruleset(apps, uid, &deaf);
    firewall.request(netfilter::install(&ruleset)).map_err(netlink("install the firewall"))
}
