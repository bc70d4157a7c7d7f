//! `device status` reads what init has printed.

use crate::holdfast::{checkout, holdfast, stderr, stdout};
use std::process::Output;

const LOG: &str = "[    0.9] init: status: slot=b phase=falling-back next=a tries_a=0 tries_b=2 \
good_a=0 good_b=1 image=pump version=1.4.0 board=qemu-virt rollback_index=3 floor=3 tpm=failed \
last_reset=kernel panic: Attempted to kill init!\r\n[    1.2] pump: init: status: slot=a\n";

fn status(text: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("console.log");
    std::fs::write(&log, text).unwrap();
    let log = log.to_string_lossy();
    holdfast(checkout(), &[&["device", "status"], arguments, &[&*log]].concat())
}

#[test]
fn the_last_status_of_init_is_shown_and_what_a_component_says_is_not() {
    let output = status(LOG, &[]);
    let text = stdout(&output);
    assert!(output.status.success(), "{output:?}");
    for line in [
        "slot            b, falling-back",
        "slot a          0 tries left, not good",
        "image           pump 1.4.0 for qemu-virt",
        "TPM             failed",
        "last reset      kernel panic: Attempted to kill init!",
    ] {
        assert!(text.contains(line), "no `{line}` in: {text}");
    }
    let output = status(LOG, &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json.pointer("/boot_state/b/tries"), Some(&2.into()), "{json}");
    assert_eq!(json.pointer("/tpm"), Some(&"failed".into()), "{json}");
}

#[test]
fn a_log_without_a_status_is_an_error_that_names_the_file() {
    let output = status("hello: heartbeat 1\n", &[]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains("console.log: no line of the log has init's `status:`"), "{message}");
}
