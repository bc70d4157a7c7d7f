//! Checks of the documentation against the sources: what a page says of the code is compared with the code.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_failure_reports::privacy::FIELDS;
use holdfast_types::event::COMPONENTS;
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a directory whose names end in `.EXTENSION`, sorted; build outputs and hidden directories excepted.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text of all Rust sources below these directories of the checkout.
fn sources(directories: &[&str]) -> String {
    let files = directories.iter().flat_map(|directory| files(&root().join(directory), "rs"));
    files.map(|file| read(&file)).collect()
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let page = read(&root().join("docs/promises.md"));
    let of_tests = [
        "cli/tests",
        "tests/system/src",
        "tests/interrupted-service",
        "tests/service-fleet",
        "os",
        "services",
        "tests/symbol-worker",
        "security-service",
        "sdk",
    ];
    let (tests, all) = (sources(&of_tests), sources(&["."]));
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let promises: Vec<&str> =
        rows.filter(|row| !row.starts_with("| promise |") && !row.starts_with("| --- |")).collect();
    assert!(promises.len() > 30, "the tables of promises were not found");
    for promise in promises {
        let (_, kept_by) = promise.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        let names: Vec<&str> = kept_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test for: {promise}");
        for name in names {
            if kept_by.contains(&format!("stage `{name}`")) {
                assert!(all.contains(&format!("stage(\"{name}\"")), "there is no stage {name}");
                continue;
            }
            // The names of attacks are made from the table's.
            let attack = name.strip_prefix("attack_").map(|attack| attack.replace('_', "-"));
            let name = attack.as_deref().unwrap_or(name);
            let is_there = tests.contains(&format!("\"{name}\""))
                || tests.contains(&format!("fn {name}("))
                || tests.contains(&format!(" {name}: "));
            assert!(is_there, "there is no test {name}");
        }
    }
}

/// Every page for people: those of `docs/`, and those in the root of the checkout.
fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), "md");
    for entry in std::fs::read_dir(root()).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "md") {
            pages.push(entry.path());
        }
    }
    assert!(pages.len() > 40, "the pages were not found");
    pages
}

/// Compares a page with what the code says, or writes it where `HOLDFAST_WRITE_DOCS` is set.
fn assert_is_current(page: &str, text: &str) {
    let path = root().join(page);
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert!(
        read(&path) == text,
        "{page} is stale; write it with \
         `HOLDFAST_WRITE_DOCS=1 cargo test --package xtask --test documentation`"
    );
}

/// A page without its fenced blocks and its code spans, in which nothing is a link.
fn prose(text: &str) -> String {
    let fenced = Regex::new(r"(?ms)^```.*?^```").unwrap();
    let spans = Regex::new("`[^`\n]*`").unwrap();
    spans.replace_all(&fenced.replace_all(text, ""), "").into_owned()
}

/// Targets of all links of a page, as they are written.
fn links(text: &str) -> Vec<String> {
    let link = Regex::new(r"\]\(([^()\s]+)\)").unwrap();
    link.captures_iter(&prose(text)).map(|found| found[1].to_owned()).collect()
}

/// Anchors of a page's headings, as repository hosts and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let fenced = Regex::new(r"(?ms)^```.*?^```").unwrap();
    let text = fenced.replace_all(text, "");
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}: there is no such file", page.display());
            assert!(
                anchor.is_empty() || anchors(&read(&target)).contains(anchor),
                "{}: {link}: there is no such heading",
                page.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 100, "the links were not found");
}

#[test]
fn links_and_anchors_are_found() {
    let text = "# The `A/B` slot, _now_\n[a](b.md) `[c](d.md)`\n```\n[e](f.md)\n# No heading\n```\n[g](#h)\n";
    assert_eq!(links(text), ["b.md", "#h"]);
    assert_eq!(anchors(text), BTreeSet::from(["the-ab-slot-_now_".to_owned()]));
}

