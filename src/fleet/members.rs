//! The members of the cluster: which are alive, how full they are, and what is wrong.

use etcd_client::{AlarmAction, AlarmResponse, AlarmType, CompactionOptions};

use crate::etcd::{self, Connection};
use crate::untrusted::clean_to;

use super::Error;
use super::site::Site;

/// A member, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: String,
    /// What it says, or why it says nothing.
    pub state: Result<State, String>,
}

/// What a member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The version of etcd.
    pub version: String,
    /// The size of its database, in bytes.
    pub size: u64,
    /// Whether it is the leader.
    pub is_leader: bool,
    /// Whether there is a leader.
    pub has_leader: bool,
}

/// Asks each member how it is.
#[must_use]
pub fn ask(site: &Site) -> Vec<Member> {
    let ask = |endpoint: &etcd::Endpoint| {
        let state = site.call_member(endpoint, async |connection| {
            let member = connection.member().to_owned();
            let status = Connection::call(&member, connection.client().status()).await?;
            let id = status
                .header()
                .map_or(0, etcd_client::ResponseHeader::member_id);
            Ok(State {
                version: clean_to(status.version(), 20),
                size: u64::try_from(status.db_size()).unwrap_or_default(),
                is_leader: status.leader() == id && id != 0,
                has_leader: status.leader() != 0,
            })
        });
        Member {
            address: endpoint.address.to_string(),
            state: state.map_err(|error| error.to_string()),
        }
    };
    site.endpoints().iter().map(ask).collect()
}

/// Returns whether the quota of the database was reached: then nothing can be written until it is repaired.
///
/// # Errors
/// If the store does not answer.
pub fn is_full(site: &mut Site) -> Result<bool, Error> {
    site.call(async |connection, _| {
        let alarms = alarms(connection).await?;
        Ok(alarms
            .alarms()
            .iter()
            .any(|alarm| alarm.alarm() == AlarmType::Nospace))
    })
}

/// Returns the alarms of all members.
async fn alarms(connection: &mut Connection) -> Result<AlarmResponse, etcd::Error> {
    let member = connection.member().to_owned();
    let client = connection.client();
    let call = client.alarm(AlarmAction::Get, AlarmType::None, None);
    Connection::call(&member, call).await
}

/// Forgets old revisions, gives the space back on each member, and ends the alarm of a full database. Defragmenting
/// takes the certificate of an administrator of etcd.
///
/// # Errors
/// The first call that fails.
pub fn repair(site: &mut Site, mut done: impl FnMut(&str)) -> Result<(), Error> {
    let revision = site.read()?.revision;
    let compacted = site.call(async |connection, _| {
        let member = connection.member().to_owned();
        let options = CompactionOptions::new().with_physical();
        let call = connection.client().compact(revision, Some(options));
        match Connection::call(&member, call).await {
            // Nothing was written since the last time.
            Err(etcd::Error::Other(_, text)) if text.contains("has been compacted") => Ok(()),
            answer => answer.map(|_| ()),
        }
    });
    compacted?;
    done("compacted");
    for endpoint in site.endpoints().to_vec() {
        site.call_member(&endpoint, async |connection| {
            let member = connection.member().to_owned();
            Connection::call(&member, connection.client().defragment()).await
        })?;
        done(&format!("defragmented {}", endpoint.address));
    }
    site.call(async |connection, _| {
        let member = connection.member().to_owned();
        let alarms = alarms(connection).await?;
        for alarm in alarms.alarms() {
            let mut options = etcd_client::AlarmOptions::new();
            options.with_member(alarm.member_id());
            let call =
                connection
                    .client()
                    .alarm(AlarmAction::Deactivate, alarm.alarm(), Some(options));
            Connection::call(&member, call).await?;
        }
        Ok(())
    })?;
    done("disarmed");
    Ok(())
}
