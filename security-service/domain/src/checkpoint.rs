//! Checkpoints of the audit log: how many rows it has and the hash of the last, signed, so that whoever has kept one notices when the log
//! is cut, rewritten or told otherwise to somebody else.
//!
//! What signs is a key that is made for one checkpoint and thrown away. Its certificate, with a usage of its own, is issued as those of
//! devices are, so that who has the certificate of the catalog's root needs nothing else to verify a checkpoint.

use crate::audit::{BEGIN, Row};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_evidence::messages::CatalogId;
use holdfast_types::hex::{hex, unhex};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Content of the object identifier of the extended key usage of what signs checkpoints, as DER has it: 1.3.6.1.4.1.32473.1.2.2
/// ([`audit_usage`](crate::leaf::audit_usage)).
const USAGE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xfd, 0x59, 0x01, 0x02, 0x02];
/// Longest file of a checkpoint in bytes.
pub const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Longest certificate in it, in bytes.
const MAX_CERTIFICATE_BYTES: usize = 4096;

/// A state of a catalog's audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The catalog.
    pub catalog: CatalogId,
    /// Rows of the log.
    pub size: u64,
    /// Hash of the last one, or of the beginning where there is none.
    pub head: [u8; 32],
    /// When it was made, in seconds since 1970.
    pub at: u64,
}

impl Checkpoint {
    /// Returns what is signed.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut message = b"holdfast-audit-checkpoint-1\0".to_vec();
        message.extend(self.catalog.0);
        message.extend(self.size.to_be_bytes());
        message.extend(self.head);
        message.extend(self.at.to_be_bytes());
        message
    }
}

/// A checkpoint with its signature: the JSON that is served and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedCheckpoint {
    /// Id of the catalog.
    pub catalog: String,
    /// Rows of the log.
    pub size: u64,
    /// Hash of the last row, in hexadecimal.
    pub head: String,
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// What has signed, and what has issued its certificate: DER in base64.
    pub certificates: [String; 2],
    /// ECDSA on P-256 with SHA-256 over [`Checkpoint::message`], ASN.1 in base64.
    pub signature: String,
}

