//! Why a component was not started.

use holdfast_linux::PathError;
use holdfast_linux::network_namespace::NamespaceError;
use holdfast_linux::spawn::SpawnError;
use holdfast_sandbox::policy::system_calls::SystemCalls;
use std::ffi::NulError;
use std::io;

/// A step of a component's start that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot make a channel to it")]
    Channel(#[source] io::Error),
    #[error("there is no filter for the system calls {0}")]
    NoFilter(SystemCalls),
    #[error("its program, arguments or environment hold a NUL")]
    Nul(#[from] NulError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}
