//! Events of the service that fetches releases and checks in.

events! {
    /// The service met an error that it cannot work around, and ends; init starts it again.
    UPLINK_SERVICE_FAILED = "uplink_service_failed";
    /// The socket to the update agent failed or brought a malformed request; another one is asked for.
    UPLINK_AGENT_SOCKET_FAILED = "uplink_agent_socket_failed";
    /// A file could not be fetched from a server, or not all of it.
    UPLINK_FETCH_FAILED = "uplink_fetch_failed";
    /// The device could not check in with its service; said once for each kind of failure in a row.
    UPLINK_CHECK_IN_FAILED = "uplink_check_in_failed";
    /// Failure reports could not be sent, and are kept; said once for each kind of failure in a row.
    UPLINK_REPORT_FAILED = "uplink_report_failed";
    /// The service knows the device, and nobody has claimed it.
    UPLINK_DEVICE_UNCLAIMED = "uplink_device_unclaimed";
}
