//! Roles of people: given to a person or a group of a provider, in a catalog, a product or a group.

use super::asking::{self, Asked, alone};
use super::caller::{Caller, Change, done, extent, shown};
use super::page::Page;
use super::people_shapes::{ApprovalShape, NewRole, RoleShape};
use super::shapes::{Done, Listed, ProblemShape};
use crate::refusal::Refusal;
use crate::secret;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_domain::approval::Kind;
use holdfast_service_domain::extent::{Extent, Grant};
use holdfast_service_domain::person::PersonId;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::{Need, Role};
use holdfast_service_domain::sign_in_settings::Holder;
use holdfast_service_store::approval::PendingRow;
use holdfast_service_store::person::{self, RoleGrant};
use holdfast_service_store::{Scope, StoreError};
use holdfast_types::hex::hex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Random bytes of a role's id.
const ID_BYTES: usize = 6;

/// What waits of a role that is given: with the issuer, so that a provider of another issuer that takes the name later changes nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    issuer: String,
    role: NewRole,
}

fn shape(given: RoleGrant) -> RoleShape {
    let (subject, claimed_group) = match given.holder {
        Holder::Subject(subject) => (Some(subject), None),
        Holder::Group(group) => (None, Some(group)),
    };
    RoleShape {
        id: given.id,
        issuer: given.issuer,
        subject,
        claimed_group,
        role: given.grant.role,
        product: given.grant.extent.product().map(str::to_owned),
        group: given.grant.extent.group().map(str::to_owned),
        granted_by: given.granted_by,
        granted_at: given.granted_at,
    }
}

/// Lists roles.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/roles", params(("catalog" = String, Path), Page),
    security(("token" = [])),
    responses((status = 200, body = Listed<RoleShape>), (status = 403, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::Own).await?;
    let rows = service.store.role_grants(scope, &page.after, page.most()).await?;
    let listed = Listed::new(rows, page.most(), |row: &RoleGrant| row.id.clone());
    let listed = listed.retain(|row| caller.0.may(Need::Own, &row.grant.extent));
    let items = listed.items.into_iter().map(shape).collect();
    shown(&Listed { items, next: listed.next })
}

fn described(new: &NewRole, holder: &Holder, extent: &Extent) -> String {
    let (role, provider) = (new.role.word(), &new.provider);
    format!("{role} of {extent} to {} {:?} of {provider}", holder.kind(), holder.text())
}

/// Gives a role to a person or a group of a provider. Whoever gives it owns what it is for; the role `owner` needs a second person.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/roles", params(("catalog" = String, Path)),
    request_body = NewRole, security(("token" = [])),
    responses((status = 200, body = RoleShape), (status = 202, body = ApprovalShape),
        (status = 403, body = ProblemShape)))]
pub(super) async fn give(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Own).await?;
    let new: NewRole = change.json()?;
    let at = Extent::of(scope.catalog(), new.product.clone(), new.group.clone());
    let at = at.map_err(|error| Refusal::malformed(error.to_string()))?;
    change.caller.must(scope, Need::Own, at.product(), at.group())?;
    let provider = service.sign_in.providers();
    let provider = provider.iter().find(|provider| provider.name() == new.provider);
    let provider = provider.ok_or_else(|| {
        Refusal::malformed(
            "provider: is the name of no provider of the service's settings".to_owned(),
        )
    })?;
    let holder = Holder::of(new.subject.clone(), new.claimed_group.clone());
    let holder =
        holder.map_err(|rule| Refusal::malformed(format!("subject, claimed_group: {rule}")))?;
    let (issuer, object) = (provider.issuer().to_owned(), described(&new, &holder, &at));
    let id = format!("r{}", hex(&secret::random::<ID_BYTES>()?));
    if new.role == Role::Owner {
        let kind = Kind::OwnerGrant;
        if asking::waits(&service, &change.caller, scope, kind, &at).await? {
            let waiting = Waiting { issuer, role: new };
            let request = serde_json::to_string(&waiting);
            let request = request.map_err(|error| Refusal::malformed(error.to_string()))?;
            let asked = Asked { kind, object, extent: at, request, seen: String::new() };
            return asking::ask(&service, scope, change, asked, None).await;
        }
    }
    let now = service.now();
    let given = RoleGrant {
        id,
        issuer,
        holder,
        grant: Grant { role: new.role, extent: at },
        granted_by: change.caller.0.by.name.clone(),
        granted_at: now,
    };
    let object = if new.role == Role::Owner { alone(&object) } else { object };
    let work = change.make(&service, scope, "role.grant", &object, move |connection, scope| {
        Box::pin(async move {
            person::give(connection, scope, given.clone()).await?;
            Ok(done(&shape(given)))
        })
    });
    work.await
}

/// Returns the role of a change that was approved. Its id follows from the change, which is approved once.
pub(super) fn given_of(row: &PendingRow, scope: Scope) -> Result<RoleGrant, StoreError> {
    let damaged = || StoreError::Damaged("request");
    let waiting: Waiting = serde_json::from_str(&row.request).map_err(|_| damaged())?;
    let Waiting { issuer, role } = waiting;
    let holder = Holder::of(role.subject, role.claimed_group).map_err(|_| damaged())?;
    let at = extent(scope, role.product.as_deref(), role.group.as_deref());
    Ok(RoleGrant {
        id: format!("r-{}", row.number),
        issuer,
        holder,
        grant: Grant { role: role.role, extent: at },
        granted_by: row.pending.requested_by.name.clone(),
        granted_at: row.requested_at,
    })
}

/// Takes a role away. The role `owner` needs a second person, unless it is the caller's own; the last owner stays.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/roles/{role}/revoke",
    params(("catalog" = String, Path), ("role" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 202, body = ApprovalShape),
        (status = 404, body = ProblemShape), (status = 409, body = ProblemShape)))]
pub(super) async fn revoke(
    State(service): Shared,
    Path((catalog, id)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Own).await?;
    let row = service.store.role_grant(scope, &id).await?;
    if !change.caller.0.may(Need::Own, &row.grant.extent) {
        return Err(Problem::Forbidden.into());
    }
    let is_own = match &row.holder {
        Holder::Subject(subject) => {
            PersonId::of_subject(&row.issuer, subject) == change.caller.0.by.person
        }
        Holder::Group(_) => false,
    };
    let role = row.grant.role;
    let holder = format!("{} {:?} of {}", row.holder.kind(), row.holder.text(), row.issuer);
    let mut object = format!("{id}: {} of {} from {holder}", role.word(), row.grant.extent);
    if role == Role::Owner && !is_own {
        let (kind, at) = (Kind::OwnerRevocation, row.grant.extent.clone());
        if asking::waits(&service, &change.caller, scope, kind, &at).await? {
            let request = serde_json::json!({ "role": id }).to_string();
            let asked = Asked { kind, object, extent: at, request, seen: id };
            return asking::ask(&service, scope, change, asked, None).await;
        }
        object = alone(&object);
    }
    let (standing, now) = (service.sign_in.standing.clone(), service.now());
    let work =
        change.carry_out(&service, scope, "role.revoke", &object, move |connection, scope| {
            Box::pin(async move { person::take_away(connection, scope, &id, &standing, now).await })
        });
    work.await
}
