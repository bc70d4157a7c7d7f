//! Examines an installation, and says what is wrong with it and what to do about it.

use crate::disk;
use crate::error::ServerError;
use crate::run;
use crate::settings;
use crate::tls;
use holdfast_service_alerts::connect::{Reach, connect, system_resolver};
use holdfast_service_alerts::https_url::{self, HttpsUrl};
use holdfast_service_alerts::sinks::Sinks;
use holdfast_service_alerts::trust::USUAL_AUTHORITIES;
use holdfast_service_api::Service;
use holdfast_service_api::service::Clock;
use holdfast_service_domain::disk::{Room, Space, room};
use holdfast_service_domain::settings::{BackupSettings, DiskSettings, Settings, Tls};
use holdfast_service_issuing::authority::next_is_due;
use holdfast_service_issuing::validity;
use holdfast_service_store::Scope;
use holdfast_service_store::authority::AuthorityKind;
use holdfast_service_store::blobs::Blobs;
use holdfast_service_store::catalog::Catalog;
use holdfast_service_store::migration::Tables;
use holdfast_service_store::scope::Actor;
use holdfast_types::chain;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::cmp::Ordering;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Catalogs that are read at once.
const PAGE: u32 = 100;

const HOUR_S: u64 = 60 * 60;
const DAY_S: u64 = 24 * HOUR_S;
/// Days before its end from which on a certificate of somebody else's is to be replaced.
const SOON_DAYS: u64 = 21;
/// Days before its end from which on a catalog's root is to be replaced: images that devices have need time to be.
const ROOT_SOON_DAYS: u64 = 365;
/// Seconds by which clocks may differ.
const CLOCK_S: u64 = 60;

/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be.
    Good(String),
    /// It will be a problem.
    Soon(String),
    /// It is one.
    Wrong(String),
}

/// Examines the installation of a folder. `reaches` asks for a connection to each receiver of alerts as well.
///
/// # Errors
/// The database fails while it is examined.
pub async fn examine(
    folder: &Path,
    clock: Clock,
    reaches: bool,
) -> Result<Vec<Finding>, ServerError> {
    let now = clock();
    let settings = match settings::load(folder) {
        Ok(settings) => settings,
        // What the settings do not know is an error of theirs, with its line.
        Err(error) => return Ok(vec![Finding::Wrong(chain(&error))]),
    };
    let mut findings = vec![Finding::Good("the settings can be read".to_owned())];
    findings.push(match tls::load(folder, &settings.tls, now) {
        Ok(_) => Finding::Good("the service has a certificate of its own".to_owned()),
        Err(error) => Finding::Wrong(format!("no certificate for the service: {}", chain(&error))),
    });
    findings.extend(certificate_end(folder, &settings.tls, now));
    findings.push(match Sinks::new(folder, &settings.alerts, system_resolver()) {
        Ok(sinks) if sinks.has_authorities => {
            Finding::Good("alerts can be delivered as the settings have it".to_owned())
        }
        Ok(_) => Finding::Soon(format!(
            "nobody vouches for receivers of alerts: {USUAL_AUTHORITIES} is missing; set alerts.authorities"
        )),
        Err(error) => Finding::Wrong(chain(&error)),
    });
    findings.push(of_disk(disk::of(folder)(), &settings.disk));
    findings.extend(settings.backup.as_ref().map(|backup| of_backups(folder, backup, now)));
    // What is examined is not changed: tables are made by `migrate` or `run`.
    let service = match run::open_as_it_is(folder, &settings, clock).await {
        Ok(service) => service,
        Err(error) => {
            findings.push(Finding::Wrong(format!("cannot open: {}", chain(&error))));
            return Ok(findings);
        }
    };
    findings.extend(of_database(&service, now).await?);
    findings.push(of_files("symbols", &service, &service.symbolizer.files).await);
    findings.push(of_files("files of releases", &service, &service.release_files).await);
    if reaches {
        findings.extend(reached(&service, &settings).await?);
    }
    let actor = Actor::of_program("doctor");
    let mut after = String::new();
    loop {
        let catalogs = service.store.catalogs(&actor, &after, PAGE).await?;
        let Some(last) = catalogs.last() else { break };
        after = last.id.to_string();
        for catalog in &catalogs {
            let Some(scope) = service.store.scope_of(&actor, catalog.id).await? else { continue };
            findings.extend(of_catalog(&service, catalog, scope, now).await?);
        }
    }
    service.store.clone().close().await;
    Ok(findings)
}

