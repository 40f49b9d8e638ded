//! Name servers of the demo: each knows the hosts of one zone and counts what it is asked.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// How long answers may be kept, in seconds.
const TTL: u32 = 30;

/// The most that fits one UDP packet everywhere, in bytes (dnsflagday.net/2020).
const PAYLOAD: u16 = 1232;

/// A server that is authoritative for one zone.
pub(super) struct NameServer {
    zone: Name,
    hosts: HashMap<Name, Ipv4Addr>,
    asked: Mutex<HashMap<Name, Asked>>,
}

/// How a name was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// How often.
    pub(super) times: u64,
    /// By whom the last time.
    pub(super) by: Option<IpAddr>,
}

impl NameServer {
    /// A server for `zone`, the root for all names, that knows these hosts and answers NXDOMAIN
    /// for all others.
    pub(super) fn new(zone: Name, hosts: impl IntoIterator<Item = (Name, Ipv4Addr)>) -> Arc<Self> {
        Arc::new(Self {
            zone,
            hosts: hosts.into_iter().collect(),
            asked: Mutex::default(),
        })
    }

    /// How this name was asked for.
    pub(super) fn asked_for(&self, name: &Name) -> Asked {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(name).copied().unwrap_or_default()
    }

    /// Answers over both transports until the task is dropped.
    pub(super) async fn serve(self: Arc<Self>, udp: UdpSocket, tcp: TcpListener) -> io::Result<()> {
        tokio::try_join!(self.serve_udp(udp), self.serve_tcp(tcp))?;
        Ok(())
    }

    async fn serve_udp(&self, socket: UdpSocket) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await?;
            if let Some(answer) = self.answer(&buffer[..length], from.ip()) {
                // A client that is gone by now is no failure of the server.
                let _ = socket.send_to(&answer, from).await;
            }
        }
    }

    async fn serve_tcp(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, from) = listener.accept().await?;
            let server = Arc::clone(self);
            // The client sees the end of its connection; there is nobody else to tell.
            tokio::spawn(async move { server.serve_stream(stream, from.ip()).await.ok() });
        }
    }

    /// Messages with their length in front, RFC 1035, 4.2.2.
    async fn serve_stream(&self, mut stream: TcpStream, from: IpAddr) -> io::Result<()> {
        loop {
            let mut query = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut query).await?;
            let Some(answer) = self.answer(&query, from) else {
                return Ok(());
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let framed = [&length.to_be_bytes()[..], &answer].concat();
            stream.write_all(&framed).await?;
        }
    }

    fn answer(&self, query: &[u8], from: IpAddr) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        self.answer_message(&query, from).to_vec().ok()
    }

    fn answer_message(&self, query: &Message, from: IpAddr) -> Message {
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.add_queries(query.queries.iter().cloned());
        if query.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            answer.set_edns(edns);
        }
        match &query.queries[..] {
            [question] if query.metadata.op_code == OpCode::Query => {
                self.count(question, from);
                self.answer_question(question, &mut answer);
            }
            _ => answer.metadata.response_code = ResponseCode::NotImp,
        }
        answer
    }

    fn count(&self, question: &Query, from: IpAddr) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = asked.entry(question.name.to_lowercase()).or_default();
        asked.times += 1;
        asked.by = Some(from);
    }

    fn answer_question(&self, question: &Query, answer: &mut Message) {
        let name = question.name.to_lowercase();
        if !self.zone.zone_of(&name) {
            answer.metadata.response_code = ResponseCode::Refused;
            return;
        }
        answer.metadata.authoritative = true;
        match self.hosts.get(&name) {
            Some(address) if question.query_type == RecordType::A => {
                let data = RData::A((*address).into());
                answer.add_answer(Record::from_rdata(question.name.clone(), TTL, data));
                return;
            }
            Some(_) => {}
            None if name == self.zone => {}
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer.add_authority(self.start_of_authority());
    }

    fn start_of_authority(&self) -> Record {
        let zone = self.zone.clone();
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, 5);
        Record::from_rdata(zone, TTL, RData::SOA(soa))
    }
}

