//! Threat detection: what devices report and attest, folded into bounded counters, and rules that are pure functions of them.
//!
//! Whoever keeps a group's devices feeds [`window::Window`] with each observation, in the order in which they came, and asks
//! [`evaluation::evaluate`] once a minute. What it returns goes into a [`register::Register`], whose findings stay open until a
//! person closes them. Nothing of it is stored but the register and the [`baseline::Baseline`]: a window is made anew
//! from the records of the last day.

pub mod alert;
pub mod baseline;
pub mod containment;
pub mod evaluation;
pub mod finding;
pub mod fleet;
pub mod observation;
pub mod population;
pub mod register;
pub mod rule;
pub mod sightings;
pub mod statistics;
pub mod subject;
pub mod thresholds;
pub mod view;
pub mod watch;
pub mod window;

mod rules;
mod words;
