//! Refusals, as problems (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_service_domain::disk;
use holdfast_service_domain::problem::Problem;
use holdfast_service_store::StoreError;
use serde_json::json;
use std::fmt;

/// Media type of a problem.
const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds after which whoever was told that the service is busy comes again.
const BUSY_S: u64 = 60;

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub problem: Problem,
    /// What happened, for people. Nothing of a secret, and nothing that a stranger could not know, is in it.
    pub detail: String,
    /// Seconds after which it may come again, where that is known.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    /// Makes one.
    #[must_use]
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        let retry_after_s = match problem {
            Problem::Busy => Some(BUSY_S),
            Problem::DiskFull => Some(disk::RETRY_S),
            _ => None,
        };
        Self { problem, detail: detail.into(), retry_after_s }
    }

    /// Makes one of a request whose field is not what it has to be: `detail` names the field, what is wrong with it and what to write.
    #[must_use]
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Problem::Malformed, detail)
    }

    /// Makes one of whoever has asked too often, and may ask again after so many seconds.
    #[must_use]
    pub fn too_many(retry_after_s: u64) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::from(Problem::TooMany) }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::new(problem, "")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem.slug())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl From<StoreError> for Refusal {
    /// What an owner can do something about keeps its text. What is the service's own fault has none, for the log has it.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing(_) => Self::new(Problem::NotFound, error.to_string()),
            StoreError::There(_) => Self::new(Problem::Conflict, error.to_string()),
            StoreError::Overtaken => Self::new(Problem::Conflict, error.to_string()),
            StoreError::Changed => Self::new(Problem::PreconditionFailed, error.to_string()),
            StoreError::SignedAlone => Self::new(Problem::ReleaseNotSigned, error.to_string()),
            StoreError::NotContainable => Self::new(Problem::Conflict, error.to_string()),
            StoreError::Deployment(_) => Self::new(Problem::Conflict, error.to_string()),
            StoreError::Transfer(_) => Self::new(Problem::Conflict, error.to_string()),
            StoreError::Full { .. } => Self::new(Problem::Conflict, error.to_string()),
            StoreError::Approval(_) => Self::new(Problem::ApprovalRefused, error.to_string()),
            StoreError::LastOwner => Self::new(Problem::LastOwner, error.to_string()),
            StoreError::Listed { .. } | StoreError::OtherFeed { .. } => {
                Self::new(Problem::Malformed, error.to_string())
            }
            StoreError::KeyReused => Self::new(Problem::KeyReused, ""),
            error => {
                let event = holdfast_types::event::security_service::STORE_FAILED;
                eprintln!("the database failed: {} {event}", holdfast_types::escaped_chain(&error));
                Self::new(Problem::Internal, "")
            }
        }
    }
}

impl From<crate::secret::NoRandom> for Refusal {
    fn from(error: crate::secret::NoRandom) -> Self {
        Self::new(Problem::Internal, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.problem.status();
        let body = json!({
            "type": self.problem.uri(),
            "title": self.problem.title(),
            "status": status,
            "detail": self.detail,
        });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, body.to_string()).into_response();
        // For whoever counts refusals by their kind.
        response.extensions_mut().insert(self.problem);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
