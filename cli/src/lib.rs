//! The commands of `holdfast`, the OEM's host tool: apps, keys, images, releases, cards, devices, and their Security Service.
//!
//! `main.rs` is the tool that is installed; in a checkout, `cargo holdfast` has the same commands beside those of
//! contributors (`xtask`).

#[macro_use(println, eprintln)]
extern crate holdfast_builder;

mod app;
mod arguments;
mod crash;
mod device;
mod flash;
mod image;
mod invocation;
mod keys;
mod release;
mod run;
mod security_service;

use anyhow::Result;
use clap::Subcommand;
pub use invocation::{Invocation, Options};
use security_service::{
    account, approval, audit, ca_certificate, catalog, deployment, device_group, finding, import,
    installation, maker, product, role, site, symbols, threat, token, transfer, webhook,
};

/// Meaning of the exit codes of the host tools, for their help.
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 bad input or a failed check, 2 usage or the host lacks \
                              something, 3 a wait ran out, 4 the guest died.";

/// The commands of the host tool.
#[derive(Debug, Subcommand)]
pub enum Command {
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
    /// Repositories of releases, from which devices update themselves, and the releases that a Security Service knows.
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// Devices: status from the log of a console, and what a Security Service knows.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Crashes: those that a device's log tells of, and those that devices have reported.
    #[command(subcommand)]
    Crash(crash::CrashCommand),
    /// Log in to a Security Service.
    Login(account::LoginArgs),
    /// Forget the session with a Security Service.
    Logout(account::LogoutArgs),
    /// Catalogs of a Security Service: fleets, each with an authority of its own.
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// Products: kinds of devices in a catalog.
    #[command(subcommand)]
    Product(product::ProductCommand),
    /// Groups: the devices of a product that are treated alike.
    #[command(subcommand)]
    DeviceGroup(device_group::DeviceGroupCommand),
    /// Deployments: a release on its way through a group, in stages.
    #[command(subcommand)]
    Deployment(deployment::DeploymentCommand),
    /// Certificates of a catalog's authority.
    #[command(subcommand)]
    CaCertificate(ca_certificate::CaCertificateCommand),
    /// Makers of TPMs whose certificates a catalog believes.
    #[command(subcommand)]
    Maker(maker::MakerCommand),
    /// Findings about devices.
    #[command(subcommand)]
    Finding(finding::FindingCommand),
    /// Recreate what another service has kept.
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Threats: what the rules of a Security Service have found in groups of devices.
    #[command(subcommand)]
    Threat(threat::ThreatCommand),
    /// Symbols of programs, by which a Security Service names where they have failed.
    #[command(subcommand)]
    Symbols(symbols::SymbolsCommand),
    /// Tokens: who else may do what.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Transfers: devices that go from one catalog to another.
    #[command(subcommand)]
    Transfer(transfer::TransferCommand),
    /// Webhooks: where alerts of a catalog go.
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// The audit log of a catalog.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Results of a service on a network without a way out.
    #[command(subcommand)]
    Site(site::SiteCommand),
    /// Roles of people who sign in by a provider.
    #[command(subcommand)]
    Role(role::RoleCommand),
    /// Changes that wait for a second person.
    #[command(subcommand)]
    Approval(approval::ApprovalCommand),
    /// An installation of the Security Service on this host.
    #[command(subcommand)]
    Service(installation::ServiceCommand),
}

/// Commands about images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build an image from an image manifest.
    Build(image::BuildArgs),
    /// Put an image together from what another build system has built.
    Assemble(image::AssembleArgs),
    /// List the programs that another build system builds for an image.
    Programs(image::ProgramsArgs),
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

/// A command line whose examples begin with `program` instead of `holdfast`.
#[must_use]
pub fn typed_as(command: clap::Command, program: &str) -> clap::Command {
    let command = match command.get_after_help().map(ToString::to_string) {
        Some(help) => command.after_help(
            help.replace("Example: holdfast ", &format!("Example: {program} "))
                .replace("&& holdfast ", &format!("&& {program} ")),
        ),
        None => command,
    };
    command.mut_subcommands(|command| typed_as(command, program))
}

/// Returns the names of the commands, at any depth, whose help has no example or one that does not begin with
/// `program`. The tests of both host tools want none of them.
#[must_use]
pub fn commands_without_example(command: &clap::Command, program: &str) -> Vec<String> {
    if command.has_subcommands() {
        let commands = command.get_subcommands().filter(|command| command.get_name() != "help");
        return commands.flat_map(|command| commands_without_example(command, program)).collect();
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut examples = help.split("Example: ").skip(1).peekable();
    let typed = format!("{program} ");
    let is_shown = examples.peek().is_some() && examples.all(|example| example.starts_with(&typed));
    if is_shown { Vec::new() } else { vec![command.get_name().to_owned()] }
}

/// Runs a command to its end.
///
/// # Errors
/// The command has failed; [`holdfast_builder::failure::end`] prints the chain of causes.
pub fn run(invocation: &Invocation, command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(invocation, &args),
        Command::Image(ImageCommand::Build(args)) => image::build_command(invocation, &args),
        Command::Image(ImageCommand::Assemble(args)) => image::assemble_command(invocation, &args),
        Command::Image(ImageCommand::Programs(args)) => image::programs_command(invocation, &args),
        Command::Image(ImageCommand::Show(args)) => image::show_command(&args),
        Command::Image(ImageCommand::Sign(args)) => image::sign_command(&args),
        Command::Image(ImageCommand::Verify(args)) => image::verify_command(&args),
        Command::Image(ImageCommand::Sources(args)) => image::sources_command(invocation, &args),
        Command::Image(ImageCommand::AppendApp(args)) => image::append_command(&args),
        Command::App(command) => app::run(invocation, &command),
        Command::Key(command) => keys::run(invocation, &command),
        Command::Flash(args) => flash::run(invocation, &args),
        Command::Release(command) => release::run(invocation, &command),
        Command::Device(command) => device::run(&command),
        Command::Crash(command) => crash::run(invocation, &command),
        Command::Login(args) => account::login(invocation, &args),
        Command::Logout(args) => account::logout(&args),
        Command::Catalog(command) => catalog::run(&command),
        Command::Product(command) => product::run(&command),
        Command::DeviceGroup(command) => device_group::run(&command),
        Command::Deployment(command) => deployment::run(&command),
        Command::CaCertificate(command) => ca_certificate::run(&command),
        Command::Maker(command) => maker::run(&command),
        Command::Finding(command) => finding::run(&command),
        Command::Import(command) => import::run(&command),
        Command::Threat(command) => threat::run(&command),
        Command::Symbols(command) => symbols::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Transfer(command) => transfer::run(&command),
        Command::Webhook(command) => webhook::run(&command),
        Command::Audit(command) => audit::run(&command),
        Command::Site(command) => site::run(&command),
        Command::Role(command) => role::run(&command),
        Command::Approval(command) => approval::run(&command),
        Command::Service(command) => installation::run(invocation, &command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_help_with_an_example() {
        let command = Command::augment_subcommands(clap::Command::new("holdfast"));
        command.clone().debug_assert();
        assert_eq!(commands_without_example(&command, "holdfast"), Vec::<String>::new());
        let command = typed_as(command, "cargo holdfast");
        assert_eq!(commands_without_example(&command, "cargo holdfast"), Vec::<String>::new());
        assert!(commands_without_example(&command, "holdfast").contains(&"append-app".to_owned()));
    }
}
