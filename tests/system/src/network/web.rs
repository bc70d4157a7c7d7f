//! HTTPS from an app to a server on this host, by way of QEMU's network in user space.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{BOOT, WAIT};
use crate::harness::packages::with_files_of;
use crate::harness::suite::{Suite, check};
use crate::network::world::usual_world;
use anyhow::{Context, Result};
use holdfast_qemu::machine::{Guest, Machine, Network};
use holdfast_qemu::peer::Answer;
use holdfast_qemu::relay::relay_command;
use holdfast_qemu::web_server::{Authority, WebAnswer, WebServer};
use holdfast_types::ComponentId;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The component id of examples/web-client.
const WEB_CLIENT: &str = "8f1b6a52-1c0e-4f35-9a57-5a0f3b0d8a03";
/// The host that its manifest grants.
const HOST: &str = "letsencrypt.org";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const PAGE: &str = "a page of exactly 31 characters";

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, an_app_fetches_a_page_over_https(artefacts));
    check!(suite, a_server_that_nobody_vouches_for_is_not_believed(artefacts));
    check!(suite, a_server_with_the_certificate_of_another_is_not_believed(artefacts));
}

fn an_app_fetches_a_page_over_https(artefacts: &Artefacts) -> Result<()> {
    let (_server, mut guest) = start(artefacts, HOST, true)?;
    guest.wait_anywhere("web-client: https://letsencrypt\\.org/: 200, 31 bytes", WAIT)?;
    Ok(())
}

fn a_server_that_nobody_vouches_for_is_not_believed(artefacts: &Artefacts) -> Result<()> {
    let (_server, mut guest) = start(artefacts, HOST, false)?;
    guest.wait_anywhere("cannot be fetched: .*invalid peer certificate: BadSignature", WAIT)?;
    Ok(())
}

fn a_server_with_the_certificate_of_another_is_not_believed(artefacts: &Artefacts) -> Result<()> {
    let (_server, mut guest) = start(artefacts, "www.example.com", true)?;
    guest.wait_anywhere("cannot be fetched: .*certificate not valid for name", WAIT)?;
    Ok(())
}

/// A guest whose app believes the authority that has vouched for the server, or one of the same name.
fn start(artefacts: &Artefacts, certified: &str, known: bool) -> Result<(WebServer, Guest)> {
    let authority = Authority::new()?;
    let believed =
        if known { authority.certificate.clone() } else { Authority::new()?.certificate };
    let id = ComponentId::parse(WEB_CLIENT).context("no component id")?;
    let image = artefacts.image("connected");
    let scratch = with_files_of(&image, id, |files| {
        files.add("ca.pem", believed.into_bytes(), false);
    })?;
    let server = WebServer::start(authority.certify(&[certified])?, 0, |request| {
        if request.path.is_empty() {
            WebAnswer::File(PAGE.as_bytes().to_vec())
        } else {
            WebAnswer::Status(404)
        }
    })?;
    // Names, and everything else of a network.
    let mut world = usual_world();
    world.names.push((HOST.to_owned(), Answer::of(&[&ADDRESS.to_string()])));
    let servers = vec![(SocketAddrV4::new(ADDRESS, 443), relay_command(server.port)?)];
    let networks = vec![Network::Servers { forwards: Vec::new(), servers }, Network::Peer(world)];
    let mut guest = Machine { networks, ..Machine::new(scratch.path(), 64) }.start(None)?;
    guest.wait_anywhere("eth0: leased 203\\.0\\.113\\.15/24", BOOT)?;
    guest.wait_anywhere("eth1: leased 10\\.77\\.0\\.50/24", BOOT)?;
    Ok((server, guest))
}
