//! Listeners: how they are opened, and how one is closed without the loss of a connection.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::TcpSocket;
use tokio::time::sleep;

/// Connections that may wait to be accepted. Those beyond are dropped by the system and come back after a
/// second, which a burst of callers would feel; the standard library's listener has room for 128.
const BACKLOG: u32 = 4096;

/// What the system keeps of an answer that is not read; it doubles the number. It takes more once a third of that went
/// out: were it much more, a slow reader would look like one that does not read; much less, and a large answer comes in
/// many pieces, each of which waits for the reader.
const SEND_BUFFER: u32 = 512 * 1024;

/// How long connections that are being opened may take to arrive at a thread: a round trip, and a turn of each thread.
const LAST_ACCEPTS: Duration = Duration::from_millis(250);

/// Lets through whatever is not the first packet of a connection: of the flags in byte 13 of the TCP header, that one
/// alone has SYN without ACK. The instructions are those of `linux/filter.h`.
const NO_NEW_CONNECTIONS: [SockFilter; 5] = [
    // Load the byte.
    SockFilter::new(0x30, 0, 0, 13),
    // Keep SYN and ACK.
    SockFilter::new(0x54, 0, 0, 0x12),
    // Go on if only SYN is left, else skip one.
    SockFilter::new(0x15, 0, 1, 0x02),
    // Drop the packet.
    SockFilter::new(0x06, 0, 0, 0),
    // Take all of it.
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// Listens on an address.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Waits until everybody who has connected to a listener is being served, and nobody else is: who is still in its queue
/// when it is closed is reset, with the request that was sent already. Callers who connect meanwhile try again after a
/// second, when the listener is closed. Takes a second handle of the listener; the server must be accepting.
pub async fn drain(listener: TcpListener) {
    match SockRef::from(&listener).attach_filter(&NO_NEW_CONNECTIONS) {
        Ok(()) => sleep(LAST_ACCEPTS).await,
        // Not every system has it.
        Err(error) => tracing::warn!(%error, "connections that are being opened may be reset"),
    }
}
