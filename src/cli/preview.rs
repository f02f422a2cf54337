//! What `plan` and `apply` say before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use crate::analysis::audit::{Turned, turned};
use crate::analysis::path::{Kind, Path};
use crate::diagnostic::Diagnostic;
use crate::kernel::Neighbour;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::Terminal;
use crate::plan::Installed;
use crate::plan::Plan;
use crate::ruleset::Ruleset;

use super::changes::Changes;
use super::session;
use crate::policies::Policies;
use crate::site::Site;

/// How many ports are listed before only their number is told.
const LISTED: usize = 40;

/// Whether it is a container's own port, the port for sorting and as it is shown, and whose it is.
type Label = (bool, Option<u16>, String, String);

/// What a plan would do.
#[derive(Debug)]
pub(super) struct Preview {
    changes: Changes,
    turned: Turned,
    /// Said if it cuts the user's own connection.
    pub(super) cut: Option<Diagnostic>,
}

impl Preview {
    pub(super) fn of(
        (loaded, found): (&Policies, &Site),
        installed: Option<&Installed>,
        neighbours: &[Neighbour],
        wanted: &Ruleset,
        plan: &Plan<'_>,
    ) -> Self {
        let around = found.surroundings(neighbours);
        let former = installed.map(|installed| &installed.ruleset);
        Self {
            changes: Changes::of(installed, wanted, plan),
            turned: turned(&found.host, &around, former, wanted),
            cut: session::cut(loaded, found, installed, wanted),
        }
    }

    /// A line for each change, and the ports that open or close to strangers.
    pub(super) fn text(&self, terminal: Terminal) -> String {
        let mut text = self.changes.text(terminal);
        for (title, paths) in [
            (
                "closed to all whom no line of the policy allows",
                &self.turned.closed,
            ),
            ("opened to any", &self.turned.opened),
        ] {
            let rows = self.rows(paths);
            if !rows.is_empty() {
                let _ = writeln!(text, "published ports that are then {title}:");
                text.push_str(&terminal.table(&rows));
            }
        }
        text
    }

    /// Ports with what publishes them, and by which path if that is not all of it.
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

    /// Adds what it says to a document; nothing changes if there is none.
    pub(super) fn add_to(preview: Option<&Self>, document: &mut Value) {
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
            ("closes", of(|turned| &turned.closed)),
            ("opens", of(|turned| &turned.opened)),
        ];
        if let Some(document) = document.as_object_mut() {
            document.extend(members.map(|(name, value)| (name.to_owned(), value)));
        }
    }
}
