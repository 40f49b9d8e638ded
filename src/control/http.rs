//! What is answered to a request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::health::{Health, Verdict};
use super::snapshot::{Source, StatusReport};
use super::{metrics, table};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Someone over TCP.
    Anyone,
    /// The same user, over the Unix socket.
    Owner,
}

/// Answers requests from the state at that moment.
pub(super) struct Answers {
    pub(super) health: Arc<Health>,
    pub(super) source: Arc<dyn Source>,
    pub(super) startup_wait: Option<Duration>,
}

impl Answers {
    pub(super) fn answer(
        &self,
        caller: Caller,
        method: &Method,
        path: &str,
    ) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let text = "read only: GET or HEAD\n".to_owned();
            let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        match (path, caller) {
            ("/livez", _) => verdict(self.health.live()),
            ("/readyz", _) => verdict(self.health.ready(self.source.reasons())),
            ("/startupz", _) => {
                let reasons = self.source.reasons();
                verdict(self.health.startup(reasons, self.startup_wait))
            }
            ("/metrics", _) => self.metrics(),
            ("/status", Caller::Owner) => {
                let report = StatusReport::from(self.source.snapshot());
                response(
                    StatusCode::OK,
                    TEXT,
                    table::draw(&report, SystemTime::now()),
                )
            }
            ("/status.json", Caller::Owner) => self.status_json(),
            _ => response(StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match metrics::encode(self.source.snapshot()) {
            Ok(text) => response(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(error) => failure(&error),
        }
    }

    fn status_json(&self) -> Response<Full<Bytes>> {
        match serde_json::to_string(&StatusReport::from(self.source.snapshot())) {
            Ok(json) => response(StatusCode::OK, JSON, json + "\n"),
            Err(error) => failure(&error),
        }
    }
}

fn verdict(verdict: Verdict) -> Response<Full<Bytes>> {
    let status = if verdict.good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    response(status, TEXT, verdict.text)
}

fn failure(error: &dyn std::error::Error) -> Response<Full<Bytes>> {
    response(
        StatusCode::INTERNAL_SERVER_ERROR,
        TEXT,
        format!("{error}\n"),
    )
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
