//! Sockets between the guest and Unix sockets of the host.
