//! Delivers alerts: those of each catalog to each of its sinks, in order of their numbers, each at least once.
//!
//! A sink has one attempt at a time, in a task of its own, so one that hangs or fails delays no other. What is delivered is written
//! before the next is tried: after a restart the one alert comes twice whose answer was lost.

use holdfast_evidence::messages::CatalogId;
use holdfast_service_alerts::SinkError;
use holdfast_service_alerts::message::Message;
use holdfast_service_alerts::otlp::Logs;
use holdfast_service_alerts::sinks::Sinks;
use holdfast_service_api::Service;
use holdfast_service_api::counts::Delivery;
use holdfast_service_api::secret::{self, NoRandom};
use holdfast_service_api::webhooks::{self, WebhookError};
use holdfast_service_domain::detection::alert::retry_s;
use holdfast_service_store::StoreError;
use holdfast_service_store::alert_delivery::{Alert, Lease, Settled, Sink, SinkKind};
use holdfast_types::escaped_chain;
use holdfast_types::event::security_service::{
    ALERT_DELIVERY_FAILED, ALERT_GIVEN_UP, ALERTS_DROPPED, ALERTS_STORE_FAILED,
};
use holdfast_types::hex::hex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Pause between two looks for what is due.
const EVERY: Duration = Duration::from_secs(5);
/// Seconds for which a sink is held: longer than an attempt takes, clocks of replicas that differ included.
const LEASE_S: u64 = 120;
/// Seconds after which an alert is not delivered any more.
pub const MAX_AGE_S: u64 = 24 * 60 * 60;
/// Alerts that are sent to a sink before others that wait get its place.
const MOST_AT_ONCE: usize = 64;
/// Attempts of each kind of sink at once: a catalog has at most 16 webhooks, so no few of them fill the first.
const PLACES: [usize; 3] = [256, 16, 16];

/// Why nothing is known to be delivered.
#[derive(Debug, Error)]
enum DeliveryError {
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// There are no random numbers.
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// Why an attempt has failed.
#[derive(Debug, Error)]
enum AttemptError {
    /// The webhook has not taken it.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// Another sink has not taken it.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The sink is not there any more.
    #[error("the sink is not there any more")]
    Gone,
}

impl AttemptError {
    fn sink(&self) -> Option<&SinkError> {
        match self {
            Self::Webhook(WebhookError::Sink(error)) | Self::Sink(error) => Some(error),
            _ => None,
        }
    }
}

/// What delivers.
#[derive(Debug)]
pub struct Deliveries {
    service: Arc<Service>,
    sinks: Sinks,
    places: [Arc<Semaphore>; 3],
    is_ending: AtomicBool,
}

/// Whether a sink has more to get.
enum Next {
    /// It may have; this is the lease for it.
    Go(Lease),
    /// Not now.
    Rest(Lease),
    /// Another holds it, or it is not there any more.
    Gone,
}

impl Deliveries {
    /// Makes it.
    #[must_use]
    pub fn new(service: Arc<Service>, sinks: Sinks) -> Arc<Self> {
        let places = PLACES.map(|places| Arc::new(Semaphore::new(places)));
        Arc::new(Self { service, sinks, places, is_ending: AtomicBool::new(false) })
    }

    /// Begins to deliver to each sink for which something is due and there is a place.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_due(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Result<(), StoreError> {
        for (kind, places) in SinkKind::ALL.into_iter().zip(&self.places) {
            let is_set = match kind {
                SinkKind::Webhook => true,
                SinkKind::Mail => self.sinks.mail.is_some(),
                SinkKind::Otlp => self.sinks.collector.is_some(),
            };
            if !is_set {
                continue;
            }
            let store = &self.service.store;
            if kind != SinkKind::Webhook {
                store.add_installation_sink(kind).await?;
            }
            let free = u32::try_from(places.available_permits()).unwrap_or(u32::MAX);
            for sink in store.due_sinks(kind, self.service.now(), free).await? {
                let Ok(place) = places.clone().try_acquire_owned() else { break };
                let this = self.clone();
                tasks.spawn(async move {
                    let _place = place;
                    if let Err(error) = this.deliver_to(sink).await {
                        let cause = escaped_chain(&error);
                        eprintln!("cannot deliver alerts: {cause} {ALERTS_STORE_FAILED}");
                    }
                });
            }
        }
        Ok(())
    }

