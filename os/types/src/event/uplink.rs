//! Events of the service that fetches releases.

events! {
    /// The service met an error that it cannot work around, and ends; init starts it again.
    UPLINK_SERVICE_FAILED = "uplink_service_failed";
    /// The socket to the update agent failed or brought a malformed request; another one is asked for.
    UPLINK_AGENT_SOCKET_FAILED = "uplink_agent_socket_failed";
    /// A file could not be fetched from a server, or not all of it.
    UPLINK_FETCH_FAILED = "uplink_fetch_failed";
}
