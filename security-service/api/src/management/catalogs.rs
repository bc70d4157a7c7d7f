//! Catalogs, products, groups, and the catalog's own certificates.

use super::asking::{self, Asked};
use super::caller::{Caller, Change, extent, shown, shown_at};
use super::page::Page;
use super::shapes::{
    AuthorityShape, CatalogChange, CatalogShape, Done, GroupShape, IfMatch, Listed, NewCatalog,
    ProblemShape, UpdateMode,
};
use crate::catalogs;
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_domain::approval::Kind;
use holdfast_service_domain::grade::{Grade, Grades};
use holdfast_service_domain::name;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_issuing::pem::pem;
use holdfast_service_store::Scope;
use holdfast_service_store::authority::Authority;
use holdfast_service_store::catalog::{self, Catalog, Group};
use holdfast_service_store::precondition::{self, Precondition, Seen, Subject};
use holdfast_types::escaped_chain;
use holdfast_types::event::security_service::ISSUING_RENEWAL_FAILED;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

fn shape(catalog: Catalog) -> CatalogShape {
    CatalogShape {
        id: catalog.id.to_string(),
        name: catalog.name,
        grades: catalog.grades.list(),
        created_at: catalog.created_at,
    }
}

/// Checks the name of a field.
pub(super) fn named(field: &str, name: &str) -> Result<(), Refusal> {
    name::check(name).map_err(|rule| Refusal::new(Problem::Malformed, format!("{field}: {rule}")))
}

/// Lists the catalogs that the token may see.
#[utoipa::path(get, path = "/v1/catalogs", params(Page), security(("token" = [])),
    responses((status = 200, body = Listed<CatalogShape>), (status = 401, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    page: Page,
) -> Result<Response, Refusal> {
    if !caller.0.may_somewhere(Need::See) {
        return Err(Problem::Forbidden.into());
    }
    let rows = service.store.catalogs(&caller.0, &page.after, page.most()).await?;
    let items = rows.into_iter().map(shape).collect();
    shown(&Listed::new(items, page.most(), |item: &CatalogShape| item.id.clone()))
}

/// Makes a catalog with an authority of its own. Needs a token of the whole service.
#[utoipa::path(post, path = "/v1/catalogs", request_body = NewCatalog, security(("token" = [])),
    responses((status = 200, body = CatalogShape), (status = 409, body = ProblemShape)))]
pub(super) async fn make(State(service): Shared, change: Change) -> Result<Response, Refusal> {
    change.caller.of_service(Need::Own)?;
    let new: NewCatalog = change.json()?;
    let grades = new.grades.map_or(Grades::OF_NEW_CATALOGS, |grades| Grades::of(&grades));
    let who = change.caller.0.by.name.clone();
    let id = catalogs::make(&service, &new.name, grades, &who, change.digest()).await?;
    let created_at = service.now();
    shown_at(&shape(Catalog { id, name: new.name, grades, created_at, revision: 0 }), 0)
}

/// Shows a catalog.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = CatalogShape), (status = 404, body = ProblemShape)))]
pub(super) async fn show(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let catalog = service.store.catalog(scope).await?;
    let revision = catalog.revision;
    shown_at(&shape(catalog), revision)
}

/// Changes the grades that a catalog takes. With `If-Match`, only if it is what was seen.
#[utoipa::path(patch, path = "/v1/catalogs/{catalog}", params(("catalog" = String, Path), IfMatch),
    request_body = CatalogChange, security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape),
        (status = 412, body = ProblemShape)))]
pub(super) async fn change(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Own).await?;
    let new: CatalogChange = change.json()?;
    let seen = change.precondition(Subject::Catalog);
    let work =
        change.carry_out(&service, scope, "catalog.change", &catalog, move |connection, scope| {
            Box::pin(async move {
                precondition::hold(connection, scope, seen.as_ref()).await?;
                catalog::set_grades(connection, scope, Grades::of(&new.grades)).await
            })
        });
    work.await
}

/// Lists products.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/products",
    params(("catalog" = String, Path), Page), security(("token" = [])),
    responses((status = 200, body = Listed<String>), (status = 404, body = ProblemShape)))]
pub(super) async fn products(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let names = service.store.products(scope, &page.after, page.most()).await?;
    let listed = Listed::new(names, page.most(), String::clone);
    // Whoever has a role for a group sees the product that it is of.
    let sees = |product: &String| {
        let of_product = extent(scope, Some(product), None);
        caller.may(scope, Need::See, Some(product), None)
            || caller
                .0
                .grants
                .iter()
                .any(|grant| grant.role.may(Need::See) && of_product.contains(&grant.extent))
    };
    shown(&listed.retain(sees))
}

/// Makes a product. One that is there stays as it is.
#[utoipa::path(put, path = "/v1/catalogs/{catalog}/products/{product}",
    params(("catalog" = String, Path), ("product" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = ProblemShape)))]
pub(super) async fn put_product(
    State(service): Shared,
    Path((catalog, product)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Operate).await?;
    change.caller.must(scope, Need::Operate, Some(&product), None)?;
    named("product", &product)?;
    let (now, object) = (service.now(), product.clone());
    let work =
        change.carry_out(&service, scope, "product.put", &object, move |connection, scope| {
            Box::pin(async move { catalog::put_product(connection, scope, product, now).await })
        });
    work.await
}

