//! Whether the kernel tracks a connection of this host, of both families.

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, ensure};
use dfw::kernel;

use crate::Named;
use crate::namespace::Sandbox;

pub(crate) const TRIALS: &[Named] = &[(
    "connections_that_are_not_tracked_are_known",
    connections_that_are_not_tracked_are_known,
)];

fn connections_that_are_not_tracked_are_known() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.namespace().ip("link set lo up")?;
    let listen = |address: &str| sandbox.namespace().run(|| Ok(TcpListener::bind(address)?));
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (usual, excluded) = (listen(address)?, listen(address)?);
        let connected = |listener: &TcpListener| -> Result<(SocketAddr, SocketAddr)> {
            let to = listener.local_addr()?;
            let connection = sandbox.namespace().run(|| Ok(TcpStream::connect(to)?))?;
            // It is known for a while after it was closed.
            Ok((connection.local_addr()?, to))
        };
        for command in [
            "add table inet stateless".to_owned(),
            "add chain inet stateless out { type filter hook output priority raw; }".to_owned(),
            // Without a rule that asks for it nothing is tracked at all.
            "add rule inet stateless out ct state new counter".to_owned(),
        ] {
            sandbox.nft(&command)?;
        }
        // Both directions: an acknowledgement of the server alone would be taken for a connection that began before.
        for end in ["dport", "sport"] {
            let port = excluded.local_addr()?.port();
            sandbox.nft(&format!(
                "add rule inet stateless out tcp {end} {port} notrack"
            ))?;
        }
        for (listener, is_tracked) in [(&usual, true), (&excluded, false)] {
            let (from, to) = connected(listener)?;
            let found = sandbox
                .namespace()
                .run(|| Ok(kernel::is_tracked(from, to)?))?;
            ensure!(found == is_tracked, "{from} to {to}: {found}");
        }
    }
    Ok(())
}
