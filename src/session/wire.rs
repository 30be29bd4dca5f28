//! One end of a connection, whatever it is made of.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

#[derive(Debug)]
pub enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    TlsUnix(Box<TlsStream<UnixStream>>),
}

impl Wire {
    pub fn is_tls(&self) -> bool {
        matches!(self, Wire::Tls(_) | Wire::TlsUnix(_))
    }

    /// In DER form, as it was verified in the handshake; over TLS alone, and of a client only if it showed one.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let certificates = match self {
            Wire::Tls(stream) => stream.get_ref().1.peer_certificates(),
            Wire::TlsUnix(stream) => stream.get_ref().1.peer_certificates(),
            Wire::Tcp(_) | Wire::Unix(_) => None,
        };
        certificates?.first().map(AsRef::as_ref)
    }

    pub fn is_unix(&self) -> bool {
        matches!(self, Wire::Unix(_) | Wire::TlsUnix(_))
    }
}

macro_rules! each {
    ($self:expr, $wire:ident => $call:expr) => {
        match $self.get_mut() {
            Wire::Tcp($wire) => $call,
            Wire::Unix($wire) => $call,
            Wire::Tls($wire) => $call,
            Wire::TlsUnix($wire) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, wire => Pin::new(wire).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, wire => Pin::new(wire).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, wire => Pin::new(wire).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        !self.is_tls()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, wire => Pin::new(wire).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, wire => Pin::new(wire).poll_shutdown(cx))
    }
}
