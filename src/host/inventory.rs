//! What an engine has, kept up to date: everything is asked for once, and from then on only what an event
//! is about.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, EventMessage, EventMessageTypeEnum as Type,
    PortMap, SystemInfo,
};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::answers;
use super::connection::{Connection, Rejection};
use super::engine::{Container, Engine, Kind};
use super::summary;

/// How long it may say nothing of one container: while it starts or stops one, it may be long.
const PATIENCE_CONTAINER: Duration = Duration::from_secs(2);
/// How long it may tell of containers in all, which leaves time for the rest.
const PATIENCE_CONTAINERS: Duration = Duration::from_secs(8);
/// How many containers it is asked of at once.
const AT_ONCE: usize = 8;

/// What is known of an engine.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// All but its containers; `None` before the first answer.
    engine: Option<Engine>,
    containers: BTreeMap<String, Container>,
    /// What each container binds when it starts, where the engine has said so.
    bindings: HashMap<String, PortMap>,
    /// The containers of which it said nothing in time, because it is starting or stopping them.
    busy: BTreeSet<String>,
}

/// What an engine is to be asked for.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
pub(super) struct Changes {
    everything: bool,
    containers: BTreeSet<String>,
    gone: BTreeSet<String>,
    /// All networks.
    networks: bool,
    /// All networks, if one of these is not known.
    connected: BTreeSet<String>,
    services: bool,
    /// Whether all of them are creations of containers.
    created: bool,
}

impl Changes {
    /// Returns all that there is.
    pub(super) fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Returns these containers.
    pub(super) fn of(containers: BTreeSet<String>) -> Self {
        Self {
            containers,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self {
            everything,
            containers,
            gone,
            networks,
            connected,
            services,
            created: _,
        } = self;
        !(*everything || *networks || *services)
            && [containers, gone, connected]
                .iter()
                .all(|ids| ids.is_empty())
    }

    /// Returns whether nothing has happened but that containers were created.
    pub(super) fn are_creations(&self) -> bool {
        self.created
    }

    /// Adds what an event may have changed; says whether that is anything. What happens inside of
    /// containers, and to what they are made of, changes nothing of what an engine publishes.
    pub(super) fn add(&mut self, event: EventMessage) -> bool {
        let was_empty = self.is_empty();
        let action = event.action.unwrap_or_default();
        let actor = event.actor.unwrap_or_default();
        let id = actor.id.unwrap_or_default();
        match event.typ {
            Some(Type::CONTAINER) if is_inside(&action) => return false,
            Some(Type::CONTAINER) if id.is_empty() => self.everything = true,
            Some(Type::CONTAINER) if ["destroy", "remove"].contains(&action.as_str()) => {
                self.containers.remove(&id);
                self.gone.insert(id);
            }
            Some(Type::CONTAINER) => {
                self.gone.remove(&id);
                self.containers.insert(id);
            }
            Some(Type::NETWORK) => {
                match actor.attributes.and_then(|mut all| all.remove("container")) {
                    Some(container) => {
                        self.connected.insert(id);
                        if !self.gone.contains(&container) {
                            self.containers.insert(container);
                        }
                    }
                    None => self.networks = true,
                }
            }
            Some(Type::SERVICE) => self.services = true,
            Some(Type::DAEMON) | None => self.everything = true,
            Some(_) => return false,
        }
        self.created = action == "create" && (was_empty || self.created);
        true
    }
}

/// Returns whether an event of a container leaves alone what it publishes, and where. What stops,
/// restarts or is killed dies as well, and says so.
fn is_inside(action: &str) -> bool {
    let inside = [
        "archive-",
        "attach",
        "commit",
        "copy",
        "detach",
        "exec_",
        "export",
        "health_status",
        "kill",
        "oom",
        "pause",
        "resize",
        "restart",
        "stop",
        "top",
        "unpause",
        "update",
    ];
    inside.iter().any(|prefix| action.starts_with(prefix))
}

/// What an engine said of one container.
enum Inspected {
    Container(Box<ContainerInspectResponse>),
    /// Nothing in time.
    Busy(String),
    /// It has gone since.
    Gone(String),
}

impl Inventory {
    /// Returns the engine with everything that is known of it.
    ///
    /// Nothing was asked of one without a version.
    pub(super) fn engine(&self) -> Engine {
        let mut engine = self
            .engine
            .clone()
            .unwrap_or_else(|| answers::outline("", <_>::default(), SystemInfo::default()));
        engine.containers = self.containers.values().cloned().collect();
        engine.join_networks();
        engine.sort();
        engine
    }