#[test]
fn every_page_is_in_the_summary_once() {
    let docs = root().join("docs");
    let summary = docs.join("SUMMARY.md");
    let mut listed = BTreeMap::new();
    for link in links(&read(&summary)) {
        *listed.entry(docs.join(&link)).or_insert(0) += 1;
    }
    for page in files(&docs, "md").into_iter().filter(|page| *page != summary) {
        let times = listed.remove(&page).unwrap_or(0);
        assert_eq!(times, 1, "{}: docs/SUMMARY.md lists it {times} times", page.display());
    }
    assert!(listed.is_empty(), "docs/SUMMARY.md lists what is no page of docs/: {listed:?}");
}

/// The first sentence of a file's `//!` comment, for a cell of a table.
fn first_sentence(file: &Path) -> String {
    let text = read(file);
    let lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    assert!(!paragraph.is_empty(), "{}: begins without a `//!` comment", file.display());
    let paragraph = paragraph.join(" ");
    let sentence = paragraph.split_once(". ").map_or(paragraph.as_str(), |(first, _)| first);
    let link = Regex::new(r"\[(`[^`]+`)\](?:\([^)]*\))?").unwrap();
    link.replace_all(sentence.trim_end_matches(['.', ':']), "$1").replace('|', "\\|")
}

/// The section of the map of the code on one package of cargo's metadata.
fn section(package: &Value) -> (String, String) {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let directory = manifest.parent().unwrap().strip_prefix(root()).unwrap();
    let targets: Vec<(&str, PathBuf)> = package["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| (target["kind"][0].as_str().unwrap(), target["src_path"].as_str().unwrap()))
        .map(|(kind, path)| (kind, Path::new(path).strip_prefix(root()).unwrap().to_owned()))
        .collect();
    let source = directory.join("src");
    let crate_root = ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter();
    let crate_root = crate_root.into_iter().find(|path| root().join(path).is_file()).unwrap();
    let mut modules = BTreeMap::new();
    for file in files(&root().join(&source), "rs") {
        let path = file.strip_prefix(root()).unwrap();
        if path == crate_root || path.ends_with("tests.rs") {
            continue;
        }
        let name = path.strip_prefix(&source).unwrap().with_extension("");
        let name = if name.ends_with("mod") { name.parent().unwrap().to_owned() } else { name };
        modules.insert(name.to_str().unwrap().replace('/', "::"), path.to_owned());
    }
    let name = package["name"].as_str().unwrap();
    let directory = directory.to_str().unwrap();
    let about = first_sentence(&root().join(&crate_root));
    let mut text = format!("\n## `{directory}`\n\n`{name}`: {about}.\n");
    let mut tests: Vec<PathBuf> =
        targets.into_iter().filter(|(kind, _)| *kind == "test").map(|(_, path)| path).collect();
    tests.sort();
    let named = |path: PathBuf| {
        let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
        (name, path)
    };
    let rows: Vec<_> = modules.into_iter().chain(tests.into_iter().map(named)).collect();
    if !rows.is_empty() {
        text.push_str("\n| module | what is in it |\n| --- | --- |\n");
    }
    for (name, path) in rows {
        let about = first_sentence(&root().join(&path));
        writeln!(text, "| [`{name}`](../{}) | {about} |", path.display()).unwrap();
    }
    (directory.to_owned(), text)
}

#[test]
fn the_map_of_the_code_is_current() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sections: BTreeMap<String, String> =
        metadata["packages"].as_array().unwrap().iter().map(section).collect();
    let mut text = "# Map of the code\n\n\
         Written by a test of `xtask` from the first `//!` sentence of each crate and module (`HOLDFAST_WRITE_DOCS=1`); do not edit. \
         [architecture.md](architecture.md)\n\
         says what the directories are for and how the crates work together.\n"
        .to_owned();
    text.extend(sections.into_values());
    assert_is_current("docs/code-map.md", &text);
}

/// What programs can print: their sources without their tests, with each string literal on one line.
fn printable() -> String {
    let mut text = String::new();
    for file in files(&root(), "rs") {
        let path = file.strip_prefix(root()).unwrap();
        let is_test = path.iter().any(|part| part == "tests" || part == "tests.rs");
        if !is_test {
            let source = read(&file);
            text.push_str(source.split("#[cfg(test)]").next().unwrap_or_default());
        }
    }
    let continued = Regex::new(r"\\\n\s*").unwrap();
    continued.replace_all(&text, "").replace("\\\"", "\"")
}

