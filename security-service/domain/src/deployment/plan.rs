//! Plans: the stages of a deployment, how large each is, and how long what it has done is watched before the next.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Most stages of a plan.
pub const MAX_STAGES: usize = 16;
/// Most devices on the lists of a plan.
pub const MAX_LISTED: u16 = 1000;
/// What the text of a stage by a list begins with.
const LISTED: char = 'l';
/// Longest soak in seconds: 30 days.
pub const MAX_SOAK_S: u64 = 30 * 86_400;
/// All devices of a group, in thousandths.
pub const ALL_PERMILLE: u16 = 1000;
/// The allowance of a stage of all devices: those that come into the group later as well. As large as databases count.
pub const UNBOUNDED: u64 = i64::MAX as u64;
const HOUR_S: u64 = 3600;

/// Which devices may have the release in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Those of a list, and those of the lists before: so many are on it.
    Listed(u16),
    /// A share of the group's devices by then, those of the stages before included, in thousandths.
    Share(u16),
}

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Who may have the release.
    pub size: Size,
    /// Seconds for which it is watched once most of it has succeeded.
    pub soak_s: u64,
}

/// The stages of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    stages: Vec<Stage>,
    quorum_permille: u16,
}

/// Stages that make no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlanError {
    /// There are none, or too many.
    #[error("stages: must be 1 to {MAX_STAGES}")]
    Count,
    /// They do not grow up to all devices.
    #[error("stages: each must have more thousandths than the one before, and the last 1000")]
    Shares,
    /// A list is empty, the lists have too many devices, or one stands behind a share.
    #[error(
        "stages: those with `devices` come before those with `permille`, each with a device at least and all with at most {MAX_LISTED}"
    )]
    Lists,
    /// A soak is too long.
    #[error("stages: a soak must be at most {MAX_SOAK_S} seconds")]
    Soak,
    /// The quorum is none.
    #[error("quorum_permille: must be 0 to 1000")]
    Quorum,
    /// The text is none of a plan.
    #[error("must be such as `10:86400,1000:0;500`")]
    Text,
}

/// A plan that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Three days for each stage.
    Slow,
    /// A day for each stage: all devices after six.
    Normal,
    /// Eight hours for each stage: all devices after two days.
    Fast,
    /// An hour for each of three stages, however few devices have been seen by then.
    Emergency,
}

impl Preset {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Slow, Self::Normal, Self::Fast, Self::Emergency];

    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Normal => "normal",
            Self::Fast => "fast",
            Self::Emergency => "emergency",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.word() == word)
    }

    /// Returns its plan.
    #[must_use]
    pub fn plan(self) -> Plan {
        const STEPS: &[u16] = &[10, 50, 150, 400, 600, 900, ALL_PERMILLE];
        const FEW_STEPS: &[u16] = &[50, 250, 500, ALL_PERMILLE];
        let (steps, hours, quorum_permille) = match self {
            Self::Slow => (STEPS, 72, 500),
            Self::Normal => (STEPS, 24, 500),
            Self::Fast => (STEPS, 8, 500),
            Self::Emergency => (FEW_STEPS, 1, 0),
        };
        let soak_s = HOUR_S.saturating_mul(hours);
        let stage = |permille: &u16| Stage { size: Size::Share(*permille), soak_s };
        let stages = steps.iter().map(stage).collect();
        Plan { stages, quorum_permille }
    }
}

impl Size {
    /// Returns how many devices its list has, where it is one by a list.
    #[must_use]
    pub fn listed(self) -> Option<u16> {
        match self {
            Self::Listed(devices) => Some(devices),
            Self::Share(_) => None,
        }
    }

    /// Returns its thousandths, where it is a share.
    #[must_use]
    pub fn share(self) -> Option<u16> {
        match self {
            Self::Listed(_) => None,
            Self::Share(permille) => Some(permille),
        }
    }
}

/// Returns a pattern of SQL's `LIKE` for texts of plans that have the stages of the preset `emergency`, however long these soak.
#[must_use]
pub fn emergency_pattern() -> String {
    let plan = Preset::Emergency.plan();
    let stages: Vec<String> = plan.stages.iter().map(|stage| format!("{}:%", stage.size)).collect();
    format!("{};{}", stages.join(","), plan.quorum_permille)
}

