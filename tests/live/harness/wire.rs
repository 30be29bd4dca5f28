//! A client that hides nothing: it sends the bytes it is told to and keeps every message it hears.
//!
//! Invariant: it never repairs, retries or interprets; what arrives is what a story sees. Each read has a deadline.

use super::PATIENCE;
use super::certificates::Certificates;
use super::message::{self, Message, PROTOCOL_3_0};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum Address {
    Tcp(SocketAddr),
    /// The socket's file.
    Unix(PathBuf),
}

pub struct Wire {
    stream: Stream,
    held: Vec<u8>,
    /// Everything heard so far, in order.
    pub heard: Vec<Message>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What a simple query, or a pipeline up to its ReadyForQuery, was answered with.
#[derive(Debug)]
pub struct Outcome {
    pub messages: Vec<Message>,
}

impl Wire {
    /// A bare connection: nothing is sent.
    pub fn open(address: &Address) -> Wire {
        let stream = match address {
            Address::Tcp(address) => {
                let stream =
                    TcpStream::connect_timeout(address, PATIENCE).unwrap_or_else(|error| panic!("{address}: {error}"));
                stream.set_nodelay(true).expect("a socket option");
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                Stream::Unix(UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
            }
        };
        let wire = Wire { stream, held: Vec::new(), heard: Vec::new() };
        wire.patience(PATIENCE);
        wire
    }

    /// A bare connection from another address than the others': the whole of 127.0.0.0/8 is this machine.
    pub fn open_from(from: [u8; 4], address: &Address) -> Wire {
        let Address::Tcp(address) = address else { panic!("addresses are TCP's") };
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of this machine");
        socket.connect(&(*address).into()).unwrap_or_else(|error| panic!("{address}: {error}"));
        socket.set_tcp_nodelay(true).expect("a socket option");
        let wire = Wire { stream: Stream::Tcp(socket.into()), held: Vec::new(), heard: Vec::new() };
        wire.patience(PATIENCE);
        wire
    }

    /// A connection on which a trusted user is logged in and ReadyForQuery was heard.
    pub fn login(address: &Address, user: &str, database: &str) -> Wire {
        Wire::login_with(address, PROTOCOL_3_0, &[("user", user), ("database", database)])
    }

    pub fn login_with(address: &Address, version: i32, parameters: &[(&str, &str)]) -> Wire {
        let mut wire = Wire::open(address);
        wire.send(&message::startup(version, parameters));
        wire.until_ready().expect_fine("login");
        wire
    }

    /// TLS from the first byte (PostgreSQL 17's direct negotiation), or after an SSLRequest that was answered with S.
    pub fn into_tls(self) -> Wire {
        self.into_tls_as(&[b"postgresql"])
    }

    /// TLS in which these protocols are named.
    pub fn into_tls_as(self, protocols: &[&[u8]]) -> Wire {
        let Stream::Tcp(stream) = self.stream else { panic!("TLS goes over TCP here") };
        assert!(self.held.is_empty(), "nothing may be said before TLS: {:?}", self.held);
        let authority =
            CertificateDer::from_pem_slice(Certificates::get().authority.as_bytes()).expect("our own certificate");
        let mut roots = RootCertStore::empty();
        roots.add(authority).expect("our own authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a TLS client");
        let stream = Stream::Tls(Box::new(StreamOwned::new(session, stream)));
        Wire { stream, held: self.held, heard: self.heard }
    }

    /// The certificate that is shown there, in DER form.
    pub fn tls_certificate(address: &Address) -> Vec<u8> {
        let mut wire = Wire::open(address);
        wire.send(&message::tls_request());
        assert_eq!(wire.byte(), b'S');
        let Stream::Tls(mut stream) = wire.into_tls().stream else { panic!("TLS") };
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        stream.conn.peer_certificates().expect("a server shows one")[0].to_vec()
    }

    pub fn patience(&self, patience: Duration) {
        let patience = Some(patience);
        let set = match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(patience).and(stream.set_write_timeout(patience)),
            Stream::Tls(stream) => stream.sock.set_read_timeout(patience).and(stream.sock.set_write_timeout(patience)),
            Stream::Unix(stream) => stream.set_read_timeout(patience).and(stream.set_write_timeout(patience)),
        };
        set.expect("a socket option");
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the other side takes what is sent");
    }

