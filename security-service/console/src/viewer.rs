//! Whoever looks at a page: what he may do, the time that he looks at, and the texts that each template needs.

use crate::place::{Address, Place};
use crate::text;
use holdfast_service_domain::extent::Grant;
use holdfast_service_domain::role::Need;

/// Whoever looks at a page.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// The catalog that is looked at.
    pub(crate) catalog: String,
    /// His name.
    pub(crate) name: String,
    /// What he may do, and where.
    pub(crate) grants: Vec<Grant>,
    /// What his forms have, and no other site knows.
    pub(crate) form_token: String,
    /// What makes a form of this page that is sent twice one change.
    pub(crate) key: String,
    /// The time, in seconds since 1970.
    pub(crate) now: u64,
}

impl Viewer {
    /// Returns the path of a place in the catalog.
    pub(crate) fn to(&self, place: Place) -> String {
        Address { catalog: self.catalog.clone(), place }.to_string()
    }

    pub(crate) fn device(&self, id: &str) -> String {
        self.to(Place::Device(id.to_owned()))
    }

    pub(crate) fn group(&self, product: &str, group: &str) -> String {
        self.to(Place::Group(product.to_owned(), group.to_owned()))
    }

    pub(crate) fn deployment(&self, id: &str) -> String {
        self.to(Place::Deployment(id.to_owned()))
    }

    pub(crate) fn crash(&self, id: &str) -> String {
        self.to(Place::Crash(id.to_owned()))
    }

    pub(crate) fn threat(&self, number: &u64) -> String {
        self.to(Place::Threat(number.to_string()))
    }

    pub(crate) fn act(&self, action: &str) -> String {
        self.to(Place::Act(action.to_owned()))
    }

    /// Returns where an action on something is confirmed.
    pub(crate) fn confirm(&self, action: &str, of: &str) -> String {
        format!("{}?of={}", self.to(Place::Confirm(action.to_owned())), crate::place::encoded(of))
    }

    /// Returns devices as the list shows them that are so.
    pub(crate) fn devices(&self, field: &str, value: &str) -> String {
        format!("{}?{field}={}", self.to(Place::Devices), crate::place::encoded(value))
    }

    /// Returns a time as it lies from now.
    pub(crate) fn ago(&self, at: &u64) -> String {
        text::from_now(at, &self.now)
    }

    /// True if a time has passed.
    pub(crate) fn is_past(&self, at: &u64) -> bool {
        *at < self.now
    }

    /// True if he may do somewhere what needs this. A page may show more than he may do with all that is on it: what the API refuses, it says.
    pub(crate) fn may(&self, need: Need) -> bool {
        self.grants.iter().any(|grant| grant.role.may(need))
    }

    /// Returns the words for his roles.
    pub(crate) fn roles(&self) -> String {
        let mut words: Vec<&str> = self.grants.iter().map(|grant| grant.role.word()).collect();
        words.sort_unstable();
        words.dedup();
        words.join(", ")
    }

    pub(crate) fn operates(&self) -> bool {
        self.may(Need::Operate)
    }

    pub(crate) fn releases(&self) -> bool {
        self.may(Need::Release)
    }

    pub(crate) fn closes(&self) -> bool {
        self.may(Need::Close)
    }

    pub(crate) fn audits(&self) -> bool {
        self.may(Need::Audit)
    }

    pub(crate) fn owns(&self) -> bool {
        self.may(Need::Own)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use holdfast_service_domain::extent::Extent;
    use holdfast_service_domain::role::Role;

    pub(crate) fn viewer_as(role: Role) -> Viewer {
        Viewer {
            catalog: "c".to_owned(),
            name: "ines".to_owned(),
            grants: vec![Grant { role, extent: Extent::Service }],
            form_token: "form".to_owned(),
            key: "key".to_owned(),
            now: 1_796_119_503,
        }
    }

    pub(crate) fn viewer() -> Viewer {
        viewer_as(Role::Owner)
    }

    #[test]
    fn links_stay_within_the_catalog_and_their_values_are_encoded() {
        let viewer = viewer();
        assert_eq!(viewer.device("ab"), "/console/c/devices/ab");
        assert_eq!(
            viewer.confirm("token-remove", "a&b"),
            "/console/c/confirm/token-remove?of=a%26b"
        );
        assert_eq!(viewer.devices("find", "\"><x"), "/console/c/devices?find=%22%3E%3Cx");
        assert!(viewer.is_past(&1) && !viewer.is_past(&u64::MAX));
    }
}
