//! The layout of the picture: clients on the left, the host in the middle, containers on the right.
//!
//! Every port has a lane of its own, so that no two lines cross. Neighbouring lanes share the box of the clients
//! and that of the container. Many ports are drawn as far as there is room, and the others of the same clients as
//! one lane.

use super::audit::{Audit, Port, Standing};

/// How many lanes there are, unless there are more groups.
const LANES: usize = 36;
/// After how many groups of clients those that are left are one for each standing.
const GROUPS: usize = 24;

/// How wide a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In three columns, for a window, paper, or a file.
    Wide,
    /// In one column, for a telephone.
    Narrow,
}

/// Shapes at their places, in pixels from the upper left corner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The width.
    pub width: i32,
    /// The height.
    pub height: i32,
    /// From the back to the front.
    pub shapes: Vec<Shape>,
}

/// A shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What it is of: a class of the style.
    pub class: &'static str,
    /// The standing that gives it its colour.
    pub standing: Option<Standing>,
    /// Its form and place.
    pub outline: Outline,
}

/// The form and place of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outline {
    /// A rectangle.
    Box(Area),
    /// A line of text, from its start on the baseline, or around it.
    Text {
        /// Its start, or its middle.
        x: i32,
        /// The baseline.
        y: i32,
        /// Whether `x` is its middle.
        is_centered: bool,
        /// The text, cut to the room there is.
        text: String,
        /// The whole text, if it was cut.
        whole: Option<String>,
    },
    /// Straight lines from point to point.
    Line(Vec<(i32, i32)>),
    /// An area within straight lines.
    Area(Vec<(i32, i32)>),
}

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// The left edge.
    pub x: i32,
    /// The upper edge.
    pub y: i32,
    /// The width.
    pub width: i32,
    /// The height.
    pub height: i32,
}

impl Area {
    fn right(self) -> i32 {
        self.x + self.width
    }

    fn bottom(self) -> i32 {
        self.y + self.height
    }

    fn middle(self) -> i32 {
        self.y + self.height / 2
    }
}

/// What one lane shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lane {
    standing: Standing,
    /// The port, or how many.
    port: String,
    who: String,
    counts: String,
    kinds: String,
    families: String,
    title: String,
}

impl Lane {
    fn of(port: &Port) -> Self {
        let kinds: Vec<&str> = port.paths.iter().map(|(kind, _)| kind.title()).collect();
        let mut families: Vec<_> = port.paths.iter().flat_map(|(_, all)| all).collect();
        families.sort_unstable();
        families.dedup();
        let families: Vec<&str> = families.iter().map(|family| family.title()).collect();
        Self {
            standing: port.standing,
            port: port.port.clone(),
            who: port.who.clone(),
            counts: counts(port),
            kinds: kinds.join(", "),
            families: families.join(", "),
            title: port.title.clone(),
        }
    }

    /// One lane for many ports of a standing, with the same clients or with different ones.
    fn others(ports: &[&Port]) -> Option<Self> {
        let (first, rest) = ports.split_first()?;
        if rest.is_empty() {
            return Some(Self::of(first));
        }
        let mut titles: Vec<&str> = ports.iter().map(|port| port.title.as_str()).collect();
        titles.sort_unstable();
        titles.dedup();
        let title = match titles.len() {
            1 => first.title.clone(),
            many => format!("{many} containers"),
        };
        let is_same = |port: &&Port| same_sources(first, port);
        let (who, counts) = if rest.iter().all(is_same) {
            (first.who.clone(), counts(first))
        } else {
            let who = match first.standing {
                Standing::Exposed | Standing::Open => "everyone",
                Standing::NotJudged => "not judged",
                Standing::Restricted => "other listed sources",
                Standing::Closed => "nobody",
            };
            (who.to_owned(), "see the table".to_owned())
        };
        Some(Self {
            standing: first.standing,
            port: format!("{} more ports", ports.len()),
            who,
            counts,
            kinds: String::new(),
            families: String::new(),
            title,
        })
    }