impl Plan {
    /// Makes one. `quorum_permille` is the share of a stage's devices that must have succeeded before it soaks, in thousandths, besides
    /// 98 of 100 that were given the release; three devices in any case.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(stages: Vec<Stage>, quorum_permille: u16) -> Result<Self, PlanError> {
        if stages.is_empty() || stages.len() > MAX_STAGES {
            return Err(PlanError::Count);
        }
        let lists: Vec<u16> = stages.iter().map_while(|stage| stage.size.listed()).collect();
        let listed = lists.iter().fold(0u16, |sum, listed| sum.saturating_add(*listed));
        let shares: Option<Vec<u16>> =
            stages.iter().skip(lists.len()).map(|stage| stage.size.share()).collect();
        let shares = shares.ok_or(PlanError::Lists)?;
        if lists.contains(&0) || listed > MAX_LISTED {
            return Err(PlanError::Lists);
        }
        let grows = shares.is_sorted_by(|one, next| one < next);
        let begins = shares.first().is_some_and(|first| *first > 0);
        if !grows || !begins || shares.last().is_none_or(|last| *last != ALL_PERMILLE) {
            return Err(PlanError::Shares);
        }
        if stages.iter().any(|stage| stage.soak_s > MAX_SOAK_S) {
            return Err(PlanError::Soak);
        }
        if quorum_permille > ALL_PERMILLE {
            return Err(PlanError::Quorum);
        }
        Ok(Self { stages, quorum_permille })
    }

    /// Returns it with stages that all soak for so many seconds.
    ///
    /// # Errors
    /// [`PlanError::Soak`].
    pub fn with_soak(self, soak_s: u64) -> Result<Self, PlanError> {
        let stages = self.stages.into_iter().map(|stage| Stage { soak_s, ..stage }).collect();
        Self::new(stages, self.quorum_permille)
    }

    /// Returns the stages.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// True if a stage of it is by a list.
    #[must_use]
    pub fn has_lists(&self) -> bool {
        self.stages.first().is_some_and(|stage| stage.size.listed().is_some())
    }

    /// Returns a stage by its number, from 0 on.
    #[must_use]
    pub fn stage(&self, number: u16) -> Option<Stage> {
        self.stages.get(usize::from(number)).copied()
    }

    /// Returns the share of a stage's devices that must have succeeded before it soaks, in thousandths.
    #[must_use]
    pub fn quorum_permille(&self) -> u16 {
        self.quorum_permille
    }
}

/// Returns so many thousandths of a number, rounded up.
#[must_use]
pub fn share(of: u64, permille: u16) -> u64 {
    let scaled = u128::from(of).saturating_mul(permille.into()).div_ceil(1000);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Returns how many of so many devices may have the release in a stage: at least one, where there is any.
#[must_use]
pub fn allowance(devices: u64, permille: u16) -> u64 {
    if permille >= ALL_PERMILLE { UNBOUNDED } else { share(devices, permille) }
}

impl fmt::Display for Size {
    /// `l25` of a list, or `10` of thousandths.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(devices) => write!(f, "{LISTED}{devices}"),
            Self::Share(permille) => write!(f, "{permille}"),
        }
    }
}

