//! `holdfast-service`: makes, runs and examines an installation of the Security Service.

use clap::{Args, Parser, Subcommand};
use holdfast_evidence::messages::CatalogId;
use holdfast_service::settings::{self, Settings, Token};
use holdfast_service::{ServerError, backup, doctor, folder, init, issuing_request, run, worker};
use holdfast_service_api::symbolizer::Limits;
use holdfast_service_domain::grade::Grades;
use holdfast_service_issuing::request::{MAX_DAYS, USUAL_DAYS};
use holdfast_service_issuing::root_key;
use holdfast_service_store::Store;
use holdfast_service_store::authority::AuthorityKind;
use holdfast_service_store::migration::Tables;
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
    #[command(flatten)]
    Service(Box<ServiceCommand>),
    /// Read a program's symbols from standard input: what the service starts by itself.
    #[command(
        hide = true,
        after_help = "Example: holdfast-service symbol-worker 768 20 65540 < program"
    )]
    SymbolWorker(WorkerArguments),
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    /// Make a new folder: settings, keys, database, a catalog, and a ticket for its first owner.
    #[command(after_help = "Example: holdfast-service init --catalog pumps --name service.example")]
    Init(InitArguments),
    /// Run the service until SIGTERM.
    #[command(after_help = "Example: holdfast-service --folder /srv/holdfast run")]
    Run,
    /// Bring the database's tables to the version of this program. `run` does so as well; here it is done before.
    #[command(after_help = "Example: holdfast-service --folder /srv/holdfast migrate")]
    Migrate,
    /// Say what is wrong with the installation.
    #[command(after_help = "Example: holdfast-service --folder /srv/holdfast doctor")]
    Doctor(DoctorArguments),
    /// Write a backup of the database and of the folder into a new file, while the service runs or not.
    #[command(
        after_help = "Example: holdfast-service --folder /srv/holdfast backup /backup/holdfast-monday"
    )]
    Backup(BackupArguments),
    /// Make the folder anew from a backup.
    #[command(
        after_help = "Example: holdfast-service --folder /srv/holdfast restore /backup/holdfast-monday \
                      --key-encryption-key /media/usb/key-encryption-key"
    )]
    Restore(RestoreArguments),
    /// Make another ticket of the first owner, while nobody has a token.
    #[command(after_help = "Example: holdfast-service --folder /srv/holdfast first-owner")]
    FirstOwner,
    /// Make the next issuing certificate of a catalog, as by a key of the root that is kept elsewhere.
    #[command(
        after_help = "Example: holdfast-service renew --catalog 25025d2c-66da-4448-bae1-ac26fcdd3627 \
                      --root-key /media/usb/root.key"
    )]
    Renew(RenewArguments),
    /// Make a key for the next issuing certificate of a catalog whose root's key never comes here, and write the request for it.
    #[command(
        after_help = "The key stays here, wrapped. Carry the request to whoever has the root's key (`issue`), and the certificate back \
                      (`install`).\n\n\
                      Example: holdfast-service request --catalog 25025d2c-66da-4448-bae1-ac26fcdd3627 --output issuing.csr"
    )]
    Request(RequestArguments),
    /// Make the issuing certificate that another installation has asked for, by the root's key of its catalog.
    #[command(
        after_help = "With --root-key, no folder is needed. A service that is stolen goes on issuing until the certificate ends.\n\n\
                      Example: holdfast-service issue issuing.csr --root catalog.pem --root-key root.key --days 30 --output issuing.pem"
    )]
    Issue(IssueArguments),
    /// Take the issuing certificate that was made of this installation's request.
    #[command(
        after_help = "Example: holdfast-service install issuing.pem --catalog 25025d2c-66da-4448-bae1-ac26fcdd3627"
    )]
    Install(InstallArguments),
}

#[derive(Debug, Args)]
struct WorkerArguments {
    /// Most MiB of memory.
    memory_mib: u64,
    /// Most seconds of a processor.
    seconds: u64,
    /// Addresses of which the functions are named.
    addresses: Vec<u64>,
}