/// The parts of a quoted line that stand in the sources as they are: between what differs and what is put together.
fn parts(line: &str) -> Vec<&str> {
    let programs = ["init: ", "network: ", "update: ", "uplink: ", "identity: ", "holdfast: "];
    let line = programs.iter().find_map(|program| line.strip_prefix(program)).unwrap_or(line);
    let parts = line.split('…').flat_map(|part| part.split(": ")).flat_map(|part| part.split("; "));
    parts.map(|part| part.trim_matches([' ', ':'])).filter(|part| !part.is_empty()).collect()
}

#[test]
fn every_line_of_the_page_on_troubleshooting_is_in_the_sources() {
    let (page, printable) = (read(&root().join("docs/troubleshooting.md")), printable());
    let mut checked = 0;
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split(" | ").next().unwrap();
        for line in cell.split('`').skip(1).step_by(2) {
            let parts = parts(line);
            assert!(parts.iter().any(|part| part.len() >= 6), "`{line}`: says too little");
            for part in parts {
                assert!(printable.contains(part), "`{line}`: nothing prints `{part}`");
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "the lines were not found");
}

#[test]
fn a_quoted_line_falls_into_the_parts_that_are_in_the_sources() {
    assert_eq!(parts("init: … is not started: …"), ["is not started"]);
    assert_eq!(parts("update: …: … has … of … keys"), ["has", "of", "keys"]);
}

#[test]
fn the_page_on_events_is_current() {
    const ABOUT: &str = "# Events of the log\n\n\
         What a line of the log reports, by a name that stays the same however the line is worded: what alerts, dashboards and reports key on. What to do\n\
         about a line stands in [troubleshooting.md](troubleshooting.md).\n\n\
         ```text\n\
         [    4.218310] init: cannot persist the clock floor: No space left on device (os error 28) event=clock_floor_persist_failed\n\
         ```\n\n\
         - A line of init, and of a service of the OS, begins with the component's name and ends in ` event=NAME`. A name counts only below the heading of\n  \
           the component that the line begins with: init puts that in front of each line, so that an app, which may print `event=` as\n  \
           well, prints it under its own name, where it means nothing. No app of an image has the name of one of its services, or `init`.\n\
         - A name is never given to another event. One that nothing logs any more goes, and the CHANGELOG says so.\n\
         - The text between is for people: it may be reworded, and is cut where it is too long, while the event is not. A line of a service that is longer\n  \
           than 240 bytes goes on in the next, under the same name, and that one ends in the event.\n\
         - init's `status:` line has no event, since programs read it to its end (`device status`); nor has what apps print, or what the kernel\n  \
           says. Releases up to 0.1.0 had no events.\n\n\
         Written by a test of `xtask` from `os/types/src/event` (`HOLDFAST_WRITE_DOCS=1`); do not edit this page.\n";
    let mut text = ABOUT.to_owned();
    for (component, events) in COMPONENTS {
        write!(text, "\n## {component}\n\n| event | meaning |\n| --- | --- |\n").unwrap();
        for (event, meaning) in *events {
            writeln!(text, "| `{}` | {} |", event.name(), meaning.trim().replace('|', "\\|"))
                .unwrap();
        }
    }
    assert_is_current("docs/events.md", &text);
}

#[test]
fn the_page_on_failure_reports_lists_every_field_that_is_sent() {
    let page = read(&root().join("docs/failure-reports.md"));
    let (front, rest) = page.split_once("<!-- fields -->\n").unwrap();
    let (_, back) = rest.split_once("<!-- end of fields -->").unwrap();
    let mut table =
        "| field | kind of information | what it tells |\n| --- | --- | --- |\n".to_owned();
    for field in FIELDS {
        let class = format!("{:?}", field.class).to_lowercase();
        writeln!(table, "| `{}` | {class} | {} |", field.name, field.tells).unwrap();
    }
    let text = format!("{front}<!-- fields -->\n{table}<!-- end of fields -->{back}");
    assert_is_current("docs/failure-reports.md", &text);
}

#[test]
fn every_event_is_logged_somewhere() {
    let printable = printable();
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for word in printable.split(|c| !is_of_word(c)) {
        *words.entry(word).or_default() += 1;
    }
    for (component, events) in COMPONENTS {
        for (event, _) in *events {
            let constant = event.name().to_uppercase();
            let times = words.get(constant.as_str()).copied().unwrap_or(0);
            // Once where it is declared.
            assert!(times > 1, "{component}: nothing logs {constant}");
        }
    }
}

/// `cargo holdfast …` in the blocks of a page, without what a shell does with its output.
fn commands(text: &str) -> Vec<String> {
    let blocks = Regex::new(r"(?ms)^```[^\n]*\n(.*?)^```|^\n((?:    [^\n]*\n)+)").unwrap();
    let command = Regex::new(r"cargo holdfast ([^|&;#>)'`\\\n]+)").unwrap();
    let mut found = Vec::new();
    for block in blocks.captures_iter(text) {
        let block = block.get(1).or_else(|| block.get(2)).unwrap().as_str().replace("\\\n", " ");
        found.extend(command.captures_iter(&block).map(|found| found[1].trim().to_owned()));
    }
    found
}

#[test]
fn every_command_of_a_page_is_one_that_there_is() {
    let mut checked = 0;
    for page in pages() {
        for command in commands(&read(&page)) {
            // With `--help`, what stands before it is read and nothing is done.
            let output = Command::new("sh")
                .args(["-c", &format!("exec \"$HOLDFAST\" {command} --help")])
                .env("HOLDFAST", env!("CARGO_BIN_EXE_xtask"))
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}: cargo holdfast {command}\n{}",
                page.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            checked += 1;
        }
    }
    assert!(checked > 60, "the commands were not found");
}

