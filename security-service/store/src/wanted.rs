//! Devices that somebody looks for.

use crate::columns::columns_of;
use crate::columns::stored;
use crate::device::{Shown, shown_of};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::store::Store;
use holdfast_service_domain::device::State;

/// How an enrolled device stands by its last check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has a full certificate.
    Attested,
    /// It has one for updates alone.
    UpdateOnly,
    /// It got none.
    Refused,
    /// It has not checked in when it was to, or never.
    Silent,
}

impl Standing {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Attested, Self::UpdateOnly, Self::Refused, Self::Silent];

    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Attested => "attested",
            Self::UpdateOnly => "update-only",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.word() == word)
    }

    /// Returns how an enrolled device stands, by the word for the verdict on its last check-in, and whether that was lately.
    #[must_use]
    pub fn of(verdict: Option<&str>, is_fresh: bool) -> Self {
        match verdict {
            Some("full") if is_fresh => Self::Attested,
            Some("update-only") if is_fresh => Self::UpdateOnly,
            Some(_) if is_fresh => Self::Refused,
            _ => Self::Silent,
        }
    }
}

/// What is said of devices that are looked for. What is not said is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedDevices {
    /// Their state.
    pub state: Option<State>,
    /// How they stand, where being seen at this time or later, in seconds since 1970, is lately.
    pub standing: Option<(Standing, u64)>,
    /// Their product.
    pub product: Option<String>,
    /// Their group.
    pub group: Option<String>,
    /// Version of the release that was measured last.
    pub version: Option<String>,
    /// The beginning of their id, or their serial number.
    pub find: Option<String>,
}

impl Store {
    /// Returns devices by id behind `after` that are as they are wanted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn wanted_devices(
        &self,
        scope: Scope,
        wanted: &WantedDevices,
        after: &str,
        most: u32,
    ) -> Result<Vec<Shown>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(device),
            " FROM device WHERE catalog = $1 AND id > $2
                AND ($3 = '' OR state = $3)
                AND ($4 = '' OR product = $4) AND ($5 = '' OR grp = $5)
                AND ($6 = '' OR version = $6)
                AND ($7 = '' OR substr(id, 1, length($7)) = $7 OR serial = $7)
                AND ($8 = '' OR (state = 'enrolled' AND $8 = CASE
                    WHEN verdict IS NULL OR seen_at IS NULL OR seen_at < $9 THEN 'silent'
                    WHEN verdict = 'full' THEN 'attested'
                    WHEN verdict = 'update-only' THEN 'update-only'
                    ELSE 'refused' END))
            ORDER BY id LIMIT $10"
        );
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let query = sqlx::query(query).bind(scope.key()).bind(after.to_owned());
        let query = query.bind(wanted.state.map_or("", State::word).to_owned());
        let query = query.bind(text(&wanted.product)).bind(text(&wanted.group));
        let query = query.bind(text(&wanted.version)).bind(text(&wanted.find));
        let (standing, since) = wanted.standing.map_or(("", 0), |(of, at)| (of.word(), at));
        let query = query.bind(standing.to_owned()).bind(stored(since)).bind(i64::from(most));
        query.fetch_all(&mut *connection).await?.iter().map(shown_of).collect()
    }
}
