//! Staying with a container engine: asking it again whenever it says that something has changed.

use std::convert::Infallible;
use std::future::pending;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error as ApiError;
use bollard::models::{EventMessage, EventMessageTypeEnum as Kind};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::future::{Either, select};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::docker::{self, Ask, Connection, Refusal, Told, Unanswered};
use super::engine::Engine;

/// How long it takes until an engine that was lost is asked again: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The same where `wake` tells of whoever makes the socket, or listens behind it.
const WAIT_FOR_SOCKET: Duration = Duration::from_mins(1);
/// From when on events are asked for, in seconds before the question: whatever happens between the
/// answers and the first event is told again.
const OVERLAP: u64 = 2;
/// When it is asked again for containers of which it said nothing in time.
const AGAIN: Duration = Duration::from_secs(5);

/// What has become of an engine.
#[derive(Debug)]
pub enum Report {
    /// What it publishes now.
    Answer {
        /// The engine.
        engine: Box<Engine>,
        /// Whether it said nothing of some containers, because it is starting or stopping them.
        partial: bool,
    },
    /// It is there and does not answer.
    Silent(Unanswered),
    /// There is none.
    Absent,
    /// Something happens there, and it will be asked what. While it starts a container, its answer
    /// takes as long as that.
    Stir,
}

/// The addresses of the engines that are followed.
#[must_use]
pub fn addresses(whom: &Ask) -> Vec<String> {
    match whom {
        Ask::Nobody => Vec::new(),
        Ask::At(address) => vec![address.clone()],
        Ask::System | Ask::Running => {
            let same =
                Path::new("/var/run").canonicalize().ok() == Path::new("/run").canonicalize().ok();
            let sockets = docker::SOCKETS.iter();
            let sockets = sockets.filter(|path| !(same && path.starts_with("/var/run/")));
            sockets.map(|path| (*path).to_owned()).collect()
        }
    }
}

/// Follows an engine for ever, reporting at once and then after every change. `wake` has it asked
/// again at once.
pub async fn follow(address: &str, mut tell: impl FnMut(Report), wake: &Notify) -> Infallible {
    let mut wait = FIRST_WAIT;
    let mut told = Told::new();
    loop {
        let refusal = match docker::connect(address).await {
            Ok(connection) => {
                match stay(address, &connection, &mut told, &mut tell, wake, &mut wait).await {
                    Ok(never) => match never {},
                    Err(refusal) => refusal,
                }
            }
            Err(refusal) => refusal,
        };
        let path = docker::path(address);
        // Whoever makes the socket, or starts the engine behind it, wakes this.
        let will_wake = match refusal {
            Refusal::NobodyThere => path.starts_with('/') && !Path::new(path).exists(),
            Refusal::Asleep => true,
            _ => false,
        };
        tell(match refusal {
            Refusal::NobodyThere | Refusal::Asleep => Report::Absent,
            refusal => Report::Silent(Unanswered {
                address: address.to_owned(),
                reason: refusal.to_string(),
            }),
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
            // One who has just made a socket may not listen yet.
            wait = FIRST_WAIT;
        }
    }
}

/// Stays with an engine until it goes.
async fn stay(
    address: &str,
    connection: &Connection,
    told: &mut Told,
    tell: &mut impl FnMut(Report),
    wake: &Notify,
    wait: &mut Duration,
) -> Result<Infallible, Refusal> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = now.map_or(0, |now| now.as_secs()).saturating_sub(OVERLAP);
    let options = EventsOptionsBuilder::new()
        .since(&since.to_string())
        .build();
    let mut events = pin!(connection.docker.events(Some(options)));
    loop {
        let mut asking = pin!(timeout(
            docker::PATIENCE,
            docker::answers_of(connection, told)
        ));
        let mut outdated = false;
        let answers = loop {
            match select(asking.as_mut(), events.next()).await {
                Either::Left((answers, _)) => break answers,
                Either::Right((event, _)) => {
                    if matters(event)? {
                        outdated = true;
                        tell(Report::Stir);
                    }
                }
            }
        };
        let answers = match answers {
            Ok(Ok(answers)) => answers,
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => return Err(Refusal::Slow),
        };
        let partial = answers.partial;
        let engine = Box::new(docker::engine(address, answers));
        tell(Report::Answer { engine, partial });
        *wait = FIRST_WAIT;
        let mut again = pin!(async {
            if partial {
                sleep(AGAIN).await;
            } else {
                pending::<()>().await;
            }
        });
        let (mut created, mut quiet) = (false, false);
        while !outdated {
            let woken = pin!(wake.notified());
            outdated = match select(events.next(), select(woken, again.as_mut())).await {
                Either::Left((event, _)) => {
                    created = is_creation(event.as_ref());
                    matters(event)?
                }
                Either::Right((which, _)) => {
                    quiet = matches!(which, Either::Right(_));
                    true
                }
            };
        }
        // One that stops says so of its containers, and connects no more. One that creates a container
        // tells its ports until it starts it, which is soon.
        if !created {
            docker::is_awake(address)?;
        }
        // Whatever else has happened by now, the same answers tell.
        while let Some(Some(Ok(_))) = events.next().now_or_never() {}
        if !quiet {
            tell(Report::Stir);
        }
    }
}

fn is_creation(event: Option<&Result<EventMessage, ApiError>>) -> bool {
    let action = event.and_then(|event| event.as_ref().ok()?.action.as_deref());
    action == Some("create")
}

/// Whether what an engine publishes may have changed; or what the end of all events means.
fn matters(event: Option<Result<EventMessage, ApiError>>) -> Result<bool, Refusal> {
    match event {
        Some(Ok(event)) => Ok(concerns(event.typ, event.action.as_deref())),
        Some(Err(error)) => Err(error.into()),
        None => Err(Refusal::NobodyThere),
    }
}

/// Whether what an engine publishes may have changed: not by what happens inside of containers, nor by
/// what they are made of. Podman 3 could not be asked for some kinds of events only.
fn concerns(kind: Option<Kind>, action: Option<&str>) -> bool {
    if matches!(kind, Some(Kind::IMAGE | Kind::VOLUME | Kind::BUILDER)) {
        return false;
    }
    action.is_none_or(|action| {
        let inside = [
            "exec_",
            "health_status",
            "top",
            "attach",
            "detach",
            "resize",
            "archive-",
            "copy",
            "export",
            "commit",
        ];
        !inside.iter().any(|prefix| action.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_no_port_is_left_out() {
        for action in [
            "create", "start", "die", "destroy", "connect", "update", "reload",
        ] {
            assert!(concerns(Some(Kind::CONTAINER), Some(action)), "{action}");
        }
        for action in ["exec_create: sh", "health_status: healthy", "top"] {
            assert!(!concerns(Some(Kind::CONTAINER), Some(action)), "{action}");
        }
        assert!(!concerns(Some(Kind::IMAGE), Some("pull")));
        assert!(!concerns(Some(Kind::VOLUME), Some("create")));
        assert!(concerns(Some(Kind::NETWORK), Some("create")));
        assert!(concerns(None, None));
    }

    #[test]
    fn nobody_is_followed_if_nobody_is_asked() {
        assert!(addresses(&Ask::Nobody).is_empty());
        assert_eq!(addresses(&Ask::At("/x".to_owned())), ["/x"]);
        assert!(addresses(&Ask::System).contains(&"/run/docker.sock".to_owned()));
    }
}
