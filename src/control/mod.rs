//! How an instance is watched: health, status, metrics.
