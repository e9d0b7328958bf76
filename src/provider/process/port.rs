//! Free ports for apps.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below the range from which Linux takes the local ports of outgoing connections (32768 and up by default), so that
/// no connection of somebody takes the port between our look and the app's `bind`.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Nobody listens on it now: said by the kernel, which refused nothing when we tried. `None` if all are taken.
pub(super) fn free() -> Option<u16> {
    let count = RANGE.end - RANGE.start;
    // A random start, so that a port that was just given out is not given out again at once.
    let first = fastrand::u16(..count);
    (0..count)
        .map(|step| RANGE.start + (first + step) % count)
        .find(|&port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok())
}
