//! The picture in one column: clients, and below them what they reach.

use crate::page::audit::Audit;

use super::canvas::{CAPTION, Canvas, INSET, NAME, SMALL, STRONG};
use super::lane::Lane;
use super::stack::{HEIGHT, PITCH, Stack, runs};
use super::{Area, NOTHING, Picture, caption};

const WIDTH: i32 = 328;
/// Where the line from the clients goes down, and where ports begin.
const TRUNK: i32 = 14;
const PORT: i32 = 40;
/// The height of a port with its container and path.
const TALL: i32 = 66;

pub(super) fn picture(audit: &Audit, lanes: &[Lane]) -> Picture {
    let groups: Vec<(usize, usize)> = runs(lanes, Lane::has_clients_of).collect();
    // The first of each group has its clients over it.
    let above = |n: usize| {
        let is_first = groups.iter().any(|(first, _)| *first == n);
        if is_first { PITCH } else { 0 }
    };
    let stack = Stack::of(lanes, 40, |n| TALL + 8 + above(n));
    let mut canvas = Canvas::default();
    canvas.text(STRONG, None, (0, 16), WIDTH, &audit.host);
    canvas.text(CAPTION, None, (0, 34), WIDTH, caption(audit));
    stack.head(&mut canvas, WIDTH);
    for (first, number) in &groups {
        let clients = Area {
            x: 0,
            y: stack.tops[*first],
            width: WIDTH,
            height: HEIGHT,
        };
        canvas.clients(&lanes[*first], clients);
        let mut start = clients.bottom();
        let group = lanes.iter().zip(&stack.tops).enumerate();
        for (n, (lane, top)) in group.skip(*first).take(*number) {
            start = port(&mut canvas, lane, start, top + above(n));
        }
    }
    if lanes.is_empty() {
        canvas.text(SMALL, None, (0, 60), WIDTH, NOTHING);
    }
    canvas.finish(WIDTH, stack.bottom.max(70))
}

/// A port with the line that leads there from above; returns where the next line begins.
fn port(canvas: &mut Canvas, lane: &Lane, start: i32, y: i32) -> i32 {
    let area = Area {
        x: PORT,
        y,
        width: WIDTH - PORT,
        height: TALL,
    };
    let (standing, middle) = (lane.standing, area.middle());
    let way = |end| [(TRUNK, start), (TRUNK, middle), (end, middle)];
    if lane.is_passable() {
        canvas.arrow("edge", standing, &way(PORT));
    } else {
        canvas.line("edge", standing, &way(PORT - 8));
        canvas.stop(standing, (PORT - 8, middle));
    }
    canvas.frame("port", standing, area);
    let (x, width) = (PORT + INSET, area.width - 2 * INSET);
    canvas.text(NAME, None, (x, y + 20), width, &lane.port);
    canvas.text(NAME, None, (x, y + 38), width, &format!("→ {}", lane.title));
    canvas.text(SMALL, None, (x, y + 56), width, &lane.path());
    middle
}
