//! The picture in three columns.

use crate::page::audit::Audit;

use super::canvas::{CAPTION, Canvas, INSET, SMALL, STRONG, fit};
use super::lane::Lane;
use super::stack::{HEIGHT, PITCH, Stack, runs};
use super::{Area, NOTHING, Picture, caption};

/// The columns: their left edges and widths.
const CLIENTS: (i32, i32) = (0, 306);
const HOST: (i32, i32) = (378, 274);
const CONTAINERS: (i32, i32) = (858, 262);
const WIDTH: i32 = CONTAINERS.0 + CONTAINERS.1;
/// Where the host begins, and the lanes.
const HOST_TOP: i32 = 46;
const TOP: i32 = 56;

pub(super) fn picture(audit: &Audit, lanes: &[Lane]) -> Picture {
    let stack = Stack::of(lanes, TOP, |_| PITCH);
    let bottom = stack.bottom.max(TOP + PITCH);
    let mut canvas = Canvas::default();
    host(&mut canvas, audit, bottom);
    stack.head(&mut canvas, HOST.0 - 10);
    let span = |(x, width), (first, number): (usize, usize)| {
        let (y, last) = (stack.tops[first], stack.tops[first + number - 1]);
        let height = last - y + HEIGHT;
        Area {
            x,
            y,
            width,
            height,
        }
    };
    for run in runs(lanes, Lane::has_clients_of) {
        canvas.clients(&lanes[run.0], span(CLIENTS, run));
    }
    for (lane, y) in lanes.iter().zip(&stack.tops) {
        row(&mut canvas, lane, *y);
    }
    for run in runs(lanes, Lane::has_container_of) {
        let area = span(CONTAINERS, run);
        canvas.frame("container", None, area);
        canvas.name(area, &lanes[run.0].title);
    }
    if lanes.is_empty() {
        canvas.text(
            SMALL,
            None,
            (HOST.0 + INSET, TOP + 20),
            HOST.1 - 2 * INSET,
            NOTHING,
        );
    }
    canvas.finish(WIDTH, bottom + 4)
}

/// The host with its wall, and the titles of the columns.
fn host(canvas: &mut Canvas, audit: &Audit, bottom: i32) {
    let (x, width) = HOST;
    let area = Area {
        x,
        y: HOST_TOP,
        width,
        height: bottom - HOST_TOP,
    };
    canvas.frame("host", None, area);
    let wall = if audit.is_filtered { "wall" } else { "no-wall" };
    canvas.line(wall, None, &[(x, area.y), (x, area.bottom())]);
    canvas.text(CAPTION, None, (CLIENTS.0, 34), CLIENTS.1, "Clients");
    canvas.text(STRONG, None, (x, 18), CONTAINERS.0 - x, &audit.host);
    canvas.text(CAPTION, None, (x, 36), width, caption(audit));
    canvas.text(
        CAPTION,
        None,
        (CONTAINERS.0, 34),
        CONTAINERS.1,
        "Containers",
    );
}

/// The lines of a port, from the clients to the container.
fn row(canvas: &mut Canvas, lane: &Lane, y: i32) {
    let port = Area {
        x: HOST.0 + INSET,
        y,
        width: HOST.1 - 2 * INSET,
        height: HEIGHT,
    };
    let (standing, middle) = (lane.standing, port.middle());
    let (from, to) = (CLIENTS.0 + CLIENTS.1, CONTAINERS.0);
    let inside = [(port.right(), middle), (to, middle)];
    if lane.is_passable() {
        canvas.arrow("edge", standing, &[(from, middle), (port.x, middle)]);
        canvas.arrow("edge", standing, &inside);
    } else {
        let end = HOST.0 - 10;
        canvas.line("edge", standing, &[(from, middle), (end, middle)]);
        canvas.stop(standing, (end, middle));
        canvas.line("edge", standing, &inside);
    }
    canvas.frame("port", standing, port);
    canvas.name(port, &lane.port);
    let right = HOST.0 + HOST.1;
    let (center, room) = (i32::midpoint(right, to), to - right - 12);
    let [over, under] = lane.path_in(|text| fit(text, room, SMALL.1).1.is_none());
    canvas.label((center, middle - 6), room, &over);
    canvas.label((center, middle + 16), room, &under);
}
