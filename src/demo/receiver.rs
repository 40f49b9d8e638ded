//! A receiver that speaks Loki's push API and keeps what it gets.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;

/// The most that a push may hold, in bytes.
const LONGEST_PUSH: usize = 16 * 1024 * 1024;

/// The body of `POST /loki/api/v1/push` as JSON.
#[derive(Deserialize)]
struct Push {
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    stream: BTreeMap<String, String>,
    values: Vec<Entry>,
}

/// The time in nanoseconds since 1970 as a text, and the line.
#[derive(Deserialize)]
struct Entry(String, String);

/// A log line that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The line.
    pub(super) line: String,
    /// The labels of its stream.
    pub(super) labels: BTreeMap<String, String>,
    /// Who sent it, as seen here.
    pub(super) from: SocketAddr,
    /// Where it was received.
    pub(super) at: SocketAddr,
}

/// The receiver.
#[derive(Default)]
pub(super) struct Receiver {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    distinct: HashSet<String>,
    new: Vec<Arrival>,
}

impl Receiver {
    /// Serves until the task is dropped.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, from) = listener.accept().await?;
            let at = stream.local_addr()?;
            let receiver = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request| receiver.answer(request, from, at));
                // The sender sees what became of its connection and tries again.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    /// How many different lines have arrived.
    pub(super) fn distinct(&self) -> usize {
        self.kept().distinct.len()
    }

    /// The lines that arrived since this was last called.
    pub(super) fn take_new(&self) -> Vec<Arrival> {
        mem::take(&mut self.kept().new)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
        at: SocketAddr,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (status, text) = match (request.method(), request.uri().path()) {
            (&Method::POST, "/loki/api/v1/push") => match self.take_in(request, from, at).await {
                Ok(()) => (StatusCode::NO_CONTENT, String::new()),
                Err(reason) => (StatusCode::BAD_REQUEST, reason),
            },
            (&Method::GET, "/ready") => (StatusCode::OK, "ready\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        Ok(response)
    }

    async fn take_in(
        &self,
        request: Request<Incoming>,
        from: SocketAddr,
        at: SocketAddr,
    ) -> Result<(), String> {
        let body = Limited::new(request.into_body(), LONGEST_PUSH)
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        let push: Push = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let times = push.streams.iter().flat_map(|stream| &stream.values);
        if let Some(Entry(time, _)) = times.clone().find(|entry| entry.0.parse::<u64>().is_err()) {
            return Err(format!("{time:?} is not a time in nanoseconds"));
        }
        let mut kept = self.kept();
        for Stream { stream, values } in push.streams {
            for Entry(_, line) in values {
                kept.distinct.insert(line.clone());
                kept.new.push(Arrival {
                    line,
                    labels: stream.clone(),
                    from,
                    at,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::super::http::exchange;
    use super::*;

    async fn start() -> (Arc<Receiver>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let receiver = Arc::new(Receiver::default());
        tokio::spawn(Arc::clone(&receiver).serve(listener));
        (receiver, at)
    }

    async fn push(at: SocketAddr, body: &str) -> u16 {
        let stream = TcpStream::connect(at).await.unwrap();
        let headers = [("Host", "loki"), ("Content-Type", "application/json")];
        let head = "POST /loki/api/v1/push";
        exchange(stream, head, &headers, body.as_bytes())
            .await
            .unwrap()
            .0
    }

    #[tokio::test]
    async fn lines_are_kept_with_their_sender_and_counted_once() {
        let (receiver, at) = start().await;
        let body =
            r#"{"streams": [{"stream": {"job": "demo"}, "values": [["1", "a"], ["2", "b"]]}]}"#;
        assert_eq!(push(at, body).await, 204);
        assert_eq!(push(at, body).await, 204);
        assert_eq!(receiver.distinct(), 2);
        let new = receiver.take_new();
        assert_eq!(new.len(), 4);
        assert_eq!((new[0].line.as_str(), new[0].at), ("a", at));
        assert_eq!(new[0].labels["job"], "demo");
        assert_eq!(receiver.take_new(), []);
    }

    #[tokio::test]
    async fn what_loki_would_refuse_is_refused() {
        let (receiver, at) = start().await;
        assert_eq!(push(at, "{").await, 400);
        let body = r#"{"streams": [{"stream": {}, "values": [["now", "a"]]}]}"#;
        assert_eq!(push(at, body).await, 400);
        assert_eq!(receiver.distinct(), 0);
        let stream = TcpStream::connect(at).await.unwrap();
        let headers = [("Host", "loki")];
        let answer = exchange(stream, "GET /ready", &headers, b"").await.unwrap();
        assert_eq!(answer, (200, "ready\n".to_owned()));
    }
}