impl fmt::Display for Plan {
    /// `l25:3600,10:86400,1000:0;500`: devices of the list or thousandths, and soak, of each stage, and the quorum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            let before = if index == 0 { "" } else { "," };
            write!(f, "{before}{}:{}", stage.size, stage.soak_s)?;
        }
        write!(f, ";{}", self.quorum_permille)
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let (stages, quorum) = text.split_once(';').ok_or(PlanError::Text)?;
        let stage = |text: &str| {
            let (size, soak_s) = text.split_once(':')?;
            let size = match size.strip_prefix(LISTED) {
                Some(devices) => Size::Listed(devices.parse().ok()?),
                None => Size::Share(size.parse().ok()?),
            };
            Some(Stage { size, soak_s: soak_s.parse().ok()? })
        };
        let stages: Option<Vec<Stage>> = stages.split(',').map(stage).collect();
        let quorum = quorum.parse().map_err(|_| PlanError::Text)?;
        Self::new(stages.ok_or(PlanError::Text)?, quorum)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow is a failed test")]

    use super::*;
    use proptest::prelude::*;

    fn stages(shares: &[u16]) -> Vec<Stage> {
        let stage = |permille: &u16| Stage { size: Size::Share(*permille), soak_s: 60 };
        shares.iter().map(stage).collect()
    }

    #[test]
    fn presets_are_plans_and_end_when_they_say() {
        let days = [Preset::Slow, Preset::Normal, Preset::Fast].map(|preset| {
            let plan = preset.plan();
            let before_last = plan.stages().len() - 1;
            plan.stages()[..before_last].iter().map(|stage| stage.soak_s).sum::<u64>() / 86_400
        });
        assert_eq!(days, [18, 6, 2]);
        for preset in Preset::ALL {
            let plan = preset.plan();
            assert_eq!(Plan::new(plan.stages().to_vec(), plan.quorum_permille()), Ok(plan.clone()));
            assert_eq!(plan.to_string().parse(), Ok(plan), "{preset:?}");
            assert_eq!(Preset::of_word(preset.word()), Some(preset));
        }
    }

    #[test]
    fn a_preset_with_another_soak_is_itself_otherwise() {
        let plan = Preset::Emergency.plan().with_soak(60).unwrap();
        assert_eq!(plan.to_string(), "50:60,250:60,500:60,1000:60;0");
        assert_eq!(emergency_pattern(), "50:%,250:%,500:%,1000:%;0");
        assert_eq!(Preset::Slow.plan().with_soak(MAX_SOAK_S + 1), Err(PlanError::Soak));
    }

    #[test]
    fn stages_that_do_not_grow_to_all_devices_are_refused() {
        assert!(Plan::new(stages(&[10, 1000]), 500).is_ok(), "the control");
        for (shares, error) in [
            (&[][..], PlanError::Count),
            (&[10, 10, 1000], PlanError::Shares),
            (&[50, 10, 1000], PlanError::Shares),
            (&[0, 1000], PlanError::Shares),
            (&[10, 999], PlanError::Shares),
            (&[10, 1001], PlanError::Shares),
        ] {
            assert_eq!(Plan::new(stages(shares), 500), Err(error), "{shares:?}");
        }
        let many: Vec<u16> = (1..=16).chain([1000]).collect();
        assert_eq!(Plan::new(stages(&many), 500), Err(PlanError::Count));
        let long = vec![Stage { size: Size::Share(1000), soak_s: MAX_SOAK_S + 1 }];
        assert_eq!(Plan::new(long, 500), Err(PlanError::Soak));
        assert_eq!(Plan::new(stages(&[1000]), 1001), Err(PlanError::Quorum));
        for text in ["", "10:1,1000:0", "10;500", "10:1,1000:x;500", "10:1,1000:0;x"] {
            assert_eq!(text.parse::<Plan>(), Err(PlanError::Text), "{text}");
        }
    }

    #[test]
    fn stages_by_lists_come_first_and_are_bounded() {
        let plan = |lists: &[u16], shares: &[u16], behind: &[u16]| {
            let listed = |devices: &u16| Stage { size: Size::Listed(*devices), soak_s: 60 };
            let lists = lists.iter().map(listed);
            let behind = behind.iter().map(listed);
            Plan::new(lists.chain(stages(shares)).chain(behind).collect(), 500)
        };
        let good = plan(&[3, 25], &[10, 1000], &[]).unwrap();
        assert_eq!(good.to_string(), "l3:60,l25:60,10:60,1000:60;500");
        assert_eq!(good.to_string().parse(), Ok(good));
        assert!(plan(&[MAX_LISTED], &[1000], &[]).is_ok(), "the control");
        for (lists, shares, behind, error) in [
            (&[0][..], &[1000][..], &[][..], PlanError::Lists),
            (&[1, MAX_LISTED], &[1000], &[], PlanError::Lists),
            (&[u16::MAX, u16::MAX], &[1000], &[], PlanError::Lists),
            (&[3], &[10, 1000], &[4], PlanError::Lists),
            (&[3], &[], &[], PlanError::Shares),
            (&[3], &[10], &[], PlanError::Shares),
            (&[3; 16], &[1000], &[], PlanError::Count),
        ] {
            assert_eq!(plan(lists, shares, behind), Err(error), "{lists:?} {shares:?}");
        }
        for text in ["l:1,1000:0;500", "lx:1,1000:0;500", "l70000:1,1000:0;500"] {
            assert_eq!(text.parse::<Plan>(), Err(PlanError::Text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_allowance_is_the_share_and_never_nothing(devices in 1u64..10_000_000, permille in 1u16..1000) {
            let allowed = allowance(devices, permille);
            prop_assert!(allowed >= 1 && allowed <= devices);
            prop_assert!((allowed - 1) * 1000 < devices * u64::from(permille));
            prop_assert_eq!(allowance(devices, 1000), UNBOUNDED);
            prop_assert_eq!(allowance(0, permille), 0);
        }
    }
}
