//! The session file: the service that commands ask, whom they believe to be it, and the token that they show.

use anyhow::{Context, Result, bail};
use holdfast_builder::failure::HostLacks;
use holdfast_builder::workspace;
use holdfast_images::destination;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The variable that names the directory of the session file, before `XDG_CONFIG_HOME`.
const DIRECTORY_VARIABLE: &str = "HOLDFAST_CONFIG";
const FILE: &str = "session.json";

/// A bearer token. It is printed nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Token(String);

impl Token {
    /// Takes a text for a token, without the blanks and line ends around it.
    ///
    /// # Errors
    /// It is empty, or cannot stand in a header.
    pub(crate) fn of_text(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("is no token: a token is one word of printable characters");
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the secret.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Where a command's requests go, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// URL of the service's port of management: `https://HOST:PORT`.
    pub(crate) service: String,
    /// Certificates of the authorities that may vouch for it, PEM.
    pub(crate) authorities: String,
    /// The token.
    pub(crate) token: Token,
    /// End of the token in seconds since 1970, where the service has told it.
    pub(crate) ends_at: Option<u64>,
    /// Id of the catalog that commands are about which name none.
    pub(crate) catalog: Option<String>,
}

/// Returns the path of the session file of this user.
///
/// # Errors
/// No variable says where the user's settings are.
pub(crate) fn path() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) {
        let directory = std::path::absolute(directory);
        return Ok(directory.context("HOLDFAST_CONFIG is no path")?.join(FILE));
    }
    let settings = absolute("XDG_CONFIG_HOME");
    let settings = settings.or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let settings =
        settings.ok_or_else(|| HostLacks("HOME is not set; set it, or HOLDFAST_CONFIG".to_owned()));
    Ok(settings?.join("holdfast").join(FILE))
}

/// Reads a file that has a secret, which nobody else may be able to read.
///
/// # Errors
/// It cannot be read, or others can read it.
pub(crate) fn read_secret(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        bail!("{}: can be read by others; run `chmod 600` on it", path.display());
    }
    workspace::read_text(path)
}

/// Reads the session at a path; `None` where there is none.
///
/// # Errors
/// It cannot be read, others can read it, or it is none.
pub(crate) fn load_from(path: &Path) -> Result<Option<Session>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_secret(path)?;
    let session = serde_json::from_str(&text)
        .with_context(|| format!("{}: is no session; run `login` again", path.display()))?;
    Ok(Some(session))
}

/// Reads this user's session.
///
/// # Errors
/// There is none, or as [`load_from`].
pub(crate) fn load() -> Result<Session> {
    let path = path()?;
    let session = load_from(&path)?;
    session.ok_or_else(|| {
        let reason =
            format!("nobody is logged in: there is no {}; see `login --help`", path.display());
        HostLacks(reason).into()
    })
}

/// A secret's file before it has its content. Whoever takes a ticket that is good once makes sure of its place first.
#[derive(Debug)]
pub(crate) struct Reserved {
    file: NamedTempFile,
    path: PathBuf,
}

/// Reserves the place of a secret, with a new file beside it that its owner alone can read.
///
/// # Errors
/// The directory cannot be made, or no file in it.
pub(crate) fn reserve(path: &Path) -> Result<Reserved> {
    let directory = destination::parent(path);
    let failed = || format!("cannot write {}", path.display());
    if !directory.is_dir() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).with_context(failed)?;
    }
    // It has the mode 0600 from the beginning.
    let file = NamedTempFile::new_in(directory).with_context(failed)?;
    Ok(Reserved { file, path: path.to_owned() })
}

impl Reserved {
    /// Writes the secret and puts it in its place.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn fill(self, text: &str) -> Result<()> {
        let Self { mut file, path } = self;
        let failed = || format!("cannot write {}", path.display());
        file.write_all(text.as_bytes()).with_context(failed)?;
        file.as_file().sync_all().with_context(failed)?;
        file.persist(&path).with_context(failed)?;
        Ok(())
    }

    /// Writes a session.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(self, session: &Session) -> Result<()> {
        let text = serde_json::to_string_pretty(session).context("cannot write JSON")?;
        self.fill(&(text + "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn session() -> Session {
        Session {
            service: "https://127.0.0.1:8444".to_owned(),
            authorities: String::new(),
            token: Token::of_text(" hft_1\n").unwrap(),
            ends_at: Some(1),
            catalog: None,
        }
    }

    #[test]
    fn a_session_is_its_owners_alone_and_is_read_as_it_was_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("new/deep/session.json");
        assert!(load_from(&path).unwrap().is_none());
        for _ in 0..2 {
            reserve(&path).unwrap().keep(&session()).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(load_from(&path).unwrap().unwrap().token.secret(), "hft_1");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = load_from(&path).unwrap_err().to_string();
        assert!(error.ends_with("can be read by others; run `chmod 600` on it"), "{error}");
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(load_from(&path).unwrap_err().to_string().contains("is no session"));
    }

    #[test]
    fn a_token_is_one_word_and_no_debug_output_has_it() {
        for bad in ["", " \n", "two words", "caf\u{e9}", "line\nbreak"] {
            Token::of_text(bad).unwrap_err();
        }
        assert!(!format!("{:?}", session()).contains("hft_1"));
    }
}
