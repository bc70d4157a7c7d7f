//! Events of the network service.

events! {
    /// The network service met an error that it cannot go on with, and ends; init starts it again.
    NETWORK_SERVICE_FAILED = "network_service_failed";
    /// The firewall is in the kernel, and the interfaces of the device were switched on behind it.
    FIREWALL_INSTALLED = "firewall_installed";
    /// The kernel did not take a change of one of the firewall's address sets.
    FIREWALL_SET_UPDATE_FAILED = "firewall_set_update_failed";
    /// An interface is up and has an address that reaches beyond its link.
    NETWORK_CONNECTED = "network_connected";
    /// No interface is up and has an address that reaches beyond its link.
    NETWORK_DISCONNECTED = "network_disconnected";

    /// An interface has a carrier: its cable was plugged in, or its other end was switched on.
    LINK_UP = "link_up";
    /// An interface has lost its carrier.
    LINK_DOWN = "link_down";
    /// The kernel did not switch an interface on, or did not take its static addresses or routes.
    INTERFACE_SETUP_FAILED = "interface_setup_failed";
    /// An interface has an address more, of whatever origin.
    ADDRESS_ADDED = "address_added";
    /// An interface has an address less.
    ADDRESS_REMOVED = "address_removed";
    /// The kernel did not take an address from a lease.
    ADDRESS_ADD_FAILED = "address_add_failed";
    /// The kernel did not give up an address whose lease is over.
    ADDRESS_REMOVE_FAILED = "address_remove_failed";
    /// The kernel did not take a route from a lease.
    ROUTE_ADD_FAILED = "route_add_failed";
    /// Routers or DHCPv6 servers name other name servers than before.
    NAME_SERVERS_CHANGED = "name_servers_changed";

    /// An interface has no socket for DHCP.
    DHCP_SOCKET_FAILED = "dhcp_socket_failed";
    /// A DHCP message could not be sent.
    DHCP_SEND_FAILED = "dhcp_send_failed";
    /// No DHCP server has answered since the link came up.
    DHCP_NO_ANSWER = "dhcp_no_answer";
    /// The message of a DHCP server cannot be used.
    DHCP_MESSAGE_REJECTED = "dhcp_message_rejected";
    /// An option of a lease cannot be used; the lease is.
    DHCP_OPTION_IGNORED = "dhcp_option_ignored";
    /// The check of a lease for an address conflict failed (RFC 5227).
    ADDRESS_PROBE_FAILED = "address_probe_failed";
    /// Another host has the address of a lease; the lease is declined.
    ADDRESS_CONFLICT = "address_conflict";
    /// One host answers for every address of a link (proxy ARP), and is not heeded.
    PROXY_ARP_DETECTED = "proxy_arp_detected";
    /// A lease was granted or renewed.
    LEASE_ACQUIRED = "lease_acquired";
    /// A lease has run out without being renewed; its address is given up.
    LEASE_EXPIRED = "lease_expired";
    /// The server has taken a lease back (DHCPNAK); its address is given up.
    LEASE_REVOKED = "lease_revoked";
    /// An interface has no socket for DHCPv6.
    DHCPV6_SOCKET_FAILED = "dhcpv6_socket_failed";
    /// A DHCPv6 message could not be sent.
    DHCPV6_SEND_FAILED = "dhcpv6_send_failed";
    /// The message of a DHCPv6 server cannot be used.
    DHCPV6_MESSAGE_REJECTED = "dhcpv6_message_rejected";
    /// An interface has no socket for multicast DNS.
    MDNS_SOCKET_FAILED = "mdns_socket_failed";

    /// No server has said anything of use about a name that an app or the device asked for.
    NAME_RESOLUTION_FAILED = "name_resolution_failed";
    /// The firewall denied a packet of an app, or one to it.
    PACKET_DENIED = "packet_denied";
    /// An app asked for a name that it was not granted.
    NAME_DENIED = "name_denied";
    /// A name led to an address that such a name must not have (DNS rebinding).
    DNS_ANSWER_DENIED = "dns_answer_denied";
    /// The traffic of an app since its veth pair was made, and how often it was refused something.
    TRAFFIC_COUNTED = "traffic_counted";

    /// A majority of the time servers agrees, and init has judged what they say.
    TIME_AGREED = "time_agreed";
    /// Time servers answered, and no majority agrees.
    TIME_DISAGREED = "time_disagreed";
    /// No time server has given an answer of use.
    TIME_NO_ANSWER = "time_no_answer";
    /// Neither the image nor a lease names a time server.
    TIME_SERVER_UNKNOWN = "time_server_unknown";
    /// Each known time server has asked to be left alone for a while (kiss-o'-death, RFC 5905, 7.4).
    TIME_SERVERS_RESTING = "time_servers_resting";
}
