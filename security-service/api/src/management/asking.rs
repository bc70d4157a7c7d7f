//! How a change that needs two people is asked for: it waits where somebody else could approve it.

use super::caller::{Caller, Change, done};
use super::people_shapes::ApprovalShape;
use crate::refusal::Refusal;
use crate::service::Service;
use axum::http::StatusCode;
use axum::response::Response;
use holdfast_service_domain::approval::{self, KEPT_S, Kind, digest};
use holdfast_service_domain::extent::Extent;
use holdfast_service_store::Scope;
use holdfast_service_store::approval::{self as stored, Ask, PendingRow};
use holdfast_service_store::change::Answer;
use holdfast_service_store::precondition::{self, Precondition};
use holdfast_types::hex::hex;

/// What is asked for, where it may need a second person.
#[derive(Debug)]
pub(super) struct Asked {
    /// What it is.
    pub(super) kind: Kind,
    /// To what it is done.
    pub(super) object: String,
    /// Where the second person needs the right to approve it.
    pub(super) extent: Extent,
    /// The request, JSON.
    pub(super) request: String,
    /// What the object is now.
    pub(super) seen: String,
}

/// Returns a change as it is shown.
pub(super) fn shape(row: PendingRow, now: u64) -> ApprovalShape {
    let state = row.pending.state_at(now);
    let (decided_by, decided_at) = row.decided.unzip();
    ApprovalShape {
        approval: row.number,
        kind: row.pending.kind.word().to_owned(),
        object: row.object,
        request: serde_json::from_str(&row.request).unwrap_or_default(),
        digest: hex(&row.digest),
        state: state.word().to_owned(),
        requested_by: row.pending.requested_by.name,
        requested_at: row.requested_at,
        ends_at: row.pending.ends_at,
        decided_by,
        decided_at,
    }
}

/// True if a change has to wait for a second person: where there is another who could approve it.
pub(super) async fn waits(
    service: &Service,
    caller: &Caller,
    scope: Scope,
    kind: Kind,
    extent: &Extent,
) -> Result<bool, Refusal> {
    let (standing, now) = (&service.sign_in.standing, service.now());
    let who = service.store.persons_who_may(scope, kind.need(), extent, standing, now).await?;
    Ok(approval::waits(&caller.0.by.person, &who))
}

/// Has a change wait for its second person, and says so by 202. `seen` is what the caller demands of the object.
pub(super) async fn ask(
    service: &Service,
    scope: Scope,
    change: Change,
    asked: Asked,
    seen: Option<Precondition>,
) -> Result<Response, Refusal> {
    let (by, now) = (change.caller.0.by.clone(), service.now());
    let object = format!("{} {}", asked.kind.word(), asked.object);
    let asked = Ask {
        digest: digest(asked.kind, &asked.object, &asked.request),
        kind: asked.kind,
        object: asked.object,
        extent: asked.extent,
        request: asked.request,
        seen: asked.seen,
        by,
        at: now,
        ends_at: now.saturating_add(KEPT_S),
    };
    let work = change.make(service, scope, "approval.ask", &object, move |connection, scope| {
        Box::pin(async move {
            precondition::hold(connection, scope, seen.as_ref()).await?;
            let row = stored::ask(connection, scope, asked).await?;
            Ok(Answer { status: StatusCode::ACCEPTED.as_u16(), ..done(&shape(row, now)) })
        })
    });
    work.await
}

/// Returns what the audit log says of the object of a change that nobody else could approve.
pub(super) fn alone(object: &str) -> String {
    format!("{object}, alone: nobody else could approve it")
}
