//! The addresses that DNS has for a host.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::runtime::{Builder, Runtime};

use crate::untrusted::clean_to;

use super::cache::REASON;

/// For how long an answer is used.
const TTL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));
/// How many hosts are asked for at once.
const AT_ONCE: usize = 16;
/// How long one question may take, with all its attempts.
const PATIENCE: Duration = Duration::from_secs(15);

/// The addresses of a host, and for how long they are used.
pub(super) type Answer = (Vec<IpAddr>, Duration);

/// The resolvers of this host.
#[derive(Clone)]
pub(super) struct Names {
    resolver: TokioResolver,
    runtime: Arc<Runtime>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    /// Reads which resolvers the host has.
    pub(super) fn new() -> Result<Self, String> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let failed = |error: NetError| format!("cannot read /etc/resolv.conf: {error}");
        let mut builder = TokioResolver::builder_tokio().map_err(failed)?;
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = Duration::from_secs(3);
        options.attempts = 2;
        let resolver = {
            let _entered = runtime.enter();
            builder.build().map_err(failed)?
        };
        Ok(Self {
            resolver,
            runtime: Arc::new(runtime),
        })
    }

    /// Returns the addresses of a host: A and AAAA. Half an answer is none.
    pub(super) fn addresses(&self, host: &str) -> Result<Answer, String> {
        self.runtime.block_on(addresses(&self.resolver, host))
    }

    /// Returns the addresses of a host, which may be written as one.
    #[cfg(feature = "etcd")]
    pub(super) fn addresses_of(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => Ok(self.addresses(host)?.0),
        }
    }

    /// Returns the addresses of several hosts, in their order. Those that get no answer delay no other.
    pub(super) fn all_addresses(&self, hosts: &[&str]) -> Vec<Result<Answer, String>> {
        let chunks = hosts.chunks(AT_ONCE).flat_map(|hosts| {
            self.runtime.block_on(async {
                let tasks = hosts.iter().map(|host| {
                    let (resolver, host) = (self.resolver.clone(), (*host).to_owned());
                    tokio::spawn(async move { addresses(&resolver, &host).await })
                });
                let mut answers = Vec::new();
                for task in tasks.collect::<Vec<_>>() {
                    let answer = task.await.map_err(|error| error.to_string());
                    answers.push(answer.flatten());
                }
                answers
            })
        });
        chunks.collect()
    }
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Result<Answer, String> {
    let name = format!("{host}.");
    let both = async {
        let v4 = resolver.lookup(name.as_str(), RecordType::A).await;
        let v6 = resolver.lookup(name.as_str(), RecordType::AAAA).await;
        [v4, v6]
    };
    let both = tokio::time::timeout(PATIENCE, both)
        .await
        .map_err(|_| format!("no answer for {host} in time"))?;
    let (mut addresses, mut ttls) = (Vec::new(), Vec::new());
    for answer in both {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_nx_domain() => {
                return Err(format!("{host} does not exist (NXDOMAIN)"));
            }
            // It has addresses of the other family only.
            Err(error) if is_empty(&error) => continue,
            Err(error) => {
                return Err(clean_to(&format!("no answer for {host}: {error}"), REASON));
            }
        };
        for record in answer.answers() {
            match &record.data {
                RData::A(address) => addresses.push(IpAddr::V4(address.0)),
                RData::AAAA(address) => addresses.push(IpAddr::V6(address.0)),
                // An alias has a TTL, too.
                _ => {}
            }
            ttls.push(record.ttl);
        }
    }
    if addresses.is_empty() {
        return Err(format!("{host} has no address"));
    }
    Ok((addresses, used_for(&ttls)))
}

/// Returns for how long an answer is used whose records have these times to live, in seconds: as long as the shortest
/// of them, within bounds.
fn used_for(ttls: &[u32]) -> Duration {
    let shortest = ttls.iter().min();
    let shortest = shortest.map_or(TTL.1, |ttl| Duration::from_secs((*ttl).into()));
    shortest.clamp(TTL.0, TTL.1)
}

/// Whether the answer says that the name has no such record.
fn is_empty(error: &NetError) -> bool {
    use hickory_resolver::net::DnsError;
    use hickory_resolver::proto::op::ResponseCode;
    matches!(
        error,
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NoError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_used_for_its_shortest_ttl_within_bounds() {
        for (ttls, seconds) in [
            (&[0][..], 30),
            (&[29], 30),
            (&[30], 30),
            (&[31], 31),
            (&[3600, 90, 300], 90),
            (&[3600], 3600),
            (&[3601], 3600),
            (&[u32::MAX], 3600),
            (&[u32::MAX, 1], 30),
            (&[], 3600),
        ] {
            assert_eq!(used_for(ttls), Duration::from_secs(seconds), "{ttls:?}");
        }
    }
}