/// The IPv4 addresses of `name`, by one query over this socket to `server`.
///
/// # Errors
/// What went wrong: no answer, an answer that can't be read, or an answer without addresses.
pub(super) async fn look_up(
    socket: &UdpSocket,
    server: SocketAddr,
    name: &Name,
) -> Result<Vec<Ipv4Addr>, LookupError> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), RecordType::A));
    let id = query.metadata.id;
    let query = query.to_vec().map_err(io::Error::other)?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match Message::from_vec(&buffer[..length]) {
            Ok(answer) if answer.metadata.id == id => return addresses(&answer),
            _ => {}
        }
    }
}

/// A name was not resolved.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The server can't be reached.
    #[error("failed to ask")]
    Io(#[from] io::Error),
    /// The server says that there is no such name, or fails itself.
    #[error("the answer is {0}")]
    Code(ResponseCode),
    /// The name has no address.
    #[error("the answer has no address")]
    NoAddress,
}

fn addresses(answer: &Message) -> Result<Vec<Ipv4Addr>, LookupError> {
    if answer.metadata.response_code != ResponseCode::NoError {
        return Err(LookupError::Code(answer.metadata.response_code));
    }
    let addresses: Vec<_> = answer
        .answers
        .iter()
        .filter_map(|record| match record.data {
            RData::A(a) => Some(a.0),
            _ => None,
        })
        .collect();
    if addresses.is_empty() {
        return Err(LookupError::NoAddress);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn server() -> Arc<NameServer> {
        let loki = (
            name("loki.logging.svc.cluster.local."),
            [10, 96, 77, 7].into(),
        );
        NameServer::new(name("cluster.local."), [loki])
    }

    fn ask(server: &NameServer, text: &str, kind: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(name(text), kind));
        query.set_edns(Edns::new());
        let answer = server
            .answer(&query.to_vec().unwrap(), [192, 0, 2, 1].into())
            .unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert!(answer.edns.is_some());
        answer
    }

    #[test]
    fn a_known_name_is_answered_in_any_case_and_counted() {
        let server = server();
        let answer = ask(&server, "LOKI.logging.svc.cluster.local.", RecordType::A);
        assert_eq!(addresses(&answer).unwrap(), [Ipv4Addr::new(10, 96, 77, 7)]);
        assert!(answer.metadata.authoritative);
        let asked = server.asked_for(&name("loki.logging.svc.cluster.local."));
        assert_eq!((asked.times, asked.by), (1, Some([192, 0, 2, 1].into())));
        assert_eq!(server.asked_for(&name("cluster.local.")), Asked::default());
    }

    #[test]
    fn what_is_not_known_is_denied_with_the_soa_and_what_is_not_ours_refused() {
        let server = server();
        let code = |text, kind| {
            let answer = ask(&server, text, kind);
            (answer.metadata.response_code, answer.authorities.len())
        };
        assert_eq!(
            code("nothing.cluster.local.", RecordType::A),
            (ResponseCode::NXDomain, 1)
        );
        assert_eq!(
            code("loki.logging.svc.cluster.local.", RecordType::SOA),
            (ResponseCode::NoError, 1)
        );
        assert_eq!(
            code("example.com.", RecordType::A),
            (ResponseCode::Refused, 0)
        );
    }

    #[tokio::test]
    async fn both_transports_answer() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        tokio::spawn(server().serve(udp, tcp));
        let loki = name("loki.logging.svc.cluster.local.");

        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let found = look_up(&socket, udp_at, &loki).await.unwrap();
        assert_eq!(found, [Ipv4Addr::new(10, 96, 77, 7)]);

        let mut query = Message::query();
        query.add_query(Query::query(loki, RecordType::A));
        let query = query.to_vec().unwrap();
        let mut stream = TcpStream::connect(tcp_at).await.unwrap();
        stream
            .write_u16(query.len().try_into().unwrap())
            .await
            .unwrap();
        stream.write_all(&query).await.unwrap();
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(addresses(&answer).unwrap(), [Ipv4Addr::new(10, 96, 77, 7)]);
    }
}
