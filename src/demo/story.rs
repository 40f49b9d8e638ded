//! What happens in the demo, in order.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hickory_proto::rr::Name;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{sleep, timeout};

use super::agent::Agent;
use super::dns::NameServer;
use super::instance::{HUB_LINK, Instance, Keys, POD_LINK};
use super::netns::Netns;
use super::receiver::Receiver;
use super::report::{Report, Summary, milliseconds};
use super::world::{HUB, LOKI, NODE_DNS, SEED_DNS, TUNNEL_HUB, World, in_namespace};
use super::{HUB_NAME, LOKI_NAME, LOKI_PORT, Options, SERVICE};

/// How long each stage may take, and each push.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often is looked whether a stage has come up.
const LOOK: Duration = Duration::from_millis(5);
/// The pushes that the lines are spread over, and the time from one to the next.
const PUSHES: usize = 20;
const PACE: Duration = Duration::from_millis(300);
const DNS_PORT: u16 = 53;

/// Tells the story from the namespaces to the summary; the files are put into `files`.
///
/// # Errors
/// The hop at which it did not go on; what the instances logged is told before.
pub(super) async fn tell(options: Options, files: &Path) -> Result<()> {
    let report = Report::new(options.json);
    let done = happen(&report, options, files).await;
    if done.is_err() {
        report.logs(files)?;
    }
    done
}

async fn happen(report: &Report, options: Options, files: &Path) -> Result<()> {
    let world = World::new(files)?;
    report.topology()?;
    let names = world.all().map(Netns::name).join(", ");
    report.stage("namespaces", &format!("made and joined: {names}"))?;
    let services = Services::start(&world)?;
    report.stage("services", "the DNS servers and Loki's receiver are there")?;

    let keys = Keys::new(files)?;
    let mut hub = Instance::start(&world.hub, files, HUB_LINK, &keys.hub_configuration())?;
    ready(&mut hub, "the hub").await?;
    report.stage("hub", "seedwire is ready in the seed")?;

    let started = Instant::now();
    let mut pod = Instance::start(&world.pod, files, POD_LINK, &keys.pod_configuration())?;
    let agent = agent(&world)?;
    let tunnel = come_up(report, &world, &agent, &mut pod).await?;
    ready(&mut pod, "seedwire in the pod").await?;
    let ready_ms = milliseconds(started.elapsed());
    report.stage("ready", "seedwire in the pod says 200 to /readyz")?;

    let sent = usize::try_from(options.lines)?;
    let pushed = match push(report, &agent, &services.loki, sent).await {
        Ok(pushed) => pushed,
        Err(error) => {
            hub.check()?;
            pod.check()?;
            return Err(error.context(lost(&world, &pod).await));
        }
    };
    let asked = services.control_plane.asked_for(&agent.loki);
    let summary = Summary {
        sent,
        received: services.loki.distinct(),
        retries: pushed.retries,
        name: LOKI_NAME.to_owned(),
        resolved: pushed.resolved,
        resolved_by: (SEED_DNS, DNS_PORT).into(),
        questions: asked.times,
        asked_from: asked.by,
        questions_to_node: services.node.asked_for(&agent.loki).times,
        seen_from: pushed.from,
        pushed_to: pushed.at,
        tunnel_mtu: tunnel.mtu,
        handshake_ms: tunnel.handshake_ms,
        ready_ms,
        took_ms: milliseconds(report.elapsed()),
    };
    report.summary(&summary)?;
    summary.check()?;
    if options.keep {
        report.ways_in(&world)?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

fn agent(world: &World) -> Result<Agent<'_>> {
    Ok(Agent {
        pod: &world.pod,
        resolver: (Ipv4Addr::LOCALHOST, DNS_PORT).into(),
        loki: name(LOKI_NAME)?,
        port: LOKI_PORT,
    })
}

fn name(text: &str) -> Result<Name> {
    let mut name = Name::from_ascii(text).with_context(|| format!("{text} is not a name"))?;
    name.set_fqdn(true);
    Ok(name)
}

/// What is there without seedwire.
struct Services {
    control_plane: Arc<NameServer>,
    node: Arc<NameServer>,
    loki: Arc<Receiver>,
}

impl Services {
    fn start(world: &World) -> Result<Self> {
        let services = Self {
            control_plane: NameServer::new(name("cluster.local")?, [(name(LOKI_NAME)?, SERVICE)]),
            node: NameServer::new(Name::root(), [(name(HUB_NAME)?, HUB)]),
            loki: Arc::default(),
        };
        serve_dns(&services.control_plane, &world.seed, SEED_DNS)?;
        serve_dns(&services.node, &world.node, NODE_DNS)?;
        let (_, listener) = world.seed.listen(SocketAddrV4::new(LOKI, LOKI_PORT))?;
        let listener = TcpListener::from_std(listener)?;
        tokio::spawn(Arc::clone(&services.loki).serve(listener));
        Ok(services)
    }
}

fn serve_dns(server: &Arc<NameServer>, host: &Netns, address: Ipv4Addr) -> Result<()> {
    let (udp, tcp) = host.listen(SocketAddrV4::new(address, DNS_PORT))?;
    let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
    tokio::spawn(Arc::clone(server).serve(udp, tcp));
    Ok(())
}

/// Waits until the instance says that it is ready.
async fn ready(instance: &mut Instance<'_>, who: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(reasons) = instance.not_ready().await {
        instance.check()?;
        if Instant::now() >= deadline {
            bail!("{who} is not ready: {}", reasons.trim());
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// The tunnel as it came up.
struct Tunnel {
    mtu: u32,
    handshake_ms: f64,
}

/// Follows the stages from the pod to the name of Loki.
async fn come_up(
    report: &Report,
    world: &World,
    agent: &Agent<'_>,
    pod: &mut Instance<'_>,
) -> Result<Tunnel> {
    let mtu = routes(world, pod).await?;
    let detail = format!("{SERVICE} and {LOKI} lead into {POD_LINK}, MTU {mtu}");
    report.stage("routes", &detail)?;

    let handshake_ms = handshake(pod).await?;
    let detail = format!("handshake with {HUB_NAME} at {HUB} in {handshake_ms:.1} ms");
    report.stage("tunnel", &detail)?;

    let resolved = resolve(agent, pod).await?;
    let detail = format!("127.0.0.1 says that {LOKI_NAME} is {resolved}");
    report.stage("dns", &detail)?;
    Ok(Tunnel { mtu, handshake_ms })
}

/// Waits until the pod's traffic to Loki goes into the tunnel, and gives the tunnel's MTU.
async fn routes(world: &World, pod: &mut Instance<'_>) -> Result<u32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mtu = in_namespace(&world.pod, |rtnl| {
            let Some(tunnel) = rtnl.link(POD_LINK)? else {
                return Ok(None);
            };
            for to in [SERVICE, LOKI, TUNNEL_HUB] {
                let found = rtnl.lookup(to.into(), None)?;
                if found.and_then(|found| found.route.link) != Some(tunnel.index) {
                    return Ok(None);
                }
            }
            Ok(Some(tunnel.mtu))
        })?;
        if let Some(mtu) = mtu {
            return Ok(mtu);
        }
        pod.check()?;
        if Instant::now() >= deadline {
            bail!("routes: the pod has none into the tunnel");
        }
        sleep(LOOK).await;
    }
}