    /// Whether packets get to the container, or may.
    fn is_passable(&self) -> bool {
        self.standing != Standing::Closed
    }

    /// The label of the path in one line.
    fn path(&self) -> String {
        match self.kinds.as_str() {
            "" => String::new(),
            kinds => format!("{kinds} · {}", self.families),
        }
    }
}

fn counts(port: &Port) -> String {
    let counts: Vec<String> = port.counts.iter().map(ToString::to_string).collect();
    match port.standing {
        Standing::NotJudged => "unknown".to_owned(),
        _ => counts.join(" · "),
    }
}

fn same_sources(a: &Port, b: &Port) -> bool {
    (a.standing, &a.who, &a.counts) == (b.standing, &b.who, &b.counts)
}

/// The lanes of some ports, which are in the order of their standing.
fn lanes(ports: &[Port]) -> Vec<Lane> {
    let mut groups: Vec<Vec<&Port>> = Vec::new();
    for group in ports.chunk_by(same_sources) {
        let is_full = groups.len() >= GROUPS;
        match groups.last_mut() {
            // The last group of each standing has the clients of all that are left.
            Some(last) if is_full && last[0].standing == group[0].standing => {
                last.extend(group);
            }
            _ => groups.push(group.iter().collect()),
        }
    }
    let shares = shares(&groups);
    let lanes = groups.iter().zip(shares).flat_map(|(group, share)| {
        // What does not fit is one lane.
        let own = if group.len() <= share {
            share
        } else {
            share.saturating_sub(1)
        };
        let (own, others) = group.split_at(own.min(group.len()));
        let own = own.iter().map(|port| Lane::of(port));
        own.chain(Lane::others(others)).collect::<Vec<_>>()
    });
    lanes.collect()
}

/// How many lanes each group gets: all that it needs if it is exposed, and the others by turns.
fn shares(groups: &[Vec<&Port>]) -> Vec<usize> {
    let mut shares = vec![1; groups.len()];
    let mut room = LANES.saturating_sub(groups.len());
    for only_exposed in [true, false] {
        loop {
            let before = room;
            for (group, share) in groups.iter().zip(&mut shares) {
                let is_meant = !only_exposed || group[0].standing == Standing::Exposed;
                if room > 0 && is_meant && *share < group.len() {
                    *share += 1;
                    room -= 1;
                }
            }
            if room == before {
                break;
            }
        }
    }
    shares
}

/// Lays the ports of an audit out.
#[must_use]
pub fn picture(audit: &Audit, form: Form) -> Picture {
    let lanes = lanes(&audit.ports);
    let mut canvas = Canvas::default();
    let (width, height) = match form {
        Form::Wide => wide(&mut canvas, audit, &lanes),
        Form::Narrow => narrow(&mut canvas, audit, &lanes),
    };
    Picture {
        width,
        height,
        shapes: canvas.shapes,
    }
}

#[derive(Default)]
struct Canvas {
    shapes: Vec<Shape>,
}

