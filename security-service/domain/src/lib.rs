//! What the Security Service decides: pure functions of rows, of what was attested, and of the time that the caller says.
//!
//! Nothing here does I/O, reads a clock, waits, or draws a random number. A decision is a verdict together with what is to
//! be written, as one value, so that no answer is given of which a part was not stored. What a device *says* never
//! reaches a decision: only [`Attested`](holdfast_evidence::verify::Attested) and
//! [`SoftwareAttested`](holdfast_evidence::software::SoftwareAttested) do, which the verifier alone makes.

pub mod approval;
pub mod audit;
pub mod check_in;
pub mod checkpoint;
pub mod crash;
pub mod deployment;
pub mod detection;
pub mod device;
pub mod disk;
pub mod endorsement;
pub mod enrolment;
pub mod extent;
pub mod grade;
pub mod insight;
pub mod leaf;
pub mod measurement;
pub mod name;
pub mod person;
pub mod policy;
pub mod problem;
pub mod proxy;
pub mod receipt;
pub mod reference_values;
pub mod report_batch;
pub mod report_rate;
pub mod reporter;
pub mod role;
pub mod schedule;
pub mod session;
pub mod settings;
pub mod sign_in_settings;
pub mod symbols;
pub mod transfer;
