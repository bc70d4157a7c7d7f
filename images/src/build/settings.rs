//! The settings of a service are files beside its program, made from the image manifest.

use super::error::BuildError;
use super::inputs::{Inputs, UpdateInputs};
use crate::FieldError;
use crate::manifest::{ImageManifest, UpdateSource};
use crate::service::Service;
use holdfast_evidence::config as identity_config;
use holdfast_evidence::config::{IdentityConfig, ServiceConfig};
use holdfast_networking::config;
use holdfast_release as release;
use holdfast_release::client::{Client, Trusted};
use holdfast_release::config as update_config;
use holdfast_release::config::{UpdateConfig, UplinkConfig, Window};
use holdfast_sandbox::component::ComponentListError;
use holdfast_types::chain;

/// Returns the settings of a service that the image manifest has: names of files beside its program, and their
/// contents.
pub(super) fn settings(
    inputs: &Inputs<'_>,
    service: &Service,
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let manifest = inputs.manifest;
    match (service.name.as_str(), &manifest.network, &manifest.update, &inputs.update) {
        ("network", Some(network), ..) => {
            let config = network.config().map_err(|(field, reason)| FieldError {
                path: manifest.path.clone(),
                field: format!("network.{field}"),
                reason: reason.to_owned(),
            })?;
            let encoded = config.encode().map_err(ComponentListError::from)?;
            Ok(vec![(config::FILE_NAME.to_owned(), encoded)])
        }
        ("uplink", ..) => uplink_settings(inputs),
        ("identity", ..) => identity_settings(inputs),
        ("update", _, Some(source), Some(update)) => update_settings(manifest, source, update),
        _ => Ok(Vec::new()),
    }
}

/// Returns the settings of what has the connections: to the servers of releases, and to the service.
fn uplink_settings(inputs: &Inputs<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let manifest = inputs.manifest;
    let mut files = Vec::new();
    if let (Some(source), Some(update)) = (&manifest.update, &inputs.update) {
        let servers = source.repositories().map(|(of, from)| (of, from.url.clone())).collect();
        let config = UplinkConfig {
            servers,
            authorities: update.authorities.clone(),
            bytes_a_day: u64::from(source.mib_a_day).saturating_mul(1024 * 1024),
        };
        let encoded = config.encode().map_err(ComponentListError::from)?;
        files.push((update_config::UPLINK_FILE.to_owned(), encoded));
    }
    if let (Some(source), Some(service)) = (&manifest.service, &inputs.service) {
        let (host, port) = source.server().map_err(|error| in_service(manifest, error))?;
        let authorities = service.authorities.clone();
        let config =
            ServiceConfig { host: host.to_string(), port, authorities, reports: source.reports };
        let encoded = config.encode().map_err(ComponentListError::from)?;
        files.push((identity_config::SERVICE_FILE.to_owned(), encoded));
    }
    Ok(files)
}

/// Returns the settings of what has the device's keys.
fn identity_settings(inputs: &Inputs<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let manifest = inputs.manifest;
    let (Some(source), Some(service)) = (&manifest.service, &inputs.service) else {
        return Ok(Vec::new());
    };
    let config = IdentityConfig {
        catalog: source.catalog_id().map_err(|error| in_service(manifest, error))?,
        catalog_root: service.catalog_root.clone(),
        // A device begins with its first owner.
        epoch: 0,
    };
    let encoded = config.encode().map_err(ComponentListError::from)?;
    Ok(vec![(identity_config::IDENTITY_FILE.to_owned(), encoded)])
}

/// The error of a field of `[service]`.
fn in_service(manifest: &ImageManifest, (field, reason): (String, &'static str)) -> FieldError {
    let path = manifest.path.clone();
    FieldError { path, field: format!("service.{field}"), reason: reason.to_owned() }
}

/// Returns the settings of the update agent.
fn update_settings(
    manifest: &ImageManifest,
    source: &UpdateSource,
    update: &UpdateInputs,
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let config = UpdateConfig {
        device: release::Device {
            product: manifest.product.clone(),
            board: manifest.board.clone(),
            os: manifest.version_number(),
        },
        repositories: source.repositories().map(|(of, _)| of).collect(),
        check_every_s: source.check_every_s,
        retry_after_s: source.retry_after_s,
        window: source.window.as_deref().and_then(Window::parse),
        most_bytes_a_release: source.kib_a_release.map(|kib| u64::from(kib).saturating_mul(1024)),
        feeds: source.feeds.clone(),
    };
    let encoded = config.encode().map_err(ComponentListError::from)?;
    let mut files = vec![(update_config::UPDATE_FILE.to_owned(), encoded)];
    files.extend(roots(manifest, update)?);
    Ok(files)
}

/// Returns the root metadata of each repository, with which a device begins.
fn roots(
    manifest: &ImageManifest,
    update: &UpdateInputs,
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let mut files = Vec::new();
    for (repository, bytes) in &update.roots {
        Client::begin(bytes, Trusted::default(), 0).map_err(|error| FieldError {
            path: manifest.path.clone(),
            field: format!("update.{repository}.root"),
            reason: format!("no device can begin with it: {}", chain(&error)),
        })?;
        files.push((update_config::root_file(*repository), bytes.clone()));
    }
    Ok(files)
}
