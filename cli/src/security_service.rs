//! Commands about devices' Security Service: an account of it, and what the service keeps, by its management API.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod ca_certificate;
pub(crate) mod catalog;
pub(crate) mod client;
pub(crate) mod console;
pub(crate) mod crash_group;
pub(crate) mod device;
pub(crate) mod device_group;
pub(crate) mod finding;
pub(crate) mod import;
pub(crate) mod in_catalog;
pub(crate) mod installation;
pub(crate) mod loopback;
pub(crate) mod maker;
pub(crate) mod product;
pub(crate) mod program;
pub(crate) mod refusal;
pub(crate) mod release;
pub(crate) mod repository;
pub(crate) mod session;
pub(crate) mod shown;
pub(crate) mod symbols;
pub(crate) mod token;
pub(crate) mod watcher;
pub(crate) mod webhook;
