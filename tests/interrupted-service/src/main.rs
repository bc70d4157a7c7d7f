//! `interrupted-service FOLDER`: runs the Security Service of a folder as `holdfast-service run` does, with an observer that stops it at
//! a moment of a request.
//!
//! It prints `listening DEVICE MANAGEMENT`. For each line `stop at MOMENT N` of its standard input it prints `armed MOMENT N`; when that
//! moment is reached for the Nth time from then on, it prints `stopped at MOMENT`, and the thread that has reached it goes no further. It
//! ends with its standard input, so that nothing of it outlives the test that has started it.

use holdfast_service::{run, settings};
use holdfast_service_store::moment::{Moment, Observer};
use holdfast_types::chain;
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// The moment at which the service stops, if it does, and how often it has to be reached.
type Armed = Arc<Mutex<Option<(Moment, u32)>>>;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("interrupted-service: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("which folder? interrupted-service FOLDER")?;
    let armed = Armed::default();
    let (end, ended) = oneshot::channel();
    let of_input = armed.clone();
    std::thread::spawn(move || {
        obey(&of_input);
        let _ = end.send(());
    });
    let observer = Observer::new(move |moment| stop_at(&armed, moment));
    // A worker that was stopped must not hold up the rest, or the test would see what it is not looking for.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_all().build()?;
    let served = runtime.block_on(async {
        let settings = settings::load(&folder)?;
        let running =
            run::start_observed(&folder, &settings, run::system_clock(), observer).await?;
        say(&format!("listening {} {}", running.device, running.management));
        let _ = ended.await;
        Ok(())
    });
    // A thread that was stopped is not waited for.
    runtime.shutdown_background();
    served
}

/// Reads standard input to its end.
fn obey(armed: &Armed) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Some((moment, times)) = stop(&line) else {
            say(&format!("unknown: {line}"));
            continue;
        };
        *armed.lock().unwrap_or_else(PoisonError::into_inner) = Some((moment, times));
        say(&format!("armed {} {times}", moment.word()));
    }
}

/// Reads `stop at MOMENT N`.
fn stop(line: &str) -> Option<(Moment, u32)> {
    let (moment, times) = line.strip_prefix("stop at ")?.split_once(' ')?;
    Some((Moment::of_word(moment)?, times.parse().ok()?))
}

/// Stops the thread for good if this is the moment, for the last time.
fn stop_at(armed: &Armed, moment: Moment) {
    let is_last = {
        let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
        match armed.as_mut() {
            Some((wanted, times)) if *wanted == moment => {
                *times = times.saturating_sub(1);
                *times == 0
            }
            _ => false,
        }
    };
    if !is_last {
        return;
    }
    say(&format!("stopped at {}", moment.word()));
    loop {
        std::thread::park();
    }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Whoever has started it is gone where this fails, and then its input ends.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
