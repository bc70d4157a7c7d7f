//! Deployments between check-ins: devices fall silent, new crashes are counted, and stages whose time is over end.

use holdfast_service_api::Service;
use holdfast_service_store::StoreError;
use holdfast_types::escaped_chain;
use holdfast_types::event::security_service::DEPLOYMENTS_FAILED;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Time from one round to the next.
const EVERY: Duration = Duration::from_secs(60);

/// Tends to them until it is told to end. Several instances may: each step is made under the lock of its deployment, and once.
pub(crate) async fn tend(service: Arc<Service>, mut end: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let done = tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            done = round(&service) => done,
        };
        if let Err(error) = done {
            let cause = escaped_chain(&error);
            eprintln!("deployments cannot go on: {cause} {DEPLOYMENTS_FAILED}");
        }
    }
}

async fn round(service: &Service) -> Result<(), StoreError> {
    for scope in service.store.scopes().await? {
        service.store.tend_deployments(scope, service.now()).await?;
    }
    Ok(())
}
