//! Claims the guest of `run --with-service` once it has named itself, and says what it gets.

use super::console::{self, Named};
use super::device::{self, claim_all};
use super::in_catalog::InCatalog;
use super::shown::{cell, items};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pause between two looks: shorter than a device takes from its own line to its first request.
const EVERY: Duration = Duration::from_millis(250);

/// Reads what the guest has printed so far.
pub(crate) type Printed = Box<dyn Fn() -> String + Send>;

/// A thread that looks, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is known of the guest: by device, what was said of it last.
struct Watched {
    catalog: InCatalog,
    board: String,
    devices: BTreeMap<String, Value>,
    /// True once the guest has named its device.
    is_named: bool,
}

impl Watcher {
    /// Begins to look at devices of a board.
    pub(crate) fn start(catalog: InCatalog, board: String, printed: Printed) -> Self {
        let (end, ended) = channel();
        let mut watched = Watched { catalog, board, devices: BTreeMap::new(), is_named: false };
        let thread = std::thread::spawn(move || watched.look_until(&ended, &printed));
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // What it had to say it has said.
            let _ = thread.join();
        }
    }
}

impl Watched {
    fn look_until(&mut self, ended: &Receiver<()>, printed: &Printed) {
        let mut complaint = String::new();
        let mut is_last = false;
        while !is_last {
            // What was printed until the end is looked at as well.
            is_last = !matches!(ended.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout));
            match self.look(printed) {
                Ok(()) => complaint.clear(),
                Err(error) => {
                    let text = format!("{error:#}");
                    if text != complaint {
                        eprintln!("cannot claim the device: {text}");
                    }
                    complaint = text;
                }
            }
        }
    }

    fn look(&mut self, printed: &Printed) -> Result<()> {
        // A device that has asked before it was claimed asks again a quarter of an hour later: its own line is earlier. One of
        // another guest may have been claimed meanwhile, because it waits.
        let mut named = if self.is_named { Vec::new() } else { console::devices(&printed())? };
        self.is_named |= !named.is_empty();
        let waiting = self.catalog.list(&["devices"], &[("state", "waiting")])?;
        named.extend(
            items(&waiting)
                .iter()
                .map(|entry| Named { id: cell(entry, "id"), in_tpm: cell(entry, "kind") == "tpm" }),
        );
        for Named { id, in_tpm } in named {
            if !self.devices.contains_key(&id) {
                self.claim(&id, in_tpm)?;
            }
        }
        self.say_news()
    }

    /// Says what has become of the devices since the look before.
    fn say_news(&mut self) -> Result<()> {
        for (id, before) in &mut self.devices {
            let now = self.catalog.get(&["devices", id])?;
            let is_news = cell(&now, "seen_at") != cell(before, "seen_at")
                || cell(&now, "verdict") != cell(before, "verdict");
            if is_news && !now.get("verdict").is_none_or(Value::is_null) {
                eprintln!("{}", device::sentence(&now));
            }
            *before = now;
        }
        Ok(())
    }

    fn claim(&mut self, id: &str, in_tpm: bool) -> Result<()> {
        let grade = if in_tpm { "emulated" } else { "software" };
        let claim = json!({ "device": id, "grade": grade, "board": self.board });
        claim_all(&self.catalog, &[claim])?;
        let now = self.catalog.get(&["devices", id])?;
        let state = cell(&now, "state");
        let has_asked = state == "claimed" && !now.get("seen_at").is_none_or(Value::is_null);
        let next = if has_asked {
            "; it has asked before, and asks again after a quarter of an hour"
        } else {
            ""
        };
        eprintln!("device {id}: claimed, grade {grade}, {state}{next}");
        self.devices.insert(id.to_owned(), now);
        Ok(())
    }
}