#[test]
fn commands_are_found_in_both_kinds_of_blocks() {
    let text = "cargo holdfast run\n```sh\ncd a\ncargo holdfast key new \\\n  --for app # one\n```\n\n    \
                cargo holdfast test | tee b\n\nc\n";
    assert_eq!(commands(text), ["key new    --for app", "test"]);
}

/// What the top of a decision's page says: its row of the index, and its entry of the summary.
fn decision(path: &Path) -> (String, String) {
    let file = path.file_name().unwrap().to_str().unwrap();
    let page = Regex::new(
        r"\A# (?<number>\d+)\. (?<title>.+)\n\n- Status: (?<status>.+)\n- Date: (?<date>\d{4}-\d{2}-\d{2})\n\n",
    )
    .unwrap();
    let text = read(path);
    let page = page.captures(&text).unwrap_or_else(|| {
        panic!("{file}: must begin with `# N. TITLE`, `- Status: …` and `- Date: YYYY-MM-DD`")
    });
    let (number, title, status) = (&page["number"], &page["title"], &page["status"]);
    let number_of_file: String = file.chars().take_while(char::is_ascii_digit).collect();
    assert_eq!(number_of_file, format!("{number:0>4}"), "{file}: its title has another number");
    let superseded = Regex::new(r"^superseded by \[\d+\]\(\d{4}-[a-z0-9-]+\.md\)$").unwrap();
    assert!(
        ["proposed", "accepted"].contains(&status) || superseded.is_match(status),
        "{file}: Status: must be `proposed`, `accepted` or `superseded by [N](FILE)`"
    );
    let row = format!("| [{number}]({file}) | {title} | {status} | {} |\n", &page["date"]);
    (row, format!("[{number}. {title}](decisions/{file})"))
}