/// Says when the service's own certificate ends, where somebody else has made it.
fn certificate_end(folder: &Path, settings: &Tls, now: u64) -> Option<Finding> {
    if settings.root_key.is_some() {
        // It is made at each start, and anew at half of its time.
        return None;
    }
    let path = folder.join(settings.certificate.as_deref().unwrap_or(Path::new("server.pem")));
    let text = std::fs::read(&path).ok()?;
    let leaf = CertificateDer::from_pem_slice(&text).ok()?;
    let name = path.display();
    let Some(end) = validity::not_after(&leaf) else {
        return Some(Finding::Soon(format!("{name}: when the certificate ends cannot be read")));
    };
    Some(match end.saturating_sub(now) / DAY_S {
        0 if end <= now => Finding::Wrong(format!("{name}: the certificate has ended; replace it")),
        days if days < SOON_DAYS => {
            Finding::Soon(format!("{name}: the certificate ends in {days} days; replace it"))
        }
        days => Finding::Good(format!("{name}: the certificate is good for {days} days")),
    })
}

/// Says how old the newest backup is.
fn of_backups(folder: &Path, settings: &BackupSettings, now: u64) -> Finding {
    let directory = folder.join(&settings.directory);
    let name = directory.display();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) => {
            return Finding::Wrong(format!("backup.directory: cannot read {name}: {error}"));
        }
    };
    let written = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let is_whole = !entry.file_name().as_encoded_bytes().ends_with(b".partial");
        let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        is_whole.then_some(since.as_secs())
    };
    let newest = entries.filter_map(|entry| written(entry.ok()?)).max();
    match newest.map(|at| now.saturating_sub(at) / HOUR_S) {
        None => Finding::Wrong(format!("{name} has no backup: run `holdfast-service backup`")),
        Some(hours) if hours >= u64::from(settings.most_hours) => Finding::Wrong(format!(
            "the newest backup in {name} is {hours} hours old, more than the {} of the settings",
            settings.most_hours
        )),
        Some(hours) => Finding::Good(format!("the newest backup in {name} is {hours} hours old")),
    }
}

/// Says which database it is, which tables it has, and whether its times and this host's clock agree.
async fn of_database(service: &Service, now: u64) -> Result<Vec<Finding>, ServerError> {
    let engine = service.store.engine().await?;
    let Tables { found, known, .. } = service.store.tables().await?;
    let tables = match found.cmp(&known) {
        Ordering::Equal => Finding::Good(format!(
            "the database is open, {engine}, with the newest tables ({found})"
        )),
        Ordering::Greater => Finding::Soon(format!(
            "the database, {engine}, has tables of a newer program ({found}, and this one knows {known}): update \
             this one"
        )),
        Ordering::Less => Finding::Wrong(format!(
            "the database, {engine}, has tables of version {found}, and this program needs {known}: run \
             `holdfast-service migrate`"
        )),
    };
    let mut findings = vec![tables];
    if found < known {
        return Ok(findings);
    }
    let newest = service.store.newest_time().await?;
    let ahead = newest.saturating_sub(now);
    findings.push(if ahead > CLOCK_S {
        Finding::Wrong(format!(
            "the clock of this host is {ahead} s behind what was stored: set it, or certificates end in the past"
        ))
    } else {
        Finding::Good("the clock is not behind what was stored".to_owned())
    });
    if let Some(theirs) = service.store.database_time().await? {
        let apart = theirs.abs_diff(now);
        findings.push(if apart > CLOCK_S {
            Finding::Soon(format!(
                "the clocks of this host and of the database are {apart} s apart"
            ))
        } else {
            Finding::Good("the clocks of this host and of the database agree".to_owned())
        });
    }
    Ok(findings)
}

/// Stores a file, reads it and removes it.
async fn of_files(what: &str, service: &Service, files: &Blobs) -> Finding {
    let tried = async {
        let changing = service.store.change_files(files).await?;
        Ok::<_, ServerError>(files.try_round_trip(&changing).await?)
    };
    match tried.await {
        Ok(()) => Finding::Good(format!("{what} can be stored, read and removed")),
        Err(error) => Finding::Wrong(format!("{what} cannot be stored: {}", chain(&error))),
    }
}

/// Connects to each receiver of alerts, and sends nothing.
async fn reached(service: &Service, settings: &Settings) -> Result<Vec<Finding>, ServerError> {
    let alerts = &settings.alerts;
    let mut receivers: Vec<(String, Reach, String, u16)> = Vec::new();
    if let Some(mail) = &alerts.mail {
        let name = "the server of mail".to_owned();
        receivers.push((name, Reach::Any, mail.server.clone(), mail.port));
    }
    let collector = alerts.otlp.as_ref().and_then(|otlp| https_url::read(&otlp.endpoint).ok());
    if let Some((_, url)) = collector {
        receivers.push(("the collector".to_owned(), Reach::Any, url.host, url.port));
    }
    for scope in service.store.scopes().await? {
        for (webhook, _) in service.store.webhooks(scope).await? {
            let Ok(url) = HttpsUrl::read(&webhook.url) else { continue };
            let reach = Reach::Public { and: alerts.private_receivers.clone() };
            let name = format!("webhook {} of catalog {}", webhook.name, scope.catalog());
            receivers.push((name, reach, url.host, url.port));
        }
    }
    let resolver = system_resolver();
    let mut findings = Vec::new();
    for (name, reach, host, port) in receivers {
        findings.push(match connect(&resolver, &reach, &host, port).await {
            Ok(_) => Finding::Good(format!("{name} takes connections")),
            Err(error) => Finding::Wrong(format!("{name} is not reached: {}", chain(&error))),
        });
    }
    Ok(findings)
}

