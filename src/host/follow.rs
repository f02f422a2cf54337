//! Follows a container engine: queries it again after every event.

use std::convert::Infallible;
use std::mem;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error as ApiError;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::future::{Either, select};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{self, Connection, QueryError, Unanswered};
use super::docker::{self, Ask, System};
use super::engine::Engine;
use super::inventory::{Changes, Inventory};
use super::transport::path;

/// The delay before a lost engine is queried again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The same where `wake` reports a new socket or listener.
const WAIT_FOR_SOCKET: Duration = Duration::from_mins(1);
/// How far back events are requested, in seconds: changes between the answers and the first event are
/// reported again.
const OVERLAP: u64 = 2;
/// The delay before containers without an answer are queried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The interval of full queries: an event may be lost.
const RESYNC: Duration = Duration::from_hours(1);
/// The minimum interval of queries: events in between cause one query.
const PAUSE: Duration = Duration::from_millis(100);

/// A change of an engine's state.
#[derive(Debug)]
pub enum Report {
    /// What it publishes now.
    Answer {
        /// The engine.
        engine: Box<Engine>,
        /// Whether containers are missing, because the engine is starting or stopping them.
        partial: bool,
    },
    /// The engine is present and does not answer.
    Silent(Unanswered),
    /// There is none.
    Absent,
    /// Events are pending and the engine will be queried. While it starts a container, it does not
    /// answer.
    Changing,
}

/// Returns the addresses of the engines to follow.
#[must_use]
pub fn addresses(ask: &Ask) -> Vec<String> {
    let mut addresses = ask.named.clone();
    if ask.system != System::No {
        let same =
            Path::new("/var/run").canonicalize().ok() == Path::new("/run").canonicalize().ok();
        let sockets = docker::SOCKETS.iter();
        let sockets = sockets.filter(|path| !(same && path.starts_with("/var/run/")));
        addresses.extend(sockets.map(|path| (*path).to_owned()));
    }
    let mut unique: Vec<String> = Vec::new();
    for address in addresses {
        if !unique.iter().any(|known| path(known) == path(&address)) {
            unique.push(address);
        }
    }
    unique
}

/// Follows an engine for ever, reporting its state at once and after every change. `wake` triggers a query.
pub async fn follow(address: &str, mut tell: impl FnMut(Report), wake: &Notify) -> Infallible {
    let mut wait = FIRST_WAIT;
    let mut inventory = Inventory::default();
    loop {
        let rejection = match docker::connect(address).await {
            Ok(connection) => {
                match stay(&connection, &mut inventory, &mut tell, wake, &mut wait).await {
                    Ok(never) => match never {},
                    Err(rejection) => rejection,
                }
            }
            Err(rejection) => rejection,
        };
        let path = path(address);
        // A new socket or a started engine triggers `wake`.
        let will_wake = match rejection {
            QueryError::NobodyThere => path.is_absolute() && !path.exists(),
            QueryError::Asleep => true,
            _ => false,
        };
        tell(match rejection {
            QueryError::NobodyThere | QueryError::Asleep => Report::Absent,
            rejection => Report::Silent(rejection.at(address)),
        });
        let pause = if will_wake {
            wait = FIRST_WAIT;
            WAIT_FOR_SOCKET
        } else {
            wait
        };
        if timeout(pause, wake.notified()).await.is_err() {
            wait = (wait * 2).min(LONGEST_WAIT);
        } else {
            // A process that just created the socket may not listen yet.
            wait = FIRST_WAIT;
        }
    }
}

/// Follows an engine until the connection ends.
async fn stay(
    connection: &Connection,
    inventory: &mut Inventory,
    tell: &mut impl FnMut(Report),
    wake: &Notify,
    wait: &mut Duration,
) -> Result<Infallible, QueryError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = now.map_or(0, |now| now.as_secs()).saturating_sub(OVERLAP);
    let options = EventsOptionsBuilder::new()
        .since(&since.to_string())
        .build();
    let mut events = pin!(connection.docker.events(Some(options)));
    let mut changes = Changes::everything();
    let mut resync = Instant::now() + RESYNC;
    loop {
        let asked = Instant::now();
        let due = mem::take(&mut changes);
        {
            let mut asking = pin!(timeout(
                connection::PATIENCE,
                inventory.update(connection, &due)
            ));
            loop {
                match select(asking.as_mut(), events.next()).await {
                    Either::Left((done, _)) => break done.map_err(|_| QueryError::Slow)??,
                    Either::Right((event, _)) => {
                        if changes.add(event_of(event)?) {
                            tell(Report::Changing);
                        }
                    }
                }
            }
        }
        let partial = !inventory.busy().is_empty();
        let engine = Box::new(inventory.engine());
        tell(Report::Answer { engine, partial });
        *wait = FIRST_WAIT;
        let again = asked + AGAIN;
        let next = if partial { resync.min(again) } else { resync };
        let mut quiet = false;
        while changes.is_empty() {
            let woken = pin!(wake.notified());
            match timeout_at(next, select(events.next(), woken)).await {
                Ok(Either::Left((event, _))) => {
                    changes.add(event_of(event)?);
                }
                Ok(Either::Right(_)) => changes = Changes::everything(),
                Err(_) => {
                    quiet = true;
                    changes = if Instant::now() >= resync {
                        resync = Instant::now() + RESYNC;
                        Changes::everything()
                    } else {
                        Changes::of(inventory.busy().clone())
                    };
                }
            }
        }
        if !quiet {
            tell(Report::Changing);
        }
        // The first query is immediate; a flood of events causes one query at a time.
        while let Ok(event) = timeout_at(asked + PAUSE, events.next()).await {
            changes.add(event_of(event)?);
        }
        // The same answers cover all events until now.
        while let Some(event) = events.next().now_or_never() {
            changes.add(event_of(event)?);
        }
        // A stopping engine reports its containers' events and accepts no connection. An engine reports
        // the ports of a created container before it starts.
        if !changes.are_creations() {
            docker::is_awake(&connection.address)?;
        }
    }
}

/// Returns an event, or the error of an ended stream.
fn event_of(event: Option<Result<EventMessage, ApiError>>) -> Result<EventMessage, QueryError> {
    event
        .ok_or(QueryError::NobodyThere)?
        .map_err(QueryError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_engine_is_followed_without_a_query() {
        assert!(addresses(&Ask::default()).is_empty());
        let two = Ask {
            named: ["/x", "unix:///x", "/y"].map(str::to_owned).into(),
            ..Ask::default()
        };
        assert_eq!(addresses(&two), ["/x", "/y"]);
        let both = Ask {
            system: System::All,
            ..Ask::at("/run/docker.sock")
        };
        let followed = addresses(&both);
        assert!(followed.contains(&"/run/podman/podman.sock".to_owned()));
        let docker = followed
            .iter()
            .filter(|address| *address == "/run/docker.sock");
        assert_eq!(docker.count(), 1);
    }
}
