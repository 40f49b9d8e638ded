//! How an instance is watched: health, metrics and status, over HTTP and a Unix socket.
//!
//! Everything here is read only, and made from a [`Snapshot`] that the [`Source`] gives at each
//! request.
//!
//! | path | HTTP | socket | |
//! |---|---|---|---|
//! | `/livez` | yes | yes | whether our own loops are alive |
//! | `/readyz` | yes | yes | whether the instance does its work, with each reason why not |
//! | `/startupz` | yes | yes | whether it was ready once |
//! | `/metrics` | yes | yes | OpenMetrics text |
//! | `/status` | no | yes | a table to read |
//! | `/status.json` | no | yes | [`StatusReport`] as one JSON object |

mod health;
mod http;
mod listen;
mod metrics;
mod server;
pub mod snapshot;
mod socket;
mod table;

pub use health::{Health, Heartbeat, Heartbeats};
pub use listen::{BindError, make_room};
pub use metrics::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub use server::Server;
pub use snapshot::{Snapshot, Source, StatusReport};
pub use socket::{RequestError, request};
