//! The pages: each asks the API, makes its document of the answers, and a view of that.

pub(crate) mod access;
pub(crate) mod alerts;
pub(crate) mod crashes;
pub(crate) mod deployments;
pub(crate) mod devices;
pub(crate) mod findings;
pub(crate) mod fleet;
pub(crate) mod groups;
pub(crate) mod releases;
pub(crate) mod service;
pub(crate) mod threats;
