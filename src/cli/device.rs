use seedwire_core::types::InterfaceName;

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
    /// The name of the interface
    #[arg(value_name = "IFNAME")]
    pub interface: InterfaceName,
}
