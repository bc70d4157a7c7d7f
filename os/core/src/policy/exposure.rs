//! Exposure.
