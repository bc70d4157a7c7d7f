//! Pages with commands, block by block, as a reader would.

use crate::harness::artefacts::{Artefacts, checkout, fleet_simulator, host_tool};
use crate::harness::suite::{Needs, Suite, check};
use anyhow::{Context, Result, bail, ensure};
use holdfast_qemu::console::Console;
use holdfast_qemu::settings;
use regex::Regex;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Time for a page, whose commands build images.
const PAGE: Duration = Duration::from_secs(900);
/// Time for the page on fleets, whose devices check in each minute, in seven stages.
const FLEET: Duration = Duration::from_secs(3000);
/// Most commands from nothing to a device that talks to a broker.
const MOST_COMMANDS: usize = 12;
/// Time for each line of the guest's console.
const WAIT: Duration = Duration::from_secs(240);
/// The same for a fleet, whose devices start one after the other and come for releases at their check-ins.
const WAIT_FOR_A_FLEET: Duration = Duration::from_secs(900);
/// What the reader types as `cargo holdfast`, and as `cargo run` of the simulator: programs that are built already.
const CARGO: &str = "cargo() { if test \"$*\" = 'run --package holdfast-fleet -- outbreak'; then \"$FLEET\" outbreak; \
                     else test \"$1\" = holdfast; shift; \"$HOLDFAST\" \"$@\"; fi; }";

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite.with(Needs::Alone).within(PAGE), the_page_on_updates_works_as_printed());
    check!(suite.with(Needs::Alone).within(PAGE), the_page_on_operations_works_as_printed());
    if artefacts.effort.authentication {
        check!(
            suite.with(Needs::Alone).within(PAGE),
            the_page_on_the_security_service_works_as_printed()
        );
        check!(
            suite.with(Needs::Alone).within(PAGE),
            the_page_on_failure_reports_works_as_printed()
        );
        check!(suite.with(Needs::Alone).within(FLEET), the_page_on_fleets_works_as_printed());
    }
}

fn the_page_on_updates_works_as_printed() -> Result<()> {
    let root = checkout();
    let _ = fs::remove_dir_all(root.join("target/updates"));
    with_a_device(&root, "docs/updates.md", WAIT)
}

fn the_page_on_the_security_service_works_as_printed() -> Result<()> {
    let root = checkout();
    for made in ["target/holdfast/attested.service", "target/mqtt"] {
        let _ = fs::remove_dir_all(root.join(made));
    }
    let page = fs::read_to_string(root.join("docs/security-service.md"))?;
    let commands: usize = blocks(&page).iter().map(Block::commands).sum();
    ensure!(commands <= MOST_COMMANDS, "the page has {commands} commands");
    with_a_device(&root, "docs/security-service.md", WAIT)
}

fn the_page_on_failure_reports_works_as_printed() -> Result<()> {
    let root = checkout();
    for made in ["target/holdfast/attested.service", "target/pump"] {
        let _ = fs::remove_dir_all(root.join(made));
    }
    with_a_device(&root, "docs/failure-reports.md", WAIT)
}

fn the_page_on_fleets_works_as_printed() -> Result<()> {
    let root = checkout();
    for made in ["target/holdfast/pumps.service", "target/fleet"] {
        let _ = fs::remove_dir_all(root.join(made));
    }
    with_a_device(&root, "docs/fleet.md", WAIT_FOR_A_FLEET)
}

/// Runs a page's commands and its device, and waits for what the device prints.
fn with_a_device(root: &Path, page: &str, wait: Duration) -> Result<()> {
    let blocks = blocks(&fs::read_to_string(root.join(page))?);
    ensure!(blocks.len() > 4, "the blocks were not found");
    let (mut guest, mut servers): (Option<Terminal>, Vec<Terminal>) = (None, Vec::new());
    for Block { kind, text } in blocks {
        match kind.as_str() {
            "sh" => shell(root, &text)?,
            "sh server" => servers.push(Terminal::start(root, &text)?),
            "sh guest" => guest = Some(Terminal::start(root, &text)?),
            "console" => {
                let guest = guest.as_mut().context("no device yet")?;
                text.lines().try_for_each(|line| guest.shows(line, wait))?;
            }
            other => bail!("a block of kind `{other}`"),
        }
    }
    Ok(())
}

fn the_page_on_operations_works_as_printed() -> Result<()> {
    let root = checkout();
    let _ = fs::remove_dir_all(root.join("target/operations"));
    commands(&root, "docs/operations.md")
}

/// A page whose blocks are all commands.
fn commands(root: &Path, page: &str) -> Result<()> {
    let blocks = blocks(&fs::read_to_string(root.join(page))?);
    ensure!(blocks.len() > 6, "the blocks were not found");
    blocks.iter().try_for_each(|block| shell(root, &block.text))
}

struct Block {
    kind: String,
    text: String,
}

impl Block {
    /// How many commands a reader types in it: lines, but for those that go on.
    fn commands(&self) -> usize {
        let goes_on = |line: &&str| !line.ends_with('\\');
        if self.kind.starts_with("sh") { self.text.lines().filter(goes_on).count() } else { 0 }
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("\n```") {
        let Some((kind, after)) = after.split_once('\n') else { break };
        let Some((text, after)) = after.split_once("\n```") else { break };
        blocks.push(Block { kind: kind.to_owned(), text: text.to_owned() });
        rest = after;
    }
    blocks
}

fn command(root: &Path, text: &str) -> Result<Command> {
    let mut command = Command::new("bash");
    command
        .args(["-e", "-c", &format!("{CARGO}\n{text}")])
        .current_dir(root)
        .env("HOLDFAST", host_tool()?)
        .env("FLEET", fleet_simulator()?)
        // A session that a page opens is not the one of whoever runs the tests.
        .env("HOLDFAST_CONFIG", root.join("target/session-of-pages"))
        .stdin(Stdio::null());
    Ok(command)
}

fn shell(root: &Path, text: &str) -> Result<()> {
    let output = command(root, text)?.output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&said));
    Ok(())
}

/// A command of the page in a terminal of its own: the guest, or a server.
struct Terminal {
    process: Child,
    console: Console,
    position: usize,
}

impl Terminal {
    fn start(root: &Path, text: &str) -> Result<Self> {
        // In place of the shell, so that it ends with this test.
        let text = match text.strip_prefix("cargo holdfast") {
            Some(arguments) => format!("exec \"$HOLDFAST\"{arguments}"),
            None => format!("exec {text}"),
        };
        let mut process = command(root, &text)?
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let output = process.stdout.take().context("no output")?;
        Ok(Self { process, console: Console::collect(output, None), position: 0 })
    }

    /// Waits for a line of the console, behind the one before.
    fn shows(&mut self, line: &str, wait: Duration) -> Result<()> {
        let pattern = Regex::new(&regex::escape(line))?;
        let within = settings::scaled(wait);
        let (_, end) = self.console.wait_from(self.position, &pattern, within)?;
        self.position = end;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // With the guest that it has started.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["--", &group]).status();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_kinds() {
        let found = blocks("a\n```sh\none\ntwo\n```\nb\n```console\nthree\n```\n");
        let parts: Vec<_> = found.iter().map(|b| (b.kind.as_str(), b.text.as_str())).collect();
        assert_eq!(parts, [("sh", "one\ntwo"), ("console", "three")]);
        let commands: Vec<usize> = found.iter().map(Block::commands).collect();
        assert_eq!(commands, [2, 0]);
        let long = Block { kind: "sh guest".to_owned(), text: "a \\\n  b\nc".to_owned() };
        assert_eq!(long.commands(), 2);
    }
}
