//! Our own small DNS client, for names that are needed before anything else works.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sys::socket::{setsockopt, sockopt};
use seedwire_core::dns::{AddressAnswer, AddressKind, Rcode, address_question, read_addresses};
use seedwire_core::types::DnsName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::random::Random;
use super::system::system_servers;
use crate::resolve::{Lookup, Resolve, ResolveError};

/// How long a server has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the list of servers is gone through.
const ROUNDS: usize = 2;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// There is nobody to ask.
    #[error("no name server is known")]
    NoServer,
    /// The list of servers can't be read.
    #[error("failed to read the system's name servers")]
    System(#[source] io::Error),
    /// The forwarder has ended.
    #[error("the DNS forwarder has ended")]
    NoForwarder,
    /// The socket failed.
    #[error("failed to ask {0}")]
    Socket(SocketAddr, #[source] io::Error),
    /// No answer came.
    #[error("{0} did not answer within {PATIENCE:?}")]
    Timeout(SocketAddr),
    /// The answer is another.
    #[error("the answer was {}", .0.name())]
    Answered(Rcode),
    /// The answer can't be read.
    #[error("the answer is malformed")]
    Malformed,
    /// The name has neither A nor AAAA records.
    #[error("the name has no addresses")]
    NoAddress,
}

impl LookupError {
    /// What both families' answers say together: half an answer is better than none.
    pub(super) fn merge(
        v4: Result<Vec<IpAddr>, Self>,
        v6: Result<Vec<IpAddr>, Self>,
    ) -> Result<Vec<IpAddr>, Self> {
        let (addresses, error) = match (v4, v6) {
            (Ok(v4), Ok(v6)) => ([v4, v6].concat(), Self::NoAddress),
            (Ok(addresses), Err(error)) | (Err(error), Ok(addresses)) => (addresses, error),
            (Err(error), Err(_)) => return Err(error),
        };
        if addresses.is_empty() {
            Err(error)
        } else {
            Ok(addresses)
        }
    }
}

/// Who is asked, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// These.
    Listed(Vec<SocketAddr>),
    /// Those of /etc/resolv.conf at the time of each question, less our own listen addresses.
    System {
        /// Our own listen addresses.
        own: Vec<SocketAddr>,
    },
}

/// Resolves names through given servers and nothing else.
pub struct ConfiguredResolver {
    settings: ArcSwap<(Servers, Option<u32>)>,
}

impl ConfiguredResolver {
    /// A resolver that asks `servers`; its packets bear `fwmark` (SO_MARK, socket(7)), which needs
    /// CAP_NET_ADMIN.
    pub fn new(servers: Servers, fwmark: Option<u32>) -> Self {
        Self {
            settings: ArcSwap::from_pointee((servers, fwmark)),
        }
    }

    /// Asks others from now on.
    pub fn configure(&self, servers: Servers, fwmark: Option<u32>) {
        self.settings.store(Arc::new((servers, fwmark)));
    }

    async fn addresses(&self, name: &DnsName) -> Result<Vec<IpAddr>, LookupError> {
        let settings = self.settings.load_full();
        let (servers, fwmark) = &*settings;
        let servers = match servers {
            Servers::Listed(servers) => servers.clone(),
            Servers::System { own } => system_servers(own).map_err(LookupError::System)?,
        };
        let mut result = Err(LookupError::NoServer);
        for server in servers.iter().cycle().take(ROUNDS * servers.len()) {
            let (v4, v6) = tokio::join!(
                ask(*server, *fwmark, name, AddressKind::V4),
                ask(*server, *fwmark, name, AddressKind::V6)
            );
            result = LookupError::merge(v4, v6);
            // That a name has no addresses is an answer too.
            let is_final = match &result {
                Ok(_) | Err(LookupError::NoAddress) => true,
                Err(LookupError::Answered(rcode)) => *rcode == Rcode::NXDOMAIN,
                Err(_) => false,
            };
            if is_final {
                break;
            }
        }
        result
    }
}

impl Resolve for ConfiguredResolver {
    fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a> {
        Box::pin(async move {
            self.addresses(name).await.map_err(|error| ResolveError {
                name: name.clone(),
                source: Arc::new(error),
            })
        })
    }
}

/// Asks one server once, over TCP if the answer does not fit into a datagram.
async fn ask(
    server: SocketAddr,
    fwmark: Option<u32>,
    name: &DnsName,
    kind: AddressKind,
) -> Result<Vec<IpAddr>, LookupError> {
    let id = Random::new().next() as u16;
    let question = address_question(id, name, kind);
    let read = |message: &[u8]| read_addresses(message, id, name, kind);
    let within = |result: Result<_, _>| match result {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(LookupError::Socket(server, error)),
        Err(_) => Err(LookupError::Timeout(server)),
    };
    let mut answer = within(timeout(PATIENCE, over_udp(server, fwmark, &question, read)).await)?;
    if answer == AddressAnswer::Truncated {
        answer = within(timeout(PATIENCE, over_tcp(server, fwmark, &question, read)).await)?;
    }
    match answer {
        AddressAnswer::Addresses(addresses) => Ok(addresses),
        AddressAnswer::Failed(rcode) => Err(LookupError::Answered(rcode)),
        _ => Err(LookupError::Malformed),
    }
}

async fn over_udp(
    server: SocketAddr,
    fwmark: Option<u32>,
    question: &[u8],
    read: impl Fn(&[u8]) -> AddressAnswer,
) -> io::Result<AddressAnswer> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    if let Some(mark) = fwmark {
        setsockopt(&socket, sockopt::Mark, &mark)?;
    }
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = [0; 2048];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = read(&buffer[..length]);
        if answer != AddressAnswer::Foreign {
            return Ok(answer);
        }
    }
}

async fn over_tcp(
    server: SocketAddr,
    fwmark: Option<u32>,
    question: &[u8],
    read: impl Fn(&[u8]) -> AddressAnswer,
) -> io::Result<AddressAnswer> {
    let socket = match server {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(mark) = fwmark {
        setsockopt(&socket, sockopt::Mark, &mark)?;
    }
    let mut stream = socket.connect(server).await?;
    let mut message = (question.len() as u16).to_be_bytes().to_vec();
    message.extend_from_slice(question);
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(read(&answer))
}