/// Waits for the handshake with the hub, and gives how long it took in milliseconds.
async fn handshake(pod: &mut Instance<'_>) -> Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = pod.status().await.unwrap_or_default();
        let peer = &status["tunnel"]["peers"][0];
        if let Some(seconds) = peer["handshakeSeconds"].as_f64() {
            return Ok(milliseconds(Duration::from_secs_f64(seconds)));
        }
        pod.check()?;
        if Instant::now() >= deadline {
            let why = peer["trouble"].as_str().unwrap_or("no answer");
            bail!("tunnel: no handshake with the hub at {HUB}: {why}");
        }
        sleep(LOOK).await;
    }
}

/// Waits until the name of Loki is resolved as the control plane's DNS says.
async fn resolve(agent: &Agent<'_>, pod: &mut Instance<'_>) -> Result<Ipv4Addr> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match agent.resolve().await {
            Ok(SERVICE) => return Ok(SERVICE),
            Ok(other) => bail!("dns: {LOKI_NAME} was resolved to {other}, which is not {SERVICE}"),
            Err(error) if Instant::now() >= deadline => {
                return Err(anyhow!(error).context("dns"));
            }
            Err(_) => pod.check()?,
        }
        sleep(LOOK).await;
    }
}

/// That lines did not arrive, and at which hop they were lost.
async fn lost(world: &World, pod: &Instance<'_>) -> String {
    if let Some(reasons) = pod.not_ready().await {
        let reasons = reasons.trim().replace('\n', "; ");
        return format!("lines did not arrive; seedwire in the pod is not ready ({reasons})");
    }
    let hop = match connects(&world.hub, (LOKI, LOKI_PORT).into()).await {
        Ok(()) => "the hub reaches Loki, so they were lost before it".to_owned(),
        Err(error) => format!("the hub does not reach Loki at {LOKI}:{LOKI_PORT} ({error:#})"),
    };
    format!("lines did not arrive; {hop}")
}

async fn connects(from: &Netns, to: SocketAddr) -> Result<()> {
    let connecting = from.tcp()?.connect(to);
    timeout(Duration::from_secs(2), connecting)
        .await
        .context("no answer")??;
    Ok(())
}

/// What the pushes had in common.
struct Pushes {
    resolved: Ipv4Addr,
    retries: u32,
    from: Option<SocketAddr>,
    at: Option<SocketAddr>,
}

/// Sends that many lines at a pace that can be followed, and shows them as they arrive.
async fn push(report: &Report, agent: &Agent<'_>, loki: &Receiver, lines: usize) -> Result<Pushes> {
    let mut pushes = Pushes {
        resolved: SERVICE,
        retries: 0,
        from: None,
        at: None,
    };
    let rounds = lines.min(PUSHES);
    for round in 0..rounds {
        if round > 0 {
            sleep(PACE).await;
        }
        let numbers = lines * round / rounds..lines * (round + 1) / rounds;
        let batch: Vec<_> = numbers.map(|number| line(number, lines)).collect();
        let pushed = agent.push(&batch, Instant::now() + PATIENCE).await?;
        pushes.resolved = pushed.resolved;
        pushes.retries += pushed.tries - 1;
        let arrivals = loki.take_new();
        if let Some(arrival) = arrivals.first() {
            (pushes.from, pushes.at) = (Some(arrival.from), Some(arrival.at));
        }
        report.arrivals(&arrivals, pushed.resolved)?;
    }
    Ok(pushes)
}

fn line(number: usize, of: usize) -> String {
    format!("order {} of {of} shipped", number + 1)
}

impl Summary {
    fn check(&self) -> Result<()> {
        if self.received != self.sent {
            bail!("Loki has {} of {} lines", self.received, self.sent);
        }
        if self.questions == 0 {
            bail!("the control plane's DNS was never asked for {LOKI_NAME}");
        }
        Ok(())
    }
}