/// Lists the groups of a product.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/products/{product}/groups",
    params(("catalog" = String, Path), ("product" = String, Path), Page), security(("token" = [])),
    responses((status = 200, body = Listed<GroupShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn groups(
    State(service): Shared,
    caller: Caller,
    Path((catalog, product)): Path<(String, String)>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let rows = service.store.groups(scope, &product, &page.after, page.most()).await?;
    let items = rows.into_iter().map(shape_of_group).collect();
    let listed = Listed::new(items, page.most(), |item: &GroupShape| item.name.clone());
    let sees = |item: &GroupShape| caller.may(scope, Need::See, Some(&product), Some(&item.name));
    shown(&listed.retain(sees))
}

fn shape_of_group(group: Group) -> GroupShape {
    let grades = group.grades.map(Grades::list);
    let (reports, production) = (group.reports, group.is_production);
    let update = group.is_update_on.map(UpdateMode::of);
    let (name, least_index) = (group.name, group.least_index);
    GroupShape { name, least_index, grades, reports, production, update, feed: group.feed }
}

/// Shows a group.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/products/{product}/groups/{group}",
    params(("catalog" = String, Path), ("product" = String, Path), ("group" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = GroupShape), (status = 404, body = ProblemShape)))]
pub(super) async fn show_group(
    State(service): Shared,
    caller: Caller,
    Path((catalog, product, group)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    caller.must(scope, Need::See, Some(&product), Some(&group))?;
    let group = service.store.group(scope, &product, &group).await?;
    let group = group.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    let revision = group.revision;
    shown_at(&shape_of_group(group), revision)
}

/// Makes a group, or changes what it takes. With `If-Match`, only if it is what was seen.
#[utoipa::path(put, path = "/v1/catalogs/{catalog}/products/{product}/groups/{group}",
    params(("catalog" = String, Path), ("product" = String, Path), ("group" = String, Path), IfMatch),
    request_body = GroupShape, security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape),
        (status = 412, body = ProblemShape)))]
pub(super) async fn put_group(
    State(service): Shared,
    Path((catalog, product, group)): Path<(String, String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Operate).await?;
    change.caller.must(scope, Need::Operate, Some(&product), Some(&group))?;
    named("group", &group)?;
    let new: GroupShape = change.json()?;
    let now = service.now();
    let mut object = format!("{product}/{group}");
    let subject = Subject::Group { product: product.clone(), group: group.clone() };
    let mut seen = change.precondition(subject.clone());
    let before = service.store.group(scope, &product, &group).await?;
    if let Some((before, kind)) = before.as_ref().and_then(|of| Some((of, needs_second(of, &new)?)))
    {
        let at = extent(scope, Some(&product), Some(&group));
        if kind == Kind::ProductionMark {
            // Otherwise who may draft and approve could take the mark away, do both, and put it back.
            change.caller.must(scope, Need::Own, Some(&product), Some(&group))?;
        }
        if asking::waits(&service, &change.caller, scope, kind, &at).await? {
            let request = serde_json::to_string(&new);
            let request =
                request.map_err(|error| Refusal::new(Problem::Internal, error.to_string()))?;
            let seen_now = before.revision.to_string();
            let asked = Asked { kind, object, extent: at, request, seen: seen_now };
            return asking::ask(&service, scope, change, asked, seen).await;
        }
        object = asking::alone(&object);
        let revisions = Seen::Revisions(vec![before.revision]);
        seen = seen.or(Some(Precondition { subject, seen: revisions }));
    }
    let row = group_row(product, group, new);
    let work = change.carry_out(&service, scope, "group.put", &object, move |connection, scope| {
        Box::pin(async move {
            precondition::hold(connection, scope, seen.as_ref()).await?;
            catalog::put_group(connection, scope, row, now).await
        })
    });
    work.await
}

/// Returns what a change of a group is that needs a second person; nothing where it needs none.
fn needs_second(before: &Group, new: &GroupShape) -> Option<Kind> {
    if before.is_production != Some(true) {
        return None;
    }
    if new.production == Some(false) {
        return Some(Kind::ProductionMark);
    }
    if new.least_index != before.least_index {
        return Some(Kind::LeastIndex);
    }
    (new.feed.is_some() && new.feed != before.feed).then_some(Kind::Feed)
}

/// Returns the row of a group that is written.
pub(super) fn group_row(product: String, name: String, new: GroupShape) -> Group {
    let GroupShape {
        least_index, grades, reports, production: is_production, update, feed, ..
    } = new;
    let is_update_on = update.map(|mode| mode == UpdateMode::On);
    let grades = grades.map(|grades: Vec<Grade>| Grades::of(&grades));
    Group {
        product,
        name,
        least_index,
        grades,
        reports,
        is_production,
        is_update_on,
        feed,
        revision: 0,
    }
}

/// Makes the next issuing certificate of a catalog, which nobody has kept yet.
pub(super) async fn next_authority(service: &Service, scope: Scope) -> Result<Authority, Refusal> {
    let made = service.issuers.prepare(&service.store, scope, service.now()).await;
    let made = made.map_err(|error| {
        let cause = escaped_chain(&error);
        eprintln!("catalog {}: {cause} {ISSUING_RENEWAL_FAILED}", scope.catalog());
        Refusal::new(
            Problem::Internal,
            "the issuing certificate cannot be made; the service's log says why",
        )
    })?;
    made.ok_or_else(|| {
        let detail = "the key of the catalog's root is kept elsewhere: run `holdfast-service renew` where it is";
        Refusal::new(Problem::Conflict, detail)
    })
}

/// Lists the certificates of the catalog's authority, those that end last first.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/ca-certificates",
    params(("catalog" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Listed<AuthorityShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn authorities(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let rows = service.store.authorities(scope).await?;
    let items = rows.into_iter().map(|row| AuthorityShape {
        serial: row.serial,
        kind: row.kind.word().to_owned(),
        pem: pem("CERTIFICATE", &row.certificate),
        not_before: row.not_before,
        not_after: row.not_after,
    });
    shown(&Listed { items: items.collect(), next: None })
}