    /// Returns the containers of which it said nothing in time, of which less is known.
    pub(super) fn busy(&self) -> &BTreeSet<String> {
        &self.busy
    }

    /// Asks for what has changed.
    ///
    /// # Errors
    /// If the engine rejects; what is known then is a mixture of before and after.
    pub(super) async fn update(
        &mut self,
        connection: &Connection,
        changes: &Changes,
    ) -> Result<(), Rejection> {
        connection.transport.renew();
        let is_podman = answers::is_podman(&connection.version);
        if changes.everything || self.engine.is_none() || is_podman {
            return self.everything(connection, is_podman).await;
        }
        for id in &changes.gone {
            self.forget(id);
        }
        let ids = changes.containers.iter().cloned();
        let busy = self.inspect(connection, ids.collect()).await?;
        if !busy.is_empty() {
            let filter = HashMap::from([("id", busy.iter().map(String::as_str).collect())]);
            let some = ListContainersOptionsBuilder::new()
                .all(true)
                .filters(&filter);
            let listed = connection
                .docker
                .list_containers(Some(some.build()))
                .await?;
            for summary in listed {
                self.outline(summary);
            }
        }
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        let known = |id: &String| engine.networks.iter().any(|network| network.id == *id);
        if changes.networks || !changes.connected.iter().all(known) {
            let networks = connection.docker.list_networks(None).await?.into_iter();
            let kind = engine.kind;
            engine.networks = networks.filter_map(|n| answers::network(n, kind)).collect();
        }
        if changes.services {
            engine.services = services(connection).await;
        }
        Ok(())
    }

    /// Asks for everything: of Docker's running containers its list tells enough.
    async fn everything(
        &mut self,
        connection: &Connection,
        is_podman: bool,
    ) -> Result<(), Rejection> {
        // Containers first, the newest of which is the first of all: one that was created just now tells
        // its ports until it is started.
        let all = ListContainersOptionsBuilder::new().all(true).build();
        let listed = connection.docker.list_containers(Some(all)).await?;
        let ids: BTreeSet<&String> = listed.iter().filter_map(|s| s.id.as_ref()).collect();
        self.containers.retain(|id, _| ids.contains(id));
        self.bindings.retain(|id, _| ids.contains(id));
        self.busy.clear();
        let kind = answers::outline("", connection.version.clone(), SystemInfo::default()).kind;
        let networks = connection.docker.list_networks(None).await?.into_iter();
        let networks: Vec<_> = networks.filter_map(|n| answers::network(n, kind)).collect();
        let (enough, more): (Vec<_>, Vec<_>) = listed
            .into_iter()
            .partition(|summary| !is_podman && summary::is_enough(summary, &networks));
        let ids = more.iter().filter_map(|summary| summary.id.clone());
        let busy = self.inspect(connection, ids.collect()).await?;
        let is_busy =
            |summary: &ContainerSummary| summary.id.as_ref().is_some_and(|id| busy.contains(id));
        for summary in enough.into_iter().chain(more.into_iter().filter(is_busy)) {
            self.outline(summary);
        }
        // Podman has nothing to say there that is asked for here, and takes long for it.
        let info = if is_podman {
            SystemInfo::default()
        } else {
            connection.docker.info().await?
        };
        let mut engine = answers::outline(&connection.address, connection.version.clone(), info);
        engine.networks = networks;
        if engine.kind == Kind::Docker {
            engine.services = services(connection).await;
        }
        engine.process = connection.transport.peer();
        self.engine = Some(engine);
        Ok(())
    }

    /// Asks for containers one by one; returns those of which the engine says nothing now.
    async fn inspect(
        &mut self,
        connection: &Connection,
        ids: Vec<String>,
    ) -> Result<BTreeSet<String>, Rejection> {
        let end = Instant::now() + PATIENCE_CONTAINERS;
        let asked = stream::iter(ids).map(|id| inspect(connection, id, end));
        let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut busy = BTreeSet::new();
        for answer in answers {
            match answer {
                Inspected::Container(answer) => self.take(*answer),
                Inspected::Busy(id) => {
                    busy.insert(id);
                }
                Inspected::Gone(id) => self.forget(&id),
            }
        }
        self.busy.extend(busy.iter().cloned());
        Ok(busy)
    }

