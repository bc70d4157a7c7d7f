//! What could not be shown or done, with what the service says of it.

use axum::http::StatusCode;
use holdfast_service_api::Refusal;
use holdfast_service_domain::problem::Problem;
use serde::Deserialize;

/// A page that there is not, or something that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// The kind, in a sentence.
    pub(crate) title: String,
    /// What happened.
    pub(crate) detail: String,
    /// The kind's name, as the API has it.
    pub(crate) kind: String,
}

/// A problem document of the API.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    #[serde(default)]
    detail: String,
}

impl Failure {
    /// Reads what the API has answered with a status that is none of success.
    pub(crate) fn of_answer(status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(Document { kind, title, detail }) => Self { status, title, detail, kind },
            Err(_) => Self { status, ..Self::from(Refusal::from(Problem::Internal)) },
        }
    }

    /// What is asked for is not there.
    pub(crate) fn nowhere() -> Self {
        Refusal::from(Problem::NotFound).into()
    }

    /// What a form says is not what its page has.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Refusal::new(Problem::Malformed, detail).into()
    }

    /// The role of whoever asks does not have it.
    pub(crate) fn forbidden() -> Self {
        Refusal::from(Problem::Forbidden).into()
    }

    /// A form that no page of this session has.
    pub(crate) fn foreign_form() -> Self {
        let detail = "The form was not sent by a page of this session. Go back, load the page again, and repeat it.";
        Refusal::new(Problem::Forbidden, detail).into()
    }

    /// A fault of the service itself, which its log has.
    pub(crate) fn internal(detail: &str) -> Self {
        Refusal::new(Problem::Internal, detail).into()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.problem.status());
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            title: refusal.problem.title().to_owned(),
            detail: refusal.detail,
            kind: refusal.problem.uri(),
        }
    }
}
