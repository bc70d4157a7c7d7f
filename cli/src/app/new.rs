//! `app new`: the directory of an app that runs.

use crate::invocation::Invocation;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use holdfast_builder::process;
use holdfast_builder::workspace;
use holdfast_sandbox::app_manifest;
use holdfast_types::ComponentId;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Arguments of `app new`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast app new pump && holdfast run --app pump")]
pub struct NewArgs {
    /// Directory to make; its last part is the app's name.
    directory: PathBuf,
    /// Language of the program.
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    C,
}

const RUST: &str = r#"//! An app of a Holdfast device. What it prints goes to the device's log.

use std::thread::sleep;
use std::time::Duration;

fn main() {
    println!("hello from NAME");
    for beat in 1u64.. {
        println!("heartbeat {beat}");
        sleep(Duration::from_secs(1));
    }
}
"#;

const C: &str = r#"/* An app of a Holdfast device. What it prints goes to the device's log. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("hello from NAME\n");
    for (unsigned long beat = 1;; beat++) {
        printf("heartbeat %lu\n", beat);
        sleep(1);
    }
}
"#;

const CARGO: &str = r#"[package]
name = "NAME"
version = "0.1.0"
edition = "2024"
publish = false

# A workspace of its own, wherever this directory lies.
[workspace]
"#;

pub(crate) fn run(invocation: &Invocation, args: &NewArgs) -> Result<()> {
    let path = &args.directory;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Err(reason) = holdfast_types::component_name::check_name(name) {
        bail!("{}: the name of an app {reason}", path.display());
    }
    if path.symlink_metadata().is_ok() {
        bail!("{} is there already", path.display());
    }
    let mut random = [0u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .context("the host gives no random numbers")?;
    let manifest = format!(
        "{{\n  \"SchemaVersion\": 1,\n  \"Name\": \"{name}\",\n  \"ComponentId\": \"{}\",\n  \
         \"EntryPoint\": \"/bin/app\",\n  \"CmdArgs\": [],\n  \"Capabilities\": {{}}\n}}\n",
        random_guid(random)
    );
    workspace::write(&path.join(app_manifest::FILE_NAME), manifest)?;
    match args.lang {
        Language::Rust => {
            workspace::write(&path.join("Cargo.toml"), CARGO.replace("NAME", name))?;
            workspace::write(&path.join("src/main.rs"), RUST.replace("NAME", name))?;
            workspace::write(&path.join(".gitignore"), "/target\n")?;
        }
        Language::C => workspace::write(&path.join("src/main.c"), C.replace("NAME", name))?,
    }
    println!("{}", path.display());
    let word = process::shell_word(&path.display().to_string());
    println!("run it: {} run --app {word}", invocation.program);
    Ok(())
}

/// A GUID of version 4 from random bytes.
fn random_guid(mut bytes: [u8; 16]) -> ComponentId {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    ComponentId(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_guid_says_that_it_is_one() {
        let text = random_guid([0xff; 16]).to_string();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