    fn take(&mut self, answer: ContainerInspectResponse) {
        let host = answer.host_config.as_ref();
        let bindings = host.and_then(|host| host.port_bindings.clone());
        if let Some(container) = answers::container(answer) {
            self.busy.remove(&container.id);
            if let Some(bindings) = bindings {
                self.bindings.insert(container.id.clone(), bindings);
            }
            self.containers.insert(container.id.clone(), container);
        }
    }

    /// Takes what the list says of a container. What it published before it may publish again as soon as
    /// it is started.
    fn outline(&mut self, summary: ContainerSummary) {
        let bindings = summary
            .id
            .as_ref()
            .and_then(|id| self.bindings.get(id).cloned());
        if let Some(mut container) = answers::container(summary::outline(summary, bindings)) {
            let before = self.containers.get(&container.id);
            if let Some(before) = before.filter(|_| !container.running) {
                container.published.extend(&before.published);
                container.published.sort_unstable();
                container.published.dedup();
            }
            self.containers.insert(container.id.clone(), container);
        }
    }

    fn forget(&mut self, id: &str) {
        self.containers.remove(id);
        self.bindings.remove(id);
        self.busy.remove(id);
    }
}

async fn inspect(
    connection: &Connection,
    id: String,
    end: Instant,
) -> Result<Inspected, Rejection> {
    let end = end.min(Instant::now() + PATIENCE_CONTAINER);
    match timeout_at(end, connection.docker.inspect_container(&id, None)).await {
        Ok(Ok(container)) => Ok(Inspected::Container(Box::new(container))),
        Ok(Err(ApiError::DockerResponseServerError {
            status_code: 404, ..
        })) => Ok(Inspected::Gone(id)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Ok(Inspected::Busy(id)),
    }
}

/// Returns who manages no swarm says so with an error.
async fn services(connection: &Connection) -> Vec<super::engine::Service> {
    let services = connection.docker.list_services(None).await;
    answers::services(services.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::EventActor;

    fn event(
        typ: Option<Type>,
        action: &str,
        id: &str,
        attributes: &[(&str, &str)],
    ) -> EventMessage {
        let attributes = attributes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        EventMessage {
            typ,
            action: Some(action.to_owned()),
            actor: Some(EventActor {
                id: Some(id.to_owned()),
                attributes: Some(attributes.collect()),
            }),
            ..EventMessage::default()
        }
    }

    #[test]
    fn an_event_asks_for_what_it_names() {
        let container = Some(Type::CONTAINER);
        let mut changes = Changes::default();
        for action in ["create", "start", "die", "rename"] {
            assert!(changes.add(event(container, action, "a", &[])), "{action}");
        }
        assert!(changes.add(event(
            Some(Type::NETWORK),
            "connect",
            "n",
            &[("container", "b")]
        )));
        assert!(changes.add(event(container, "destroy", "c", &[])));
        assert!(!changes.everything && !changes.networks && !changes.services);
        assert_eq!(changes.containers, ["a", "b"].map(str::to_owned).into());
        assert_eq!(changes.gone, ["c".to_owned()].into());
        assert_eq!(changes.connected, ["n".to_owned()].into());
        assert!(changes.add(event(Some(Type::NETWORK), "create", "n", &[])) && changes.networks);
        assert!(changes.add(event(Some(Type::DAEMON), "reload", "d", &[])) && changes.everything);
    }

    #[test]
    fn an_event_that_changes_no_port_asks_for_nothing() {
        let mut changes = Changes::default();
        let inside = [
            "exec_create: sh",
            "health_status: healthy",
            "top",
            "oom",
            "kill",
            "pause",
        ];
        for action in inside {
            assert!(
                !changes.add(event(Some(Type::CONTAINER), action, "a", &[])),
                "{action}"
            );
        }
        assert!(!changes.add(event(Some(Type::IMAGE), "pull", "i", &[])));
        assert!(!changes.add(event(Some(Type::VOLUME), "create", "v", &[])));
        assert!(changes.is_empty());
        assert!(changes.add(event(None, "", "", &[])) && !changes.is_empty());
    }

    #[test]
    fn a_container_that_comes_back_is_asked_for() {
        let mut changes = Changes::default();
        let container = Some(Type::CONTAINER);
        changes.add(event(container, "create", "a", &[]));
        assert!(changes.are_creations());
        changes.add(event(container, "destroy", "a", &[]));
        assert!(!changes.are_creations());
        assert!(changes.containers.is_empty() && changes.gone.len() == 1);
        changes.add(event(container, "create", "a", &[]));
        assert!(changes.containers.len() == 1 && changes.gone.is_empty());
    }
}
