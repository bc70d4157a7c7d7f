//! Where alerts go, and how their deliveries went.

use crate::ask::{Ask, Query};
use crate::failure::Failure;
use crate::page::Page;
use crate::rows::{Delivery, Listed, Webhook};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    webhooks: Listed<Webhook>,
    deliveries: Listed<Delivery>,
}

/// A sink, with its webhook where it is one.
struct Sink<'a> {
    name: String,
    webhook: Option<&'a Webhook>,
    delivery: &'a Delivery,
    status: (&'static str, &'static str),
}

#[derive(Template)]
#[template(path = "alerts.html")]
struct Body<'a> {
    viewer: &'a Viewer,
    sinks: Vec<Sink<'a>>,
}

/// Returns how a sink stands: its mood and a word.
fn status(delivery: &Delivery) -> (&'static str, &'static str) {
    let failed_last = delivery.failed_at > delivery.delivered_at;
    if delivery.failures > 0 {
        ("bad", "failing")
    } else if failed_last {
        ("warn", "failed last")
    } else if delivery.delivered_at.is_some() {
        ("good", "delivers")
    } else {
        ("off", "nothing yet")
    }
}

fn sink<'a>(webhooks: &'a [Webhook], delivery: &'a Delivery) -> Sink<'a> {
    let Delivery { kind, name, .. } = delivery;
    let webhook = webhooks.iter().find(|webhook| Some(&webhook.name) == name.as_ref());
    let name = match (kind.as_str(), name) {
        (_, Some(name)) => name.clone(),
        ("otlp", None) => "OpenTelemetry".to_owned(),
        (kind, None) => kind.to_owned(),
    };
    Sink { name, webhook, delivery, status: status(delivery) }
}

/// Lists where alerts go.
pub(crate) async fn alerts(ask: &Ask, viewer: &Viewer) -> Result<Page, Failure> {
    let none = Query::default();
    let document = Document {
        webhooks: ask.get("/webhooks", &none).await?,
        deliveries: ask.get("/deliveries", &none).await?,
    };
    let webhooks = &document.webhooks.items;
    let sinks = document.deliveries.items.iter().map(|delivery| sink(webhooks, delivery)).collect();
    let body = Body { viewer, sinks };
    Ok(Page::new("Alerts", &document, &body)?.that_refreshes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_fails_now_is_worse_than_one_that_failed_last() {
        let of = |failures, delivered_at, failed_at| Delivery {
            kind: "webhook".to_owned(),
            name: None,
            delivered: 1,
            given_up: 0,
            dropped: 0,
            failures,
            next_at: None,
            delivered_at,
            failed_at,
            failure: None,
        };
        let words = [
            of(0, None, None),
            of(0, Some(2), Some(1)),
            of(0, Some(1), Some(2)),
            of(3, Some(2), Some(3)),
        ];
        assert_eq!(
            words.map(|one| status(&one).1),
            ["nothing yet", "delivers", "failed last", "failing"]
        );
    }
}
