//! What was found about devices, until somebody closes it.

use crate::ask::{Ask, Query};
use crate::failure::Failure;
use crate::mood;
use crate::page::{Given, Page, Paging, ROWS};
use crate::place::Place;
use crate::rows::{Finding, Listed};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    findings: Listed<Finding>,
}

#[derive(Template)]
#[template(path = "findings.html")]
struct Body<'a> {
    viewer: &'a Viewer,
    document: &'a Document,
    with_closed: bool,
    paging: Paging,
}

/// Lists findings about devices: open ones, or all.
pub(crate) async fn findings(ask: &Ask, viewer: &Viewer, given: &Given) -> Result<Page, Failure> {
    let (state, after) = (given.of_query("state")?, given.of_query("after")?);
    let query = Query::default().with("state", state);
    let asked = query.clone().with("after", after).with("limit", ROWS);
    let document = Document { findings: ask.get("/findings", &asked).await? };
    let path = viewer.to(Place::Findings);
    let paging = Paging::new(&path, &query, after, document.findings.next.as_ref());
    let body = Body { viewer, document: &document, with_closed: state == "closed", paging };
    Page::new("Device findings", &document, &body)
}

/// Returns what a kind of finding means, in a sentence.
fn meaning(kind: &str) -> &'static str {
    match kind {
        "measurement-unknown" => "It has measured what is no release.",
        "claims-disagree" => "What it says and what it has measured do not agree.",
        "receipt-forked" => "Two of it have checked in, or its state was put back.",
        "tpm-clock-went-back" => "Its TPM's clock showed less than before.",
        "key-changed" => "It came with another key than it was enrolled with.",
        "release-withdrawn" => "It ran a release that was withdrawn.",
        "below-least-index" => "It ran a release below the least index of its group.",
        "debug-build" => "It ran an image with a debug port.",
        "slot-failed" => "A slot of it failed to start.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_service_domain::device::Finding as Kind;

    #[test]
    fn every_kind_has_a_meaning() {
        for kind in [
            Kind::MeasurementUnknown,
            Kind::ClaimsDisagree,
            Kind::ReceiptForked,
            Kind::TpmClockWentBack,
            Kind::KeyChanged,
            Kind::ReleaseWithdrawn,
            Kind::BelowLeastIndex,
            Kind::DebugBuild,
            Kind::SlotFailed,
        ] {
            assert!(!meaning(kind.word()).is_empty(), "{kind:?}");
        }
    }
}
