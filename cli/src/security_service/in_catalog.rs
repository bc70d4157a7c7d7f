//! The catalog that a command is about, and the client with which it asks.

use super::client::{Client, ClientError};
use super::session;
use super::shown::{cell, items};
use anyhow::{Result, anyhow, bail};
use clap::Args;
use holdfast_types::CatalogId;
use serde_json::Value;

/// Arguments of every command about a catalog.
#[derive(Debug, Clone, Args)]
pub(crate) struct CatalogArgs {
    /// Id or name of the catalog. Without it: that of `login --catalog`, or the one that the token may see.
    #[arg(long, value_name = "CATALOG")]
    pub(crate) catalog: Option<String>,
    /// Print what the service answers, as one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A catalog of the service that is logged in to.
#[derive(Debug)]
pub(crate) struct InCatalog {
    client: Client,
    /// Id of the catalog.
    pub(crate) catalog: String,
}

/// Opens the catalog that the arguments name.
///
/// # Errors
/// Nobody is logged in, there is no such catalog, or the service does not answer.
pub(crate) fn open(args: &CatalogArgs) -> Result<InCatalog> {
    let session = session::load()?;
    let client = Client::of(&session)?;
    let catalog = match args.catalog.as_ref().or(session.catalog.as_ref()) {
        Some(name) => find(&client, name)?,
        None => only(&client)?,
    };
    Ok(InCatalog { client, catalog })
}

/// Returns the id of the catalog with this id or name. One that is named by its id is not looked up: a factory's token claims and
/// sees nothing.
///
/// # Errors
/// There is none, or the service does not answer.
pub(crate) fn find(client: &Client, name: &str) -> Result<String> {
    if let Some(id) = CatalogId::parse(name) {
        return Ok(id.to_string());
    }
    let list = client.list(&["v1", "catalogs"], &[])?;
    let found = items(&list).iter().find(|catalog| cell(catalog, "name") == name);
    let found = found.map(|catalog| cell(catalog, "id"));
    found.ok_or_else(|| {
        let names: Vec<String> = items(&list).iter().map(|item| cell(item, "name")).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        anyhow!(
            "--catalog: there is no catalog `{name}` that this token may see; there are: {names}"
        )
    })
}

/// Returns the id of the only catalog that the token may see.
fn only(client: &Client) -> Result<String> {
    let list = match client.list(&["v1", "catalogs"], &[]) {
        Err(error) if error.refused_for() == Some("forbidden") => bail!(
            "--catalog: is missing, and the token's role may not list catalogs; give the catalog's id"
        ),
        list => list?,
    };
    match items(&list) {
        [one] => Ok(cell(one, "id")),
        [] => bail!(
            "the token may see no catalog; an owner of the service makes one by `catalog create`"
        ),
        several => {
            let names: Vec<String> = several.iter().map(|item| cell(item, "name")).collect();
            bail!("--catalog: is missing, and there are several: {}; name one", names.join(", "))
        }
    }
}

impl InCatalog {
    /// Makes one of parts.
    pub(crate) fn new(client: Client, catalog: String) -> Self {
        Self { client, catalog }
    }

    fn path<'p>(&'p self, below: &[&'p str]) -> Vec<&'p str> {
        [&["v1", "catalogs", self.catalog.as_str()][..], below].concat()
    }

    /// Asks for what lies below the catalog.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn get(&self, below: &[&str]) -> Result<Value, ClientError> {
        self.client.get(&self.path(below))
    }

    /// Has something made or done.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn post(&self, below: &[&str], body: &Value) -> Result<Value, ClientError> {
        self.client.post(&self.path(below), body)
    }

    /// Puts something below the catalog.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn put(&self, below: &[&str], body: &Value) -> Result<Value, ClientError> {
        self.client.put(&self.path(below), body)
    }

    /// Puts a file below the catalog.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn put_bytes(&self, below: &[&str], file: Vec<u8>) -> Result<Value, ClientError> {
        self.client.put_bytes(&self.path(below), file)
    }

    /// Changes something below the catalog.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn change(&self, below: &[&str], body: &Value) -> Result<Value, ClientError> {
        self.client.patch(&self.path(below), body)
    }

    /// Changes the catalog itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn patch(&self, body: &Value) -> Result<Value, ClientError> {
        self.client.patch(&self.path(&[]), body)
    }

    /// Hands each page of what lies below the catalog to `take`, as the service writes it.
    ///
    /// # Errors
    /// See [`ClientError`], and those of `take`.
    pub(crate) fn pages(
        &self,
        below: &[&str],
        query: &[(&str, &str)],
        take: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.client.pages(&self.path(below), query, take)
    }

    /// Hands the entries of each page of a list below the catalog to `take`, until it wants no more or there are none.
    ///
    /// # Errors
    /// See [`ClientError`], and those of `take`.
    pub(crate) fn each_page(
        &self,
        below: &[&str],
        query: &[(&str, &str)],
        take: impl FnMut(Vec<Value>) -> Result<bool>,
    ) -> Result<()> {
        self.client.each_page(&self.path(below), query, take)
    }

    /// Asks for the first entry of a list below the catalog.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn page_of_one(&self, below: &[&str]) -> Result<Value, ClientError> {
        self.client.page_of_one(&self.path(below))
    }

    /// Returns all pages of a list below the catalog.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn list(
        &self,
        below: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, ClientError> {
        self.client.list(&self.path(below), query)
    }
}