    /// Delivers what is due, and returns when each attempt has ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn deliver_due(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut tasks = JoinSet::new();
        let begun = self.begin_due(&mut tasks).await;
        while tasks.join_next().await.is_some() {}
        begun
    }

    async fn deliver_to(&self, sink: Sink) -> Result<(), DeliveryError> {
        let holder = hex(&secret::random::<16>()?);
        let (store, now) = (&self.service.store, self.service.now());
        let Some(mut lease) = store.take_lease(sink, holder, now, LEASE_S).await? else {
            return Ok(());
        };
        for _ in 0..MOST_AT_ONCE {
            if self.is_ending.load(Ordering::Relaxed) {
                break;
            }
            lease = match self.next(lease).await? {
                Next::Go(lease) => lease,
                Next::Rest(lease) => return Ok(store.end_delivery_lease(lease).await?),
                Next::Gone => return Ok(()),
            };
        }
        Ok(store.end_delivery_lease(lease).await?)
    }

    /// Delivers the next alert, or drops those that are too old.
    async fn next(&self, lease: Lease) -> Result<Next, DeliveryError> {
        let (store, counts) = (&self.service.store, &self.service.counts);
        let (scope, kind, now) = (lease.sink.scope, lease.sink.kind, self.service.now());
        let catalog = scope.catalog();
        let label = label(&lease.sink);
        let since = now.saturating_sub(MAX_AGE_S);
        if let Some((until, alerts)) = store.old_alerts(scope, lease.number, since).await? {
            eprintln!(
                "catalog {catalog}: {label}: {alerts} alerts up to {until} are older than a day, and dropped {ALERTS_DROPPED}"
            );
            counts.delivered(kind, Delivery::Dropped, alerts);
            let settled = Settled::Dropped { until, alerts };
            let lease = store.settle(lease, settled, now, LEASE_S).await?;
            return Ok(lease.map_or(Next::Gone, Next::Go));
        }
        let Some(alert) = store.alert_after(scope, lease.number).await? else {
            return Ok(Next::Rest(lease));
        };
        let error = match self.attempt(&lease.sink, &alert).await {
            Ok(()) => {
                counts.delivered(kind, Delivery::Delivered, 1);
                let now = self.service.now();
                let settled = Settled::Delivered { number: alert.number };
                let lease = store.settle(lease, settled, now, LEASE_S).await?;
                return Ok(lease.map_or(Next::Gone, Next::Go));
            }
            Err(AttemptError::Gone) => return Ok(Next::Gone),
            Err(error) => error,
        };
        let number = alert.number;
        let (settled, now) = (self.failed(&lease, number, &error), self.service.now());
        let failure = escaped_chain(&error);
        let is_given_up = matches!(settled, Settled::GivenUp { .. });
        if is_given_up {
            eprintln!(
                "catalog {catalog}: {label}: alert {number} is given up: {failure} {ALERT_GIVEN_UP}"
            );
            counts.delivered(kind, Delivery::GivenUp, 1);
        } else {
            eprintln!(
                "catalog {catalog}: {label}: cannot deliver alert {number}: {failure} {ALERT_DELIVERY_FAILED}"
            );
            counts.delivered(kind, Delivery::Failed, 1);
        }
        let lease = store.settle(lease, settled, now, LEASE_S).await?;
        let next = if is_given_up { Next::Go } else { Next::Rest };
        Ok(lease.map_or(Next::Gone, next))
    }

    /// Decides when an alert is tried again that has failed once more.
    fn failed(&self, lease: &Lease, number: u64, error: &AttemptError) -> Settled {
        let failure = escaped_chain(error);
        let failures = usize::try_from(lease.failures).unwrap_or(usize::MAX).saturating_add(1);
        let sink = error.sink();
        match retry_s(failures).filter(|_| !sink.is_some_and(SinkError::is_final)) {
            Some(seconds) => {
                let asked = sink.and_then(SinkError::retry_after_s).unwrap_or(0);
                let next_at = self.service.now().saturating_add(seconds.max(asked));
                Settled::Failed { next_at, failure }
            }
            None => Settled::GivenUp { number, failure },
        }
    }

    async fn attempt(&self, sink: &Sink, alert: &Alert) -> Result<(), AttemptError> {
        let id = alert_id(&sink.scope.catalog(), alert.number);
        match sink.kind {
            SinkKind::Webhook => {
                let webhook = self.service.store.webhook(sink.scope, &sink.name).await;
                // Where it cannot be read, it is not there for now: the row of the delivery stays as it is.
                let webhook = webhook.ok().flatten().ok_or(AttemptError::Gone)?;
                let (service, scope) = (&self.service, sink.scope);
                webhooks::send(service, scope, &webhook, &id, &alert.body).await?;
            }
            SinkKind::Mail => {
                let mail = self.sinks.mail.as_ref().ok_or(AttemptError::Gone)?;
                mail.send(&id, &Message::read(&alert.body)?).await?;
            }
            SinkKind::Otlp => {
                let collector = self.sinks.collector.as_ref().ok_or(AttemptError::Gone)?;
                let message = Message::read(&alert.body)?;
                collector.send(&Logs::of_alert(&id, &message, self.service.now())).await?;
            }
        }
        Ok(())
    }
}

/// Returns what an alert is known by to receivers: catalog and number.
fn alert_id(catalog: &CatalogId, number: u64) -> String {
    format!("{catalog}.{number}")
}

fn label(sink: &Sink) -> String {
    match sink.kind {
        SinkKind::Webhook => format!("webhook {}", sink.name),
        kind => kind.word().to_owned(),
    }
}

/// Delivers until the service ends; attempts that are under way end first.
pub(crate) async fn deliver(deliveries: Arc<Deliveries>, mut end: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    loop {
        if let Err(error) = deliveries.begin_due(&mut tasks).await {
            let cause = escaped_chain(&error);
            eprintln!("cannot read which alerts are due: {cause} {ALERTS_STORE_FAILED}");
        }
        tokio::select! {
            _ = end.wait_for(|end| *end) => break,
            () = tokio::time::sleep(EVERY) => {}
        }
        while tasks.try_join_next().is_some() {}
    }
    deliveries.is_ending.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
}
