//! The sockets that a server reads and writes.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// An accepted connection, of whichever kind.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Sets what every connection needs.
    fn prepare(&self);

    /// The other end, if it has an address.
    fn peer(&self) -> Option<SocketAddr>;

    /// Makes the system throw away what was not read when this is dropped.
    fn discard_unread(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn prepare(&self) {
        // Or the end of an answer waits for the delayed ACK of what came before it, 40 ms on Linux. A connection where it
        // fails is gone already.
        let _ = self.set_nodelay(true);
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.peer_addr().ok()
    }

    fn discard_unread(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

impl Socket for UnixStream {
    fn prepare(&self) {}

    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    /// What was not read lies with the reader.
    fn discard_unread(&self) -> io::Result<()> {
        Ok(())
    }
}
