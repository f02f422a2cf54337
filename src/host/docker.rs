//! Queries container engines over Docker's API, which Podman supports, too
//! (<https://docs.docker.com/reference/api/engine/>).

use std::path::{Path, PathBuf};

use bollard::errors::Error as ApiError;
use bollard::{API_DEFAULT_VERSION, ClientVersion};

use super::activation;
pub use super::answers::{Answers, engine};
pub use super::connection::Unanswered;
use super::connection::{Connection, PATIENCE, QueryError};
use super::engine::Engine;
use super::inventory::{Changes, Inventory};
use super::transport::{Transport, path};

/// The default sockets of system engines.
pub(super) const SOCKETS: [&str; 3] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
];

/// Selects the engines to query. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// The engines of the system that listen on default sockets.
    pub system: System,
    /// The engines at these addresses: a path, `unix:///path` or `tcp://host:port`.
    pub named: Vec<String>,
}

/// Whether the system's engines are queried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum System {
    /// They are not.
    #[default]
    No,
    /// Running engines only: socket activation starts none.
    Running,
    /// All engines, also those that systemd starts on connection.
    All,
}

impl Ask {
    /// Returns the engine at one address.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self {
            named: vec![address.to_owned()],
            ..Self::default()
        }
    }

    /// Returns whether no engine is asked.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether the engine at this address must be there.
    #[must_use]
    pub fn names(&self, address: &str) -> bool {
        self.named.iter().any(|named| named == address)
    }
}

/// Queries engines. An absent system engine is not an error; an absent named engine, and one that does not
/// answer, is. An engine that reports only some of its containers is returned together with an error.
#[must_use]
pub fn ask(ask: &Ask) -> Vec<Result<Engine, Unanswered>> {
    let mut addresses = ask.named.clone();
    let mut system = match ask.system {
        System::No => Vec::new(),
        System::Running | System::All => sockets(),
    };
    if ask.system == System::Running {
        system.retain(|socket| !activation::is_asleep(Path::new(socket)));
    }
    let same = |a: &str, b: &str| path(a).canonicalize().ok() == path(b).canonicalize().ok();
    system.retain(|socket| !ask.named.iter().any(|named| same(named, socket)));
    addresses.extend(system);
    let mut answers = Vec::new();
    for address in addresses {
        match ask_one(&address) {
            Ok((engine, busy)) => {
                answers.push(Ok(engine));
                // Of these containers, only the summary in the list is known.
                answers.extend((busy > 0).then(|| Err(QueryError::Busy(busy).at(&address))));
            }
            // The socket of a stopped engine, or of socket activation.
            Err(QueryError::NobodyThere | QueryError::Asleep) if !ask.names(&address) => {}
            Err(rejection) => answers.push(Err(rejection.at(&address))),
        }
    }
    answers
}

/// Returns the sockets that exist, each once: `/var/run` is `/run` on most systems.
fn sockets() -> Vec<String> {
    let mut real: Vec<PathBuf> = Vec::new();
    for path in SOCKETS {
        if let Ok(path) = Path::new(path).canonicalize()
            && !real.contains(&path)
        {
            real.push(path);
        }
    }
    real.iter().map(|path| path.display().to_string()).collect()
}

/// Returns the engine, and the number of containers without an answer.
fn ask_one(address: &str) -> Result<(Engine, usize), QueryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let everything = async {
            let connection = connect(address).await?;
            let mut inventory = Inventory::default();
            inventory
                .update(&connection, &Changes::everything())
                .await?;
            Ok((inventory.engine(), inventory.busy().len()))
        };
        let asked = tokio::time::timeout(PATIENCE, everything).await;
        asked.map_err(|_| QueryError::Slow)?
    })
}

/// Returns whether a socket-activated engine runs. Podman's service only answers requests, and runs only
/// while it is used.
pub(super) fn is_awake(address: &str) -> Result<(), QueryError> {
    let path = path(address);
    if !path.ends_with("podman.sock") && activation::is_asleep(path) {
        return Err(QueryError::Asleep);
    }
    Ok(())
}

/// Connects to the engine and negotiates the API version. The version request takes Podman longer than all
/// others, so it is sent once.
pub(super) async fn connect(address: &str) -> Result<Connection, QueryError> {
    let transport = Transport::new(address);
    is_awake(address)?;
    let newest = transport.client(API_DEFAULT_VERSION)?;
    let version = newest.version().await?;
    let its_own = version.api_version.as_deref().and_then(api_version);
    let docker = match its_own {
        None => return Err(ApiError::APIVersionParseError {}.into()),
        Some(its_own) if its_own < *API_DEFAULT_VERSION => transport.client(&its_own)?,
        Some(_) => newest,
    };
    Ok(Connection {
        address: address.to_owned(),
        docker,
        version,
        transport,
    })
}

fn api_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion {
        major_version: major.parse().ok()?,
        minor_version: minor.parse().ok()?,
    })
}
