//! Every attack twice: under the plan of an app, where it must meet its error, and as PID 1 of a
//! machine without the defences, where it must succeed. And once more as PID 1 on the shipped
//! kernel, for what its configuration alone stops.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::suite::{NamedCheck, Needs, Suite, boxed, checks};
use crate::sandbox::attacks::{ATTACKS, Attack, Control};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::Root;
use holdfast_images::variant;
use holdfast_qemu::machine::Machine;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What the program said of one attack: `succeeded`, `errno N` or `signal N`.
pub(crate) type Outcomes = BTreeMap<String, String>;

/// What one boot has shown.
pub(crate) struct Shown {
    /// Everything that was on the console.
    pub(crate) text: String,
    pub(crate) outcomes: Outcomes,
}

impl Shown {
    pub(crate) fn of(text: String) -> Self {
        Self { outcomes: outcomes(&text), text }
    }
}

/// What all three boots have shown.
pub(crate) struct Runs {
    pub(crate) planned: Shown,
    pub(crate) control: Shown,
    pub(crate) bare: Shown,
}

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let mut checks = judgements(ATTACKS, |runs| runs);
    checks.extend(boxed(checks![
        dynamic_apps_run_with_their_own_libraries,
        the_table_of_attacks_is_whole,
        a_name_begins_no_line_of_the_log,
        a_lock_on_a_file_is_met_by_another_process
    ]));
    suite.with(Needs::Light).share_named(move || boot_all(artefacts), checks);
}

/// One check for each attack of a table, on what the boots have shown.
pub(crate) fn judgements<'a, T: 'a>(
    attacks: &'static [Attack],
    runs: fn(&T) -> &Runs,
) -> Vec<NamedCheck<'a, T>> {
    let check = |attack: &'static Attack| -> NamedCheck<'a, T> {
        let name = format!("attack_{}", attack.name.replace('-', "_"));
        let judge = move |shown: &mut T| {
            judge(attack, runs(shown))
                .with_context(|| format!("row {}, to be stopped by: {}", attack.row, attack.layers))
        };
        (name, Box::new(judge))
    };
    attacks.iter().map(check).collect()
}

fn dynamic_apps_run_with_their_own_libraries(runs: &mut Runs) -> Result<()> {
    for said in ["dynamic: greeting from its own library", "dynamic-rust: hello, world"] {
        ensure!(runs.planned.text.contains(said), "no `{said}` in:\n{}", runs.planned.text);
    }
    Ok(())
}

/// `names.c` has the kernel print four names. In the control each does what it is meant to: that the kernel prints them at
/// all is what the other two boots would not show.
fn a_name_begins_no_line_of_the_log(runs: &mut Runs) -> Result<()> {
    // What stands before a line is the time that the kernel gave it.
    let begins = |text: &str, line: &str| text.contains(&format!("] {line}"));
    let control = &runs.control.text;
    for line in ["init: forged 1", "init: forged 3", "init: forged 4"] {
        ensure!(begins(control, line), "the control has no line `{line}`:\n{control}");
    }
    ensure!(control.contains("comm: \u{1b}[7mforged 2"), "the control's terminal is not driven");
    for (boot, text) in [("app", &runs.planned.text), ("bare kernel", &runs.bare.text)] {
        for told in [
            "comm: ?init? forged 1,",
            "comm: ?[7mforged 2,",
            "] init? forged 3 calls setitimer()",
            "comm: ?init? forged 4,",
        ] {
            ensure!(text.contains(told), "{boot}: no `{told}`:\n{text}");
        }
        ensure!(!begins(text, "init: forged"), "{boot}: a name begins a line:\n{text}");
        ensure!(!text.contains('\u{1b}'), "{boot}: a name drives the terminal");
    }
    Ok(())
}

/// EAGAIN is what a lock of somebody else is met with.
fn a_lock_on_a_file_is_met_by_another_process(runs: &mut Runs) -> Result<()> {
    for kind in ["flock", "setlk", "ofd-setlk"] {
        let said = format!("hostile: locks: {kind} taken 0, held 11, released 0, after 0");
        let text = &runs.planned.text;
        ensure!(text.contains(&said), "no `{said}` in:\n{text}");
    }
    Ok(())
}

fn the_table_of_attacks_is_whole(runs: &mut Runs) -> Result<()> {
    let listed = |name: &String| ATTACKS.iter().any(|attack| attack.name == name);
    for name in runs.planned.outcomes.keys() {
        ensure!(listed(name), "{name} is not in the table");
    }
    Ok(())
}

fn judge(attack: &Attack, runs: &Runs) -> Result<()> {
    let said = |shown: &Shown, of: &str| {
        let outcome = shown.outcomes.get(attack.name).cloned();
        outcome.with_context(|| format!("{of} did not try it"))
    };
    let planned = said(&runs.planned, "the app")?;
    let meets = attack.meets;
    ensure!(
        planned == format!("errno {}", meets.1),
        "under the plan: {planned}, not {} ({})",
        meets.0,
        meets.1
    );
    let control = said(&runs.control, "the control")?;
    match attack.control {
        Control::Succeeds => ensure!(control == "succeeded", "the control: {control}"),
        // Once it does succeed, the reason is none any more.
        Control::None(reason) => ensure!(control != "succeeded", "it has a control: {reason}"),
    }
    if let Some(errno) = attack.on_bare_kernel {
        let bare = said(&runs.bare, "the bare kernel")?;
        ensure!(
            bare == format!("errno {}", errno.1),
            "on the bare kernel: {bare}, not {} ({})",
            errno.0,
            errno.1
        );
    }
    Ok(())
}

fn boot_all(artefacts: &Artefacts) -> Result<Runs> {
    let image = artefacts.image("hostile");
    let program = fs::read(artefacts.programs.join("hostile"))?;
    let kernel = fs::read(artefacts.images.join("control-zImage"))?;
    let mut dynamic = Vec::new();
    for path in ["bin/app", "lib/ld-linux-armhf.so.3", "lib/libc.so.6", "lib/libgreeting.so"] {
        dynamic.push((path, fs::read(artefacts.programs.join("dynamic/root").join(path))?));
    }
    let directory = tempfile::tempdir()?;
    let signer = artefacts.signer()?;
    let variant = |name: &str, kernel: Option<Vec<u8>>| -> Result<Shown> {
        let path = directory.path().join(name);
        variant::with_kernel_and_root(&image, &path, &signer, kernel, |root: &mut Root| {
            root.add("sbin/init", program.clone(), true);
            root.add("bin/hostile", program.clone(), true);
            for (path, bytes) in &dynamic {
                root.add(*path, bytes.clone(), true);
            }
        })?;
        Ok(Shown::of(boot(&path)?))
    };
    Ok(Runs {
        planned: Shown::of(boot(&image)?),
        control: variant("control", Some(kernel))?,
        bare: variant("bare", None)?,
    })
}

/// Boots an image until its attacks are over, and gives what the console showed.
fn boot(image: &Path) -> Result<String> {
    let mut guest = Machine::new(image, 64).start(None)?;
    guest.wait_anywhere("dynamic attacks are over", BOOT)?;
    guest.wait_anywhere("the attacks are over", BOOT)?;
    Ok(guest.console.text())
}

fn outcomes(text: &str) -> Outcomes {
    let said = text.lines().filter_map(|line| line.split_once("attack ")?.1.split_once(' '));
    said.map(|(name, outcome)| (name.to_owned(), outcome.trim_end().to_owned())).collect()
}
