//! The choice of the release to install next.

use crate::assignment::Assigned;
use crate::feed::Feed;
use crate::memory::Memory;
use crate::metadata::Targets;
use crate::{Authority, Device, Release, RepositoryName, Target};
use holdfast_sandbox::held::Held;

/// What narrows the choice that signed targets leave: of a card, nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Narrowing<'a> {
    /// What the Security Service has assigned.
    pub assigned: Option<&'a Assigned>,
    /// The feed that the device follows; none where releases of every feed are taken.
    pub feed: Option<&'a Feed>,
}

impl Narrowing<'_> {
    fn allows(&self, release: &Release) -> bool {
        self.assigned.is_none_or(|assigned| assigned.allows(release.subject, release.version))
            && self.feed.is_none_or(|feed| feed.takes(release.feed.as_ref()))
    }
}

/// Chooses the release of a repository to install next: for the first subject that a newer one is offered for. `None`
/// where there is none.
///
/// Newer is a higher rollback index, then a higher version. A release is never chosen below the floor, with a need for
/// a newer OS than runs, after it has failed on this device, or while it is postponed. Where the Security Service has assigned
/// something, it is one that this allows as well, and one of the device's feed: what is signed is narrowed, and never widened.
#[must_use]
pub fn next_release<'a>(
    targets: &'a Targets,
    repository: RepositoryName,
    device: &Device,
    held: &[Held],
    memory: &Memory,
    narrowing: Narrowing<'_>,
) -> Option<(&'a str, &'a Target, &'a Release)> {
    let authority = match repository {
        RepositoryName::Os => Authority::Os,
        RepositoryName::Oem => Authority::Apps(held.iter().filter_map(|held| held.app()).collect()),
    };
    held.iter().find_map(|held| {
        let acceptable = |release: &Release| {
            let newer = held.running.as_ref().is_none_or(|running| {
                let now = (running.rollback_index, running.version);
                (release.rollback_index, release.version) > now
                    && release.root_hash() != Some(running.root_hash)
            });
            newer
                && release.rollback_index >= held.floor
                && release.least_os <= device.os
                && !memory.excludes(held.subject, release.root_hash())
                && narrowing.allows(release)
        };
        targets.release_for(held.subject, device, &authority, acceptable)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::Assignment;
    use crate::{Outcome, Staged};
    use holdfast_sandbox::held::{ReleaseSubject, Running};
    use holdfast_types::ComponentId;
    use holdfast_types::Version;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const APP: ReleaseSubject = ReleaseSubject::App(ComponentId([7; 16]));

    fn device() -> Device {
        let os = "2.0.0".parse().unwrap();
        Device { product: "pump".to_owned(), board: "qemu-virt".to_owned(), os }
    }

    fn release(version: &str, rollback_index: u64, hash: u8) -> Release {
        Release {
            subject: APP,
            product: String::new(),
            board: String::new(),
            version: version.parse().unwrap(),
            rollback_index,
            least_os: Version::default(),
            boot_bytes: 0,
            root_hash: format!("{hash:02x}").repeat(32),
            boot_chunks: String::new(),
            boot_digest: String::new(),
            feed: None,
        }
    }

    fn held(version: &str, rollback_index: u64, floor: u64, hash: u8) -> Held {
        let version = version.parse().unwrap();
        let root_hash = [hash; 32];
        let running =
            Some(Running { version, rollback_index, root_hash, data_bytes: 4096, on_trial: false });
        Held { subject: APP, floor, running, waits: false, disagreed: false }
    }

    fn chosen(offered: &[Release], held: &[Held], memory: &Memory) -> Option<String> {
        chosen_of(offered, held, memory, None)
    }

    fn chosen_of(
        offered: &[Release],
        held: &[Held],
        memory: &Memory,
        assigned: Option<&Assigned>,
    ) -> Option<String> {
        chosen_by(offered, held, memory, Narrowing { assigned, feed: None })
    }

    fn chosen_by(
        offered: &[Release],
        held: &[Held],
        memory: &Memory,
        narrowing: Narrowing<'_>,
    ) -> Option<String> {
        let json = serde_json::json!({
            "_type": "targets", "spec_version": "1.0.0", "version": 1,
            "expires": "2030-01-01T00:00:00Z", "targets": {}
        });
        let mut targets: Targets = serde_json::from_value(json).unwrap();
        for release in offered {
            let target = Target {
                length: 100,
                hashes: BTreeMap::from([("sha256".to_owned(), "11".repeat(32))]),
                custom: Some(release.clone()),
            };
            targets.targets.insert(format!("apps/{}", release.version), target);
        }
        next_release(&targets, RepositoryName::Oem, &device(), held, memory, narrowing)
            .map(|(_, _, release)| release.version.to_string())
    }

    #[test]
    fn the_newest_that_the_device_may_have_is_taken() {
        let memory = Memory::default();
        let has = [held("1.0.0", 3, 3, 1)];
        let offer = |offered: &[Release]| chosen(offered, &has, &memory);
        assert_eq!(offer(&[release("1.1.0", 3, 2)]).as_deref(), Some("1.1.0"));
        assert_eq!(offer(&[release("0.9.0", 4, 2)]).as_deref(), Some("0.9.0"), "a higher index");
        assert_eq!(offer(&[release("1.0.0", 3, 2)]), None, "the same version");
        assert_eq!(offer(&[release("1.1.0", 3, 1)]), None, "the same bytes");
        assert_eq!(offer(&[release("2.0.0", 2, 2)]), None, "a lower index");
        let needs = Release { least_os: "2.0.1".parse().unwrap(), ..release("3.0.0", 3, 3) };
        let offered = [needs, release("1.1.0", 3, 2), release("1.2.0", 3, 4)];
        assert_eq!(offer(&offered).as_deref(), Some("1.2.0"), "3.0.0 needs a newer OS");
        assert_eq!(
            chosen(&[release("9.0.0", 9, 2)], &[], &memory),
            None,
            "an app that is not listed"
        );
        let empty = Held { running: None, ..held("0.0.0", 0, 4, 0) };
        assert_eq!(
            chosen(&[release("9.0.0", 3, 2)], std::slice::from_ref(&empty), &memory),
            None,
            "the floor"
        );
        let first = chosen(&[release("0.1.0", 4, 2)], &[empty], &memory);
        assert_eq!(first.as_deref(), Some("0.1.0"), "an app without a package gets one");
    }

    #[test]
    fn what_has_failed_is_not_taken_again() {
        let mut memory = Memory::default();
        let has = [held("1.0.0", 3, 3, 1)];
        memory.begin_staging(Staged { subject: APP, root_hash: [2; 32], reached: true });
        memory.mark_staged();
        assert_eq!(memory.reconcile(&has), Some(Outcome::FellBack(APP)));
        assert_eq!(
            chosen(&[release("1.1.0", 3, 2)], &has, &Memory::default()).as_deref(),
            Some("1.1.0")
        );
        assert_eq!(chosen(&[release("1.1.0", 3, 2)], &has, &memory), None);
        let next = chosen(&[release("1.1.0", 3, 2), release("1.1.1", 3, 3)], &has, &memory);
        assert_eq!(next.as_deref(), Some("1.1.1"));
    }

    fn assigned(newest: &str, except: &[&str]) -> Assigned {
        let assignment = Assignment {
            deployment: "d1".to_owned(),
            subject: APP,
            newest: newest.parse().unwrap(),
            except: except.iter().map(|version| version.parse().unwrap()).collect(),
            window: None,
            deadline: None,
            check_every_s: None,
        };
        Assigned::new([assignment], u64::MAX)
    }

    #[test]
    fn an_assignment_chooses_nothing_that_is_not_offered() {
        let memory = Memory::default();
        let has = [held("1.0.0", 3, 3, 1)];
        let offered = [release("1.1.0", 3, 2), release("1.2.0", 3, 4)];
        let with = |assigned: &Assigned| chosen_of(&offered, &has, &memory, Some(assigned));
        assert_eq!(with(&assigned("1.2.0", &[])).as_deref(), Some("1.2.0"), "the control");
        assert_eq!(with(&assigned("1.1.9", &[])).as_deref(), Some("1.1.0"));
        assert_eq!(with(&assigned("1.2.0", &["1.2.0"])).as_deref(), Some("1.1.0"));
        assert_eq!(with(&assigned("1.0.0", &[])), None);
        assert_eq!(
            with(&assigned("9.0.0", &[])).as_deref(),
            Some("1.2.0"),
            "no more than is signed"
        );
        // What has failed here is not taken for being assigned.
        let mut failed = Memory::default();
        failed.mark_failed(APP, [4; 32]);
        assert_eq!(chosen_of(&offered, &has, &failed, Some(&assigned("1.2.0", &["1.1.0"]))), None);
    }

    /// A release of another feed is not there for a device, however new it is and whatever was assigned; of a card, each is.
    #[test]
    fn a_release_of_another_feed_is_not_chosen() {
        let memory = Memory::default();
        let has = [held("1.0.0", 3, 3, 1)];
        let feed = |name: &str| name.parse::<Feed>().unwrap();
        let of = |version: &str, hash, name: &str| Release {
            feed: Some(feed(name)),
            ..release(version, 3, hash)
        };
        let offered = [release("1.1.0", 3, 2), of("1.2.0", 3, "retail"), of("1.3.0", 4, "eval")];
        let with = |name: Option<&str>, assigned: Option<&Assigned>| {
            let feed = name.map(feed);
            let narrowing = Narrowing { assigned, feed: feed.as_ref() };
            chosen_by(&offered, &has, &memory, narrowing)
        };
        assert_eq!(with(Some("retail"), None).as_deref(), Some("1.2.0"));
        assert_eq!(with(Some("eval"), None).as_deref(), Some("1.3.0"));
        assert_eq!(with(Some("another"), None).as_deref(), Some("1.1.0"), "without a label");
        assert_eq!(with(None, None).as_deref(), Some("1.3.0"), "of a card");
        let newest = assigned("1.3.0", &[]);
        assert_eq!(with(Some("retail"), Some(&newest)).as_deref(), Some("1.2.0"));
    }

    proptest! {
        #[test]
        fn whatever_is_assigned_is_chosen_from_what_targets_leave(
            offered in proptest::collection::vec((0u32..4, 0u64..5, 0u8..6), 0..6),
            newest in 0u32..4, except in proptest::collection::vec(0u32..4, 0..3),
        ) {
            let offered: Vec<Release> = offered.iter()
                .map(|(minor, index, hash)| release(&format!("1.{minor}.0"), *index, *hash)).collect();
            let except: Vec<String> = except.iter().map(|minor| format!("1.{minor}.0")).collect();
            let except: Vec<&str> = except.iter().map(String::as_str).collect();
            let newest = format!("1.{newest}.0");
            let has = [held("1.1.0", 2, 2, 1)];
            let memory = Memory::default();
            let narrowed: Vec<Release> = offered.iter()
                .filter(|release| release.version.to_string() <= newest
                    && !except.contains(&release.version.to_string().as_str()))
                .cloned().collect();
            let of_assigned = chosen_of(&offered, &has, &memory, Some(&assigned(&newest, &except)));
            prop_assert_eq!(of_assigned, chosen(&narrowed, &has, &memory));
        }
    }
}
