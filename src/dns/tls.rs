//! TLS to upstreams (RFC 7858): who is believed, and what a server must prove.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use seedwire_core::config::{Dns, DnsProtocol, Server, TlsServer, Upstream};

/// Where distributions keep the authorities they believe, in one file; the first that is there
/// counts.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Sessions that are kept to be taken up again.
const SESSIONS: usize = 8;

/// TLS can't be spoken to an upstream.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no file with the system's authorities.
    #[error("failed to find the system's certificate authorities in {}", SYSTEM.join(", "))]
    NoSystem,
    /// A file with authorities can't be read.
    #[error("failed to read the certificate authorities in {0}")]
    Unreadable(&'static str, #[source] io::Error),
    /// What is there are no certificates.
    #[error("failed to find a certificate that can be used")]
    NoCertificate,
    /// The library does not take it.
    #[error("failed to set up TLS")]
    Library(#[source] rustls::Error),
}

/// The settings for connections to one server; sessions are taken up again among those that share
/// them.
pub(super) fn settings(server: &TlsServer) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &server.ca {
        Some(pem) => roots(pem)?,
        None => roots(&system()?)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Library)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    settings.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(settings))
}

fn system() -> Result<Vec<u8>, TlsError> {
    for path in SYSTEM {
        match std::fs::read(path) {
            Ok(pem) => return Ok(pem),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(TlsError::Unreadable(path, error)),
        }
    }
    Err(TlsError::NoSystem)
}

/// The certificates in PEM; those that can't be read, such as of unknown algorithms, are left out.
fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    if roots.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(roots)
}

/// A connection that has not begun.
pub(super) fn connection(
    settings: Arc<ClientConfig>,
    server: &Server,
    identity: &TlsServer,
) -> io::Result<ClientConnection> {
    let name = match &identity.name {
        Some(name) => ServerName::try_from(name.as_str().to_owned()).map_err(io::Error::other)?,
        None => ServerName::IpAddress(server.address.ip().into()),
    };
    ClientConnection::new(settings, name).map_err(io::Error::other)
}

/// Sees whether TLS can be spoken to all upstreams that are asked that way.
pub(super) fn check(dns: &Dns) -> Result<(), (String, TlsError)> {
    let general = dns.upstreams.iter().flatten();
    let general = general.filter_map(|upstream| match upstream {
        Upstream::Server(server) => Some(server),
        Upstream::System => None,
    });
    let of_zones = dns.zones.iter().flat_map(|zone| &zone.upstreams);
    for server in general.chain(of_zones) {
        if let DnsProtocol::Tls(identity) = &server.protocol {
            settings(identity).map_err(|error| (server.to_string(), error))?;
        }
    }
    Ok(())
}
