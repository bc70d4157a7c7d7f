//! Signing in by a provider, with a code (RFC 8628): the person goes to a URL with whatever browser, and the command line waits.

use super::client::Client;
use super::session::{Session, Token};
use super::shown::{cell, items};
use anyhow::{Context, Result, bail};
use holdfast_types::escape;
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// Prefix of the secret of a session, which no token has.
const SESSION_PREFIX: &str = "hfs_";
/// Least time from one question to the next.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time from one question to the next.
const MOST_INTERVAL: Duration = Duration::from_secs(60);
/// Longest time that a sign-in is waited for.
const LONGEST: Duration = Duration::from_secs(1800);

/// True of a session of somebody who has signed in.
pub(crate) fn is_signed_in(session: &Session) -> bool {
    session.token.secret().starts_with(SESSION_PREFIX)
}

/// Ends a session at the service.
///
/// # Errors
/// The service does not answer, or refuses.
pub(crate) fn sign_out(session: &Session) -> Result<()> {
    Client::of(session)?.post(&["v1", "session", "end"], &Value::Null)?;
    Ok(())
}

/// Returns the name of the provider to sign in by.
fn provider(client: &Client, wanted: Option<&str>) -> Result<String> {
    let list = client.get(&["v1", "sign-in"])?;
    let names: Vec<String> = items(&list).iter().map(|one| cell(one, "name")).collect();
    match (wanted, names.as_slice()) {
        (_, []) => {
            bail!("nobody signs in at this service: give a token by --token-file or standard input")
        }
        (Some(wanted), names) if names.iter().any(|name| name == wanted) => Ok(wanted.to_owned()),
        (None, [only]) => Ok(only.clone()),
        (_, names) => bail!("--provider: must be one of {}", names.join(", ")),
    }
}

/// Signs somebody in, and returns the secret of the session with its end in seconds since 1970.
///
/// # Errors
/// The person refuses or does not sign in in time, or the service does not answer.
pub(crate) fn sign_in(client: &Client, wanted: Option<&str>) -> Result<(Token, Option<u64>)> {
    let provider = provider(client, wanted)?;
    let path = ["v1", "sign-in", provider.as_str(), "device"];
    let begun = client.post(&path, &Value::Null)?;
    let text = |name: &str| begun.get(name).and_then(Value::as_str);
    let handle = text("handle").context("the service has begun no sign-in")?;
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
    // Texts that the provider has chosen must not move the cursor of whoever reads them.
    let shown = |name: &str| escape(text(name).unwrap_or_default().as_bytes());
    eprintln!("go to {}", shown("url"));
    eprintln!("and type {}", shown("user_code"));
    if text("complete_url").is_some() {
        eprintln!("or go to {}", shown("complete_url"));
    }
    let expires = Duration::from_secs(number(&begun, "expires_in_s").unwrap_or(0)).min(LONGEST);
    let (began, mut interval) = (Instant::now(), number(&begun, "interval_s"));
    let path = ["v1", "sign-in", provider.as_str(), "device", "poll"];
    loop {
        let pause = Duration::from_secs(interval.unwrap_or(5));
        thread::sleep(pause.clamp(LEAST_INTERVAL, MOST_INTERVAL));
        let polled = match client.post(&path, &json!({ "handle": handle })) {
            Ok(polled) => polled,
            // Others are asking; this one asks again.
            Err(error) if error.refused_for() == Some("busy") => json!({ "pending": true }),
            Err(error) => return Err(error.into()),
        };
        if let Some(token) = polled.get("token").and_then(Value::as_str) {
            let token = Token::of_text(token).context("the service")?;
            return Ok((token, number(&polled, "ends_at")));
        }
        if began.elapsed() >= expires {
            bail!("nobody has signed in in time; run `login` again");
        }
        interval = number(&polled, "interval_s").or(interval);
    }
}
