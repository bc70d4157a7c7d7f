//! Lines for the log about apps that are not said again and again.

use std::collections::BTreeMap;

/// The same line is said again no sooner, in milliseconds.
const SAY_EVERY_MS: u64 = 60_000;
/// Lines about one app that are remembered; while there are so many, no other is said of it. Whoever
/// asks for a new name each time hides nobody else's refusals.
const MAX_REMEMBERED: usize = 32;

/// What was said of late of each app, and when.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    said: BTreeMap<u32, BTreeMap<String, u64>>,
}

impl Reports {
    /// Says a line about the app with this uid, unless it was said a moment ago.
    pub(crate) fn say(&mut self, now: u64, uid: u32, line: String) {
        let said = self.said.entry(uid).or_default();
        said.retain(|_, said| now.saturating_sub(*said) < SAY_EVERY_MS);
        if said.contains_key(&line) || said.len() >= MAX_REMEMBERED {
            return;
        }
        println!("{line}");
        said.insert(line, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_apps_flood_hides_nothing_of_another_and_ends() {
        let mut reports = Reports::default();
        for number in 0..1000 {
            reports.say(0, 1, number.to_string());
        }
        assert_eq!(reports.said.get(&1).map(BTreeMap::len), Some(MAX_REMEMBERED));
        reports.say(0, 2, "other".to_owned());
        assert_eq!(reports.said.get(&2).map(BTreeMap::len), Some(1));
        reports.say(SAY_EVERY_MS, 1, "again".to_owned());
        assert_eq!(reports.said.get(&1).map(BTreeMap::len), Some(1), "the old ones are forgotten");
    }
}
