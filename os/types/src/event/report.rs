//! Events of the service that records what fails.

events! {
    /// The service records, at the level that the line names.
    REPORT_STARTED = "report_started";
    /// The service met an error that it cannot work around, and ends; init starts it again.
    REPORT_SERVICE_FAILED = "report_service_failed";
    /// The level of what is recorded was changed, by the Security Service or by what the device's owner lets be reported.
    REPORT_LEVEL_CHANGED = "report_level_changed";
    /// What the device's owner lets be reported could not be kept in `state`: it holds until the service ends; said once until it is kept.
    REPORT_LEVEL_PERSIST_FAILED = "report_level_persist_failed";
    /// The spool in `state` could not be written: records are lost, which is counted; said once until a write succeeds.
    REPORT_SPOOL_FAILED = "report_spool_failed";
    /// Something that has happened could not be encoded as a record.
    REPORT_RECORD_FAILED = "report_record_failed";
    /// A request of `uplink` could not be answered.
    REPORT_REQUEST_FAILED = "report_request_failed";
    /// The socket to `uplink` failed or brought a malformed request; `uplink` asks for another one.
    REPORT_UPLINK_SOCKET_FAILED = "report_uplink_socket_failed";
}