/// Why a checkpoint is not believed.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// It is no checkpoint.
    #[error("is no checkpoint of an audit log")]
    Json(#[from] serde_json::Error),
    /// A field is none.
    #[error("{0}: is not what a checkpoint has there")]
    Field(&'static str),
    /// The root of the catalog is no certificate.
    #[error("the certificate of the catalog's root cannot be read")]
    Root(#[source] webpki::Error),
    /// What has signed is not the catalog's.
    #[error(
        "what has signed it is not vouched for by the catalog's root as what signs checkpoints"
    )]
    Certificate(#[source] webpki::Error),
    /// The certificate is good for more than checkpoints.
    #[error("what has signed it is no certificate for checkpoints alone")]
    Usage,
    /// The signature is another's.
    #[error("its signature is not good")]
    Signature(#[source] webpki::Error),
}

impl SignedCheckpoint {
    /// Puts a checkpoint, its signature and the certificates together.
    #[must_use]
    pub fn new(checkpoint: &Checkpoint, certificates: [&[u8]; 2], signature: &[u8]) -> Self {
        Self {
            catalog: checkpoint.catalog.to_string(),
            size: checkpoint.size,
            head: hex(&checkpoint.head),
            at: checkpoint.at,
            certificates: certificates.map(|der| STANDARD.encode(der)),
            signature: STANDARD.encode(signature),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &[u8]) -> Result<Self, CheckpointError> {
        Ok(serde_json::from_slice(text)?)
    }

    /// Returns what it says, once its signature was verified from the certificate of the catalog's root (DER).
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn verify(&self, root: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = Checkpoint {
            catalog: CatalogId::parse(&self.catalog).ok_or(CheckpointError::Field("catalog"))?,
            size: self.size,
            head: unhex(&self.head).ok_or(CheckpointError::Field("head"))?,
            at: self.at,
        };
        let decode = |text: &String| {
            let der = STANDARD.decode(text).ok();
            let der = der.filter(|der| der.len() <= MAX_CERTIFICATE_BYTES);
            der.ok_or(CheckpointError::Field("certificates"))
        };
        let [leaf, issuing] = &self.certificates;
        let (leaf, issuing) = (decode(leaf)?, decode(issuing)?);
        let signature = STANDARD.decode(&self.signature);
        let signature = signature.map_err(|_| CheckpointError::Field("signature"))?;
        let root = CertificateDer::from(root);
        let anchors = [anchor_from_trusted_cert(&root).map_err(CheckpointError::Root)?];
        let (leaf, issuing) = (CertificateDer::from(leaf), [CertificateDer::from(issuing)]);
        let leaf = EndEntityCert::try_from(&leaf).map_err(CheckpointError::Certificate)?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(self.at));
        let algorithms = &[webpki::ring::ECDSA_P256_SHA256];
        let verify =
            |usage| leaf.verify_for_usage(algorithms, &anchors, &issuing, at, usage, None, None);
        // An issuing certificate names no usages, and so has all; a leaf without any would be good for everything.
        verify(KeyUsage::required_if_present(USAGE)).map_err(CheckpointError::Certificate)?;
        if verify(KeyUsage::client_auth()).is_ok() {
            return Err(CheckpointError::Usage);
        }
        // The name of what has signed is of one catalog.
        let named = crate::leaf::audit_uri(&checkpoint.catalog);
        if !leaf.valid_uri_names().any(|name| name == named) {
            return Err(CheckpointError::Field("catalog"));
        }
        leaf.verify_signature(webpki::ring::ECDSA_P256_SHA256, &checkpoint.message(), &signature)
            .map_err(CheckpointError::Signature)?;
        Ok(checkpoint)
    }
}

/// What is wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// A row is not the one that was written.
    #[error("row {0} is not the one that was written, or one before it is missing")]
    Row(u64),
    /// Rows are missing at the end.
    #[error(
        "row {missing} is missing, and all behind it: a checkpoint of {at} was signed over {size} rows"
    )]
    Truncated {
        /// The first row that is missing.
        missing: u64,
        /// Rows of the checkpoint.
        size: u64,
        /// When the checkpoint was made, in seconds since 1970.
        at: u64,
    },
    /// The log is a chain, and not the one of a checkpoint.
    #[error(
        "row {row} is another than the one that a checkpoint of {at} was signed over: rows from {first} on were rewritten, or are another copy's"
    )]
    Forked {
        /// The last row of the checkpoint.
        row: u64,
        /// The first row that no checkpoint vouches for.
        first: u64,
        /// When the checkpoint was made, in seconds since 1970.
        at: u64,
    },
}

/// Follows a log, row by row, past checkpoints that were verified.
#[derive(Debug)]
pub struct Follower {
    catalog: CatalogId,
    number: u64,
    last: [u8; 32],
    /// Those that are still ahead, the nearest last.
    ahead: Vec<Checkpoint>,
    /// Rows that the last checkpoint vouches for.
    vouched: u64,
}

