//! Names of functions at addresses of a program: what the symbol worker of the Security Service computes, and what it answers.
//!
//! Programs come from whoever may add releases, and DWARF is a language in which much can be said. Nothing here does I/O, waits, or
//! runs in the service itself: the worker calls it, in a process that can do nothing but compute, within limits of memory and time
//! (`holdfast_service::worker`).

pub mod answer;
pub mod name;
pub mod program;
