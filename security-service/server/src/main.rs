//! `holdfast-service`: makes, runs and examines an installation of the Security Service.

use clap::{Args, Parser, Subcommand};
use holdfast_evidence::messages::CatalogId;
use holdfast_service::settings::Settings;
use holdfast_service::{ServerError, doctor, folder, init, run};
use holdfast_service_domain::grade::Grades;
use holdfast_service_store::authority::AuthorityKind;
use holdfast_types::chain;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// The Security Service: enrols devices, attests what they run, and issues certificates.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The service's folder.
    #[arg(long, global = true, default_value = "holdfast-service", value_name = "FOLDER")]
    folder: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new folder: settings, keys, database, a catalog, and a ticket for its first owner.
    Init(InitArguments),
    /// Run the service until SIGTERM.
    Run,
    /// Say what is wrong with the installation.
    Doctor(DoctorArguments),
    /// Make another ticket of the first owner, while nobody has a token.
    FirstOwner,
    /// Make the next issuing certificate of a catalog, as by a key of the root that is kept elsewhere.
    Renew(RenewArguments),
}

#[derive(Debug, Args)]
struct InitArguments {
    /// Name of the first catalog, as `pumps`.
    #[arg(long)]
    catalog: String,
    /// Id of that catalog, a GUID, where images or apps name it already; a random one when not given.
    #[arg(long, value_name = "GUID", value_parser = catalog_id)]
    catalog_id: Option<CatalogId>,
    /// Names and addresses that devices reach the service by, as `service.example`.
    #[arg(long = "name", required = true)]
    names: Vec<String>,
    /// Address to listen at for devices.
    #[arg(long, default_value = "0.0.0.0:8443")]
    device: SocketAddr,
    /// Address to listen at for management.
    #[arg(long, default_value = "127.0.0.1:8444")]
    management: SocketAddr,
    /// The database: `sqlite:PATH`, of the folder, or `postgres://…`.
    #[arg(long, default_value = "sqlite:service.db")]
    database: String,
    /// Grades that the catalog takes, as `hardware-verified,hardware`; `emulated` is for tests.
    #[arg(long, default_value = "hardware-verified,hardware,software")]
    grades: Grades,
}

#[derive(Debug, Args)]
struct DoctorArguments {
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RenewArguments {
    /// Id of the catalog.
    #[arg(long)]
    catalog: String,
    /// The key of its root, PKCS #8 as PEM.
    #[arg(long, value_name = "FILE")]
    root_key: PathBuf,
}

fn catalog_id(text: &str) -> Result<CatalogId, String> {
    let id = CatalogId::parse(text);
    id.ok_or_else(|| "must be a GUID, such as 25025d2c-66da-4448-bae1-ac26fcdd3627".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(arguments)),
        Err(error) => Err(ServerError::Start(error)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast-service: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(arguments: Arguments) -> Result<ExitCode, ServerError> {
    let folder = arguments.folder;
    match arguments.command {
        Command::Init(arguments) => make(folder, arguments).await,
        Command::Run => run::run(&folder).await.map(|()| ExitCode::SUCCESS),
        Command::Doctor(arguments) => examine(folder, &arguments).await,
        Command::FirstOwner => {
            let settings = Settings::load(&folder)?;
            let service = run::open(&folder, &settings, run::system_clock()).await?;
            let ticket = init::first_owner(&service).await?;
            service.store.clone().close().await;
            print_ticket(&settings, ticket.text());
            Ok(ExitCode::SUCCESS)
        }
        Command::Renew(arguments) => renew(folder, arguments).await,
    }
}

async fn make(folder: PathBuf, arguments: InitArguments) -> Result<ExitCode, ServerError> {
    let InitArguments { catalog, catalog_id, names, device, management, database, grades } =
        arguments;
    let settings = Settings::new(device, management, names, database);
    let named = (catalog.as_str(), catalog_id);
    let made = init::init_with_id(&folder, &settings, named, grades, run::system_clock()).await?;
    println!("catalog {catalog}: {}", made.catalog);
    println!("root of the catalog, for images: {}/catalog-{}.pem", folder.display(), made.catalog);
    println!("authorities of the service, for images: {}/authorities.pem", folder.display());
    print_ticket(&settings, made.ticket.text());
    Ok(ExitCode::SUCCESS)
}

fn print_ticket(settings: &Settings, ticket: &str) {
    println!("the first owner's token, once and within 24 hours, while the service runs:");
    let (address, host) = (settings.management.listen, settings.tls.names.first());
    let host = host.map_or_else(|| address.ip().to_string(), String::clone);
    println!("POST https://{host}:{}/v1/first-owner/{ticket}", address.port());
}

async fn examine(folder: PathBuf, arguments: &DoctorArguments) -> Result<ExitCode, ServerError> {
    let findings = doctor::examine(&folder, run::system_clock()).await?;
    let said = findings.iter().map(|finding| match finding {
        doctor::Finding::Good(text) => ("good", text),
        doctor::Finding::Soon(text) => ("soon", text),
        doctor::Finding::Wrong(text) => ("wrong", text),
    });
    if arguments.json {
        let items: Vec<_> =
            said.map(|(kind, text)| json!({ "kind": kind, "text": text })).collect();
        println!("{:#}", json!({ "items": items }));
    } else {
        said.for_each(|(kind, text)| println!("{kind:<5}  {text}"));
    }
    let is_wrong = findings.iter().any(|finding| matches!(finding, doctor::Finding::Wrong(_)));
    Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn renew(folder: PathBuf, arguments: RenewArguments) -> Result<ExitCode, ServerError> {
    let unknown = || ServerError::NoCatalog(arguments.catalog.clone());
    let catalog = CatalogId::parse(&arguments.catalog).ok_or_else(unknown)?;
    let key = folder::read_secret(&arguments.root_key)?;
    let key = folder::key_of_pem(&arguments.root_key, &key)?;
    let settings = Settings::load(&folder)?;
    let service = run::open(&folder, &settings, run::system_clock()).await?;
    let scope = service.store.scope_of_device(catalog).await?.ok_or_else(unknown)?;
    let rows = service.store.authorities(scope).await?;
    let root = rows.iter().find(|row| row.kind == AuthorityKind::Root).ok_or_else(unknown)?;
    let now = service.now();
    let made = service.issuers.renew_with(&service.store, scope, root, &key, now).await?;
    service.store.clone().close().await;
    println!("issuing certificate {}", made.serial);
    Ok(ExitCode::SUCCESS)
}
