//! The service itself: its disk, its database, and whether it looks for threats.

use crate::ask::{Ask, Query};
use crate::chart::{self, Part};
use crate::failure::Failure;
use crate::mood;
use crate::page::Page;
use crate::rows::{Catalog, Status};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

/// Seconds without a round of threat detection after which it is said to be away: three of its leases.
const LATE_S: u64 = 9 * 60;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    status: Status,
    catalog: Catalog,
}

#[derive(Template)]
#[template(path = "health.html")]
struct Body<'a> {
    viewer: &'a Viewer,
    status: &'a Status,
    catalog: &'a Catalog,
    disk: Vec<Part>,
    detection: (&'static str, &'static str),
}

/// Returns how threat detection stands: its mood and a word.
fn detection(status: &Status) -> (&'static str, &'static str) {
    match status.evaluated_at {
        None => ("warn", "has not looked yet"),
        Some(at) if status.now.saturating_sub(at) > LATE_S => ("bad", "is late"),
        Some(_) => ("good", "looks"),
    }
}

/// Returns what there is room for, in a sentence.
fn room_says(room: &str) -> &'static str {
    match room {
        "all" => "There is room for everything.",
        "no-reports" => {
            "Reports and symbols are refused, since the disk is nearly full. Check-ins and changes go on."
        }
        _ => "Nothing but check-ins is written, since the disk is full.",
    }
}

/// Shows the service itself.
pub(crate) async fn health(ask: &Ask, viewer: &Viewer) -> Result<Page, Failure> {
    let status: Status = ask.get_from("/v1/status").await?;
    let document = Document { catalog: ask.get("", &Query::default()).await?, status };
    let status = &document.status;
    let disk = status.disk.as_ref().map_or_else(Vec::new, |disk| {
        let used = disk.total_bytes.saturating_sub(disk.free_bytes);
        chart::stack(&[("used", "info", used), ("free", "off", disk.free_bytes)])
    });
    let body =
        Body { viewer, status, catalog: &document.catalog, disk, detection: detection(status) };
    Ok(Page::new("Service", &document, &body)?.that_refreshes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detection_that_is_away_is_said() {
        let status = |evaluated_at| Status {
            version: String::new(),
            database: String::new(),
            now: 10_000,
            disk: None,
            evaluated_at,
        };
        let words = [None, Some(9_990), Some(1_000)].map(|at| detection(&status(at)).1);
        assert_eq!(words, ["has not looked yet", "looks", "is late"]);
        assert!(room_says("check-ins").contains("full"));
    }
}
