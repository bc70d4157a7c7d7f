//! What is told of releases, for whoever reports it: which refusals and ends are which outcome, and each once a day.

use crate::install_error::InstallError;
use crate::tried::Tried;
use holdfast_release::client::ClientError;
use holdfast_release::metadata::MetadataError;
use holdfast_sandbox::held::{Held, ReleaseSubject};
use holdfast_sandbox::wire::{UpdateNews, UpdateOutcome};
use holdfast_types::{ComponentId, Version};

/// The same outcome is told again after this, in milliseconds of the monotonic clock.
const AGAIN_AFTER_MS: u64 = 24 * 60 * 60 * 1000;
/// Most outcomes that are remembered as told.
const MAX_TOLD: usize = 32;

/// What was told, so that what happens at each check is told once a day.
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<(u64, UpdateNews)>);

impl Told {
    /// True where this is to be told at `now`, which is remembered.
    pub(crate) fn is_new(&mut self, news: UpdateNews, now: u64) -> bool {
        // What was fetched on the way makes no other outcome of it.
        let news = UpdateNews { fetched_bytes: 0, ..news };
        self.0.retain(|(at, _)| now.saturating_sub(*at) < AGAIN_AFTER_MS);
        if self.0.iter().any(|(_, told)| *told == news) {
            return false;
        }
        if self.0.len() >= MAX_TOLD {
            self.0.remove(0);
        }
        self.0.push((now, news));
        true
    }
}

/// Returns the component id of an app.
fn app(subject: ReleaseSubject) -> Option<ComponentId> {
    match subject {
        ReleaseSubject::Os => None,
        ReleaseSubject::App(id) => Some(id),
    }
}

/// Returns the version that runs of a release's subject.
pub(crate) fn running(held: &[Held], subject: ReleaseSubject) -> Version {
    let of_subject = held.iter().find(|held| held.subject == subject);
    let running = of_subject.and_then(|held| held.running.as_ref());
    running.map_or_else(Version::default, |running| running.version)
}

/// Returns what has become of a release that was staged. `tried` is what was kept of the one that was staged last.
pub(crate) fn ended(
    subject: ReleaseSubject,
    outcome: UpdateOutcome,
    tried: Option<Tried>,
    held: &[Held],
) -> UpdateNews {
    let runs = running(held, subject);
    let tried = tried.filter(|tried| tried.subject == subject);
    let Tried { from, to, fetched_bytes, .. } =
        tried.unwrap_or(Tried { subject, from: runs, to: runs, fetched_bytes: 0 });
    UpdateNews { app: app(subject), from, to, outcome, fetched_bytes }
}

/// Returns what has become of a release that was not staged. `None`: it is not known yet, or nobody could be asked.
pub(crate) fn not_installed(tried: Tried, error: &InstallError) -> Option<UpdateNews> {
    let outcome = match error {
        InstallError::Costs(_) => UpdateOutcome::Declined,
        InstallError::Leaves
        | InstallError::Mismatch(_)
        | InstallError::Delta(_)
        | InstallError::OtherDelta
        | InstallError::RootHash
        | InstallError::Package(_)
        | InstallError::Differs(_)
        | InstallError::Short(_) => UpdateOutcome::RefusedContent,
        InstallError::Path(_)
        | InstallError::State(_)
        | InstallError::NoHash
        | InstallError::Missing
        | InstallError::Room { .. }
        | InstallError::OtherBytes
        | InstallError::Held => UpdateOutcome::Failed,
        // A server that is not reached is told by check-ins.
        InstallError::Init(_) | InstallError::Uplink(_) => return None,
    };
    let Tried { subject, from, to, fetched_bytes } = tried;
    Some(UpdateNews { app: app(subject), from, to, outcome, fetched_bytes })
}

/// Returns what is told of metadata that was refused, by a device whose OS has this version.
pub(crate) fn refused(error: &ClientError, os: Version) -> Option<UpdateNews> {
    let outcome = match error {
        ClientError::Metadata { error: MetadataError::Signatures { .. }, .. } => {
            UpdateOutcome::RefusedSignature
        }
        ClientError::Rollback { .. } => UpdateOutcome::RefusedRollback,
        ClientError::Expired { .. } | ClientError::Issued { .. } => UpdateOutcome::RefusedExpired,
        ClientError::Metadata { .. }
        | ClientError::Version { .. }
        | ClientError::OtherFile(_)
        | ClientError::NotConsistent(_)
        | ClientError::TooManyRoots => UpdateOutcome::RefusedContent,
        ClientError::Missing(_) => UpdateOutcome::Failed,
        ClientError::Unasked => return None,
    };
    Some(UpdateNews { app: None, from: os, to: os, outcome, fetched_bytes: 0 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use holdfast_release::metadata::Role;

    const ID: ComponentId = ComponentId([7; 16]);

    fn version(patch: u32) -> Version {
        Version { patch, ..Version::default() }
    }

    fn tried() -> Tried {
        let (from, to) = (version(1), version(2));
        Tried { subject: ReleaseSubject::App(ID), from, to, fetched_bytes: 5 }
    }

    #[test]
    fn what_becomes_of_a_release_is_told_with_its_versions() {
        let fell_back = |tried| ended(ReleaseSubject::App(ID), UpdateOutcome::FellBack, tried, &[]);
        let told = fell_back(Some(tried()));
        assert_eq!((told.app, told.from, told.to), (Some(ID), version(1), version(2)));
        // What was kept of another release says nothing of this one.
        let other = fell_back(Some(Tried { subject: ReleaseSubject::Os, ..tried() }));
        assert_eq!((other.to, other.fetched_bytes), (Version::default(), 0));
        let encoded = tried().encode().unwrap();
        assert!(encoded.len() <= Tried::MAX_ENCODED_BYTES);
        assert_eq!(Tried::decode(&encoded).unwrap(), tried());
    }

    #[test]
    fn each_refusal_has_its_outcome() {
        let outcome = |error: ClientError| refused(&error, version(1)).map(|news| news.outcome);
        let role = Role::Timestamp;
        let signatures = MetadataError::Signatures { valid: 0, threshold: 1 };
        let signatures = ClientError::Metadata { role, error: signatures };
        assert_eq!(outcome(signatures), Some(UpdateOutcome::RefusedSignature));
        let rollback = ClientError::Rollback { role, found: 1, seen: 2 };
        assert_eq!(outcome(rollback), Some(UpdateOutcome::RefusedRollback));
        let expired = ClientError::Expired { role, expires: String::new() };
        assert_eq!(outcome(expired), Some(UpdateOutcome::RefusedExpired));
        let content = not_installed(tried(), &InstallError::RootHash).map(|news| news.outcome);
        assert_eq!(content, Some(UpdateOutcome::RefusedContent));
        let silent = InstallError::Uplink(crate::uplink::UplinkError::Silent);
        assert_eq!(not_installed(tried(), &silent), None);
    }

    #[test]
    fn what_happens_at_each_check_is_told_once_a_day() {
        let mut told = Told::default();
        let news = ended(ReleaseSubject::Os, UpdateOutcome::Failed, None, &[]);
        let hour = AGAIN_AFTER_MS / 24;
        let times = (0..48).filter(|at| told.is_new(news, at * hour)).count();
        assert_eq!(times, 2);
        assert!(told.is_new(UpdateNews { outcome: UpdateOutcome::Declined, ..news }, 0));
    }
}
