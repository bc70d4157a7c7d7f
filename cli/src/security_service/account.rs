//! `login` and `logout`: who asks the service, and with what token or session.

use super::client::{self, Client, ClientError};
use super::in_catalog;
use super::session::{self, Session, Token};
use super::shown;
use super::sign_in;
use crate::invocation::Invocation;
use anyhow::{Context, Result, bail};
use clap::Args;
use holdfast_builder::failure::HostLacks;
use holdfast_builder::workspace;
use holdfast_types::date;
use serde_json::json;
use std::fs;
use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};

/// Arguments of `login`.
#[derive(Debug, Args)]
#[command(
    after_help = "Where people sign in by a provider, `login URL` on a terminal prints a URL and a code, and waits until you have signed in \
                  there with a browser. The first owner's token comes by a URL, which is good once: what `holdfast-service first-owner` \
                  prints goes into standard input, or the URL is given. Tokens are made by `token create`, and are read from --token-file \
                  or from standard input; none is ever an argument, which others could see. The session is kept in \
                  $HOLDFAST_CONFIG, $XDG_CONFIG_HOME/holdfast or ~/.config/holdfast, readable by you alone.\n\n\
                  Example: holdfast login https://service.example:8444 --authorities authorities.pem --token-file token"
)]
pub struct LoginArgs {
    /// URL of the service's management, or of the first owner's token. Standard input has the latter when it is not given.
    url: Option<String>,
    /// Certificates of the authorities that may vouch for the service, PEM: `authorities.pem` in its folder. Needed once.
    #[arg(long, value_name = "PEM")]
    authorities: Option<PathBuf>,
    /// File with the token; standard input when not given.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of the provider to sign in by, where there are several; without it, a token is read from standard input unless that is a terminal or empty.
    #[arg(long, conflicts_with = "token_file")]
    provider: Option<String>,
    /// Id or name of the catalog that commands are about which name none.
    #[arg(long)]
    catalog: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `logout`.
#[derive(Debug, Args)]
#[command(
    after_help = "A session of somebody who has signed in ends at the service as well. A token stays good until its end; `token remove` \
                  ends one.\n\n\
                  Example: holdfast logout"
)]
pub struct LogoutArgs {}

/// The ticket or token that `login` shows to the service.
enum Key {
    /// The ticket of the first owner.
    Ticket(String),
    /// A token.
    Token(Token),
    /// Nothing: somebody signs in by a provider.
    SignIn,
}

/// Reads the service's URL, and what is shown to it.
fn key(args: &LoginArgs) -> Result<(String, Key)> {
    let Some(url) = &args.url else {
        let (name, text) = workspace::read_text_or_standard_input(args.token_file.as_deref())?;
        let url = client::ticket_url(&text).with_context(|| {
            format!("{name}: has no URL of a first owner's token; name the service's URL to log in with another token")
        })?;
        return match client::split_ticket(url)? {
            (service, Some(ticket)) => Ok((service, Key::Ticket(ticket))),
            (_, None) => Err(ClientError::Url(url.to_owned()).into()),
        };
    };
    let (service, ticket) = client::split_ticket(url)?;
    if let Some(ticket) = ticket {
        if args.token_file.is_some() {
            let reason =
                "--token-file: the URL is that of a first owner's token; leave one of them out";
            return Err(HostLacks(reason.to_owned()).into());
        }
        return Ok((service, Key::Ticket(ticket)));
    }
    if args.provider.is_some() || args.token_file.is_none() && stdin().is_terminal() {
        return Ok((service, Key::SignIn));
    }
    let (name, text) = match &args.token_file {
        Some(path) => (path.display().to_string(), session::read_secret(path)?),
        None => workspace::read_text_or_standard_input(None)?,
    };
    if args.token_file.is_none() && text.trim().is_empty() {
        return Ok((service, Key::SignIn));
    }
    Ok((service, Key::Token(Token::of_text(&text).context(name)?)))
}

/// Returns the authorities of the arguments, or those of the session before where it was of this service.
fn authorities(args: &LoginArgs, service: &str, path: &Path) -> Result<String> {
    if let Some(path) = &args.authorities {
        return workspace::read_text(path);
    }
    let known = session::load_from(path)?.filter(|known| known.service == service);
    let known = known.map(|known| known.authorities);
    known.ok_or_else(|| {
        HostLacks(format!(
            "--authorities: is missing, and {service} is not the service of the session before; name \
             `authorities.pem` of the service's folder"
        ))
        .into()
    })
}

/// An error of a ticket, with what its holder can do.
fn of_ticket(error: ClientError) -> anyhow::Error {
    let is_gone = error.refused_for() == Some("not-found");
    let error = anyhow::Error::from(error);
    if is_gone {
        error.context(
            "the ticket was used or is older than 24 hours; `holdfast-service first-owner` makes another while nobody has a token",
        )
    } else {
        error
    }
}

/// Logs in, and keeps the session.
pub(crate) fn login(invocation: &Invocation, args: &LoginArgs) -> Result<()> {
    let path = session::path()?;
    let (service, key) = key(args)?;
    let authorities = authorities(args, &service, &path)?;
    let asking = Client::new(&service, &authorities, None)?;
    // A ticket is good once: what it brings must have its place.
    let mut place = session::reserve(&path)?;
    let is_first = matches!(key, Key::Ticket(_));
    let (token, ends_at) = match key {
        Key::Token(token) => (token, None),
        Key::Ticket(ticket) => asking.take_ticket(&ticket).map_err(of_ticket)?,
        Key::SignIn => sign_in::sign_in(&asking, args.provider.as_deref())?,
    };
    let client = asking.with_token(token.clone());
    let mut session = Session { service, authorities, token, ends_at, catalog: None };
    if is_first {
        place.keep(&session)?;
        place = session::reserve(&path)?;
    }
    let catalog = args.catalog.as_deref().map(|name| in_catalog::find(&client, name));
    session.catalog = catalog.transpose()?;
    match client.get(&["v1", "catalogs"]) {
        Ok(_) => {}
        // A factory's token is good, and sees nothing.
        Err(error) if error.refused_for() == Some("forbidden") => {}
        Err(error) => return Err(error.into()),
    }
    place.keep(&session)?;
    if args.json {
        return shown::json(&json!({
            "service": session.service, "catalog": session.catalog, "ends_at": session.ends_at,
            "session": path.display().to_string(),
        }));
    }
    let until = session.ends_at.map(|end| format!(", until {} UTC at the latest", date(end)));
    println!("logged in to {}{}", session.service, until.unwrap_or_default());
    eprintln!("next: {} catalog list", invocation.program);
    Ok(())
}

/// Forgets the session.
pub(crate) fn logout(_: &LogoutArgs) -> Result<()> {
    let path = session::path()?;
    // A session file that cannot be read is removed all the same.
    let session = session::load_from(&path).ok().flatten();
    let ended = session.filter(sign_in::is_signed_in).map(|session| sign_in::sign_out(&session));
    match fs::remove_file(&path) {
        Ok(()) => match ended {
            Some(Ok(())) => println!("logged out; the session has ended"),
            Some(Err(error)) => println!("logged out here; the service was not told: {error:#}"),
            None => println!(
                "logged out; the token itself stays good until its end, or until `token remove`"
            ),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("nobody is logged in")
        }
        Err(error) => bail!("cannot remove {}: {error}", path.display()),
    }
    Ok(())
}