#[derive(Debug, Args)]
struct InitArguments {
    /// Name of the first catalog, as `pumps`.
    #[arg(long)]
    catalog: String,
    /// Id of that catalog, a GUID, where images or apps name it already; a random one when not given.
    #[arg(long, value_name = "GUID", value_parser = catalog_id)]
    catalog_id: Option<CatalogId>,
    /// Certificate (PEM) of the root of that catalog, whose key stays elsewhere. The service issues once `install` has a certificate.
    #[arg(long, value_name = "PEM", requires = "catalog_id", conflicts_with_all = ["token_module"])]
    root: Option<PathBuf>,
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
    /// Module of PKCS #11 of a token that has the keys of catalogs' roots, as `/usr/lib/softhsm/libsofthsm2.so`.
    #[arg(long, value_name = "FILE", requires_all = ["token_label", "token_pin"])]
    token_module: Option<PathBuf>,
    /// Label of the token.
    #[arg(long, value_name = "LABEL", requires = "token_module")]
    token_label: Option<String>,
    /// File of the token's PIN.
    #[arg(long, value_name = "FILE", requires = "token_module")]
    token_pin: Option<PathBuf>,
    /// Grades that the catalog takes, as `hardware-verified,hardware`; `emulated` is for tests.
    #[arg(long, default_value = "hardware-verified,hardware,software")]
    grades: Grades,
}

#[derive(Debug, Args)]
struct DoctorArguments {
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
    /// Connect to each receiver of alerts as well: the server of mail, the collector, and webhooks. Nothing is sent.
    #[arg(long)]
    reach: bool,
}

