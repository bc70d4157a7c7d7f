//! Tokens, and how the first owner gets one: there is no default account.

use super::caller::{Caller, Change, shown};
use super::catalogs::named;
use super::shapes::{Done, Listed, MadeToken, NewToken, ProblemShape, TokenShape};
use crate::refusal::Refusal;
use crate::secret::{self, Secret};
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_domain::disk::Write;
use holdfast_service_domain::extent::Extent;
use holdfast_service_domain::person::PersonId;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::{Need, Role};
use holdfast_service_store::token::{self, Token};
use holdfast_types::event::security_service::FIRST_OWNER_MADE;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Seconds of a day.
const DAY_S: u64 = 24 * 60 * 60;
/// Most days until a token ends.
const MAX_DAYS: u32 = 90;

/// Takes the ticket of the first owner, which is good once, and makes a token of the whole service.
#[utoipa::path(post, path = "/v1/first-owner/{ticket}", params(("ticket" = String, Path)),
    responses((status = 200, body = MadeToken), (status = 404, body = ProblemShape)))]
pub(super) async fn first_owner(
    State(service): Shared,
    Path(ticket): Path<String>,
) -> Result<Response, Refusal> {
    service.admit(Write::Other)?;
    let secret = Secret::make("hft")?;
    let created_at = service.now();
    let ends_at = created_at.saturating_add(u64::from(MAX_DAYS).saturating_mul(DAY_S));
    let (hash, name, role) = (secret.hash(), "first-owner".to_owned(), Role::Owner);
    let (person, extent) = (PersonId::named(&name), Extent::Service);
    let token = Token { hash, name, person, role, extent, created_at, ends_at };
    if !service.store.take_ticket(secret::hash(&ticket), token).await? {
        return Err(Problem::NotFound.into());
    }
    eprintln!("the first owner has a token {FIRST_OWNER_MADE}");
    shown(&MadeToken { token: secret.text().to_owned(), ends_at })
}

/// Lists tokens, without their secrets.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/tokens", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = Listed<TokenShape>), (status = 403, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::Own).await?;
    let rows = service.store.tokens(scope).await?.into_iter();
    let rows = rows.filter(|row| caller.0.may(Need::Own, &row.extent));
    let items = rows.map(|row| TokenShape {
        name: row.name,
        person: row.person.to_string(),
        role: row.role,
        product: row.extent.product().map(str::to_owned),
        group: row.extent.group().map(str::to_owned),
        created_at: row.created_at,
        ends_at: row.ends_at,
    });
    shown(&Listed { items: items.collect(), next: None })
}

/// Makes a token of the catalog. Its secret is told once, so an idempotency key has no effect here.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/tokens", params(("catalog" = String, Path)),
    request_body = NewToken, security(("token" = [])),
    responses((status = 200, body = MadeToken), (status = 403, body = ProblemShape)))]
pub(super) async fn make(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Own).await?;
    let new: NewToken = change.json()?;
    let extent = Extent::of(scope.catalog(), new.product, new.group);
    let extent = extent.map_err(|error| Refusal::new(Problem::Malformed, error.to_string()))?;
    change.caller.must(scope, Need::Own, extent.product(), extent.group())?;
    named("name", &new.name)?;
    let person = match &new.person {
        None => change.caller.0.by.person.clone(),
        Some(_) if !service.sign_in.providers().is_empty() => {
            let rule = "person: people sign in here; give them a role with `role grant`";
            return Err(Refusal::new(Problem::Malformed, rule));
        }
        Some(name) => {
            named("person", name)?;
            PersonId::named(name)
        }
    };
    if !(1..=MAX_DAYS).contains(&new.days) {
        return Err(Refusal::new(Problem::Malformed, "days: must be 1 to 90"));
    }
    let secret = Secret::make("hft")?;
    let created_at = service.now();
    let ends_at = created_at.saturating_add(u64::from(new.days).saturating_mul(DAY_S));
    let entry = change.entry("token.create", &new.name, created_at);
    let (name, role, hash) = (new.name, new.role, secret.hash());
    let token = Token { hash, name, person, role, extent, created_at, ends_at };
    service.store.add_token(scope, token, entry).await?;
    let made = MadeToken { token: secret.text().to_owned(), ends_at };
    shown(&made)
}

/// Ends the tokens of a name.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/tokens/{name}/remove",
    params(("catalog" = String, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn remove(
    State(service): Shared,
    Path((catalog, name)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Own).await?;
    let tokens = service.store.tokens(scope).await?;
    let mut named = tokens.iter().filter(|token| token.name == name);
    if named.any(|token| !change.caller.0.may(Need::Own, &token.extent)) {
        return Err(Problem::Forbidden.into());
    }
    let (standing, now) = (service.sign_in.standing.clone(), service.now());
    let object = name.clone();
    let work =
        change.carry_out(&service, scope, "token.remove", &object, move |connection, scope| {
            Box::pin(async move { token::remove(connection, scope, name, &standing, now).await })
        });
    work.await
}
