//! Serves health, metrics and status.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use seedwire_core::config::Control;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::health::Health;
use super::http::{Answers, Caller};
use super::listen::{self, BindError, SocketFile};
use super::snapshot::Source;

/// Connections at one time. One more closes the oldest, so that whoever holds connections open
/// can't keep a probe waiting.
const MAX_CONNECTIONS: usize = 64;
/// From the start of a connection to the end of the request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// From the start of a connection to its end; a connection is for one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// hyper's least.
const BUFFER_SIZE: usize = 8192;
/// How often it is looked whether the instance is ready, beside the requests.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long no connection is taken after an error, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control server, listening.
pub struct Server {
    http: Option<TcpListener>,
    socket: Option<SocketFile>,
    answers: Arc<Answers>,
}

impl Server {
    /// Listens where the configuration says. Needs a tokio runtime.
    ///
    /// Dropping the server, or the task of [`Server::run`], closes its sockets and connections
    /// and removes the socket's file; a reload that changes [`Control`] does so before it binds
    /// anew.
    ///
    /// # Errors
    /// When an address is taken or not ours. That the folder of the Unix socket can't be written
    /// is no error but a warning in the log.
    pub async fn bind(
        control: &Control,
        health: Arc<Health>,
        source: Arc<dyn Source>,
    ) -> Result<Self, BindError> {
        let http = control.http.map(listen::http).transpose()?;
        let socket = match &control.socket {
            Some(path) => SocketFile::bind(path).await?,
            None => None,
        };
        let startup_wait = control.startup_wait;
        Ok(Self {
            http,
            socket,
            answers: Arc::new(Answers {
                health,
                source,
                startup_wait,
            }),
        })
    }

    /// Where health and metrics are served, with the port that the kernel chose for port 0.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.local_addr().ok()
    }

    /// Whether the Unix socket is there.
    pub fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Serves until it is dropped, and logs when the instance becomes ready or ceases to be.
    pub async fn run(self) -> Infallible {
        let mut connections = Connections::default();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    self.answers.health.observe(self.answers.source.reasons());
                }
                accepted = accept_http(self.http.as_ref()) => match accepted {
                    Ok(stream) => connections.add(serve(stream, self.answers.clone(), Caller::Anyone)),
                    Err(error) => pause(&error).await,
                },
                accepted = accept_socket(self.socket.as_ref()) => match accepted {
                    Ok(stream) => connections.add(serve(stream, self.answers.clone(), Caller::Owner)),
                    Err(error) => pause(&error).await,
                },
                Some(_) = connections.tasks.join_next() => {}
            }
        }
    }
}

#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// Oldest first.
    handles: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        self.handles.push_back(self.tasks.spawn(connection));
    }
}

async fn accept_http(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

async fn accept_socket(socket: Option<&SocketFile>) -> io::Result<tokio::net::UnixStream> {
    match socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    }
}

async fn pause(error: &io::Error) {
    tracing::debug!(%error, "failed to take a connection for health or status");
    sleep(ACCEPT_PAUSE).await;
}

async fn serve<S>(stream: S, answers: Arc<Answers>, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: hyper::Request<_>| {
        let response = answers.answer(caller, request.method(), request.uri().path());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_SIZE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever asked went away or was too slow: that is theirs to notice.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}
