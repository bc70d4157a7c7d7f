//! PostgreSQL's own programs, `pg_dump` and `pg_restore`: a dump is consistent, of one moment, and holds nobody up.
//!
//! They are given the database by their environment and not by an argument, which others of this host could read.

use crate::error::ServerError;
use percent_encoding::percent_decode_str;
use std::process::Stdio;
use tokio::process::{Child, Command};
use url::Url;

/// Parameters of a URL that a program of PostgreSQL is given, and its variable for each.
const PARAMETERS: [(&str, &str); 8] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
];

/// Starts `pg_dump`, which writes its own compressed format to its standard output.
///
/// # Errors
/// It cannot be started.
pub(crate) fn dump(url: &str) -> Result<Child, ServerError> {
    let arguments = ["--format=custom", "--no-owner", "--no-privileges"];
    start("pg_dump", url, &arguments, Stdio::null(), Stdio::piped())
}

/// Starts `pg_restore`, which reads that from its standard input and makes all of it or nothing.
///
/// # Errors
/// It cannot be started.
pub(crate) fn restore(url: &str) -> Result<Child, ServerError> {
    let database = variables(url)?.into_iter().find(|(name, _)| *name == "PGDATABASE");
    let (_, database) = database.ok_or(ServerError::DatabaseUrl)?;
    let arguments = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"];
    let database = format!("--dbname={database}");
    let all: Vec<&str> = arguments.into_iter().chain([database.as_str()]).collect();
    start("pg_restore", url, &all, Stdio::piped(), Stdio::null())
}

/// Checks that `pg_restore` can be run, before there is anything that it would have to go on with.
///
/// # Errors
/// It cannot.
pub(crate) async fn must_restore() -> Result<(), ServerError> {
    let program = "pg_restore";
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let child = command.spawn().map_err(|source| ServerError::Program { program, source })?;
    end(program, child).await
}

/// Waits until a program has ended well.
///
/// # Errors
/// It has not; its own words are on the standard error.
pub(crate) async fn end(program: &'static str, mut child: Child) -> Result<(), ServerError> {
    let status = child.wait().await.map_err(|source| ServerError::Program { program, source })?;
    if status.success() { Ok(()) } else { Err(ServerError::ProgramFailed { program, status }) }
}

fn start(
    program: &'static str,
    url: &str,
    arguments: &[&str],
    input: Stdio,
    output: Stdio,
) -> Result<Child, ServerError> {
    let mut command = Command::new(program);
    command.args(arguments).envs(variables(url)?).stdin(input).stdout(output).kill_on_drop(true);
    command.spawn().map_err(|source| ServerError::Program { program, source })
}

/// Returns the variables that name the database of a URL.
fn variables(url: &str) -> Result<Vec<(&'static str, String)>, ServerError> {
    let url = Url::parse(url).map_err(|_| ServerError::DatabaseUrl)?;
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut named: Vec<(String, String)> = Vec::new();
    let mut name = |parameter: &str, text: Option<&str>| {
        let text = text.map(plain).filter(|text| !text.is_empty());
        named.extend(text.map(|text| (parameter.to_owned(), text)));
    };
    name("host", url.host_str());
    name("port", url.port().map(|port| port.to_string()).as_deref());
    name("user", Some(url.username()));
    name("password", url.password());
    name("dbname", Some(url.path().trim_start_matches('/')));
    // What the query says comes first, as it does for the service itself.
    named.extend(url.query_pairs().map(|(name, text)| (name.into_owned(), text.into_owned())));
    let variable = |(parameter, variable): (&str, &'static str)| {
        let said = named.iter().rev().find(|(name, _)| name == parameter);
        said.map(|(_, text)| (variable, text.clone()))
    };
    Ok(PARAMETERS.into_iter().filter_map(variable).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_variables_and_no_argument() {
        let of = |url| variables(url).unwrap();
        let has = |all: &[(&str, String)], name: &str, text: &str| {
            all.iter().any(|(variable, said)| *variable == name && said == text)
        };
        let all = of("postgres://ole:p%40ss%2Fword@db.example:5433/holdfast?sslmode=verify-full");
        for (name, text) in [
            ("PGHOST", "db.example"),
            ("PGPORT", "5433"),
            ("PGUSER", "ole"),
            ("PGPASSWORD", "p@ss/word"),
            ("PGDATABASE", "holdfast"),
            ("PGSSLMODE", "verify-full"),
        ] {
            assert!(has(&all, name, text), "{name}: {all:?}");
        }
        let socket = of("postgres://holdfast@localhost/service?host=/run/postgresql");
        assert!(has(&socket, "PGHOST", "/run/postgresql") && socket.len() == 3, "{socket:?}");
        variables("nothing").unwrap_err();
    }
}
