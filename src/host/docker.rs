//! Questions to container engines, over the API of Docker that Podman speaks as well
//! (<https://docs.docker.com/reference/api/engine/>).

use std::path::{Path, PathBuf};

use bollard::errors::Error as ApiError;
use bollard::{API_DEFAULT_VERSION, ClientVersion};

use super::activation;
pub use super::answers::{Answers, engine};
pub use super::connection::Unanswered;
use super::connection::{Connection, PATIENCE, Rejection};
use super::engine::Engine;
use super::inventory::{Changes, Inventory};
use super::transport::{Transport, path};

/// Where engines of the system listen, unless they are told otherwise.
pub(super) const SOCKETS: [&str; 3] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
];

/// Which engines are asked. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// Those of the system, wherever one listens.
    pub system: System,
    /// Those at these addresses: a path, `unix:///path` or `tcp://host:port`.
    pub named: Vec<String>,
}

/// Whether the engines of the system are asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum System {
    /// They are not.
    #[default]
    No,
    /// Those that run already: none is started by asking.
    Running,
    /// All, also those that systemd starts when they are asked.
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

/// Asks engines. One of the system that is not there is no error; one that is there and does not answer
/// is, and so is one that is named. One that answers for some of its containers only is both: an engine
/// and an error.
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
                // What is known of these is what the list says, and that is not all.
                answers.extend((busy > 0).then(|| Err(Rejection::Busy(busy).at(&address))));
            }
            // A socket that the engine has left behind when it was stopped, or that waits for it.
            Err(Rejection::NobodyThere | Rejection::Asleep) if !ask.names(&address) => {}
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

/// Returns the engine, and of how many containers it said nothing.
fn ask_one(address: &str) -> Result<(Engine, usize), Rejection> {
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
        asked.map_err(|_| Rejection::Slow)?
    })
}

/// Whether the engine runs, where whoever connects would start it. Podman's service does nothing but
/// answer, and runs only while it is asked.
pub(super) fn is_awake(address: &str) -> Result<(), Rejection> {
    let path = path(address);
    if !path.ends_with("podman.sock") && activation::is_asleep(path) {
        return Err(Rejection::Asleep);
    }
    Ok(())
}

/// Connects with the engine, by the version of the API that both know. To tell its version takes Podman
/// longer than all the rest, so that it is asked for it once only.
pub(super) async fn connect(address: &str) -> Result<Connection, Rejection> {
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
