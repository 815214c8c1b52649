//! One connection to the gateway, with or without TLS 1.3.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Poll, Token};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs as crypto;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::http::Reader;

/// Where to connect, and how.
pub struct Target {
    /// The gateway.
    pub address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// A target; TLS is 1.3 with X25519 and AES-128-GCM, always a full handshake, the same work for every gateway.
    pub fn new(address: SocketAddr, tls: bool) -> crate::Result<Target> {
        let tls = tls.then(client).transpose()?;
        Ok(Target { address, tls })
    }
}

fn client() -> crate::Result<Arc<ClientConfig>> {
    let provider = rustls::crypto::CryptoProvider {
        kx_groups: vec![crypto::kx_group::X25519],
        cipher_suites: vec![crypto::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..crypto::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes every certificate: what the client spends is not what is measured.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A connection; the answer it waits for, if any, is in its reader.
pub struct Link {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    unsent: Vec<u8>,
    reader: Reader,
}

impl Link {
    /// Begins to connect.
    pub fn open(target: &Target, poll: &Poll, token: usize) -> crate::Result<Link> {
        let mut stream = TcpStream::connect(target.address)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(token), both)?;
        stream.set_nodelay(true)?;
        let tls = match &target.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("bench.test")?;
                Some(Box::new(ClientConnection::new(config.clone(), name)?))
            }
        };
        Ok(Link {
            stream,
            tls,
            unsent: Vec::new(),
            reader: Reader::new(),
        })
    }

    /// Sends a request, or as much of it as goes out now.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(request)?,
            None if self.unsent.is_empty() => match self.stream.write(request) {
                Ok(sent) => self.unsent.extend_from_slice(&request[sent..]),
                Err(error) if later(&error) => self.unsent.extend_from_slice(request),
                Err(error) => return Err(error),
            },
            None => self.unsent.extend_from_slice(request),
        }
        self.flush()
    }

    /// Sends what could not be sent before.
    pub fn flush(&mut self) -> Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Ok(_) => (),
                    Err(error) if later(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there; the status of the answer once it is whole. That the other side has closed is an error.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<u16>> {
        let Some(tls) = &mut self.tls else {
            return receive(&mut self.stream, buffer, &mut self.reader);
        };
        loop {
            match tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => (),
                Err(error) if later(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
            tls.process_new_packets().map_err(Error::other)?;
            if tls.wants_write() {
                let _ = tls.write_tls(&mut self.stream)?;
            }
            if let Some(status) = receive(&mut tls.reader(), buffer, &mut self.reader)? {
                return Ok(Some(status));
            }
        }
    }

    /// Whether the last answer said that it is the last.
    pub fn closes(&self) -> bool {
        self.reader.closes
    }

    /// Ends it in good order.
    pub fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.stream);
        }
    }
}

fn receive(from: &mut impl Read, buffer: &mut [u8], reader: &mut Reader) -> Result<Option<u16>> {
    loop {
        let got = match from.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(got) => got,
            Err(error) if later(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let status = reader.take(&buffer[..got]).map_err(Error::other)?;
        // A read that did not fill the buffer has emptied the socket.
        if status.is_some() || got < buffer.len() {
            return Ok(status);
        }
    }
}

/// Whether it goes on by itself when the socket is ready.
fn later(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}
