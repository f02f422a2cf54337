//! Policies as text.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use dfw::compile::compile;
use dfw::host::HostView;
use dfw::net::{Entry, HostPorts, Protocol};
use dfw::policy::{self, Policy};
use dfw::ruleset::{Elements, L4Protocol, Origin, Ruleset, Until};
use dfw::text::SourceMap;

use super::{Grant, Meant, Port, Range, Who};

/// The address with a number.
pub(crate) fn address(v4: bool, number: u128) -> IpAddr {
    if v4 {
        IpAddr::V4(u32::try_from(number).unwrap().into())
    } else {
        IpAddr::V6(number.into())
    }
}

impl Range {
    fn text(self) -> String {
        let (first, last) = (address(self.v4, self.first), address(self.v4, self.last));
        let size = self.last - self.first;
        if size == 0 {
            format!("\"{first}\"")
        } else if size & (size + 1) == 0 && self.first & size == 0 {
            let bits = if self.v4 { 32 } else { 128 };
            format!("\"{first}/{}\"", bits - size.count_ones())
        } else {
            format!("\"{first}-{last}\"")
        }
    }
}

impl Who {
    fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        texts.extend(self.any.then(|| "any".to_owned()));
        texts.extend(self.containers.then(|| "containers".to_owned()));
        texts.extend(self.named.iter().map(|name| format!("list{name}")));
        texts.extend(self.inline.iter().map(|range| range.text()));
        texts
    }
}

impl Port {
    fn text(&self, sources: &[Vec<Range>], shuffle: &dyn Fn(&mut Vec<String>)) -> String {
        let address = match self.address {
            None => String::new(),
            Some(IpAddr::V4(v4)) => format!("{v4}:"),
            Some(IpAddr::V6(v6)) => format!("[{v6}]:"),
        };
        let list = |mut texts: Vec<String>| {
            shuffle(&mut texts);
            format!("[{}]", texts.join(", "))
        };
        let mut lines = vec![
            format!("allow: {}", list(self.allow.texts())),
            format!("log: {}", self.log),
            format!("deny-with: {}", if self.reject { "reject" } else { "drop" }),
        ];
        // An `except` of nothing is an error.
        let mut except = self.except.clone();
        except
            .named
            .retain(|name| sources.get(*name).is_none_or(|source| !source.is_empty()));
        let mut except = except.texts();
        if !except.is_empty() {
            // Where everybody could be meant, one address is written as a network.
            for text in &mut except {
                match text.trim_matches('"') {
                    "0.0.0.0" => "0.0.0.0/32".clone_into(text),
                    "::" => "\"::/128\"".clone_into(text),
                    _ => {}
                }
            }
            lines.push(format!("except: {}", list(except)));
        }
        if !self.interfaces.is_empty() {
            let names = self.interfaces.iter().map(|name| (*name).to_owned());
            lines.push(format!("interface: {}", list(names.collect())));
        }
        let (rate, connections) = self.limits;
        lines.extend(rate.map(|count| format!("rate: {count}/hour")));
        lines.extend(connections.map(|count| format!("connections: {count}")));
        shuffle(&mut lines);
        format!(
            "\"{address}{}-{}/{}\": {{{}}}",
            self.first,
            self.last,
            self.protocol.name(),
            lines.join(", ")
        )
    }
}

impl Meant {
    /// The policy as one text or, with `shuffled`, as several files in another order.
    pub(crate) fn files(&self, shuffled: bool) -> Vec<(String, String)> {
        let shuffle = |lines: &mut Vec<String>| {
            if shuffled {
                lines.reverse();
                let middle = lines.len() / 3;
                lines.rotate_left(middle);
            }
        };
        let names = |names: &[&str]| {
            let mut names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
            shuffle(&mut names);
            names.join(", ")
        };
        let mut sections = vec![
            format!("default: {}\n", if self.deny { "deny" } else { "allow" }),
            format!(
                "settings:\n  early-drop: {}\n  connection-mark: {}\n  reverse-path-filter: {}\n  container-interfaces: [{}]\n  \
                 foreign-interfaces: [{}]\n",
                self.early,
                self.mark,
                self.reverse_path,
                names(&self.container_interfaces),
                names(&self.foreign_interfaces)
            ),
        ];
        for (index, source) in self.sources.iter().enumerate() {
            let mut ranges: Vec<_> = source.iter().map(|range| range.text()).collect();
            shuffle(&mut ranges);
            sections.push(format!(
                "sources: {{list{index}: [{}]}}\n",
                ranges.join(", ")
            ));
        }
        let all = ["1-65535", "1-65535/udp", "1-65535/sctp"];
        sections.push(format!(
            "grants: {{max-time: 1w, ports: [{}]}}\n",
            all.join(", ")
        ));
        let ports = self.ports.iter();
        sections.extend(
            ports.map(|port| format!("ports:\n  {}\n", port.text(&self.sources, &shuffle))),
        );
        shuffle(&mut sections);
        let files = sections.into_iter().enumerate();
        files
            .map(|(index, text)| (format!("p/{index:03}.yaml"), text))
            .collect()
    }

    /// The written policy, as it is read.
    pub(crate) fn policy(&self, shuffled: bool) -> Policy {
        let files = self.files(shuffled);
        let mut sources = SourceMap::in_memory(files.clone());
        let ids = dfw::store::read_policies(&mut sources, Path::new("p")).unwrap();
        match policy::read(&mut sources, &ids) {
            Ok((policy, _)) => policy,
            Err(errors) => unreachable!("{errors:?} of {files:?}"),
        }
    }

    /// The rules that the written policy becomes.
    pub(crate) fn compile(&self, host: &HostView, shuffled: bool) -> Ruleset {
        let policy = self.policy(shuffled);
        let host = HostView {
            grants: self.grants.iter().map(Grant::given).collect(),
            ..host.clone()
        };
        // Where things are written differs with the order, and is no part of the meaning.
        let mut ruleset = compile(&policy, &host, &|_| Origin {
            file: "a.yaml".to_owned(),
            line: 1,
        });
        for set in ruleset.sets.values_mut() {
            match &mut set.elements {
                Elements::Ipv4Until(rows) => left(rows, self.moment),
                Elements::Ipv6Until(rows) => left(rows, self.moment),
                _ => {}
            }
        }
        ruleset
    }
}

impl Grant {
    fn given(&self) -> dfw::host::grant::Grant {
        let protocols = Protocol::ALL.into_iter();
        let mut protocols = protocols.filter(|p| L4Protocol::from(*p) == self.protocol);
        let number = |number: u128| u32::try_from(number).unwrap();
        dfw::host::grant::Grant {
            to: HostPorts {
                address: self.address,
                protocol: protocols.next().unwrap(),
                first: self.first,
                last: self.last,
            },
            from: match self.from {
                Range {
                    v4: true,
                    first,
                    last,
                } => Entry::V4(number(first), number(last)),
                Range {
                    v4: false,
                    first,
                    last,
                } => Entry::V6(first, last),
            },
            end: Duration::from_secs(self.end),
        }
    }
}

/// Does what the kernel does until a moment; the others stay for a while.
fn left<R>(rows: &mut Vec<Until<R>>, moment: u64) {
    const LATER: Duration = Duration::from_hours(24 * 365);
    rows.retain(|row| row.end > Duration::from_secs(moment));
    for row in rows {
        row.end = LATER;
    }
}
