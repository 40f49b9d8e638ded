//! The least of HTTP that cases need: one request on one connection.

use std::io::{Read, Write};

use super::Host;

/// A status code and a body.
#[derive(Debug)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// What follows the headers.
    pub body: String,
}

/// Sends a GET request from a host; headers are whole lines.
pub fn get(host: &Host, address: &str, path: &str, headers: &[&str]) -> std::io::Result<Response> {
    // With 1.0 a server neither sends chunks nor keeps the connection.
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    let mut stream = host.connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    parse(&String::from_utf8_lossy(&response)).ok_or(std::io::ErrorKind::InvalidData.into())
}

fn parse(response: &str) -> Option<Response> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    let body = body.to_owned();
    Some(Response { status, body })
}
