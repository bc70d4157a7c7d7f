//! What is demanded of the parsers of failure reports: batches, as the service reads them, and the spool's files, as a
//! device finds them after a cut of power.

use holdfast_failure_reports::batch::{Batch, Epoch, MAX_BATCH_BYTES};
use holdfast_failure_reports::frame;
use holdfast_failure_reports::moment::Moment;
use holdfast_failure_reports::panic_text::last_panic;
use holdfast_failure_reports::quota::Waiting;
use holdfast_failure_reports::record::{Body, Lost, LostWhy};
use holdfast_failure_reports::spool::{Change, File, Spool};

/// A batch: numbers rise, and each record has one encoding.
pub fn report_batch(bytes: &[u8]) {
    if let Ok(batch) = Batch::decode(bytes) {
        assert!(bytes.len() <= MAX_BATCH_BYTES);
        assert!(batch.records.is_sorted_by(|one, next| one.sequence < next.sequence));
        for record in &batch.records {
            let frame = frame::encode(record).unwrap_or_default();
            assert!(bytes.windows(frame.len()).any(|part| part == frame), "another encoding");
        }
    }
}

/// What a program has written last: what it says of a panic is in its last line of that kind, whatever stands before.
pub fn panic_text(bytes: &[u8]) {
    if let Some(panic) = last_panic(bytes) {
        let before = b"thread 'x' panicked at y:1:2:\nz\n";
        assert_eq!(last_panic(&[before, bytes].concat()), Some(panic));
    }
}

/// Both files in one, the second behind the first's length in two bytes. The spool goes on from whatever they hold.
pub fn report_spool(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let (a, b) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let mut files = [a.to_vec(), b.to_vec()];
    let mut spool = Spool::open([Some(a), Some(b)], Epoch([7; 8]), 0).spool;
    let waiting = |count| {
        let body = Body::Lost(Lost { why: LostWhy::Quota, count });
        Waiting { uptime_s: 1, at: None, body }
    };
    // So late that something may be written, whatever the files say of their budget.
    let now = Moment { uptime_s: 7 * 24 * 60 * 60, at: None };
    let Ok(appended) = spool.append(vec![waiting(1), waiting(2)], now) else {
        return;
    };
    for change in appended.changes {
        match change {
            Change::Begin(file, bytes) => *content(&mut files, file) = bytes,
            Change::Write(file, at, bytes) => {
                let content = content(&mut files, file);
                content.truncate(usize::try_from(at).unwrap_or(usize::MAX));
                content.extend(bytes);
            }
            Change::Remove(file) => content(&mut files, file).clear(),
        }
    }
    let [a, b] = &files;
    let sent = spool.batch([Some(a), Some(b)], usize::MAX);
    assert!(sent.is_some(), "a record is lost that was written");
}

fn content(files: &mut [Vec<u8>; 2], file: File) -> &mut Vec<u8> {
    let [a, b] = files;
    match file {
        File::A => a,
        File::B => b,
    }
}

#[cfg(test)]
pub(crate) use tests::seeds;

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_failure_reports::batch;
    use holdfast_failure_reports::samples;

    /// Every kind of record in a batch, and in a spool with one file and with two.
    pub(crate) fn seeds() -> [(&'static str, Vec<Vec<u8>>); 3] {
        let records = samples::records();
        let mut sent = batch::begin(Epoch([7; 8]));
        sent.extend(records.iter().flat_map(|record| frame::encode(record).unwrap()));
        let mut spool = Spool::open([None, None], Epoch([7; 8]), 0).spool;
        let waiting = records.into_iter().map(|record| Waiting {
            uptime_s: u64::from(record.uptime_s),
            at: record.at,
            body: record.body,
        });
        let now = Moment { uptime_s: 7 * 24 * 60 * 60, at: None };
        let changes = spool.append(waiting.collect(), now).unwrap().changes;
        let [Change::Begin(_, file)] = &changes[..] else { panic!("{changes:?}") };
        let length = u16::try_from(file.len()).unwrap().to_le_bytes();
        let one = [&length[..], file].concat();
        let two = [&length[..], file, file].concat();
        let panic =
            b"\nthread 'main' (17) panicked at src/main.rs:10:5:\nno door 7: shut\n".to_vec();
        [
            ("panic_text", vec![panic]),
            ("report_batch", vec![sent]),
            ("report_spool", vec![one, two]),
        ]
    }
}