    /// For stories in which the other side may have closed already.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writer: &mut dyn Write = match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => stream,
        };
        writer.write_all(bytes)?;
        writer.flush()
    }

    /// No more will be sent; what comes can still be read.
    pub fn hang_up(&mut self) {
        let shut = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Tls(stream) => stream.sock.shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
        // The other side may have closed for good already.
        let gone = shut.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotConnected);
        assert!(shut.is_ok() || gone, "{shut:?}");
    }

    /// A single byte outside any message: the answer to an SSLRequest or GSSENCRequest.
    pub fn byte(&mut self) -> u8 {
        while self.held.is_empty() {
            assert!(self.read_more().expect("an answer in time") > 0, "closed instead of an answer");
        }
        self.held.remove(0)
    }

    /// The next message; `None` when the other side closed between messages.
    pub fn receive(&mut self) -> Option<Message> {
        let length = loop {
            if let Some(head) = self.held.get(1..5) {
                let length = i32::from_be_bytes(head.try_into().expect("four"));
                let whole = 1 + usize::try_from(length).expect("a length");
                if self.held.len() >= whole {
                    break whole;
                }
            }
            match self.read_more() {
                Ok(0) => {
                    assert!(self.held.is_empty(), "closed within a message: {}", self.held.escape_ascii());
                    return None;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no message in time ({error}); heard so far: {:#?}", self.heard),
            }
        };
        let rest = self.held.split_off(length);
        let whole = std::mem::replace(&mut self.held, rest);
        let message = Message { tag: whole[0], body: whole[5..].to_vec() };
        self.heard.push(message.clone());
        Some(message)
    }

    /// Messages up to and with the first of this tag.
    pub fn until(&mut self, tag: u8) -> Outcome {
        let mut messages = Vec::new();
        loop {
            let message =
                self.receive().unwrap_or_else(|| panic!("closed while waiting for {}: {messages:#?}", tag as char));
            messages.push(message);
            if messages.last().is_some_and(|message| message.tag == tag) {
                return Outcome { messages };
            }
        }
    }

    pub fn until_ready(&mut self) -> Outcome {
        self.until(b'Z')
    }

    /// Everything until the other side closes.
    pub fn until_closed(&mut self) -> Outcome {
        Outcome { messages: std::iter::from_fn(|| self.receive()).collect() }
    }

    pub fn simple(&mut self, sql: &str) -> Outcome {
        self.send(&message::query(sql));
        self.until_ready()
    }

    /// One statement through the unnamed prepared statement, values in text form.
    pub fn extended(&mut self, sql: &str, values: &[&str]) -> Outcome {
        let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
        self.send(&[message::whole(sql, &values), message::sync()].concat());
        self.until_ready()
    }

    /// What BackendKeyData said: process id and secret, fit for a cancel request.
    pub fn key(&self) -> Vec<u8> {
        self.heard.iter().find(|message| message.tag == b'K').expect("the login told a key").body.clone()
    }

    /// Bytes as they come, outside any message; none when the other side closed.
    pub fn some_bytes(&mut self) -> Vec<u8> {
        if self.held.is_empty() {
            match self.read_more() {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                read => assert!(read.is_ok(), "no bytes in time: {read:?}"),
            }
        }
        std::mem::take(&mut self.held)
    }

    /// Every byte until the other side closes, outside any message.
    pub fn bytes_until_closed(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.some_bytes() {
                bytes if bytes.is_empty() => return all,
                bytes => all.extend(bytes),
            }
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        let count = loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut buffer),
                Stream::Unix(stream) => stream.read(&mut buffer),
                Stream::Tls(stream) => stream.read(&mut buffer),
            };
            match read {
                // A machine that was stopped and goes on interrupts what waits.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.held.extend(&buffer[..count]);
        Ok(count)
    }
}

impl Outcome {
    pub fn expect_fine(&self, what: &str) {
        assert!(self.error().is_none(), "{what}: {:#?}", self.messages);
    }

    /// The first error's fields.
    pub fn error(&self) -> Option<BTreeMap<char, String>> {
        self.messages.iter().find(|message| message.tag == b'E').map(Message::fields)
    }

    /// The SQLSTATE of the first error, or "" when there was none.
    pub fn code(&self) -> String {
        self.error().map(|fields| fields[&'C'].clone()).unwrap_or_default()
    }

    pub fn notices(&self) -> Vec<String> {
        let notices = self.messages.iter().filter(|message| message.tag == b'N');
        notices.map(|message| message.fields()[&'M'].clone()).collect()
    }

    pub fn rows(&self) -> Vec<Vec<Option<String>>> {
        self.messages.iter().filter(|message| message.tag == b'D').map(Message::row).collect()
    }

    /// The first column of the first row.
    pub fn value(&self) -> String {
        self.expect_fine("a value");
        let rows = self.rows();
        let value = rows.first().and_then(|row| row.first()).and_then(Clone::clone);
        value.unwrap_or_else(|| panic!("no value in {:#?}", self.messages))
    }

    pub fn tags(&self) -> Vec<String> {
        self.messages.iter().filter(|message| message.tag == b'C').map(Message::text).collect()
    }

    /// The letters of the messages, in order: "TDCZ".
    pub fn letters(&self) -> String {
        self.messages.iter().map(|message| message.tag as char).collect()
    }

    /// I, T or E: what the last ReadyForQuery says of the transaction.
    pub fn status(&self) -> char {
        let ready = self.messages.iter().rev().find(|message| message.tag == b'Z');
        ready.unwrap_or_else(|| panic!("not ready: {:#?}", self.messages)).body[0] as char
    }
}