#[test]
fn the_index_of_decisions_is_current() {
    const ABOUT: &str = "# Decisions\n\n\
         Each page says one decision: the problem, what was decided, and the evidence. A decision that no longer holds stays, with the status\n\
         \"superseded by\" and a link to the one that took its place; one that was only proposed says so. A new one takes the next number, says status and date\n\
         below its title, and is listed in [SUMMARY.md](../SUMMARY.md).\n\n\
         The table is written by a test of `xtask` from the pages (`HOLDFAST_WRITE_DOCS=1`); do not edit this page.\n\n\
         | | decision | status | date |\n| --- | --- | --- | --- |\n";
    let directory = root().join("docs/decisions");
    let pages = files(&directory, "md");
    let decisions: Vec<_> = pages
        .iter()
        .filter(|page| !page.ends_with("README.md"))
        .map(|page| decision(page))
        .collect();
    let summary = read(&root().join("docs/SUMMARY.md"));
    let mut text = ABOUT.to_owned();
    for (row, entry) in decisions {
        assert!(summary.contains(&entry), "docs/SUMMARY.md: must have {entry}");
        text.push_str(&row);
    }
    assert_is_current("docs/decisions/README.md", &text);
}

/// The workflows of CI.
fn workflows() -> Vec<PathBuf> {
    let workflows = files(&root().join(".github/workflows"), "yml");
    assert!(!workflows.is_empty(), "the workflows were not found");
    workflows
}

#[test]
fn workflows_may_read_alone_and_pin_what_they_use() {
    let uses = Regex::new(r"(?m)^\s*(?:- )?uses: (.+)$").unwrap();
    let pinned = Regex::new(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$").unwrap();
    for workflow in workflows() {
        let (name, text) = (workflow.display(), read(&workflow));
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{name}: may do too much");
        assert!(!text.contains("write-all") && !text.contains(": write"), "{name}: may write");
        for used in uses.captures_iter(&text) {
            assert!(pinned.is_match(&used[1]), "{name}: {}: is pinned by no commit", &used[1]);
        }
        let jobs = text.matches("    runs-on: ").count();
        assert_eq!(
            jobs,
            text.matches("    timeout-minutes: ").count(),
            "{name}: a job without a time"
        );
    }
}

#[test]
fn workflows_run_stages_that_there_are() {
    let command = Regex::new(r"cargo holdfast test ([^\n]+)").unwrap();
    let all = sources(&["."]);
    let mut named = BTreeSet::new();
    for workflow in workflows() {
        let text = read(&workflow).replace("${{ matrix.shard }}", "1");
        for command in command.captures_iter(&text) {
            let mut words = command[1].split(' ').peekable();
            while let Some(stage) = words.next_if(|word| !word.starts_with('-')) {
                assert!(
                    all.contains(&format!("stage({}", quoted(stage))),
                    "there is no stage {stage}"
                );
                named.insert(stage.to_owned());
            }
            let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
                .arg("test")
                .args(words)
                .arg("--help")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    for stage in ["lint", "fuzz", "unit", "images", "system", "boards"] {
        assert!(named.contains(stage), "no workflow runs {stage}");
    }
}

/// A stage as it stands in the table: by its name, or by the constant that has its name.
fn quoted(stage: &str) -> String {
    match stage {
        "unit-pure" => "UNIT_PURE".to_owned(),
        other => format!("\"{other}\""),
    }
}

#[test]
fn the_development_container_has_what_the_host_tool_needs() {
    let container = read(&root().join(".devcontainer/Dockerfile"));
    let need = Regex::new(r#"need\("[^"]+", "([^"]+)"\)|\bpackage: "([^"]+)""#).unwrap();
    let printable = printable();
    let packages: BTreeSet<&str> = need
        .captures_iter(&printable)
        .map(|found| found.get(1).or_else(|| found.get(2)).unwrap().as_str())
        .collect();
    assert!(packages.len() > 30, "the needs of the host tool were not found");
    for package in packages {
        let line = format!("\n        {package} \\\n");
        assert!(container.contains(&line), ".devcontainer/Dockerfile: {package} is missing");
    }
}

#[test]
fn the_image_manifests_of_pages_are_read() {
    let block = Regex::new(r"(?ms)^```toml\n(schema = .*?)^```").unwrap();
    let mut checked = 0;
    for page in pages() {
        for found in block.captures_iter(&read(&page)) {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("image.toml");
            std::fs::write(&path, &found[1]).unwrap();
            if let Err(error) = holdfast_images::manifest::ImageManifest::load(&path) {
                panic!("{}: {error}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 1, "the manifests were not found");
}
