//! The preview of `plan` and `apply`: changes, and published ports that close or open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use crate::analysis::audit::{Turned, turned};
use crate::analysis::path::{Kind, Path};
use crate::compile;
use crate::kernel::Proposal;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::Terminal;
use crate::ruleset::Ruleset;
use crate::text::diagnostic::Diagnostic;

use super::changes::Changes;
use super::changes::access::AccessChanges;
use super::fetched;
use crate::cli::session::ssh;
use crate::site::HostFacts;
use crate::store::Policies;

/// The number of ports listed before the rest is summed up.
const LISTED: usize = 40;

/// Whether it is a container's own port, the port for sorting and as text, and its container.
type Label = (bool, Option<u16>, String, String);

/// The effects of a plan.
#[derive(Debug)]
pub(in crate::cli) struct Preview {
    changes: Changes,
    access: AccessChanges,
    turned: Turned,
    /// The sources that depend on the host: name, kind and current addresses.
    sources: Vec<(String, String, Vec<String>)>,
    /// The warning if it cuts the user's own connection.
    pub(in crate::cli) cut: Option<Diagnostic>,
}

impl Preview {
    pub(in crate::cli) fn of(
        (loaded, found): (&Policies, &HostFacts),
        wanted: &Ruleset,
        proposal: &Proposal<'_>,
    ) -> Self {
        let around = found.surroundings(proposal.foreign_chains());
        let installed = proposal.installed();
        let former = installed.map(|installed| &installed.ruleset);
        Self {
            changes: Changes::of(installed, wanted, proposal.plan()),
            access: AccessChanges::of(wanted, proposal),
            turned: turned(&found.host, &around, former, wanted),
            sources: sources(loaded, found),
            cut: ssh::cut(loaded, found, installed, wanted),
        }
    }

    /// Returns whether somebody has access afterwards, or may have, who had none.
    pub(in crate::cli) fn opens(&self) -> bool {
        self.access.opens()
    }

    /// Returns the access that is gained and lost, a line for each change, and the ports that will be closed or
    /// opened.
    pub(in crate::cli) fn text(&self, terminal: Terminal) -> String {
        let mut text = self.changes.drift_text(terminal);
        if !self.changes.is_empty() {
            let access = self.access.text(terminal);
            text.push_str(&access);
            if !access.is_empty() {
                text.push_str("ports, sources and settings that change:\n");
            }
            text.push_str(&self.changes.text(terminal));
        }
        for (title, paths) in [
            (
                "closed to sources the policy does not list",
                &self.turned.closed,
            ),
            ("open to everyone", &self.turned.opened),
        ] {
            let rows = self.rows(paths);
            if !rows.is_empty() {
                let _ = writeln!(text, "published ports that will be {title}:");
                text.push_str(&terminal.table(&rows));
            }
        }
        if !self.sources.is_empty() {
            let row = |(name, what, entries): &(String, String, Vec<String>)| {
                let entries = match entries.len() {
                    0 => "nobody".to_owned(),
                    _ => entries.join(", "),
                };
                [format!("  {name}"), format!("{entries} ({what})")]
            };
            let rows: Vec<_> = self.sources.iter().map(row).collect();
            text.push_str(
                "sources that depend on this host, as of now (`dfw guard` follows changes):\n",
            );
            text.push_str(&terminal.table(&rows));
        }
        text
    }

    /// Returns ports with their containers, and with the path if only some paths change.
    fn rows(&self, paths: &[Path]) -> Vec<[String; 2]> {
        // Ports of the host first.
        let label = |path: &Path| {
            let direct = path.kind == Kind::Container;
            (direct, path.port, path.port_text(), path.title.clone())
        };
        let stays: BTreeSet<_> = self.turned.others.iter().map(label).collect();
        let mut ports: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for path in paths {
            ports
                .entry(label(path))
                .or_default()
                .insert(path.kind_text());
        }
        let row = |(label, kinds): (&Label, &BTreeSet<String>)| {
            let (_, _, port, title) = label;
            let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
            let text = if stays.contains(label) {
                format!("{title}, {}", kinds.join(", "))
            } else {
                title.clone()
            };
            [format!("  {port}"), text]
        };
        let mut rows: Vec<_> = ports.iter().take(LISTED).map(row).collect();
        if let more @ 1.. = ports.len().saturating_sub(LISTED) {
            let more = count(more, "more port", "more ports");
            rows.push(["  …".to_owned(), format!("and {more}")]);
        }
        rows
    }

    /// Adds the preview to a JSON document; without a preview, there are no changes.
    pub(in crate::cli) fn add_to(
        preview: Option<&Self>,
        (loaded, found): (&Policies, &HostFacts),
        document: &mut Value,
    ) {
        let paths = |paths: &[Path]| -> Value {
            let path = |path: &Path| {
                json!({
                    "port": path.port_text(),
                    "path": path.kind.name(),
                    "family": json::family(path.family()),
                    "published_for": path.title,
                })
            };
            paths.iter().map(path).collect()
        };
        let (list, drift) =
            preview.map_or((json!([]), json!(false)), |preview| preview.changes.json());
        let turned = preview.map(|preview| &preview.turned);
        let of = |what: fn(&Turned) -> &[Path]| paths(turned.map_or(&[][..], what));
        let members = [
            ("changes", list),
            ("drift", drift),
            (
                "access",
                preview.map_or(Value::Null, |preview| preview.access.json()),
            ),
            ("closes", of(|turned| &turned.closed)),
            ("opens", of(|turned| &turned.opened)),
        ];
        let source =
            |(name, what, entries)| json!({"name": name, "what": what, "addresses": entries});
        let sources: Value = sources(loaded, found).into_iter().map(source).collect();
        if let Some(document) = document.as_object_mut() {
            document.extend(members.map(|(name, value)| (name.to_owned(), value)));
            document.insert("host_sources".to_owned(), sources);
            document.insert("fetched_sources".to_owned(), fetched::json(loaded));
        }
    }
}

/// Returns the sources that depend on the host: name, kind and current addresses.
fn sources(loaded: &Policies, found: &HostFacts) -> Vec<(String, String, Vec<String>)> {
    let sources = loaded.policy.on_host();
    let held = sources.map(|(name, source, on_host)| {
        let held = compile::held(source, &found.host);
        let entries = held.addresses.iter().map(|entry| entry.to_string());
        (name.to_string(), on_host.describe(), entries.collect())
    });
    held.collect()
}
