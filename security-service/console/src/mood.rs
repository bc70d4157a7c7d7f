//! What a word of the service means for whoever looks: by it a status has a shape and a colour beside its word.

/// A status: its word, and how it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// All is well: a filled circle.
    Good,
    /// Somebody should look: a triangle.
    Warn,
    /// Something has failed: a filled square on its corner.
    Bad,
    /// It is under way: a ring.
    Info,
    /// It is over, or nothing is known: a dash.
    Off,
}

impl Mood {
    /// Returns the name of its shape and colour.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Info => "info",
            Self::Off => "off",
        }
    }

    /// Returns the mood of a word: of states, verdicts, standings, outcomes, reasons and events. What is not known is drawn as nothing special.
    pub(crate) fn of_word(word: &str) -> Self {
        match word {
            "attested" | "enrolled" | "full" | "committed" | "good" | "done" | "delivers"
            | "on" | "signed" | "whole" | "all" | "gone" | "update-finished" => Self::Good,
            "update-only" | "waiting" | "paused" | "draft" | "silent" | "regressed" | "new"
            | "quarantined" | "waits" | "no-reports" | "by-hand" | "contained" | "staged"
            | "falling-back" => Self::Warn,
            "refused"
            | "failed"
            | "fell-back"
            | "halted"
            | "withdrawn-release"
            | "broken"
            | "check-ins"
            | "bad"
            | "now"
            | "failing"
            | "measurement-unknown" => Self::Bad,
            "claimed" | "running" | "soaking" | "approved" | "granted" | "trial" | "trying"
            | "open" | "today" | "fetching" => Self::Info,
            _ => Self::Off,
        }
    }

    /// Returns the mood of a threat's severity, and the word for it.
    pub(crate) fn of_severity(severity: &u8) -> (&'static str, &'static str) {
        match *severity {
            1 => ("bad", "now"),
            2 => ("warn", "today"),
            _ => ("info", "some day"),
        }
    }
}

/// Returns the name of a word's shape and colour, as templates ask for it.
pub(crate) fn of(word: &str) -> &'static str {
    Mood::of_word(word).name()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_service_domain::deployment::slot::Outcome;
    use holdfast_service_domain::deployment::state::State;
    use holdfast_service_store::wanted::Standing;

    #[test]
    fn what_has_failed_is_never_drawn_as_good() {
        for word in ["refused", "fell-back", "halted", "broken", "silent", "measurement-unknown"] {
            assert_ne!(of(word), "good", "{word}");
        }
        assert_eq!(of("what nobody knows"), "off");
        let standings = Standing::ALL.map(|standing| of(standing.word()));
        assert_eq!(standings, ["good", "warn", "bad", "warn"]);
        assert_eq!(
            [1, 2, 3, 9].map(|one| Mood::of_severity(&one).1),
            ["now", "today", "some day", "some day"]
        );
    }

    #[test]
    fn every_outcome_and_state_but_the_last_ones_is_drawn() {
        for outcome in Outcome::ALL {
            assert_ne!(of(outcome.word()), "off", "{outcome:?}");
        }
        for state in [State::Running, State::Soaking, State::Halted, State::Paused, State::Done] {
            assert_ne!(of(state.word()), "off", "{state:?}");
        }
    }
}
