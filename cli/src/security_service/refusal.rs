//! Refusals of the service: problem documents (RFC 9457) as errors that say what can be done about them.

use serde::Deserialize;
use std::fmt;

/// Media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why the service has refused a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Refusal {
    /// The last part of the problem's type, which never changes: `unknown-catalog`.
    pub(crate) kind: String,
    /// HTTP status of the answer.
    pub(crate) status: u16,
    title: String,
    detail: String,
    /// Seconds of `Retry-After`, where the answer had one.
    retry_after_s: Option<u32>,
}

/// What is read of a problem document. Members that are missing are empty, as RFC 9457 lets them be.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

impl Refusal {
    /// Reads the body of an answer; `None` where it is no problem document.
    pub(crate) fn read(status: u16, retry_after_s: Option<u32>, body: &[u8]) -> Option<Self> {
        let Document { kind, title, detail } = serde_json::from_slice(body).ok()?;
        let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
        if kind.is_empty() && title.is_empty() {
            return None;
        }
        Some(Self { kind, status, title, detail, retry_after_s })
    }

    /// Returns what whoever has typed the command can do about it.
    fn remedy(&self) -> Option<String> {
        let text = match self.kind.as_str() {
            "unauthenticated" => {
                "the session or the token has ended or was removed: run `login` again, or get another token"
            }
            "forbidden" => {
                "an owner gives other roles with `role grant` or `token create`; catalogs are made with a role for the \
                 whole service"
            }
            "no-role" => "an owner runs `role grant`",
            "sign-in-refused" => "run `login` again",
            "approval-refused" => "`approval show` has the change",
            "last-owner" => "make somebody else an owner first, with `role grant`",
            "unknown-catalog" => "`catalog list` has those that the token may see",
            "unknown-device" => "`device list` has those of the catalog",
            "malformed" => "the field that is named first must be said otherwise",
            "conflict" => "look at what is there, with `show` or `list`",
            "symbols-refused" => {
                "send the programs as `image build` and `app pack` keep them, with their symbols"
            }
            "too-large" => "send less at once",
            "disk-full" => "make room on the disk of the service's folder, and try again",
            "internal" => "the log of the service says what has failed",
            "busy" => {
                let wait = self.retry_after_s.unwrap_or(60);
                return Some(format!("try again in {wait} s"));
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = self.title.chars();
        let begin = letters.next().map(|first| first.to_lowercase().to_string());
        let title = begin.unwrap_or_default() + letters.as_str();
        write!(f, "the service refuses ({} {}): {title}", self.status, self.kind)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        match self.remedy() {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_refused_and_what_to_do() {
        let body = br#"{"type":"/problems/forbidden","title":"The token's role may not do this","status":403,"detail":""}"#;
        let refusal = Refusal::read(403, None, body).unwrap();
        let text = refusal.to_string();
        let begin =
            "the service refuses (403 forbidden): the token's role may not do this; an owner";
        assert!(text.starts_with(begin), "{text}");
        let body = br#"{"type":"https://elsewhere.example/problems/malformed","title":"X","detail":"days: must be 1 to 90"}"#;
        let text = Refusal::read(400, None, body).unwrap().to_string();
        assert!(text.contains("(400 malformed): x: days: must be 1 to 90; the field"), "{text}");
        let busy = br#"{"type":"/problems/busy","title":"Busy"}"#;
        let text = Refusal::read(503, Some(7), busy).unwrap().to_string();
        assert!(text.ends_with("try again in 7 s"), "{text}");
    }

    #[test]
    fn what_is_no_problem_document_is_none() {
        for body in [&b""[..], b"<html>", b"[]", b"{}", b"{\"type\":7}"] {
            assert_eq!(Refusal::read(500, None, body), None, "{}", String::from_utf8_lossy(body));
        }
    }
}
