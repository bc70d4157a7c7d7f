//! Problem types (RFC 9457): why a request was refused, or why a certificate is good for less. Published, and never renamed.

use serde::{Deserialize, Serialize};

/// What each type's URI begins with: a reference that is relative to the service (RFC 9457, 3.1.1), which publishes it there.
pub const BASE: &str = "/problems/";

macro_rules! problems {
    ($($(#[doc = $doc:literal])+ $name:ident = $slug:literal, $status:literal, $title:literal;)+) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Problem { $($(#[doc = $doc])+ #[serde(rename = $slug)] $name),+ }

        impl Problem {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the last part of its URI.
            #[must_use]
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug),+ }
            }

            /// Returns the HTTP status of a request that is refused for it.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            /// Returns the sentence for it.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }
        }
    };
}

problems! {
    /// The device has not been claimed yet.
    Waiting = "waiting", 403, "The device waits for its owner to claim it";
    /// The owner has retired the device.
    Released = "released", 403, "The device was retired by its owner";
    /// No device of this id is enrolled in this catalog.
    UnknownDevice = "unknown-device", 404, "No such device is enrolled in this catalog";
    /// There is no such catalog.
    UnknownCatalog = "unknown-catalog", 404, "There is no such catalog";
    /// The device is enrolled with another attestation key or kind.
    KeyChanged = "key-changed", 409, "The device is enrolled with another key";
    /// The attestation key, the endorsement key or its certificate is refused.
    KeyRefused = "key-refused", 403, "A key is not of the one form that is taken";
    /// The catalog or the group does not take evidence of this grade.
    GradeRefused = "grade-refused", 403, "Evidence of this grade is not taken here";
    /// The enrolment was ended, has expired, or never was.
    EnrolmentGone = "enrolment-gone", 403, "The enrolment is over; begin again";
    /// The evidence is not that of the device on this connection.
    EvidenceRefused = "evidence-refused", 403, "The evidence is refused";
    /// What was measured is no release that the owner has added.
    MeasurementUnknown = "measurement-unknown", 403, "What was measured is no known release";
    /// The owner has quarantined the device.
    Quarantined = "quarantined", 403, "The owner has quarantined the device";
    /// The owner contains a threat that the device, or a version that it runs, is part of.
    Contained = "contained", 403, "The owner contains a threat that the device or a version on it is part of";
    /// The owner has withdrawn the release that runs.
    ReleaseWithdrawn = "release-withdrawn", 403, "The release that runs was withdrawn";
    /// The release that runs is below the least rollback index of the group.
    BelowLeastIndex = "below-least-index", 403, "The release that runs is older than the group takes";
    /// The image that runs has a debug port.
    DebugBuild = "debug-build", 403, "The image that runs has a debug port";
    /// A slot has failed to start before the one that runs.
    SlotFailed = "slot-failed", 403, "A slot failed to start before the one that runs";
    /// The receipt is none that the device may still have: there are two of it, or its state was put back.
    ReceiptForked = "receipt-forked", 403, "The receipt is not the last one";
    /// The TPM's clock shows less than before.
    TpmClockWentBack = "tpm-clock-went-back", 403, "The TPM's clock went back";
    /// The body or a field of it breaks a rule.
    Malformed = "malformed", 400, "The request is malformed";
    /// The body has more bytes than are taken.
    TooLarge = "too-large", 413, "The body is too large";
    /// The body did not come in time.
    TooSlow = "too-slow", 408, "The body did not come in time";
    /// The service has too much to do, or too many devices wait for their owner.
    Busy = "busy", 503, "The service has too much to do; come again later";
    /// No certificate of a device was shown, or its catalog does not vouch for it.
    CertificateRefused = "certificate-refused", 403, "The client's certificate is missing or refused";
    /// The device's group takes no reports.
    ReportsOff = "reports-off", 403, "The owner has switched off reports of this device";
    /// The device has sent as much as it may for now.
    TooMany = "too-many", 429, "It has asked for this too often; come again later";
    /// There is no such path.
    NotFound = "not-found", 404, "There is no such thing here";
    /// There is no token, or it is none, or it has expired.
    Unauthenticated = "unauthenticated", 401, "A token is needed";
    /// The role of whoever asks may not do this, or not here.
    Forbidden = "forbidden", 403, "The role may not do this, or not here";
    /// A request by a session's cookie changes something and does not repeat what another site cannot know.
    CsrfTokenMissing = "csrf-token-missing", 403, "The header X-CSRF-Token is missing or another session's";
    /// The provider, or the service, does not believe who has signed in.
    SignInRefused = "sign-in-refused", 403, "The sign-in is refused";
    /// Who has signed in has no role.
    NoRole = "no-role", 403, "Nobody has given you a role here";
    /// The provider does not answer as it should.
    ProviderFailed = "provider-failed", 502, "The provider that people sign in by does not answer as it should";
    /// The second person is the first, or may not decide any more.
    ApprovalRefused = "approval-refused", 409, "The change is not decided about";
    /// Nobody would own the catalog any more.
    LastOwner = "last-owner", 409, "The last owner cannot be removed";
    /// What is to be made is there, or what is to be changed has changed.
    Conflict = "conflict", 409, "It is there already, or has changed";
    /// The idempotency key was used for another request.
    KeyReused = "idempotency-key-reused", 422, "The idempotency key was used for another request";
    /// The catalog takes releases from the signed metadata of its repository, and not by hand.
    ReleaseNotSigned = "release-not-signed", 409, "The catalog takes releases from signed metadata alone";
    /// The metadata of releases is not what the trusted root and those that follow it have signed.
    MetadataRefused = "metadata-refused", 422, "The metadata of releases is refused";
    /// The metadata name files that the service does not hold.
    FilesMissing = "files-missing", 409, "Files that the metadata name were not sent";
    /// A file is not what it was said to be.
    FileRefused = "file-refused", 422, "The file is not the one that was named";
    /// The file is none of a program with symbols, or is another program's.
    SymbolsRefused = "symbols-refused", 422, "The symbols are refused";
    /// What is to be changed is not what the caller has seen (`If-Match`).
    PreconditionFailed = "precondition-failed", 412, "It is not what was seen: it has changed since";
    /// The disk of the service has no room for what is to be stored.
    DiskFull = "disk-full", 507, "The service's disk is nearly full";
    /// The service failed; its log says how.
    Internal = "internal", 500, "The service failed";
}

impl Problem {
    /// Returns the kind with this last part of its URI.
    #[must_use]
    pub fn of_slug(slug: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|problem| problem.slug() == slug)
    }

    /// Returns its URI.
    #[must_use]
    pub fn uri(self) -> String {
        format!("{BASE}{}", self.slug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_problem_has_a_slug_of_its_own_and_a_status_of_an_error() {
        let slugs: BTreeSet<_> = Problem::ALL.iter().map(|problem| problem.slug()).collect();
        assert_eq!(slugs.len(), Problem::ALL.len());
        let of_slug = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        assert!(slugs.iter().all(|slug| slug.bytes().all(of_slug)));
        assert!(Problem::ALL.iter().all(|problem| (400..600).contains(&problem.status())));
    }
}
