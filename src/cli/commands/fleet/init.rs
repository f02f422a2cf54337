//! `dfw fleet init`: users and roles in etcd.

use std::fmt::Write;

use serde_json::json;

use crate::bundle::word::Word;
use crate::cli::report::failure::Failure;
use crate::output::terminal::Terminal;

use super::InitArgs;

/// The user of who pushes.
const PUSHER: &str = "dfw-push";

pub(super) fn run(terminal: Terminal, args: &InitArgs) -> Result<(), Failure> {
    let site = args.store.site();
    let commands = commands(site, &args.hosts);
    let subjects: Vec<String> = args
        .hosts
        .iter()
        .map(Word::to_string)
        .chain([PUSHER.to_owned(), "root".to_owned()])
        .collect();
    terminal.answer(
        || {
            json!({
                "schema": "dfw/fleet-init/v1",
                "site": site,
                "commands": commands,
                "subjects": subjects,
            })
        },
        || {
            let mut text = "# Users and roles: run these as an administrator of etcd.\n".to_owned();
            for command in &commands {
                let _ = writeln!(text, "{command}");
            }
            text.push_str("\n# Certificates, of an authority for nothing but this store: for clients, with these names (CN).\n");
            for subject in &subjects {
                let _ = writeln!(text, "#   CN={subject}");
            }
            text
        },
    )?;
    Ok(())
}

fn commands(site: &Word, hosts: &[Word]) -> Vec<String> {
    let prefix = format!("/dfw/v1/{site}/");
    let mut commands = vec![
        "etcdctl user add root --no-password".to_owned(),
        "etcdctl user grant-role root root".to_owned(),
        format!("etcdctl role add dfw-{site}-read"),
        format!("etcdctl role grant-permission dfw-{site}-read --prefix=true read {prefix}"),
        format!("etcdctl role add dfw-{site}-push"),
        format!("etcdctl role grant-permission dfw-{site}-push --prefix=true readwrite {prefix}"),
        format!("etcdctl user add {PUSHER} --no-password"),
        format!("etcdctl user grant-role {PUSHER} dfw-{site}-push"),
    ];
    for host in hosts {
        let role = format!("dfw-{site}-{host}");
        commands.extend([
            format!("etcdctl role add {role}"),
            format!("etcdctl role grant-permission {role} readwrite {prefix}hosts/{host}/status"),
            format!("etcdctl user add {host} --no-password"),
            format!("etcdctl user grant-role {host} dfw-{site}-read"),
            format!("etcdctl user grant-role {host} {role}"),
        ]);
    }
    commands.push("etcdctl auth enable".to_owned());
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_writes_its_own_status_only() {
        let hosts = ["web-1", "web-2"].map(|host| host.parse().unwrap());
        let commands = commands(&"prod".parse().unwrap(), &hosts);
        let writes: Vec<_> = commands
            .iter()
            .filter(|command| command.contains("readwrite"))
            .collect();
        assert_eq!(writes.len(), 3);
        assert!(writes[1].ends_with("dfw-prod-web-1 readwrite /dfw/v1/prod/hosts/web-1/status"));
        assert_eq!(commands.last().unwrap(), "etcdctl auth enable");
    }
}