/// How text looks: a class of the style, and the size of its letters in pixels.
type Look = (&'static str, i32);

const CAPTION: Look = ("caption", 12);
const HEADING: Look = ("heading", 13);
const STRONG: Look = ("strong", 13);
const NAME: Look = ("name", 13);
const SMALL: Look = ("small", 12);

impl Canvas {
    fn add(
        &mut self,
        class: &'static str,
        standing: impl Into<Option<Standing>>,
        outline: Outline,
    ) {
        self.shapes.push(Shape {
            class,
            standing: standing.into(),
            outline,
        });
    }

    fn frame(&mut self, class: &'static str, standing: impl Into<Option<Standing>>, area: Area) {
        self.add(class, standing, Outline::Box(area));
    }

    fn line(&mut self, class: &'static str, standing: Standing, points: &[(i32, i32)]) {
        self.add(class, standing, Outline::Line(points.to_vec()));
    }

    /// A line with a head at its last point, which is to the right of the one before.
    fn arrow(&mut self, class: &'static str, standing: Standing, points: &[(i32, i32)]) {
        self.line(class, standing, points);
        if let Some((x, y)) = points.last() {
            let head = vec![(*x, *y), (x - 7, y - 4), (x - 7, y + 4)];
            self.add("head", standing, Outline::Area(head));
        }
    }

    /// A text at a point, cut to a width.
    fn text(
        &mut self,
        (class, size): Look,
        standing: impl Into<Option<Standing>>,
        (x, y): (i32, i32),
        width: i32,
        text: &str,
    ) {
        let (cut, whole) = fit(text, width, size);
        let outline = Outline::Text {
            x,
            y,
            is_centered: false,
            text: cut,
            whole,
        };
        self.add(class, standing, outline);
    }

    /// A text around a point.
    fn label(&mut self, (x, y): (i32, i32), width: i32, text: &str) {
        let (class, size) = SMALL;
        let (cut, whole) = fit(text, width, size);
        if cut.is_empty() {
            return;
        }
        let outline = Outline::Text {
            x,
            y,
            is_centered: true,
            text: cut,
            whole,
        };
        self.add(class, None, outline);
    }
}

/// Cuts a text to a width in pixels, as letters of that size take in every font that is likely; and the whole text
/// if it was cut.
fn fit(text: &str, width: i32, size: i32) -> (String, Option<String>) {
    // In hundredths of the size. Letters of fixed width take 60, those of East Asia a square.
    let of = |character: char| match character {
        '\0'..='\u{10ff}' => 63,
        _ => 125,
    };
    let room = width * 100 / size;
    let mut end = 0;
    let mut taken = 0;
    for (at, character) in text.char_indices() {
        taken += of(character);
        if taken > room {
            let mut cut = text[..end].trim_end().to_owned();
            cut.push('…');
            return (cut, Some(text.to_owned()));
        }
        // Room for the ellipsis, which is as wide as a square.
        if taken + 100 <= room {
            end = at + character.len_utf8();
        }
    }
    (text.to_owned(), None)
}

/// The heading over the lanes of a standing.
fn heading(standing: Standing) -> String {
    let (sign, title) = (standing.sign(), standing.title());
    format!("{sign} {title}: {}", standing.meaning())
}

/// The height of a box, and from one to the next.
const HEIGHT: i32 = 38;
const PITCH: i32 = 44;
/// The height of a heading.
const HEADED: i32 = 34;

/// Rows of lanes, from `top` down: calls `each` for each lane with its place, and `titled` for the first of each
/// standing. Returns where they end.
fn rows(
    lanes: &[Lane],
    top: i32,
    pitch: impl Fn(usize) -> i32,
    mut titled: impl FnMut(Standing, i32),
) -> (Vec<i32>, i32) {
    let mut y = top;
    let mut places = Vec::new();
    for (n, lane) in lanes.iter().enumerate() {
        if n == 0 || lanes[n - 1].standing != lane.standing {
            titled(lane.standing, y + 20);
            y += HEADED;
        }
        places.push(y);
        y += pitch(n);
    }
    (places, y)
}

/// The lanes that follow each other and are alike, as the first of them and how many.
fn runs(lanes: &[Lane], alike: impl Fn(&Lane, &Lane) -> bool) -> Vec<(usize, usize)> {
    let runs = lanes.chunk_by(|a, b| a.standing == b.standing && alike(a, b));
    let mut first = 0;
    runs.map(|run| {
        let at = first;
        first += run.len();
        (at, run.len())
    })
    .collect()
}

fn same_clients(a: &Lane, b: &Lane) -> bool {
    (&a.who, &a.counts) == (&b.who, &b.counts)
}

/// The box of those who get in, and of how many they are.
fn clients(canvas: &mut Canvas, lane: &Lane, area: Area, inset: i32) {
    let (x, middle, width) = (area.x + inset, area.middle(), area.width - 2 * inset);
    canvas.frame("box", lane.standing, area);
    canvas.text(STRONG, lane.standing, (x, middle - 3), width, &lane.who);
    canvas.text(SMALL, None, (x, middle + 13), width, &lane.counts);
}

const NO_RULES: &str = "no rules of dfw in force";

fn wide(canvas: &mut Canvas, audit: &Audit, lanes: &[Lane]) -> (i32, i32) {
    const WIDTH: i32 = 1120;
    const CLIENTS: (i32, i32) = (0, 310);
    const HOST: (i32, i32) = (394, 240);
    const CONTAINERS: (i32, i32) = (840, 280);
    const INSET: i32 = 14;
    let top = 56;
    let at = canvas.shapes.len();
    let (places, bottom) = rows(
        lanes,
        top,
        |_| PITCH,
        |standing, y| {
            canvas.text(
                HEADING,
                standing,
                (CLIENTS.0, y),
                HOST.0 - 10,
                &heading(standing),
            );
        },
    );
    let bottom = bottom.max(top + PITCH);
    let host = Area {
        x: HOST.0,
        y: 46,
        width: HOST.1,
        height: bottom - 46,
    };
    let frame = |class, outline| Shape {
        class,
        standing: None,
        outline,
    };
    let wall = Outline::Line(vec![(host.x, host.y), (host.x, host.bottom())]);
    let wall_class = if audit.is_filtered { "wall" } else { "no-wall" };
    // Behind everything.
    canvas.shapes.splice(
        at..at,
        [frame("host", Outline::Box(host)), frame(wall_class, wall)],
    );
    for (x, title) in [(CLIENTS.0, "Clients"), (CONTAINERS.0, "Containers")] {
        canvas.text(CAPTION, None, (x, 34), CLIENTS.1, title);
    }
    canvas.text(
        STRONG,
        None,
        (HOST.0, 18),
        CONTAINERS.0 - HOST.0,
        &audit.host,
    );
    let caption = if audit.is_filtered {
        "filtered by dfw"
    } else {
        NO_RULES
    };
    canvas.text(CAPTION, None, (HOST.0, 36), HOST.1, caption);
    let span = |x, width, (first, number): (usize, usize)| {
        let last = places[first + number - 1];
        Area {
            x,
            y: places[first],
            width,
            height: last - places[first] + HEIGHT,
        }
    };
    for run in runs(lanes, same_clients) {
        let (lane, area) = (&lanes[run.0], span(CLIENTS.0, CLIENTS.1, run));
        clients(canvas, lane, area, INSET);
    }
    for (lane, y) in lanes.iter().zip(&places) {
        let port = Area {
            x: HOST.0 + INSET,
            y: *y,
            width: HOST.1 - 2 * INSET,
            height: HEIGHT,
        };
        let middle = port.middle();
        let (from, to) = (CLIENTS.0 + CLIENTS.1, CONTAINERS.0);
        if lane.is_passable() {
            canvas.arrow("edge", lane.standing, &[(from, middle), (port.x, middle)]);
            canvas.arrow(
                "edge",
                lane.standing,
                &[(port.right(), middle), (to, middle)],
            );
        } else {
            let wall = HOST.0 - 10;
            canvas.line("edge", lane.standing, &[(from, middle), (wall, middle)]);
            canvas.line(
                "stop",
                lane.standing,
                &[(wall, middle - 9), (wall, middle + 9)],
            );
            canvas.line(
                "edge",
                lane.standing,
                &[(port.right(), middle), (to, middle)],
            );
        }
        canvas.frame("port", lane.standing, port);
        canvas.text(
            NAME,
            None,
            (port.x + 12, middle + 5),
            port.width - 24,
            &lane.port,
        );
        let gap = to - host.right();
        let center = (host.right() + to) / 2;
        // In one line if it has room.
        let room = gap - 12;
        let path = lane.path();
        if fit(&path, room, SMALL.1).1.is_none() {
            canvas.label((center, middle - 6), room, &path);
        } else {
            canvas.label((center, middle - 6), room, &lane.kinds);
            canvas.label((center, middle + 16), room, &lane.families);
        }
    }
    for run in runs(lanes, |a, b| a.title == b.title) {
        let (lane, area) = (&lanes[run.0], span(CONTAINERS.0, CONTAINERS.1, run));
        canvas.frame("container", None, area);
        canvas.text(
            NAME,
            None,
            (area.x + INSET, area.middle() + 5),
            area.width - 2 * INSET,
            &lane.title,
        );
    }
    if lanes.is_empty() {
        canvas.text(
            SMALL,
            None,
            (HOST.0 + INSET, top + 20),
            HOST.1 - 2 * INSET,
            NOTHING,
        );
    }
    (WIDTH, bottom + 4)
}

const NOTHING: &str = "no published ports";

fn narrow(canvas: &mut Canvas, audit: &Audit, lanes: &[Lane]) -> (i32, i32) {
    const WIDTH: i32 = 328;
    const INSET: i32 = 12;
    /// Where the line goes down, and where ports begin.
    const TRUNK: i32 = 14;
    const PORT: i32 = 40;
    /// The height of a port with its container and path.
    const TALL: i32 = 66;
    let all_clients = runs(lanes, same_clients);
    let is_first = |n: usize| all_clients.iter().any(|(first, _)| *first == n);
    canvas.text(STRONG, None, (0, 16), WIDTH, &audit.host);
    let caption = if audit.is_filtered {
        "filtered by dfw"
    } else {
        NO_RULES
    };
    canvas.text(CAPTION, None, (0, 34), WIDTH, caption);
    let pitch = |n: usize| TALL + 8 + if is_first(n) { PITCH } else { 0 };
    let (places, bottom) = rows(lanes, 40, pitch, |standing, y| {
        canvas.text(HEADING, standing, (0, y), WIDTH, &heading(standing));
    });
    for (first, number) in &all_clients {
        let lane = &lanes[*first];
        let area = Area {
            x: 0,
            y: places[*first],
            width: WIDTH,
            height: HEIGHT,
        };
        clients(canvas, lane, area, INSET);
        let mut start = area.bottom();
        for n in *first..first + number {
            let y = places[n] + if n == *first { PITCH } else { 0 };
            let (lane, port) = (
                &lanes[n],
                Area {
                    x: PORT,
                    y,
                    width: WIDTH - PORT,
                    height: TALL,
                },
            );
            let middle = port.middle();
            if lane.is_passable() {
                canvas.arrow(
                    "edge",
                    lane.standing,
                    &[(TRUNK, start), (TRUNK, middle), (PORT, middle)],
                );
            } else {
                canvas.line(
                    "edge",
                    lane.standing,
                    &[(TRUNK, start), (TRUNK, middle), (PORT - 8, middle)],
                );
                canvas.line(
                    "stop",
                    lane.standing,
                    &[(PORT - 8, middle - 8), (PORT - 8, middle + 8)],
                );
            }
            start = middle;
            canvas.frame("port", lane.standing, port);
            let (x, width) = (PORT + INSET, port.width - 2 * INSET);
            canvas.text(NAME, None, (x, y + 20), width, &lane.port);
            canvas.text(NAME, None, (x, y + 38), width, &format!("→ {}", lane.title));
            canvas.text(SMALL, None, (x, y + 56), width, &lane.path());
        }
    }
    if lanes.is_empty() {
        canvas.text(SMALL, None, (0, 60), WIDTH, NOTHING);
    }
    (WIDTH, bottom.max(70))
}
