//! Events of the service that has the device's keys.

events! {
    /// The service met an error that it cannot work around, and ends; init starts it again.
    IDENTITY_SERVICE_FAILED = "identity_service_failed";
    /// The device has its keys; the line has the id by which it is claimed, and where its keys are.
    IDENTITY_STARTED = "identity_started";
    /// The board's TPM does not answer, or answers wrongly: the device has no identity until the next start.
    IDENTITY_TPM_FAILED = "identity_tpm_failed";
    /// The key of a board without a TPM could not be read or made: the device has no identity until the next start.
    IDENTITY_KEY_FAILED = "identity_key_failed";
    /// A key was made in `state`, at the first start of a board without a TPM or after a reset.
    IDENTITY_KEY_MADE = "identity_key_made";
    /// A file of the service on `state` is damaged, and counts as missing.
    IDENTITY_STATE_READ_FAILED = "identity_state_read_failed";
    /// The enrolment could not be written to `state`.
    IDENTITY_STATE_PERSIST_FAILED = "identity_state_persist_failed";
    /// The device is enrolled in its catalog.
    IDENTITY_ENROLLED = "identity_enrolled";
    /// The device belongs to another catalog from now on, by a voucher of the one before; its keys are others then.
    IDENTITY_TRANSFERRED = "identity_transferred";
    /// A voucher is refused: the device stays in the catalog that it belongs to.
    IDENTITY_TRANSFER_REFUSED = "identity_transfer_refused";
    /// The device has checked in, with the profile that its certificates are for.
    IDENTITY_CHECKED_IN = "identity_checked_in";
    /// A request of `uplink` failed, or an answer of the service was refused.
    IDENTITY_REQUEST_FAILED = "identity_request_failed";
    /// `uplink` asks for evidence more often than it may.
    IDENTITY_REQUESTS_LIMITED = "identity_requests_limited";
    /// More apps ask for certificates than one check-in has room for.
    IDENTITY_APPS_LIMITED = "identity_apps_limited";
    /// The socket to `uplink` failed or brought a malformed request.
    IDENTITY_UPLINK_SOCKET_FAILED = "identity_uplink_socket_failed";
    /// A D-Bus connection of an app could not be accepted.
    IDENTITY_APP_ACCEPT_FAILED = "identity_app_accept_failed";
    /// The D-Bus connection of an app was closed after an error.
    IDENTITY_APP_CONNECTION_FAILED = "identity_app_connection_failed";
    /// An app asks for signatures more often than it may; said once a minute at most.
    IDENTITY_SIGNATURES_LIMITED = "identity_signatures_limited";
    /// An app asks to have something signed that is no hash of a TLS 1.3 handshake; said once a minute at most.
    IDENTITY_SIGNATURE_DENIED = "identity_signature_denied";
    /// A signature for an app could not be made; said once a minute at most.
    IDENTITY_SIGNATURE_FAILED = "identity_signature_failed";
}
