//! A component as the configuration has it.

use holdfast_sandbox::app_manifest::RestartPolicy;
use holdfast_sandbox::policy::Readiness;
use serde::{Deserialize, Serialize};

/// A component as far as it is supervised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// By which the log and other components call it.
    pub name: String,
    /// The way by which it gets ready.
    pub readiness: Readiness,
    /// Longest time between two signs of life, in milliseconds.
    pub watchdog_ms: Option<u32>,
    /// The policy for its restarts.
    pub restart: RestartPolicy,
    /// The boot is healthy only if it is ready and stays so.
    pub critical: bool,
    /// For how long it must stay ready to count as stable.
    pub stable_for_ms: u32,
    /// Its package, where it has one.
    pub package: Option<Package>,
    /// True for the update agent, without whose agreement no slot on trial is committed.
    pub agrees: bool,
}

/// Which of its packages an app is started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Package {
    /// The one that has proved itself.
    Current,
    /// A new one.
    OnTrial,
}
