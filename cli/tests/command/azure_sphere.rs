//! The page of Azure Sphere's commands and ours.

use crate::holdfast::{checkout, succeeds};
use std::collections::BTreeSet;

#[test]
fn every_command_beside_one_of_azure_sphere_is_there() {
    let page = include_str!("../../../docs/azure-sphere-cli.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let commands: BTreeSet<Vec<&str>> = rows
        .filter_map(|row| {
            let ours = row.split(" | ").nth(1)?.trim_matches('`').strip_prefix("holdfast ")?;
            Some(ours.split(' ').collect())
        })
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let help = succeeds(checkout(), &[&command[..], &["--help"]].concat());
        assert!(help.contains(&format!("Usage: holdfast {}", command.join(" "))), "{help}");
    }
}
