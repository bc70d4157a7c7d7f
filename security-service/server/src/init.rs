//! Makes a new folder: settings, keys, database, a catalog with its authority, and the ticket of the first owner.

use crate::error::{ServerError, file};
use crate::folder;
use crate::run;
use crate::settings::{self, Settings};
use holdfast_evidence::messages::CatalogId;
use holdfast_service_api::catalogs;
use holdfast_service_api::secret::Secret;
use holdfast_service_api::service::{Clock, Service};
use holdfast_service_domain::grade::Grades;
use holdfast_service_issuing::authority::make_service_root;
use holdfast_service_issuing::pem::pem;
use holdfast_service_issuing::wrapping::KeyEncryptionKey;
use holdfast_service_store::authority::AuthorityKind;
use std::path::Path;
use std::sync::Arc;

/// Seconds for which the ticket of the first owner is good.
const TICKET_S: u64 = 24 * 60 * 60;

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// Id of the catalog.
    pub catalog: CatalogId,
    /// The ticket of the first owner.
    pub ticket: Secret,
}

/// Makes a folder that is not there yet, with a catalog of this name.
///
/// # Errors
/// It is there, or something cannot be made. What was made is left, so that it can be looked at.
pub async fn init(
    folder: &Path,
    settings: &Settings,
    catalog: &str,
    grades: Grades,
    clock: Clock,
) -> Result<Made, ServerError> {
    init_with_id(folder, settings, (catalog, None), grades, clock).await
}

/// Makes a folder as [`init`] does, with a catalog of this name whose id images or apps name already, where one is given.
///
/// # Errors
/// As [`init`].
pub async fn init_with_id(
    folder: &Path,
    settings: &Settings,
    (catalog, id): (&str, Option<CatalogId>),
    grades: Grades,
    clock: Clock,
) -> Result<Made, ServerError> {
    let service = make_folder(folder, settings, clock).await?;
    let (who, digest) = ("service", [0; 32]);
    let made = match id {
        Some(id) => {
            let made = catalogs::make_with_id(&service, id, catalog, grades, who, digest).await;
            made.map(|()| id)
        }
        None => catalogs::make(&service, catalog, grades, who, digest).await,
    };
    let id = made.map_err(|refusal| ServerError::Catalog(refusal.to_string()))?;
    finish(&service, folder, id).await
}

/// Makes a folder as [`init`] does, with a catalog of this name and id whose root is kept elsewhere, by its certificate (DER). It
/// issues nothing before an issuing certificate was installed.
///
/// # Errors
/// As [`init`], and the certificate is not that of the catalog's root.
pub async fn init_of_root(
    folder: &Path,
    settings: &Settings,
    (catalog, id): (&str, CatalogId),
    root: Vec<u8>,
    grades: Grades,
    clock: Clock,
) -> Result<Made, ServerError> {
    let service = make_folder(folder, settings, clock).await?;
    let made = catalogs::make_of_root(&service, id, catalog, grades, "service", root).await;
    made.map_err(|refusal| ServerError::Catalog(refusal.to_string()))?;
    finish(&service, folder, id).await
}

/// Makes a folder with everything but a catalog, and opens it.
async fn make_folder(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
) -> Result<Arc<Service>, ServerError> {
    if folder.exists() {
        return Err(ServerError::There(folder.to_owned()));
    }
    let now = clock();
    folder::make_directory(folder)?;
    folder::make_directory(&folder.join(&settings.keys.roots))?;
    let write = |path: &Path, text: &str| {
        let path = folder.join(path);
        folder::write_secret(&path, text).map_err(file("write", path))
    };
    write(Path::new(settings::FILE), &settings.to_text()?)?;
    write(&settings.keys.key_encryption_key, &KeyEncryptionKey::make()?.to_text())?;
    if let Some(root_key) = &settings.tls.root_key {
        let root = make_service_root(now)?;
        write(root_key, &pem("PRIVATE KEY", root.key.serialized_der()))?;
        let certificate = pem("CERTIFICATE", &root.certificate);
        write(Path::new("authorities.pem"), &certificate)?;
    }
    run::open(folder, settings, clock).await
}

/// Writes the root's certificate of a catalog that was made, and makes the ticket of the first owner.
async fn finish(service: &Service, folder: &Path, id: CatalogId) -> Result<Made, ServerError> {
    write_root(service, folder, id).await?;
    let ticket = first_owner(service).await?;
    service.store.clone().close().await;
    Ok(Made { catalog: id, ticket })
}

/// Writes the certificate of a catalog's root, which goes into images.
async fn write_root(service: &Service, folder: &Path, id: CatalogId) -> Result<(), ServerError> {
    let scope = service.store.scope_of_device(id).await?;
    let scope = scope.ok_or_else(|| ServerError::NoCatalog(id.to_string()))?;
    let rows = service.store.authorities(scope).await?;
    for root in rows.iter().filter(|row| row.kind == AuthorityKind::Root) {
        let path = folder.join(format!("catalog-{id}.pem"));
        let text = pem("CERTIFICATE", &root.certificate);
        folder::write_secret(&path, &text).map_err(file("write", path))?;
    }
    Ok(())
}

/// Makes a ticket of the first owner, in place of an earlier one.
///
/// # Errors
/// Somebody has a token already.
pub async fn first_owner(service: &Service) -> Result<Secret, ServerError> {
    let ticket = Secret::make("first").map_err(|_| ServerError::Random)?;
    let ends_at = service.now().saturating_add(TICKET_S);
    if service.store.put_ticket(ticket.hash(), ends_at).await? {
        Ok(ticket)
    } else {
        Err(ServerError::Owned)
    }
}
