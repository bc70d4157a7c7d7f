//! Roles of management: what the holder of a token may do.

use serde::{Deserialize, Serialize};

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May do everything in its scope.
    Owner,
    /// May work with groups, devices and releases.
    Operator,
    /// May add releases and draft deployments.
    Releaser,
    /// May approve what another has drafted or asked for.
    Approver,
    /// May claim devices.
    Factory,
    /// May see everything but secrets and the audit log, and close what was found.
    Analyst,
    /// May see everything but secrets and the audit log.
    Reader,
    /// May see the audit log, and what a reader sees.
    Auditor,
}

/// What an operation of the API needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// To see devices, products, groups, releases, certificates of authorities and findings.
    See,
    /// To close findings, threats and crash groups, and to open crash groups again.
    Close,
    /// To claim devices.
    Claim,
    /// To change products, groups and devices.
    Operate,
    /// To add and withdraw releases, and to draft deployments.
    Release,
    /// To approve deployments, and changes that need a second person.
    Approve,
    /// To see the audit log.
    Audit,
    /// To change catalogs, authorities and tokens.
    Own,
}

impl Need {
    /// Every need.
    pub const ALL: [Self; 8] = [
        Self::See,
        Self::Close,
        Self::Claim,
        Self::Operate,
        Self::Release,
        Self::Approve,
        Self::Audit,
        Self::Own,
    ];

    /// Returns the word for it, as pages have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::See => "see",
            Self::Close => "close",
            Self::Claim => "claim",
            Self::Operate => "operate",
            Self::Release => "release",
            Self::Approve => "approve",
            Self::Audit => "audit",
            Self::Own => "own",
        }
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 8] = [
        Self::Owner,
        Self::Operator,
        Self::Releaser,
        Self::Approver,
        Self::Factory,
        Self::Analyst,
        Self::Reader,
        Self::Auditor,
    ];

    /// Returns the word for it, as JSON and the database have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
            Self::Releaser => "releaser",
            Self::Approver => "approver",
            Self::Factory => "factory",
            Self::Analyst => "analyst",
            Self::Reader => "reader",
            Self::Auditor => "auditor",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// True if the role may do what needs this.
    #[must_use]
    pub fn may(self, need: Need) -> bool {
        match self {
            Self::Owner => true,
            Self::Operator => {
                matches!(
                    need,
                    Need::See
                        | Need::Close
                        | Need::Claim
                        | Need::Operate
                        | Need::Release
                        | Need::Approve
                )
            }
            Self::Releaser => matches!(need, Need::See | Need::Release),
            Self::Approver => matches!(need, Need::See | Need::Approve),
            Self::Factory => need == Need::Claim,
            Self::Analyst => matches!(need, Need::See | Need::Close),
            Self::Reader => need == Need::See,
            Self::Auditor => matches!(need, Need::See | Need::Audit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs by role, in the order of [`Need::ALL`].
    #[test]
    fn roles_may_do_what_the_table_says() {
        let (yes, no) = (true, false);
        for (role, expected) in [
            (Role::Owner, [yes; 8]),
            (Role::Operator, [yes, yes, yes, yes, yes, yes, no, no]),
            (Role::Releaser, [yes, no, no, no, yes, no, no, no]),
            (Role::Approver, [yes, no, no, no, no, yes, no, no]),
            (Role::Factory, [no, no, yes, no, no, no, no, no]),
            (Role::Analyst, [yes, yes, no, no, no, no, no, no]),
            (Role::Reader, [yes, no, no, no, no, no, no, no]),
            (Role::Auditor, [yes, no, no, no, no, no, yes, no]),
        ] {
            assert_eq!(Need::ALL.map(|need| role.may(need)), expected, "{role:?}");
            assert_eq!(Role::of_word(role.word()), Some(role));
        }
    }
}
