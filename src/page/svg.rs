//! A picture as SVG, within a page or as a file of its own.

use maud::{Markup, PreEscaped, html};

use crate::output::table::count;

use super::audit::{Audit, Standing};
use super::picture::{Form, Outline, Picture, Shape, picture};

/// The colours and letters of pictures. Without variables, which few programs besides browsers know.
pub(super) const STYLE: &str = include_str!("picture.css");

/// Returns the picture of an audit as a file of its own.
pub(super) fn file(audit: &Audit) -> String {
    let markup = element(audit, Form::Wide, "");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n",
        markup.into_string()
    )
}

/// Returns the picture within a page, whose style has [`STYLE`]. `id` tells it from others there.
pub(super) fn inline(audit: &Audit, form: Form, id: &str) -> Markup {
    element(audit, form, id)
}

fn element(audit: &Audit, form: Form, id: &str) -> Markup {
    let picture = picture(audit, form);
    let Picture { width, height, .. } = picture;
    let (margin, is_file) = if id.is_empty() {
        (24, true)
    } else {
        (1, false)
    };
    let (full_width, full_height) = (width + 2 * margin, height + 2 * margin);
    let view = format!("{} {} {full_width} {full_height}", -margin, -margin);
    let (title, description) = (format!("title{id}"), format!("description{id}"));
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" class="picture"
            viewBox=(view) width=(full_width) height=(full_height)
            aria-labelledby=(format!("{title} {description}")) {
            title id=(title) { "Who reaches the published ports of " (audit.host) }
            desc id=(description) { (describe(audit)) }
            @if is_file {
                style { (PreEscaped(STYLE)) }
                rect class="page" x=(-margin) y=(-margin) width=(full_width) height=(full_height) {}
            }
            @for shape in &picture.shapes { (draw(shape)) }
        }
    }
}

/// Returns what the picture shows, in words.
pub(super) fn describe(audit: &Audit) -> String {
    let number = |standing: Standing| {
        let ports = audit
            .ports
            .iter()
            .filter(|port| port.standing == standing)
            .count();
        (ports > 0).then(|| {
            format!(
                "{} {}",
                count(ports, "port is", "ports are"),
                standing_text(standing)
            )
        })
    };
    let all: Vec<String> = Standing::ALL.into_iter().filter_map(number).collect();
    if all.is_empty() {
        "No port is published.".to_owned()
    } else {
        format!("{}.", all.join("; "))
    }
}

fn standing_text(standing: Standing) -> String {
    match standing {
        Standing::Exposed => "open to everyone without a policy entry".to_owned(),
        Standing::Open => "open to everyone by policy".to_owned(),
        Standing::NotJudged => "not judged".to_owned(),
        Standing::Restricted => "open to listed sources".to_owned(),
        Standing::Closed => "open to nobody".to_owned(),
    }
}

fn draw(shape: &Shape) -> Markup {
    let standing = shape.standing.map_or("", Standing::name);
    let class = format!("{} {standing}", shape.class);
    let class = class.trim_end();
    match &shape.outline {
        Outline::Box(area) => html! {
            rect class=(class) x=(area.x) y=(area.y) width=(area.width) height=(area.height) rx="6" {}
        },
        Outline::Line(points) => html! { polyline class=(class) points=(list(points)) {} },
        Outline::Area(points) => html! { polygon class=(class) points=(list(points)) {} },
        Outline::Text {
            x,
            y,
            is_centered,
            text,
            whole,
        } => html! {
            text class=(class) x=(x) y=(y) text-anchor=[is_centered.then_some("middle")] {
                @if let Some(whole) = whole { title { (whole) } }
                (text)
            }
        },
    }
}

fn list(points: &[(i32, i32)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
    points.join(" ")
}
