//! A page before it has its frame: title, way to it, document and body.

use crate::ask::{Ask, Query};
use crate::failure::Failure;
use askama::Template;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Rows of a page of a list.
pub(crate) const ROWS: &str = "100";
/// Most values of a query, and the most bytes of one.
const MOST_VALUES: usize = 16;
const MAX_VALUE_BYTES: usize = 512;

/// A page.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Its title.
    pub(crate) title: String,
    /// The pages above it, by name and path.
    pub(crate) trail: Vec<(String, String)>,
    /// What it is made of, which is its twin in JSON.
    pub(crate) document: Value,
    /// Its body, HTML.
    pub(crate) body: String,
    /// True if it is worth loading again by itself.
    pub(crate) refreshes: bool,
}

impl Page {
    /// Makes a page of a document and the template that shows it.
    pub(crate) fn new<D: Serialize, T: Template>(
        title: impl Into<String>,
        document: &D,
        template: &T,
    ) -> Result<Self, Failure> {
        let document = serde_json::to_value(document);
        let document = document.map_err(|error| Failure::internal(&error.to_string()))?;
        let body = template.render().map_err(|error| Failure::internal(&error.to_string()))?;
        Ok(Self { title: title.into(), trail: Vec::new(), document, body, refreshes: false })
    }

    /// Returns it below another page.
    pub(crate) fn below(mut self, name: impl Into<String>, path: String) -> Self {
        self.trail.push((name.into(), path));
        self
    }

    /// Returns it as one that is worth loading again by itself.
    pub(crate) fn that_refreshes(mut self) -> Self {
        self.refreshes = true;
        self
    }
}

/// What a query or a form has given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given(BTreeMap<String, String>);

impl Given {
    /// Takes pairs, of which each name may come once.
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Result<Self, Failure> {
        let malformed = || Failure::malformed("the query or form has more than its page");
        let mut given = BTreeMap::new();
        if pairs.len() > MOST_VALUES {
            return Err(malformed());
        }
        for (name, value) in pairs {
            if name.len() > MAX_VALUE_BYTES || given.insert(name, value).is_some() {
                return Err(malformed());
            }
        }
        Ok(Self(given))
    }

    /// Returns a value; no text where it was not given.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Returns a value of a query, which is no longer than those of our own links.
    pub(crate) fn of_query(&self, name: &str) -> Result<&str, Failure> {
        let value = self.get(name);
        if value.len() > MAX_VALUE_BYTES {
            return Err(Failure::malformed(format!("{name}: is too long")));
        }
        Ok(value)
    }
}

/// How a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paging {
    /// Where its first page is, unless this is that.
    pub(crate) first: Option<String>,
    /// Where its next page is.
    pub(crate) next: Option<String>,
}

impl Paging {
    /// Returns how a list at `path` goes on that was asked for with `query`, behind `after`.
    pub(crate) fn new(path: &str, query: &Query, after: &str, next: Option<&String>) -> Self {
        let first = (!after.is_empty()).then(|| format!("{path}{}", query.text()));
        let next = next.map(|next| format!("{path}{}", query.clone().with("after", next).text()));
        Self { first, next }
    }
}

/// Returns what is at a path, or nothing where there is no such thing.
pub(crate) async fn if_any<T: serde::de::DeserializeOwned>(
    ask: &Ask,
    path: &str,
) -> Result<Option<T>, Failure> {
    match ask.get(path, &Query::default()).await {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.status.as_u16() == 404 => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_given_once_and_none_is_long() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let given = Given::of(vec![pair("after", "a"), pair("state", "")]).unwrap();
        assert_eq!((given.get("after"), given.get("state"), given.get("none")), ("a", "", ""));
        Given::of(vec![pair("a", "1"), pair("a", "2")]).unwrap_err();
        Given::of((0..17).map(|number| pair(&number.to_string(), "")).collect()).unwrap_err();
        let long = Given::of(vec![pair("a", &"x".repeat(513))]).unwrap();
        long.of_query("a").unwrap_err();
    }

    #[test]
    fn a_list_leads_to_its_next_page_and_back_to_its_first() {
        let query = Query::default().with("state", "enrolled").with("find", "");
        let paging = Paging::new("/p", &query, "", Some(&"a b".to_owned()));
        assert_eq!(paging.first, None);
        assert_eq!(paging.next.as_deref(), Some("/p?state=enrolled&after=a%20b"));
        let last = Paging::new("/p", &query, "a", None);
        assert_eq!((last.first.as_deref(), last.next), (Some("/p?state=enrolled"), None));
    }
}
