//! Examines an installation, and says what is wrong with it and what to do about it.

use crate::disk;
use crate::error::ServerError;
use crate::run;
use crate::settings;
use crate::tls;
use holdfast_service_alerts::connect::system_resolver;
use holdfast_service_alerts::sinks::Sinks;
use holdfast_service_alerts::trust::USUAL_AUTHORITIES;
use holdfast_service_api::Service;
use holdfast_service_api::service::Clock;
use holdfast_service_domain::disk::{Room, Space, room};
use holdfast_service_domain::settings::DiskSettings;
use holdfast_service_issuing::authority::next_is_due;
use holdfast_service_store::Scope;
use holdfast_service_store::authority::AuthorityKind;
use holdfast_service_store::catalog::Catalog;
use holdfast_service_store::scope::Actor;
use holdfast_types::chain;
use std::path::Path;

/// Catalogs that are read at once.
const PAGE: u32 = 100;

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

/// Examines the installation of a folder.
///
/// # Errors
/// It cannot be opened at all; the error says why.
pub async fn examine(folder: &Path, clock: Clock) -> Result<Vec<Finding>, ServerError> {
    let settings = settings::load(folder)?;
    let now = clock();
    let mut findings = vec![Finding::Good("the settings can be read".to_owned())];
    findings.push(match tls::load(folder, &settings.tls, now) {
        Ok(_) => Finding::Good("the service has a certificate of its own".to_owned()),
        Err(error) => Finding::Wrong(format!("no certificate for the service: {}", chain(&error))),
    });
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
    let service = run::open(folder, &settings, clock).await?;
    findings.push(Finding::Good("the database is open, with the newest tables".to_owned()));
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
            "{name}: the issuing certificate has ended: run `holdfast-service renew`"
        )),
        Some(_) if due && !has_root => Finding::Soon(format!(
            "{name}: the issuing certificate is past half time, and the key of the root is elsewhere: run \
             `holdfast-service renew --root-key FILE`"
        )),
        Some(row) => Finding::Good(format!(
            "{name}: the issuing certificate is good for {} days",
            row.not_after.saturating_sub(now) / (24 * 60 * 60)
        )),
        None => Finding::Wrong(format!("{name}: there is no issuing certificate")),
    });
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
}
