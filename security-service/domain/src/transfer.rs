//! Transfers of devices to other catalogs: one person offers, another one approves, the device follows the voucher, and nobody can take
//! back what it has been told.

use crate::person::PersonId;
use holdfast_types::CatalogId;
use thiserror::Error;

/// Most days that a voucher is good for: a device that is away for longer needs a new one.
pub const MOST_DAYS: u32 = 400;
/// Seconds of a day.
const DAY_S: u64 = 24 * 60 * 60;

/// A transfer, as the catalog that gives a device away keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The catalog that the device goes to.
    pub to: CatalogId,
    /// Certificate of that catalog's root, DER.
    pub root: Vec<u8>,
    /// The owners that the device has had by then, without the first.
    pub epoch: u32,
    /// End of the voucher, in seconds since 1970.
    pub ends_at: u64,
    /// Who has offered it, as logs call him.
    pub offered_by: String,
    /// The person that he is.
    pub offerer: PersonId,
    /// Who has approved it.
    pub approved_by: Option<String>,
    /// The voucher, signed by this catalog's root.
    pub voucher: Option<Vec<u8>>,
    /// When the device was told first, in seconds since 1970.
    pub sent_at: Option<u64>,
    /// When the device has enrolled in the other catalog, in seconds since 1970, where that is of the same service.
    pub followed_at: Option<u64>,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It waits for another person's approval.
    Offered,
    /// The device is told at its next check-in.
    Approved,
    /// The device was told, and may have followed.
    Sent,
    /// The device has enrolled in the other catalog.
    Followed,
    /// The voucher has ended, and nobody knows of the device in the other catalog.
    Ended,
}

impl Progress {
    /// Returns the word for it, as JSON has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Approved => "approved",
            Self::Sent => "sent",
            Self::Followed => "followed",
            Self::Ended => "ended",
        }
    }
}

/// Why something is not done to a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TransferRefusal {
    /// One person must not give devices away.
    #[error("whoever has offered a transfer does not approve it: another owner has to")]
    SamePerson,
    /// It does not wait for an approval.
    #[error("the transfer does not wait for an approval")]
    NotOffered,
    /// The device has the voucher, and may have followed it.
    #[error("the device was told already, and may have gone; the transfer ends by itself")]
    Sent,
    /// A transfer of the device is under way.
    #[error("a transfer of this device is under way; withdraw it first")]
    UnderWay,
    /// The voucher would be good for no time, or for too long.
    #[error("days: must be 1 to {MOST_DAYS}")]
    Days,
    /// The device would go where it is.
    #[error("to: the device belongs to this catalog")]
    SameCatalog,
}

/// Returns the end of a voucher that is good for so many days.
///
/// # Errors
/// It would be good for no time, or for too long.
pub fn ends_at(days: u32, now: u64) -> Result<u64, TransferRefusal> {
    if days == 0 || days > MOST_DAYS {
        return Err(TransferRefusal::Days);
    }
    Ok(now.saturating_add(u64::from(days).saturating_mul(DAY_S)))
}

impl Transfer {
    /// Returns how far it is.
    #[must_use]
    pub fn progress(&self, now: u64) -> Progress {
        if self.followed_at.is_some() {
            Progress::Followed
        } else if now >= self.ends_at {
            Progress::Ended
        } else if self.sent_at.is_some() {
            Progress::Sent
        } else if self.voucher.is_some() {
            Progress::Approved
        } else {
            Progress::Offered
        }
    }

    /// Decides whether another transfer of the device may take this one's place.
    ///
    /// # Errors
    /// This one is under way.
    pub fn replace(&self, now: u64) -> Result<(), TransferRefusal> {
        match self.progress(now) {
            Progress::Followed | Progress::Ended => Ok(()),
            Progress::Offered | Progress::Approved | Progress::Sent => {
                Err(TransferRefusal::UnderWay)
            }
        }
    }

    /// Decides whether this person may approve it.
    ///
    /// # Errors
    /// He has offered it, or it does not wait for an approval.
    pub fn approve(&self, who: &PersonId, now: u64) -> Result<(), TransferRefusal> {
        if self.progress(now) != Progress::Offered {
            Err(TransferRefusal::NotOffered)
        } else if self.offerer == *who {
            Err(TransferRefusal::SamePerson)
        } else {
            Ok(())
        }
    }

    /// Decides whether it may be withdrawn.
    ///
    /// # Errors
    /// The device was told.
    pub fn withdraw(&self, now: u64) -> Result<(), TransferRefusal> {
        match self.progress(now) {
            Progress::Offered | Progress::Approved | Progress::Ended => Ok(()),
            Progress::Sent | Progress::Followed => Err(TransferRefusal::Sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn person(name: &str) -> PersonId {
        PersonId::stored(name.to_owned())
    }

    fn offered() -> Transfer {
        Transfer {
            to: CatalogId([2; 16]),
            root: vec![1],
            epoch: 1,
            ends_at: NOW + 60,
            offered_by: "ole".to_owned(),
            offerer: person("ole"),
            approved_by: None,
            voucher: None,
            sent_at: None,
            followed_at: None,
        }
    }

    #[test]
    fn a_transfer_takes_two_people_and_is_not_taken_back_from_the_device() {
        let offered = offered();
        assert_eq!(offered.progress(NOW), Progress::Offered);
        assert_eq!(offered.approve(&person("ole"), NOW), Err(TransferRefusal::SamePerson));
        assert_eq!(offered.approve(&person("ines"), NOW), Ok(()));
        assert_eq!(
            (offered.withdraw(NOW), offered.replace(NOW)),
            (Ok(()), Err(TransferRefusal::UnderWay))
        );
        let approved = Transfer { voucher: Some(vec![2]), ..offered };
        assert_eq!(approved.progress(NOW), Progress::Approved);
        assert_eq!(approved.approve(&person("ines"), NOW), Err(TransferRefusal::NotOffered));
        assert_eq!(approved.withdraw(NOW), Ok(()));
        let sent = Transfer { sent_at: Some(NOW), ..approved };
        assert_eq!(sent.progress(NOW), Progress::Sent);
        assert_eq!(sent.withdraw(NOW), Err(TransferRefusal::Sent));
        assert_eq!(sent.replace(NOW), Err(TransferRefusal::UnderWay));
        assert_eq!(sent.progress(NOW + 60), Progress::Ended);
        assert_eq!((sent.replace(NOW + 60), sent.withdraw(NOW + 60)), (Ok(()), Ok(())));
        let followed = Transfer { followed_at: Some(NOW), ..sent };
        assert_eq!(followed.progress(NOW + 60), Progress::Followed);
        assert_eq!(followed.withdraw(NOW + 60), Err(TransferRefusal::Sent));
        assert_eq!(followed.replace(NOW), Ok(()), "it may have come back");
    }

    #[test]
    fn a_voucher_is_good_for_some_days() {
        assert_eq!(ends_at(1, NOW), Ok(NOW + DAY_S));
        assert_eq!(ends_at(MOST_DAYS, 0), Ok(400 * DAY_S));
        for days in [0, MOST_DAYS + 1, u32::MAX] {
            assert_eq!(ends_at(days, NOW), Err(TransferRefusal::Days), "{days}");
        }
    }
}
