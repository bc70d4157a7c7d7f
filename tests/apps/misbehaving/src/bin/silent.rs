//! Says that it is ready and shows a few signs of life, then none.

use holdfast_test_apps::notify;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    notify("READY=1")?;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(200));
        notify("WATCHDOG=1")?;
    }
    println!("silent from now on");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
