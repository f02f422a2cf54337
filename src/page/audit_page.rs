//! The page of an audit.

use maud::{Markup, html};

use super::audit::{Audit, Port, Standing};
use super::frame::{Table, Tile, badge, conclusion, counts, document, list, tiles, unseen};
use super::picture::Form;
use super::svg;

const COLUMNS: [&str; 6] = [
    "Port",
    "Container",
    "Who gets in",
    "Addresses",
    "Path",
    "Decided by",
];

impl Audit {
    /// Returns the page.
    #[must_use]
    pub fn html(&self) -> String {
        let body = html! {
            header {
                p class="kicker" { "dfw audit" }
                h1 { "Who reaches " bdi { (self.host) } }
                p class="muted" { (self.rules) ", " (self.time) "." (self.engines()) }
            }
            main {
                (conclusion(&self.conclusion))
                (unseen("Limits of this audit", &self.unseen))
                (tiles(&Standing::ALL.map(|standing| self.tile(standing))))
                section aria-labelledby="picture" {
                    h2 id="picture" { "From clients to containers" }
                    div class="wide" { (svg::inline(self, Form::Wide, "-wide")) }
                    div class="narrow" { (svg::inline(self, Form::Narrow, "-narrow")) }
                }
                section aria-labelledby="ports" {
                    h2 id="ports" { "Published ports" }
                    @if self.ports.is_empty() {
                        p { "No port is published." }
                    } @else {
                        (table(
                            "The most open first, then by the number of addresses that get in.",
                            &COLUMNS,
                            &self.ports,
                        ))
                    }
                }
                @if !self.services.is_empty() {
                    section aria-labelledby="services" {
                        h2 id="services" { "Services of the host" }
                        (services(&self.services))
                    }
                }
                @if !self.notes.is_empty() {
                    section aria-labelledby="notes" {
                        h2 id="notes" { "Notes" }
                        (list(&self.notes))
                    }
                }
            }
            (legend())
        };
        document(&format!("dfw audit of {}", self.host), &body)
    }

    /// Returns the picture alone.
    #[must_use]
    pub fn svg(&self) -> String {
        svg::file(self)
    }

    fn engines(&self) -> Markup {
        html! {
            @if self.engines.is_empty() {
                " No container engine was found."
            } @else {
                " " (self.engines.join(", ")) "."
            }
        }
    }

    fn tile(&self, standing: Standing) -> Tile {
        let ports = self.ports.iter().filter(|port| port.standing == standing);
        Tile {
            class: standing.name(),
            sign: standing.sign(),
            title: standing.title(),
            meaning: standing.meaning(),
            number: ports.count(),
        }
    }
}

fn services(ports: &[Port]) -> Markup {
    let mut columns = COLUMNS;
    columns[1] = "Service";
    let caption =
        "Sockets that no container publishes. dfw filters those whose port has a policy entry.";
    table(caption, &columns, ports)
}

fn table(caption: &str, columns: &[&str], ports: &[Port]) -> Markup {
    let table = Table {
        caption,
        columns,
        class: "audit",
        rows: ports.iter().map(row).collect(),
    };
    table.markup()
}

fn row(port: &Port) -> Vec<Markup> {
    let Port { standing, .. } = port;
    vec![
        html! { span class="name" { (port.port) } },
        html! { bdi class="name" { (port.title) } },
        html! {
            (badge(standing.name(), standing.sign(), standing.title()))
            @if *standing != Standing::NotJudged { span class="who" { (port.who) } }
        },
        html! {
            @if *standing == Standing::NotJudged {
                "unknown"
            } @else {
                (counts(&port.counts))
                @if !port.not_judged.is_empty() {
                    span class="muted" { "not judged: " } (counts(&port.not_judged))
                }
            }
        },
        html! {
            @for (kind, families) in &port.paths {
                span class="path" {
                    (kind.title()) " "
                    span class="muted" {
                        @for (n, family) in families.iter().enumerate() {
                            @if n > 0 { ", " }
                            (family.title())
                        }
                    }
                }
            }
        },
        html! { span class="name" { (port.by) } },
    ]
}

fn legend() -> Markup {
    html! {
        footer {
            h2 { "How to read this page" }
            dl class="legend" {
                @for standing in Standing::ALL {
                    div {
                        dt { (badge(standing.name(), standing.sign(), standing.title())) }
                        dd { (explanation(standing)) }
                    }
                }
            }
            p {
                "Addresses are counted exactly, over all of IPv4 and IPv6: the source addresses that dfw's rules \
                 allow on some path. A share such as 1/2³² is of the 2¹²⁸ addresses of IPv6. Whether another \
                 firewall drops them first, or whether a client has a route, is not counted."
            }
        }
    }
}

fn explanation(standing: Standing) -> &'static str {
    match standing {
        Standing::Exposed => "Open to everyone, and no line of a policy says so.",
        Standing::Open => "Open to everyone, because a line of the policy allows it.",
        Standing::NotJudged => "dfw's rules do not decide: the port may be open.",
        Standing::Restricted => {
            "Open to the sources that the policy lists, and closed to all others."
        }
        Standing::Closed => "Closed to every address.",
    }
}
