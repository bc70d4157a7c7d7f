//! The space of the file system that the service's folder is on, and what is logged when it runs out.

use holdfast_service_api::Service;
use holdfast_service_api::service::Measure;
use holdfast_service_domain::disk::{Room, Space};
use holdfast_types::event::security_service::{DISK_LOW, DISK_RECOVERED};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(60);

/// Returns what measures the file system of a folder.
#[must_use]
pub fn of(folder: &Path) -> Measure {
    let folder = folder.to_owned();
    Arc::new(move || space(&folder))
}

/// Asks the kernel for the space of a file system (statvfs(3)): what this process may still write, of what there is.
fn space(folder: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
}

/// Says when there is less room, and when there is more again.
pub(crate) async fn watch(service: Arc<Service>, mut end: watch::Receiver<bool>) {
    let mut before = Room::All;
    loop {
        let room = service.disk.room();
        if room != before {
            let (words, event) = match room {
                Room::All => ("the disk has room again", DISK_RECOVERED),
                Room::NoReports => {
                    ("the disk is nearly full: reports and symbols are refused", DISK_LOW)
                }
                Room::CheckIns => {
                    ("the disk is full but for a rest: nothing but check-ins is written", DISK_LOW)
                }
            };
            eprintln!("{words} {event}");
            before = room;
        }
        tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_more_space_than_is_free_and_a_missing_one_none() {
        let here = space(Path::new("/")).unwrap();
        assert!(here.total_bytes > 0 && here.free_bytes <= here.total_bytes, "{here:?}");
        assert_eq!(space(Path::new("/nowhere")), None);
    }
}
