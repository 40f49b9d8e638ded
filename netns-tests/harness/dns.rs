//! DNS servers and questions.

use std::path::Path;

use super::sandbox::SHARED;
use super::{Host, Process, wait_until, wireguard};

/// A running DNS server.
pub struct Server {
    /// Its process; its log names each question.
    pub process: Process,
}

impl Server {
    /// How many questions for a name its log holds.
    pub fn questions(&self, name: &str) -> usize {
        self.process
            .output()
            .lines()
            .filter(|line| line.contains(name))
            .count()
    }
}

/// Starts unbound with lines for the `server:` section, such as `local-data: "name. A 192.0.2.1"`.
/// `address` is one that it answers at, `IP` with port 53.
pub fn unbound(host: &Host, address: &str, lines: &[&str]) -> Server {
    let folder = host.folder(&format!("unbound-{}", address.replace(':', "-")));
    let file = folder.join("unbound.conf");
    let mut text = format!(
        "server:\n interface: {address}\n directory: {0}\n chroot: \"\"\n username: \"\"\n \
         pidfile: \"\"\n use-syslog: no\n logfile: \"\"\n log-queries: yes\n verbosity: 1\n \
         access-control: 0.0.0.0/0 allow\n access-control: ::/0 allow\n num-threads: 1\n \
         do-daemonize: no\n local-zone: \"svc.cluster.local.\" static\n",
        folder.display()
    );
    lines.iter().for_each(|line| text += &format!(" {line}\n"));
    text += "remote-control:\n control-enable: no\n";
    std::fs::write(&file, text).expect("a file in memory");
    let program = copy_of_unbound();
    let process = host.spawn(&format!("{program} -d -c {}", file.display()));
    started(host, address, process)
}

/// A copy of the distribution's unbound: where AppArmor has a profile for the program, that holds
/// for its path alone, and would not let it read a configuration in /run.
fn copy_of_unbound() -> String {
    let copy = format!("{SHARED}/unbound");
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let mut programs = folders
        .split(':')
        .map(|folder| Path::new(folder).join("unbound"));
    let program = programs
        .find(|path| path.exists())
        .expect("unbound is installed");
    if !Path::new(&copy).exists() {
        std::fs::copy(program, &copy).expect("a file in memory");
    }
    copy
}

/// Starts dnsmasq with options, such as `--host-record=name,192.0.2.1`.
pub fn dnsmasq(host: &Host, address: &str, options: &[&str]) -> Server {
    let listen = format!("--listen-address={address}");
    let mut line = vec!["dnsmasq", "--no-daemon", "--conf-file=/dev/null"];
    line.extend([
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--pid-file",
        &listen,
    ]);
    line.extend(["--log-queries", "--local=/cluster.local/"]);
    line.extend(options);
    let process = host.spawn_args(&line);
    started(host, address, process)
}

/// Starts CoreDNS, as scripts/peers.sh built it, with a Corefile.
pub fn coredns(host: &Host, address: &str, corefile: &str) -> Server {
    let file = host.folder("coredns").join("Corefile");
    std::fs::write(&file, corefile).expect("a file in memory");
    let program = wireguard::built("coredns");
    let process = host.spawn(&format!("{program} -conf {}", file.display()));
    started(host, address, process)
}

fn started(host: &Host, address: &str, process: Process) -> Server {
    wait_until(&format!("a DNS server at {address}"), || {
        host.succeeds(&format!("dig +time=1 +tries=1 @{address} started.test SOA"))
    });
    Server { process }
}

/// What a server said.
#[derive(Debug, Default)]
pub struct Answer {
    /// Such as NOERROR; empty when there was no answer.
    pub status: String,
    /// The data of the records in the answer section.
    pub data: Vec<String>,
    /// All that dig printed.
    pub text: String,
}

/// Asks from a host, once. The line is for dig, such as `@127.0.0.1 example.test AAAA +tcp`.
pub fn ask(host: &Host, line: &str) -> Answer {
    let output = host.try_run(&format!("dig +tries=1 +time=5 +nocookie {line}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text
        .split("status: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let status = status.unwrap_or_default().to_owned();
    let answers = text.split("ANSWER SECTION:\n").nth(1).unwrap_or_default();
    let answers = answers.lines().take_while(|line| !line.is_empty());
    // NAME TTL CLASS TYPE DATA
    let data = |line: &str| {
        line.split_whitespace()
            .skip(4)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let data = answers.map(data).collect();
    Answer { status, data, text }
}
