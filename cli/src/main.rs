//! `holdfast`, the one host tool: build, run, test and measure Holdfast images.

// First, since its macros are for all others.
#[macro_use]
mod output;

mod app;
mod busybox;
mod crash;
mod cross_make;
mod development_keys;
mod device;
mod device_build;
mod failure;
mod flash;
mod host;
mod image;
mod image_builder;
mod kconfig;
mod kernel;
mod key_pair;
mod keys;
mod measure;
mod pins;
mod process;
mod progress;
mod release;
mod run;
mod source_package;
mod sources;
mod test;
mod test_programs;
mod toolchain;
mod u_boot;
mod workspace;

use anyhow::{Result, anyhow};
use clap::{Args, Parser, Subcommand};
use holdfast_qemu::relay;
use std::path::PathBuf;
use std::process::ExitCode;

/// Build, run, test and measure Holdfast images.
#[derive(Debug, Parser)]
#[command(
    name = "cargo holdfast",
    version,
    after_help = "Exit codes: 0 done, 1 bad input or a failed check, 2 usage or the host lacks \
                  something, 3 a wait ran out, 4 the guest died.\n\n\
                  Example: cargo holdfast run"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an image and run it in QEMU.
    Run(run::RunArgs),
    /// Build or look at images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Make, check, build and sign apps.
    #[command(subcommand)]
    App(app::AppCommand),
    /// Make and look at keys.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Write an image to a card.
    Flash(flash::FlashArgs),
    /// Repositories of releases, from which devices update themselves.
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// What a device says of itself.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Crashes that a device's log tells of.
    #[command(subcommand)]
    Crash(crash::CrashCommand),
    /// Run the project's tests; what CI runs.
    Test(test::TestArgs),
    /// Measure sizes, start-up times and memory, and write docs/numbers.md.
    Measure(measure::MeasureArgs),
    /// The pinned sources of kernel, compiler and tools.
    #[command(subcommand)]
    Sources(SourcesCommand),
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Build an image from an image manifest.
    Build(image::BuildArgs),
    /// Say what is in an image.
    Show(image::ShowArgs),
    /// Sign the slot of an image that was built without the key.
    Sign(image::SignArgs),
    /// Check an image as its boot loader and kernel would.
    Verify(image::VerifyArgs),
    /// Put an app package into an image, without building its OS again.
    AppendApp(image::AppendArgs),
    /// Collect the source of kernel and boot loader of an image.
    Sources(image::SourcesArgs),
}

#[derive(Debug, Subcommand)]
enum SourcesCommand {
    /// Write what is installed and offered now into sources.lock.
    #[command(after_help = "Example: cargo holdfast sources update")]
    Update,
    /// Say what is pinned and what is there.
    #[command(after_help = "Example: cargo holdfast sources show")]
    Show,
}

/// How strictly sources must be the pinned ones.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct SourceArgs {
    /// Refuse any source that is not the one pinned in sources.lock.
    #[arg(long)]
    pub(crate) locked: bool,
}

/// Which image, and which apps in it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImageArgs {
    /// Image manifest.
    #[arg(long = "image", value_name = "TOML")]
    pub(crate) manifest: Option<PathBuf>,
    /// Board to build for, instead of the manifest's.
    #[arg(long)]
    pub(crate) board: Option<String>,
    /// App directory or signed app package to add to the image; may be given several times.
    #[arg(long = "app", value_name = "DIR|PACKAGE")]
    pub(crate) apps: Vec<PathBuf>,
    /// App of the image that waits for a debugger (GDB), on the board's line for tests.
    #[arg(long, value_name = "APP")]
    pub(crate) debug: Option<String>,
}

fn main() -> ExitCode {
    if let Some(port) = relay::relay_to() {
        return relay::relay(port);
    }
    let cli = Cli::parse();
    let result = dispatch(cli.command).and_then(|()| match output::lost() {
        Some(error) => Err(anyhow!("cannot write the output: {error}")),
        None => Ok(()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", failure::chain(&error));
            failure::exit_code(&error)
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    let workspace = workspace::Workspace::find()?;
    match command {
        Command::Run(args) => run::run(&workspace, &args),
        Command::Image(ImageCommand::Build(args)) => image::build_command(&workspace, &args),
        Command::Image(ImageCommand::Show(args)) => image::show_command(&args),
        Command::Image(ImageCommand::Sign(args)) => image::sign_command(&args),
        Command::Image(ImageCommand::Verify(args)) => image::verify_command(&args),
        Command::Image(ImageCommand::Sources(args)) => image::sources_command(&workspace, &args),
        Command::Image(ImageCommand::AppendApp(args)) => image::append_command(&args),
        Command::App(command) => app::run(&workspace, &command),
        Command::Key(command) => keys::run(&workspace, &command),
        Command::Flash(args) => flash::run(&workspace, &args),
        Command::Release(command) => release::run(&workspace, &command),
        Command::Device(command) => device::run(&command),
        Command::Crash(command) => crash::run(&workspace, &command),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Measure(args) => measure::run(&workspace, &args),
        Command::Sources(SourcesCommand::Update) => sources::update(&workspace),
        Command::Sources(SourcesCommand::Show) => sources::show(&workspace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_help_with_an_example() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().filter(|c| c.get_name() != "help").for_each(check);
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example: cargo holdfast"), "{}", command.get_name());
            }
        }
        Cli::command().debug_assert();
        check(&Cli::command());
    }
}
