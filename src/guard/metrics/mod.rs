//! Exposes metrics to HTTP clients and in a file.

mod figures;
mod file;
pub(super) mod scrapes;

use std::io;
use std::time::Instant;

use super::feeds::clients::Answer;
use super::feeds::event::{Event, Request};
use super::feeds::feed::{Feed, Polled, readable};
use super::feeds::job::{Job, Outcome};
use super::log::{Level, Log};
use super::options::Options;
use super::record::Record;

use figures::Figures;
use file::Metrics;
use scrapes::Scrapes;

/// The most clients that wait for counters, including those that have left.
const WAITING: usize = 64;
/// The answer without counters.
const UNAVAILABLE: &str = "503 Service Unavailable";

/// The counters and their consumers.
#[derive(Debug)]
pub(in crate::guard) struct Exposition {
    figures: Figures,
    metrics: Option<Metrics>,
    scrapes: Option<Scrapes>,
    /// The clients that wait for a read.
    waiting: Vec<usize>,
    /// Whether guard has finished its first work.
    begun: bool,
    writing: Job<io::Result<()>>,
    /// The error of the last write of the file.
    unwritten: Option<String>,
    log: Log,
}

impl Exposition {
    /// Opens the sockets and files that the options name; `None` if they name none.
    ///
    /// # Errors
    /// If a thread or descriptor cannot be created. A socket that cannot be opened is logged.
    pub(in crate::guard) fn open(options: &Options, log: Log) -> io::Result<Option<Self>> {
        let scrapes = options.listen.as_ref().and_then(|at| {
            let scrapes = Scrapes::open(at);
            let unheard = |error| {
                log.say(Level::Warning, &format!("cannot listen on {at}: {error}"));
            };
            scrapes.map_err(unheard).ok()
        });
        let metrics = options.metrics.as_deref().map(Metrics::new);
        if scrapes.is_none() && metrics.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            figures: Figures::new()?,
            metrics,
            scrapes,
            waiting: Vec::new(),
            begun: false,
            writing: Job::new("metrics")?,
            unwritten: None,
            log,
        }))
    }

    /// Starts exposing metrics.
    pub(in crate::guard) fn begin(&mut self) {
        self.begun = true;
    }

    /// Handles the request of a client.
    pub(in crate::guard) fn take(
        &mut self,
        number: usize,
        request: Request,
        now: Instant,
        record: &Record,
    ) {
        match request {
            Request::Figures if self.waiting.len() < WAITING => {
                self.waiting.push(number);
                if self.figures.are_new(now) {
                    self.answer(record);
                }
            }
            Request::Figures => self.reject(number, UNAVAILABLE),
            Request::Rejected(status) => self.reject(number, status),
        }
    }

    fn reject(&mut self, number: usize, status: &str) {
        if let Some(scrapes) = &mut self.scrapes {
            scrapes.answer(number, scrapes::rejection(status));
        }
    }

    /// Answers waiting clients, and writes the file if it is due.
    pub(in crate::guard) fn work(&mut self, now: Instant, record: &Record) -> io::Result<()> {
        match self.writing.outcome(now) {
            None => {}
            Some(Outcome::Done(written)) => {
                self.written(written.map_err(|error| error.to_string()));
            }
            Some(Outcome::Late) => self.written(Err("the disk does not respond".to_owned())),
        }
        let mut write = self.begun && self.metrics.as_mut().is_some_and(|m| m.is_due(now));
        if write && !self.figures.are_new(now) {
            // The file is written after the read.
            write = false;
            self.metrics.iter_mut().for_each(Metrics::wait);
        }
        if let Some(read) = self.figures.drain(now)? {
            self.answer(record);
            if self.metrics.as_mut().is_some_and(Metrics::is_waiting) {
                match read {
                    Ok(()) => write = true,
                    // Old counters are better than none.
                    Err(error) => self.written(Err(error)),
                }
            }
        }
        if write && let (Some(metrics), Some(counted)) = (&mut self.metrics, self.figures.latest())
        {
            let totals = file::totals(counted.in_force, self.figures.reads(), record);
            let text = format!("{totals}{}", counted.text);
            self.writing.at(now);
            self.writing.begin(now, || metrics.write(text))?;
        }
        Ok(())
    }

    /// Answers all waiting clients.
    fn answer(&mut self, record: &Record) {
        let Some(scrapes) = &mut self.scrapes else {
            return;
        };
        let reads = self.figures.reads();
        for number in self.waiting.drain(..) {
            let answer: Answer = match self.figures.latest() {
                Some(counted) => {
                    let totals = file::totals(counted.in_force, reads, record);
                    scrapes::figures(&totals, counted.text.clone())
                }
                None => scrapes::rejection(UNAVAILABLE),
            };
            scrapes.answer(number, answer);
        }
    }

    /// Logs why the file could not be written, once.
    fn written(&mut self, written: Result<(), String>) {
        let failure = written.err();
        let failure = failure.map(|error| format!("cannot write metrics: {error}"));
        if let Some(text) = &failure
            && self.unwritten != failure
        {
            self.log.say(Level::Warning, text);
        }
        self.unwritten = failure;
    }
}

impl Feed for Exposition {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        let scrapes = self.scrapes.iter().flat_map(Scrapes::sockets);
        scrapes
            .chain(readable([&self.figures, &self.writing]))
            .collect()
    }

    fn deadline(&self) -> Option<Instant> {
        let metrics = self.metrics.as_ref().filter(|_| self.begun);
        let metrics = metrics.map(Metrics::next);
        let scrapes = self.scrapes.as_ref().and_then(Scrapes::next);
        [metrics, scrapes, self.writing.next(), self.figures.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Continues transfers of clients; requests become events.
    fn drain(&mut self, now: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        if let Some(scrapes) = &mut self.scrapes {
            scrapes.drain(now, events);
        }
        Ok(())
    }
}