#[derive(Debug, Args)]
struct BackupArguments {
    /// The file that is made.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct RestoreArguments {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The key encryption key of the installation that was backed up; without it, `HOLDFAST_SERVICE_KEK` is taken.
    #[arg(long, value_name = "FILE", default_value = "key-encryption-key")]
    key_encryption_key: PathBuf,
    /// The database to restore into, where it is another than that of the backup: `sqlite:PATH`, or `postgres://…` of an empty one.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

#[derive(Debug, Args)]
struct RenewArguments {
    /// Id of the catalog.
    #[arg(long)]
    catalog: String,
    /// The key of its root, PKCS #8 as PEM; without it, the one in the folder or in the token is taken.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RequestArguments {
    /// Id of the catalog.
    #[arg(long, value_name = "GUID", value_parser = catalog_id)]
    catalog: CatalogId,
    /// New file to write the request to, PEM.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct IssueArguments {
    /// The request, PEM.
    #[arg(value_name = "FILE")]
    request: PathBuf,
    /// Certificate of the catalog's root, PEM.
    #[arg(long, value_name = "PEM")]
    root: PathBuf,
    /// The key of the root, PKCS #8 as PEM; without it, the one in the folder or in the token is taken.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// Days for which the certificate is good, 1 to 90.
    #[arg(long, default_value_t = USUAL_DAYS, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_DAYS)))]
    days: u16,
    /// New file to write the certificate to, PEM.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct InstallArguments {
    /// The issuing certificate, PEM.
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
    /// Id of the catalog.
    #[arg(long, value_name = "GUID", value_parser = catalog_id)]
    catalog: CatalogId,
}

fn catalog_id(text: &str) -> Result<CatalogId, String> {
    let id = CatalogId::parse(text);
    id.ok_or_else(|| "must be a GUID, such as 25025d2c-66da-4448-bae1-ac26fcdd3627".to_owned())
}

fn main() -> ExitCode {
    let Arguments { folder, command } = Arguments::parse();
    let done = match command {
        // A worker has one thread, which is confined.
        Command::SymbolWorker(WorkerArguments { memory_mib, seconds, addresses }) => {
            worker::run(Limits { memory_mib, seconds }, &addresses).map_err(ServerError::Worker)
        }
        Command::Service(command) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime = runtime.map_err(ServerError::Start);
            runtime.and_then(|runtime| runtime.block_on(carry_out(folder, *command)))
        }
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast-service: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(folder: PathBuf, command: ServiceCommand) -> Result<ExitCode, ServerError> {
    match command {
        ServiceCommand::Init(arguments) => make(folder, arguments).await,
        ServiceCommand::Run => run::run(&folder).await.map(|()| ExitCode::SUCCESS),
        ServiceCommand::Migrate => {
            let url = settings::load(&folder)?.database_url(&folder);
            let Tables { found, known, .. } = Store::migrate(&url).await?;
            if found < known {
                println!("the tables of version {found} are those of version {known} now");
            } else {
                println!(
                    "the tables have version {found}, and this program knows {known}: nothing is to be done"
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        ServiceCommand::Doctor(arguments) => examine(folder, &arguments).await,
        ServiceCommand::FirstOwner => {
            let settings = settings::load(&folder)?;
            let service = run::open(&folder, &settings, run::system_clock()).await?;
            let ticket = init::first_owner(&service).await?;
            service.store.clone().close().await;
            print_ticket(&settings, ticket.text());
            Ok(ExitCode::SUCCESS)
        }
        ServiceCommand::Renew(arguments) => renew(folder, arguments).await,
        ServiceCommand::Request(RequestArguments { catalog, output }) => {
            let service =
                run::open(&folder, &settings::load(&folder)?, run::system_clock()).await?;
            let request = issuing_request::make(&service, &folder, catalog).await?;
            service.store.clone().close().await;
            folder::write_new(&output, &request)?;
            println!("{}: a request for an issuing certificate of {catalog}", output.display());
            Ok(ExitCode::SUCCESS)
        }
        ServiceCommand::Issue(arguments) => {
            let IssueArguments { request, root, root_key, days, output } = arguments;
            let when = (days, run::system_clock()());
            let made =
                issuing_request::certify(&request, &root, root_key.as_deref(), &folder, when);
            let (certificate, serial) = made?;
            folder::write_new(&output, &certificate)?;
            println!("{}: issuing certificate {serial}, good for {days} days", output.display());
            Ok(ExitCode::SUCCESS)
        }
        ServiceCommand::Install(InstallArguments { certificate, catalog }) => {
            let service =
                run::open(&folder, &settings::load(&folder)?, run::system_clock()).await?;
            let installed = issuing_request::install(&service, &folder, catalog, &certificate);
            let serial = installed.await?;
            service.store.clone().close().await;
            println!("issuing certificate {serial}");
            Ok(ExitCode::SUCCESS)
        }
        ServiceCommand::Backup(arguments) => {
            let made = backup::back_up(&folder, &arguments.file, run::system_clock()).await?;
            println!("{}: {} catalogs", arguments.file.display(), made.catalogs.len());
            println!("the key encryption key is not in it: keep it elsewhere");
            Ok(ExitCode::SUCCESS)
        }
        ServiceCommand::Restore(arguments) => {
            let key = folder::key_encryption_key(&arguments.key_encryption_key)?;
            let clock = run::system_clock();
            let made = backup::restore(
                &arguments.file,
                &folder,
                &key,
                arguments.database.as_deref(),
                clock,
            );
            let made = made.await?;
            println!("{}: {} catalogs", folder.display(), made.catalogs.len());
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn make(folder: PathBuf, arguments: InitArguments) -> Result<ExitCode, ServerError> {
    let InitArguments { catalog, catalog_id, names, device, management, database, grades, .. } =
        arguments;
    let mut settings = Settings::new(device, management, names, database);
    let token = arguments.token_module.zip(arguments.token_label).zip(arguments.token_pin);
    // Its files are outside the folder that is made.
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(ServerError::Start);
    settings.keys.token = match token {
        Some(((module, label), pin)) => {
            Some(Token { module: absolute(&module)?, label, pin: absolute(&pin)? })
        }
        None => None,
    };
    let clock = run::system_clock();
    let made = match (catalog_id, &arguments.root) {
        (Some(id), Some(root)) => {
            let root = issuing_request::read_certificate(root)?;
            let named = (catalog.as_str(), id);
            init::init_of_root(&folder, &settings, named, root, grades, clock).await?
        }
        (id, _) => {
            let named = (catalog.as_str(), id);
            init::init_with_id(&folder, &settings, named, grades, clock).await?
        }
    };
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
    let findings = doctor::examine(&folder, run::system_clock(), arguments.reach).await?;
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
    let settings = settings::load(&folder)?;
    let service = run::open(&folder, &settings, run::system_clock()).await?;
    let key = match &arguments.root_key {
        Some(path) => {
            let text = folder::read_secret(path)?;
            root_key::software(&folder::key_of_pem(path, &text)?)?
        }
        None => {
            let found = service.issuers.roots().find(&catalog).map_err(ServerError::Root)?;
            found.ok_or_else(|| ServerError::NoRootKey(arguments.catalog.clone()))?
        }
    };
    let scope = service.store.scope_of_device(catalog).await?.ok_or_else(unknown)?;
    let rows = service.store.authorities(scope).await?;
    let root = rows.iter().find(|row| row.kind == AuthorityKind::Root).ok_or_else(unknown)?;
    let now = service.now();
    let made = service.issuers.renew_by(&service.store, scope, root, &key, now).await?;
    service.store.clone().close().await;
    println!("issuing certificate {}", made.serial);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_help_with_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for one in command.get_subcommands() {
            let help = one.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example: holdfast-service "), "{}", one.get_name());
        }
    }
}
