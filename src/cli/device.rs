use std::io::{Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use seedwire_core::config::{Backend, Log, LogFormat, LogLevel};
use seedwire_core::types::InterfaceName;
use tokio::signal::unix::{SignalKind, signal};

use super::offload;
use crate::app::logging::Logging;
use crate::tunnel::{self, DeviceOptions, Failure, Offload, Uapi};

/// The MTU of wg-quick and wireguard-go: what is left of 1500 with IPv6 outside.
const MTU: u16 = 1420;

/// Run a bare WireGuard interface
///
/// Makes an interface without keys and peers that wg(8) configures over the socket
/// /var/run/wireguard/IFNAME.sock, as wireguard-go does. Goes into the background once the
/// interface and the socket exist. Ends when either is deleted, or on SIGTERM.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire device wg0 && wg setconf wg0 /etc/wireguard/wg0.conf")]
pub struct Device {
    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,
    /// This is the process in the background; it says on standard output when it is ready
    #[arg(long, hide = true)]
    background: bool,
    /// Whether many packets are moved in one call, where the kernel can
    #[arg(long, value_name = "WHICH", default_value = "auto", value_parser = offload::parser())]
    offload: Offload,
    /// The name of the interface
    #[arg(value_name = "IFNAME")]
    pub interface: InterfaceName,
}

impl Device {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.foreground || self.background {
            self.serve()
        } else {
            self.daemonise()
        }
    }

    /// Starts this program anew in the background, and waits until it is ready or has failed.
    fn daemonise(self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut child = Command::new(program)
            .args(["device", "--background", "--offload", self.offload.word()])
            .arg(self.interface.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the background process")?;
        let mut told = Vec::new();
        if let Some(stdout) = &mut child.stdout {
            stdout.read_to_end(&mut told)?;
        }
        if told != READY {
            // The process in the background has said why.
            child.wait()?;
            std::process::exit(1);
        }
        Ok(())
    }

    fn serve(self) -> anyhow::Result<()> {
        if self.background {
            nix::unistd::setsid().context("failed to leave the session")?;
            std::env::set_current_dir("/").context("failed to leave the working directory")?;
        }
        let log = Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
        };
        let _logging = Logging::start(&log)?;
        let device = tunnel::Device::create(DeviceOptions {
            interface: self.interface,
            mtu: MTU,
            uapi: Uapi::Required,
            backend: Backend::Userspace,
            offload: self.offload,
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the runtime")?;
        let ended = runtime.block_on(async {
            let mut terminated = signal(SignalKind::terminate())?;
            let mut interrupted = signal(SignalKind::interrupt())?;
            if self.background {
                let_go().context("failed to go into the background")?;
            }
            let mut changes = device.changes();
            loop {
                tokio::select! {
                    _ = terminated.recv() => return anyhow::Ok(None),
                    _ = interrupted.recv() => return anyhow::Ok(None),
                    _ = changes.changed() => {}
                }
                if let Some(failure) = device.failure() {
                    return anyhow::Ok(Some(failure));
                }
            }
        })?;
        device.stop();
        match ended {
            Some(failure @ Failure::Panicked(_)) => bail!(failure),
            _ => Ok(()),
        }
    }
}

const READY: &[u8] = b"ready\n";

/// Tells the parent that all is there, and lets go of its terminal.
fn let_go() -> anyhow::Result<()> {
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    let mut out = std::io::stdout();
    out.write_all(READY)?;
    out.flush()?;
    nix::unistd::dup2_stderr(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}
