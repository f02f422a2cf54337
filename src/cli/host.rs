//! Finding out what this host is like: its links, its engines, its sockets.

use crate::compile;
use crate::diagnostic::Diagnostic;
use crate::host::docker::{self, Ask, Unanswered};
use crate::host::engine::Engine;
use crate::host::{HostView, Publication, listener};
use crate::kernel::{self, Kernel};
use crate::netlink::listener::Socket;
use crate::policy::Policy;

/// Which engines a verb asks.
#[derive(Debug, clap::Args)]
pub(super) struct EngineArgs {
    /// The container engine to ask: a socket's path, tcp://HOST:PORT, or `none`; Docker's and
    /// Podman's own sockets if not given
    #[arg(long, value_name = "ADDRESS", env = "DFW_DOCKER_HOST")]
    docker_host: Option<String>,
}

impl EngineArgs {
    fn ask(&self) -> Ask {
        match self.docker_host.as_deref() {
            None => Ask::System,
            Some("none" | "") => Ask::Nobody,
            Some(address) => Ask::At(address.to_owned()),
        }
    }
}

/// What was found, and who did not answer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) host: HostView,
    pub(super) unanswered: Vec<Unanswered>,
}

/// Looks at this host.
pub(super) fn find(args: &EngineArgs) -> Result<Found, kernel::Error> {
    let (links, addresses) = (kernel::links()?, kernel::addresses()?);
    let (mut engines, mut unanswered): (Vec<Engine>, _) = (Vec::new(), Vec::new());
    for answer in docker::ask(&args.ask()) {
        match answer {
            Ok(engine) => engines.push(engine),
            Err(error) => unanswered.push(error),
        }
    }
    let mut host = HostView::new(&links, &addresses, engines);
    if host.engines.is_empty() || !unanswered.is_empty() {
        let installed = Kernel::open()?.snapshot()?.installed;
        host.remembered =
            installed.map_or_else(Vec::new, |table| compile::remembered(&table.ruleset));
    }
    let mut waiting = kernel::listeners()?;
    // Finding out who holds a socket takes a look at every process.
    waiting.retain(|socket| is_published(&host, socket));
    host.listeners = listener::listeners(&waiting);
    Ok(Found { host, unanswered })
}

/// Whether an engine publishes the port, or did.
fn is_published(host: &HostView, socket: &Socket) -> bool {
    host.publications()
        .any(|publication| publication.published.port == socket.port)
        || host
            .remembered
            .iter()
            .any(|range| (range.first..=range.last).contains(&socket.port))
}

/// What a policy does not get to hear or to judge.
pub(super) fn notices(policy: &Policy, found: &Found) -> Vec<Diagnostic> {
    let unanswered = found.unanswered.iter().map(|error| {
        let remembered: usize = found
            .host
            .remembered
            .iter()
            .map(|range| usize::from(range.last - range.first) + 1)
            .sum();
        Diagnostic::warning("engine-unanswered", error.to_string())
            .help(
                "ports that the policy names are guarded all the same, and so are all that Docker \
                 forwards; only sockets of docker-proxy at other ports cannot be told from those \
                 of the host",
            )
            .help(match remembered {
                0 => "apply again when it answers".to_owned(),
                ports => format!(
                    "what it published when it answered last stays refused ({ports} at other ports \
                     than the policy's); apply again when it answers"
                ),
            })
    });
    let held = compile::unnamed(policy, &found.host)
        .filter_map(|publication| held(&found.host, &publication));
    let mut notices: Vec<Diagnostic> = unanswered.chain(held).collect();
    notices.dedup_by(|a, b| a.message == b.message);
    notices
}

/// A service of the host at a port that a container would publish.
fn held(host: &HostView, publication: &Publication<'_>) -> Option<Diagnostic> {
    let holder = publication.holder(host)?;
    let by = match &holder.owner {
        Some(owner) => format!("`{}` (process {})", owner.name, owner.pid),
        None => "a process that cannot be seen from here".to_owned(),
    };
    let port = compile::key(&publication.published.port());
    let title = publication.of.title();
    Some(
        Diagnostic::warning(
            "port-held",
            format!("port {port}, which container {title} publishes, is held by {by}"),
        )
        .help("it counts as a service of this host and is left alone; name the port in the policy to have it guarded"),
    )
}