/// Says how much room the disk has.
fn of_disk(space: Option<Space>, settings: &DiskSettings) -> Finding {
    let Some(space) = space else {
        return Finding::Soon("how much of the disk is free cannot be asked".to_owned());
    };
    let free = space.free_bytes / MIB;
    match room(space, settings) {
        Room::All => Finding::Good(format!("the disk has room: {free} MiB are free")),
        Room::NoReports => Finding::Soon(format!(
            "the disk is nearly full: {free} MiB are free, and reports and symbols are refused; make room"
        )),
        Room::CheckIns => Finding::Wrong(format!(
            "the disk is full: {free} MiB are free, and nothing but check-ins is written; make room"
        )),
    }
}

async fn of_catalog(
    service: &Service,
    catalog: &Catalog,
    scope: Scope,
    now: u64,
) -> Result<Vec<Finding>, ServerError> {
    let name = &catalog.name;
    let mut findings = Vec::new();
    findings.push(match service.store.verify_audit(scope).await? {
        Ok(rows) => Finding::Good(format!("{name}: {rows} rows of the audit log are a chain")),
        Err(broken) => Finding::Wrong(format!("{name}: {broken}")),
    });
    let rows = service.store.authorities(scope).await?;
    let issuing = rows.iter().find(|row| row.kind == AuthorityKind::Issuing);
    let due = next_is_due(issuing.map(|row| (row.not_before, row.not_after)), now);
    let has_root = service.issuers.roots().find(&catalog.id).ok().flatten().is_some();
    findings.push(match issuing {
        Some(row) if now >= row.not_after => Finding::Wrong(format!(
            "{name}: the issuing certificate has ended: run `holdfast-service renew`, or `request` and `install` where the key \
             of the root never comes here"
        )),
        Some(_) if due && !has_root => Finding::Soon(format!(
            "{name}: the issuing certificate is past half time, and the key of the root is elsewhere: run \
             `holdfast-service renew --root-key FILE`, or `request` and `install` where that key never comes here"
        )),
        Some(row) => Finding::Good(format!(
            "{name}: the issuing certificate is good for {} days",
            row.not_after.saturating_sub(now) / (24 * 60 * 60)
        )),
        None => Finding::Wrong(format!(
            "{name}: there is no issuing certificate: run `holdfast-service request`, and `install` what is made of it"
        )),
    });
    if let Some(root) = rows.iter().find(|row| row.kind == AuthorityKind::Root) {
        let days = root.not_after.saturating_sub(now) / DAY_S;
        findings.push(if days < ROOT_SOON_DAYS {
            Finding::Soon(format!("{name}: the root ends in {days} days: images need the next one"))
        } else {
            Finding::Good(format!("{name}: the root is good for {days} days"))
        });
    }
    if let Err(error) = service.issuers.of(&service.store, scope, now).await {
        findings.push(Finding::Wrong(format!("{name}: cannot issue: {}", chain(&error))));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_is_said_before_it_is_full() {
        let of = |free_bytes| {
            of_disk(Some(Space { free_bytes, total_bytes: 1000 * MIB }), &DiskSettings::default())
        };
        assert!(matches!(of(100 * MIB), Finding::Good(_)));
        assert!(matches!(of(99 * MIB), Finding::Soon(text) if text.contains("99 MiB are free")));
        assert!(matches!(of(49 * MIB), Finding::Wrong(_)));
        assert!(matches!(of_disk(None, &DiskSettings::default()), Finding::Soon(_)));
    }

    #[test]
    fn a_backup_that_is_old_or_missing_is_said() {
        let scratch = tempfile::tempdir().unwrap();
        let settings = BackupSettings { directory: "backups".into(), most_hours: 26 };
        let of = |now| of_backups(scratch.path(), &settings, now);
        let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(matches!(of(now), Finding::Wrong(text) if text.contains("cannot read")));
        let directory = scratch.path().join("backups");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("monday.partial"), "").unwrap();
        assert!(matches!(of(now), Finding::Wrong(text) if text.contains("has no backup")));
        std::fs::write(directory.join("monday"), "").unwrap();
        assert!(matches!(of(now), Finding::Good(_)));
        assert!(matches!(of(now + 25 * HOUR_S), Finding::Good(_)));
        assert!(
            matches!(of(now + 27 * HOUR_S), Finding::Wrong(text) if text.contains("hours old"))
        );
    }
}
