//! The kernel's own share: bytes that were encoded beforehand, sent by a program that does nothing
//! else.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dfw::compile::compile;
use dfw::host::HostView;
use dfw::kernel::Batch;
use dfw::plan;
use dfw::ruleset::{Origin, Ruleset};
use dfw::text::SourceMap;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink};

/// `NLMSG_ERROR` of `linux/netlink.h`, which is an acknowledgement if its error is 0.
const NLMSG_ERROR: u16 = 2;

/// The ruleset of a policy on a host without links.
pub(crate) fn compiled(policy: &Path) -> Result<Ruleset> {
    let mut sources = SourceMap::new();
    let files = dfw::store::read_policies(&mut sources, policy)?;
    let Ok((policy, _)) = dfw::policy::read(&mut sources, &files) else {
        bail!("{} has errors", policy.display());
    };
    Ok(compile(&policy, &HostView::default(), &|span| {
        let file = Path::new(sources.name(span.file)).file_name();
        Origin {
            file: file.unwrap_or_default().to_string_lossy().into_owned(),
            line: sources.line_column(span).0,
        }
    }))
}

/// Writes the transaction that makes the whole table of a policy at once.
pub(crate) fn encode(policy: &Path, to: &Path) -> Result<()> {
    let ruleset = compiled(policy)?;
    let plan = plan::replace(&ruleset, 1);
    let mut batch = Batch::new(None);
    for operation in &plan.main {
        batch.operation(operation, "encoded beforehand");
    }
    std::fs::write(to, batch.finish()?.bytes)?;
    Ok(())
}

/// The helper's part: sends a file to nf_tables and waits for the answer.
pub(crate) fn send(file: &Path) -> Result<()> {
    let bytes = std::fs::read(file)?;
    let socket = rustix::net::socket(
        AddressFamily::NETLINK,
        SocketType::RAW,
        Some(netlink::NETFILTER),
    )?;
    set_socket_send_buffer_size_force(&socket, bytes.len())?;
    let kernel = SocketAddrNetlink::new(0, 0);
    let sent = rustix::net::sendto(&socket, &bytes, SendFlags::empty(), &kernel)?;
    ensure!(sent == bytes.len(), "only {sent} bytes were sent");
    let mut answer = [0; 4096];
    let (_, length) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let kind = answer.get(4..6).context("a short answer")?;
    ensure!(
        kind == NLMSG_ERROR.to_ne_bytes() && length >= 20,
        "an answer of another kind"
    );
    let errno = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    ensure!(errno == 0, "rejected with {errno}");
    Ok(())
}
