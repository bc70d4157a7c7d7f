//! How a catalog comes to be: its authority is made, read by another verifier, and kept, before anybody can name it.

use crate::issuers::IssuersError;
use crate::refusal::Refusal;
use crate::secret;
use crate::service::Service;
use holdfast_evidence::messages::CatalogId;
use holdfast_service_domain::grade::Grades;
use holdfast_service_domain::name;
use holdfast_service_domain::problem::Problem;
use holdfast_service_issuing::authority::{is_root_of, make_issuing_by, make_root_by};
use holdfast_service_issuing::lint;
use holdfast_service_issuing::validity::Terms;
use holdfast_service_store::audit::Entry;
use holdfast_service_store::authority::{self, Authority, AuthorityKind};
use holdfast_service_store::catalog::Catalog;
use holdfast_types::chain;
use holdfast_types::event::security_service::AUTHORITY_FAILED;

/// Makes a catalog with its root and first issuing certificate, and returns its id.
///
/// # Errors
/// The name is none or taken, or the authority cannot be made or kept.
pub async fn make(
    service: &Service,
    name: &str,
    grades: Grades,
    who: &str,
    digest: [u8; 32],
) -> Result<CatalogId, Refusal> {
    let id = CatalogId(secret::random()?);
    make_with_id(service, id, name, grades, who, digest).await?;
    Ok(id)
}

/// Makes a catalog as [`make`] does, of an id that images or apps name already.
///
/// # Errors
/// As [`make`], and the id is taken.
pub async fn make_with_id(
    service: &Service,
    id: CatalogId,
    name: &str,
    grades: Grades,
    who: &str,
    digest: [u8; 32],
) -> Result<(), Refusal> {
    check_name(name)?;
    let now = service.now();
    let authorities = authorities(service, &id, now).map_err(|error| {
        eprintln!("catalog {id}: cannot make its authority: {} {AUTHORITY_FAILED}", chain(&error));
        Refusal::from(Problem::Internal)
    })?;
    keep(service, id, name, grades, (who, digest), authorities).await
}

/// Makes a catalog whose root is kept elsewhere, by its certificate (DER). It issues once an issuing certificate was installed.
///
/// # Errors
/// As [`make_with_id`], and the certificate is not that of the catalog's root.
pub async fn make_of_root(
    service: &Service,
    id: CatalogId,
    name: &str,
    grades: Grades,
    who: &str,
    certificate: Vec<u8>,
) -> Result<(), Refusal> {
    check_name(name)?;
    let terms = Terms::of(&certificate).filter(|_| is_root_of(&id, &certificate));
    let Terms { serial, not_before, not_after, .. } = terms.ok_or_else(|| {
        let detail = format!("root: is not the certificate of the root of the catalog {id}");
        Refusal::new(Problem::Malformed, detail)
    })?;
    let kind = AuthorityKind::Root;
    let root = Authority { serial, kind, certificate, wrapped_key: None, not_before, not_after };
    keep(service, id, name, grades, (who, [0; 32]), vec![root]).await
}

fn check_name(name: &str) -> Result<(), Refusal> {
    name::check(name).map_err(|rule| Refusal::new(Problem::Malformed, format!("name: {rule}")))
}

/// Keeps a catalog with its authority.
async fn keep(
    service: &Service,
    id: CatalogId,
    name: &str,
    grades: Grades,
    (who, digest): (&str, [u8; 32]),
    authorities: Vec<Authority>,
) -> Result<(), Refusal> {
    let now = service.now();
    let catalog = Catalog { id, name: name.to_owned(), grades, created_at: now, revision: 0 };
    let (object, verb) = (id.to_string(), "catalog.create");
    let entry = Entry { who: who.to_owned(), verb, object, digest, at: now };
    let made = service.store.make_catalog(catalog, entry, move |connection, scope| {
        Box::pin(async move {
            for row in authorities {
                authority::add(connection, scope, row).await?;
            }
            Ok(())
        })
    });
    made.await?;
    Ok(())
}

/// Makes root and issuing certificate, of a key that the service has made where it keeps such.
fn authorities(
    service: &Service,
    id: &CatalogId,
    now: u64,
) -> Result<Vec<Authority>, IssuersError> {
    let key = service.issuers.roots().make(id).map_err(IssuersError::Root)?;
    let root = make_root_by(id, &key, now)?;
    let issuing = make_issuing_by(id, &key, now)?;
    let row = service.issuers.row(id, &issuing)?;
    lint::check(id, &service.issuers.open(id, &row)?, &root.certificate, now)?;
    let root = Authority {
        serial: root.serial,
        kind: AuthorityKind::Root,
        certificate: root.certificate,
        wrapped_key: None,
        not_before: root.not_before,
        not_after: root.not_after,
    };
    Ok(vec![root, row])
}
