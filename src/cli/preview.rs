//! What `plan` and `apply` say before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use crate::analysis::audit::{Turned, turned};
use crate::analysis::path::{Door, Way};
use crate::diagnostic::Diagnostic;
use crate::netlink::snapshot::{Installed, Neighbour};
use crate::output::table::count;
use crate::output::terminal::Terminal;
use crate::plan::Plan;
use crate::ruleset::Ruleset;

use super::audit::{door, port};
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
        for (title, ways) in [
            (
                "closed to all whom no line of the policy allows",
                &self.turned.closed,
            ),
            ("opened to any", &self.turned.opened),
        ] {
            let rows = self.rows(ways);
            if !rows.is_empty() {
                let _ = writeln!(text, "published ports that are then {title}:");
                text.push_str(&terminal.table(&rows));
            }
        }
        text
    }

    /// Ports with what publishes them, and by which door if that is not all of it.
    fn rows(&self, ways: &[Way]) -> Vec<[String; 2]> {
        // Ports of the host first.
        let label = |way: &Way| {
            let direct = way.door == Door::Container;
            (direct, way.port, port(way), way.title.clone())
        };
        let stays: BTreeSet<_> = self.turned.others.iter().map(label).collect();
        let mut ports: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for way in ways {
            ports.entry(label(way)).or_default().insert(door(way));
        }
        let row = |(label, doors): (&Label, &BTreeSet<String>)| {
            let (_, _, port, title) = label;
            let doors: Vec<_> = doors.iter().map(String::as_str).collect();
            let text = if stays.contains(label) {
                format!("{title}, {}", doors.join(", "))
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
        let ways = |ways: &[Way]| -> Value {
            let way = |way: &Way| {
                json!({
                    "port": port(way),
                    "door": super::audit::door_name(way.door),
                    "family": if way.address.is_ipv4() { "ipv4" } else { "ipv6" },
                    "published_for": way.title,
                })
            };
            ways.iter().map(way).collect()
        };
        let (list, drift) =
            preview.map_or((json!([]), json!(false)), |preview| preview.changes.json());
        let turned = preview.map(|preview| &preview.turned);
        let of = |what: fn(&Turned) -> &[Way]| ways(turned.map_or(&[][..], what));
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
