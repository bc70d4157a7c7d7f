//! Roles of management: what the holder of a token may do.

use serde::{Deserialize, Serialize};

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May do everything in its scope.
    Owner,
    /// May work with groups, devices and releases.
    Operator,
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
    /// To add and withdraw releases.
    Release,
    /// To see the audit log.
    Audit,
    /// To change catalogs, authorities and tokens.
    Own,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Owner, Self::Operator, Self::Factory, Self::Analyst, Self::Reader, Self::Auditor];

    /// Returns the word for it, as JSON and the database have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
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
                    Need::See | Need::Close | Need::Claim | Need::Operate | Need::Release
                )
            }
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

    /// Needs by role, in the order of `See`, `Close`, `Claim`, `Operate`, `Release`, `Audit`, `Own`.
    #[test]
    fn roles_may_do_what_the_table_says() {
        let needs = [
            Need::See,
            Need::Close,
            Need::Claim,
            Need::Operate,
            Need::Release,
            Need::Audit,
            Need::Own,
        ];
        for (role, expected) in [
            (Role::Owner, [true; 7]),
            (Role::Operator, [true, true, true, true, true, false, false]),
            (Role::Factory, [false, false, true, false, false, false, false]),
            (Role::Analyst, [true, true, false, false, false, false, false]),
            (Role::Reader, [true, false, false, false, false, false, false]),
            (Role::Auditor, [true, false, false, false, false, true, false]),
        ] {
            assert_eq!(needs.map(|need| role.may(need)), expected, "{role:?}");
            assert_eq!(Role::of_word(role.word()), Some(role));
        }
    }
}
