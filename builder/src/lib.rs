//! Build of a checkout: packages of this host, pinned sources, the toolchain, kernel, U-Boot, programs for
//! the device, and images of all that. Used by the two host tools, `cli` and `xtask`, and by nothing else.
//!
//! Somebody waits at a terminal when something here fails, so that errors are `anyhow`'s, as in the tools
//! themselves: each says what could not be done with which file, and its cause is behind it. The kinds that a tool's exit
//! code tells apart are in [`failure`].

// First, since its macros are for all others.
#[macro_use]
pub mod output;

pub mod buildroot;
pub mod cross_make;
pub mod development_keys;
pub mod device_build;
pub mod failure;
pub mod host;
pub mod image;
pub mod kconfig;
pub mod kernel;
pub mod key_pair;
pub mod pins;
pub mod process;
pub mod progress;
pub mod source_package;
pub mod toolchain;
pub mod u_boot;
mod watchdog;
pub mod workspace;
