//! Findings of threat detection that stop a deployment.

use super::row::DeploymentRow;
use crate::columns;
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::deployment::slot::Target;
use holdfast_service_domain::detection::finding::Severity;
use holdfast_service_domain::detection::register::FleetFinding;
use holdfast_service_domain::detection::subject::{Part, Subject};

/// True where a finding of severity 1 about the version of a deployment is open in its group, and something of it was seen since a person has
/// last gone on in spite of one.
pub(super) async fn is_threatened(
    connection: &mut Connection,
    scope: Scope,
    row: &DeploymentRow,
) -> Result<bool, StoreError> {
    let query = "SELECT finding FROM threat
        WHERE catalog = $1 AND product = $2 AND grp = $3 AND closed_at = 0 AND severity = $4
        ORDER BY number";
    let query = sqlx::query(query).bind(scope.key()).bind(row.product.clone());
    let query = query.bind(row.group.clone()).bind(i64::from(u8::from(Severity::Now)));
    for found in query.fetch_all(connection).await? {
        let finding = serde_json::from_str(&columns::text(&found, "finding")?);
        let finding: FleetFinding = finding.map_err(|_| StoreError::Damaged("finding"))?;
        let is_about = finding.key.about.subject().is_some_and(|about| is_of(&row.target, &about));
        if is_about && finding.evidence.last > row.state.resumed_at {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True for what is deployed in that very version. Services come with the OS.
fn is_of(target: &Target, about: &Subject) -> bool {
    let is_part = match (&about.part, target.subject) {
        (Part::App(id), ReleaseSubject::App(of)) => *id == of,
        (Part::Os | Part::Service(_), ReleaseSubject::Os) => true,
        (Part::App(_) | Part::Os | Part::Service(_) | Part::Unknown, _) => false,
    };
    is_part && about.version == Some(target.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{ComponentId, Version};

    #[test]
    fn a_finding_stops_the_very_version_that_it_is_about() {
        let version = |patch| Version { major: 1, minor: 4, patch };
        let app = ComponentId([7; 16]);
        let target = Target { subject: ReleaseSubject::App(app), version: version(1) };
        let about = |part, version| Subject { part, version };
        assert!(is_of(&target, &about(Part::App(app), Some(version(1)))));
        for other in [
            about(Part::App(app), Some(version(2))),
            about(Part::App(app), None),
            about(Part::App(ComponentId([8; 16])), Some(version(1))),
            about(Part::Os, Some(version(1))),
            about(Part::Unknown, Some(version(1))),
        ] {
            assert!(!is_of(&target, &other), "{other:?}");
        }
        let os = Target { subject: ReleaseSubject::Os, version: version(1) };
        assert!(is_of(&os, &about(Part::Os, Some(version(1)))));
        assert!(!is_of(&os, &about(Part::App(app), Some(version(1)))));
    }
}
