//! Listeners: how they are opened, and how one is closed without the loss of a connection.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpSocket, lookup_host};
use tokio::time::sleep;

use crate::settings::Listen;

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

/// Where a server listens in fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The first address of TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What listens on one address of the settings. A Unix socket's file is removed with it.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) unix: Option<UnixListener>,
    file: Option<SocketFile>,
}

impl Listener {
    /// Listens on an address, on every address of a host name, or on a Unix socket whose file may be left over from a
    /// process that was killed.
    ///
    /// # Errors
    /// What the system says; a Unix socket that somebody listens on is in use.
    pub async fn open(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Address(address) => Self::tcp(&[*address]),
            Listen::Host(host) => Self::tcp(&lookup_host(host).await?.collect::<Vec<_>>()),
            Listen::Unix(path) => {
                remove_left_over(path)?;
                let unix = Some(UnixListener::bind(path)?);
                let address = Address::Unix(path.clone());
                Ok(Self { address, tcp: Vec::new(), unix, file: Some(SocketFile(path.clone())) })
            }
        }
    }

    fn tcp(addresses: &[SocketAddr]) -> io::Result<Self> {
        let (mut tcp, mut skipped) = (Vec::new(), None);
        let mut first: Option<SocketAddr> = None;
        for address in addresses {
            // A free port is the same one for all of them.
            let port = first.map_or(address.port(), |first| first.port());
            match listen(SocketAddr::new(address.ip(), port)) {
                Ok(listener) => {
                    first = first.or(Some(listener.local_addr()?));
                    tcp.push(listener);
                }
                // A name may have an address of a family that this machine does not use.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => skipped = Some(error),
                Err(error) => return Err(error),
            }
        }
        let Some(first) = first else {
            return Err(skipped.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
        };
        Ok(Self { address: Address::Tcp(first), tcp, unix: None, file: None })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// A second handle, which keeps the listener open, and the file.
    ///
    /// # Errors
    /// What the system says.
    pub fn second_handle(&mut self) -> io::Result<Self> {
        Ok(Self {
            address: self.address.clone(),
            tcp: self.tcp.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?,
            unix: None,
            file: self.file.take(),
        })
    }

    /// Waits until everybody who has connected is being served, and nobody else is: who is still in the queue of a
    /// listener when it is closed is reset, with the request that was sent already. Callers who connect meanwhile try
    /// again after a second, when the listener is closed. The server must be accepting.
    pub async fn drain(self) {
        drop(self.file);
        for listener in &self.tcp {
            // Not every system has it.
            if let Err(error) = SockRef::from(listener).attach_filter(&NO_NEW_CONNECTIONS) {
                tracing::warn!(%error, "connections that are being opened may be reset");
            }
        }
        sleep(LAST_ACCEPTS).await;
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// The file of a Unix socket, removed when nobody is to connect any more.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever has removed it already is right.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes the file of a socket that nobody listens on.
fn remove_left_over(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        return fs::remove_file(path);
    }
    Ok(())
}