impl Follower {
    /// Begins before the first row.
    ///
    /// # Errors
    /// A checkpoint of no rows has another beginning.
    pub fn begin(catalog: CatalogId, mut checkpoints: Vec<Checkpoint>) -> Result<Self, Fault> {
        checkpoints.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.size));
        let mut follower = Self { catalog, number: 0, last: BEGIN, ahead: checkpoints, vouched: 0 };
        follower.pass()?;
        Ok(follower)
    }

    /// Follows a row, with the hash that is stored beside it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn follow(&mut self, row: &Row, stored: [u8; 32]) -> Result<(), Fault> {
        let number = self.number.saturating_add(1);
        let hash = row.hash(&self.catalog, &self.last);
        if row.number != number || hash != stored {
            return Err(Fault::Row(number));
        }
        (self.number, self.last) = (number, hash);
        self.pass()
    }

    /// Compares the state with the checkpoints of it.
    fn pass(&mut self) -> Result<(), Fault> {
        while let Some(next) = self.ahead.pop_if(|next| next.size == self.number) {
            if next.head != self.last {
                let first = self.vouched.saturating_add(1).min(next.size);
                return Err(Fault::Forked { row: next.size, first, at: next.at });
            }
            self.vouched = next.size;
        }
        Ok(())
    }

    /// Ends behind the last row, and returns how many there are, and the hash of the last.
    ///
    /// # Errors
    /// A checkpoint has more rows.
    pub fn end(mut self) -> Result<(u64, [u8; 32]), Fault> {
        match self.ahead.pop() {
            None => Ok((self.number, self.last)),
            Some(Checkpoint { size, at, .. }) => {
                Err(Fault::Truncated { missing: self.number.saturating_add(1), size, at })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]

    use super::*;

    const CATALOG: CatalogId = CatalogId([7; 16]);

    /// A log of so many rows, in which row `other` is another one where it is named.
    fn log(rows: u64, other: Option<u64>) -> Vec<(Row, [u8; 32])> {
        let mut last = BEGIN;
        let row = |number: u64| Row {
            number,
            at: 1000 + number,
            who: if other == Some(number) { "ines" } else { "ole" }.to_owned(),
            verb: "device.claim".to_owned(),
            object: number.to_string(),
            digest: [3; 32],
        };
        let chain = (1..=rows).map(|number| {
            let row = row(number);
            last = row.hash(&CATALOG, &last);
            (row, last)
        });
        chain.collect()
    }

    fn checkpoint(log: &[(Row, [u8; 32])], size: usize) -> Checkpoint {
        let head = if size == 0 { BEGIN } else { log[size - 1].1 };
        Checkpoint { catalog: CATALOG, size: size as u64, head, at: 5000 + size as u64 }
    }

    fn followed(
        log: &[(Row, [u8; 32])],
        checkpoints: Vec<Checkpoint>,
    ) -> Result<(u64, [u8; 32]), Fault> {
        let mut follower = Follower::begin(CATALOG, checkpoints)?;
        for (row, stored) in log {
            follower.follow(row, *stored)?;
        }
        follower.end()
    }

    #[test]
    fn a_log_that_was_rewritten_cut_or_forked_is_found_at_its_row() {
        let good = log(9, None);
        let kept = vec![checkpoint(&good, 7), checkpoint(&good, 0), checkpoint(&good, 3)];
        assert_eq!(followed(&good, kept.clone()), Ok((9, good[8].1)), "the control");
        assert_eq!(followed(&log(12, None), kept.clone()).unwrap().0, 12, "it may grow");
        let mut rewritten = good.clone();
        rewritten[4].0.object = "other".to_owned();
        assert_eq!(followed(&rewritten, kept.clone()), Err(Fault::Row(5)));
        let cut = followed(&good[..5], kept.clone());
        assert_eq!(cut, Err(Fault::Truncated { missing: 6, size: 7, at: 5007 }));
        // Hashes and all: a chain of its own, which only a checkpoint tells from the first.
        let forked = log(9, Some(5));
        assert_eq!(followed(&forked, vec![]).unwrap().0, 9, "without checkpoints it is a chain");
        let found = followed(&forked, kept.clone());
        assert_eq!(found, Err(Fault::Forked { row: 7, first: 4, at: 5007 }));
        assert_eq!(followed(&log(9, Some(8)), kept.clone()).unwrap().0, 9, "none is of row 8");
        let twice = vec![checkpoint(&good, 7), checkpoint(&forked, 7)];
        let found = followed(&good, twice);
        assert!(matches!(found, Err(Fault::Forked { row: 7, .. })), "two heads of one size");
        let of_other = Follower::begin(CATALOG, vec![Checkpoint { head: [1; 32], ..kept[1] }]);
        assert!(matches!(of_other, Err(Fault::Forked { row: 0, .. })));
    }

    #[test]
    fn each_field_is_a_part_of_what_is_signed() {
        let one = Checkpoint { catalog: CATALOG, size: 1, head: [2; 32], at: 3 };
        let others = [
            Checkpoint { catalog: CatalogId([8; 16]), ..one },
            Checkpoint { size: 2, ..one },
            Checkpoint { head: [3; 32], ..one },
            Checkpoint { at: 4, ..one },
        ];
        for other in others {
            assert_ne!(one.message(), other.message());
        }
    }
}
