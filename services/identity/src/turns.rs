//! Whose signature is made next: one app after the other, however many each asks for.

use holdfast_types::ComponentId;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// What waits for its turn, by the app that has asked for it.
#[derive(Debug)]
pub struct Turns<T> {
    waiting: BTreeMap<ComponentId, VecDeque<T>>,
    /// The app whose turn was last.
    last: Option<ComponentId>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), last: None }
    }
}

impl<T> Turns<T> {
    /// Puts something behind what the same app has asked for before.
    pub fn push(&mut self, app: ComponentId, wanted: T) {
        self.waiting.entry(app).or_default().push_back(wanted);
    }

    /// Takes the next one: of the app behind the one whose turn was last.
    pub fn take_next(&mut self) -> Option<T> {
        let behind = match self.last {
            Some(last) => (Bound::Excluded(last), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let next = self.waiting.range(behind).next().or_else(|| self.waiting.iter().next());
        let app = *next?.0;
        let queue = self.waiting.get_mut(&app)?;
        let wanted = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&app);
        }
        self.last = Some(app);
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_asks_for_much_waits_for_those_that_ask_for_little() {
        let [greedy, first, last] = [5, 1, 9].map(|id| ComponentId([id; 16]));
        let mut turns = Turns::default();
        assert_eq!(turns.take_next(), None);
        for number in 0..4 {
            turns.push(greedy, ("greedy", number));
        }
        assert_eq!(turns.take_next(), Some(("greedy", 0)));
        turns.push(first, ("first", 0));
        turns.push(last, ("last", 0));
        turns.push(last, ("last", 1));
        let order: Vec<_> = std::iter::from_fn(|| turns.take_next()).collect();
        let expected =
            [("last", 0), ("first", 0), ("greedy", 1), ("last", 1), ("greedy", 2), ("greedy", 3)];
        assert_eq!(order, expected);
        turns.push(greedy, ("greedy", 4));
        assert_eq!(turns.take_next(), Some(("greedy", 4)), "nothing is left of earlier turns");
    }
}
