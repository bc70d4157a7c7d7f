//! An app that must not be interrupted: it has a reboot for an update wait until its work is done.
//!
//! Its argument says how many seconds its work takes.

use std::time::Duration;
use tokio::time::sleep;
use zbus::connection::Builder;
use zbus::export::ordered_stream::OrderedStreamExt;

/// Minutes for which it asks: more than it needs, since it says when it is done.
const MINUTES: u32 = 30;

/// What the update agent offers: docs/org.holdfast.Update1.xml.
#[zbus::proxy(interface = "org.holdfast.Update1", default_path = "/org/holdfast/Update1")]
trait Update {
    fn defer(&self, minutes: u32) -> zbus::Result<u32>;
    fn resume(&self) -> zbus::Result<()>;

    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;

    #[zbus(signal)]
    fn reboot_waits(&self, component: &str, version: &str, minutes: u32) -> zbus::Result<()>;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> zbus::Result<()> {
    let work = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok());
    let work = Duration::from_secs(work.unwrap_or(20));
    let address = std::env::var("HOLDFAST_UPDATE").unwrap_or_default();
    let connection = Builder::address(address.as_str()).p2p().build().await?;
    // Nobody sits between the two, so there is no name to ask for.
    let update = UpdateProxy::builder(&connection).destination("org.holdfast").build().await?;
    let mut waits = update.receive_reboot_waits().await?;
    println!("updates are {}", update.state().await?);
    // One may have waited before it listened.
    if update.state().await? == "waiting" {
        have_it_wait(&update, work).await?;
    }
    while let Some(signal) = waits.next().await {
        let what = signal.args()?;
        println!(
            "version {} of {} waits for a reboot, for at most {} minutes",
            what.version, what.component, what.minutes
        );
        have_it_wait(&update, work).await?;
    }
    Ok(())
}

async fn have_it_wait(update: &UpdateProxy<'_>, work: Duration) -> zbus::Result<()> {
    println!("the reboot waits for {} minutes", update.defer(MINUTES).await?);
    sleep(work).await;
    println!("the work is done");
    update.resume().await
}
