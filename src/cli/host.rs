//! Which engines a verb asks, and what is told of those.

use crate::compile;
use crate::diagnostic::Diagnostic;
use crate::host::docker::{Ask, Unanswered};
use crate::host::{HostView, Publication};
use crate::policy::Policy;
use crate::site::Site;
use crate::untrusted::clean_to;

/// Which engines a verb asks.
#[derive(Debug, clap::Args)]
pub(super) struct EngineArgs {
    /// The engine to ask: a path, tcp://HOST:PORT, running, none
    ///
    /// If not given, Docker and Podman are asked at /run/docker.sock and /run/podman/podman.sock. With
    /// `running` only those that run already: to ask Podman at a socket of systemd's starts it.
    #[arg(
        long,
        value_name = "ENGINE",
        env = "DFW_DOCKER_HOST",
        hide_env_values = true
    )]
    docker_host: Option<String>,
}

impl EngineArgs {
    pub(super) fn ask(&self) -> Ask {
        match self.docker_host.as_deref() {
            None => Ask::System,
            Some("none" | "") => Ask::Nobody,
            Some("running") => Ask::Running,
            Some(address) => Ask::At(address.to_owned()),
        }
    }
}

/// What a policy does not get to hear or to judge.
pub(super) fn notices(policy: &Policy, found: &Site) -> Vec<Diagnostic> {
    let unanswered = found.unanswered.iter().map(|error| {
        let remembered: usize = found
            .host
            .remembered
            .iter()
            .map(|range| usize::from(range.last - range.first) + 1)
            .sum();
        Diagnostic::warning("engine-unanswered", short(error))
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

/// Why an engine does not answer, which may be a text of any length.
pub(super) fn short(error: &Unanswered) -> String {
    /// How many characters of it are shown.
    const LONGEST: usize = 600;
    clean_to(&error.to_string(), LONGEST)
}

/// Engines whose publications are not known.
pub(super) fn unanswered(found: &Site) -> Vec<Diagnostic> {
    let unanswered = found.unanswered.iter();
    unanswered
        .map(|error| {
            Diagnostic::warning("engine-unanswered", short(error))
                .help("what it publishes is not among what follows")
        })
        .collect()
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
