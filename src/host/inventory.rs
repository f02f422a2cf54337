//! The state of an engine, kept up to date: a full query first, then only what events concern.

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
use super::connection::{Connection, QueryError};
use super::engine::{Container, Engine, Kind};
use super::summary;

/// The time limit of an answer about one container: while the engine starts or stops it, it does not answer.
const PATIENCE_CONTAINER: Duration = Duration::from_secs(2);
/// The time limit of the answers about all containers, which leaves time for other requests.
const PATIENCE_CONTAINERS: Duration = Duration::from_secs(8);
/// The most concurrent requests about containers.
const AT_ONCE: usize = 8;

/// What is known of an engine.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// The engine without containers; `None` before the first answer.
    engine: Option<Engine>,
    containers: BTreeMap<String, Container>,
    /// The ports that each container binds when it starts, if known.
    bindings: HashMap<String, PortMap>,
    /// The containers without an answer, because the engine is starting or stopping them.
    busy: BTreeSet<String>,
}

/// The parts of an engine's state to query.
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

    /// Returns whether all events are creations of containers.
    pub(super) fn are_creations(&self) -> bool {
        self.created
    }

    /// Adds the parts that an event may have changed; returns whether there are any. Events inside
    /// containers, and of images and volumes, do not concern published ports.
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

/// Returns whether an event of a container does not concern its published ports. A container that stops,
/// restarts or is killed also sends `die`.
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

/// The answer about one container.
enum Inspected {
    Container(Box<ContainerInspectResponse>),
    /// Nothing in time.
    Busy(String),
    /// It has gone since.
    Gone(String),
}

impl Inventory {
    /// Returns the engine with all known parts.
    ///
    /// An engine without a version was not queried.
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

    /// Returns the containers without an answer, of which only the summary is known.
    pub(super) fn busy(&self) -> &BTreeSet<String> {
        &self.busy
    }

    /// Asks for what has changed.
    ///
    /// # Errors
    /// If a request fails; the known state is then a mixture of old and new.
    pub(super) async fn update(
        &mut self,
        connection: &Connection,
        changes: &Changes,
    ) -> Result<(), QueryError> {
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

    /// Queries everything; for Docker's running containers the list is sufficient.
    async fn everything(
        &mut self,
        connection: &Connection,
        is_podman: bool,
    ) -> Result<(), QueryError> {
        // Containers first, the newest of them first: a created container reports its ports only until
        // it starts.
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
        // Podman's answer has no needed fields, and takes long.
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

    /// Queries containers one by one; returns those without an answer.
    async fn inspect(
        &mut self,
        connection: &Connection,
        ids: Vec<String>,
    ) -> Result<BTreeSet<String>, QueryError> {
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

    /// Stores the summary of a container. It may publish its former ports again as soon as it starts.
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
) -> Result<Inspected, QueryError> {
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

/// Returns the services; an engine that is not a Swarm manager answers with an error.
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
    fn a_container_that_reappears_is_queried() {
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
