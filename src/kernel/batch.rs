//! One transaction: the operations of a plan as messages of a batch, and the subject of each message, for
//! errors.

use std::fmt;
use std::time::Duration;

use crate::clock;
use crate::netlink::message::{TooLong, Writer};
use crate::nftables::object::rule::Position;
use crate::nftables::object::{chain, element, memory, other, rule, set, table};
use crate::nftables::transaction;
use crate::plan::{Operation, Place, STAMP, Sketch, Stray, sketch_name};
use crate::ruleset::{Elements, Origin, TABLE};

/// The object of a batch message, for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The kind of object.
    pub what: What,
    /// The policy line behind it.
    pub origin: Option<Origin>,
}

/// An object of the ruleset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The batch itself.
    Batch,
    /// dfw's table.
    Table,
    /// A chain.
    Chain(String),
    /// A set or map.
    Set(String),
    /// Elements of a set or map.
    Elements(String),
    /// A rule.
    Rule {
        /// The chain's name.
        chain: String,
        /// The rule as nft writes it.
        text: String,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("the transaction"),
            Self::Table => write!(f, "table inet {TABLE}"),
            Self::Chain(name) => write!(f, "chain {name}"),
            Self::Set(name) => write!(f, "set {name}"),
            Self::Elements(name) => write!(f, "the elements of set {name}"),
            Self::Rule { chain, text } => write!(f, "a rule of chain {chain}: {text}"),
        }
    }
}

/// A transaction under construction. The kernel applies it atomically.
#[derive(Debug)]
pub struct Batch {
    writer: Writer,
    /// By sequence number, from [`FIRST_SEQUENCE`] on.
    subjects: Vec<Subject>,
    last: usize,
    /// The flags of the table when it is created.
    flags: u32,
    /// The time since boot, from which elements that expire have the time left.
    now: Duration,
}

/// A transaction ready to be sent.
#[derive(Debug)]
pub struct FinishedBatch {
    /// All messages.
    pub bytes: Vec<u8>,
    subjects: Vec<Subject>,
}

/// The sequence number of a batch's first message.
const FIRST_SEQUENCE: u32 = 1;

impl Batch {
    /// Begins a transaction that takes effect only if no ruleset of the network namespace has changed
    /// since `generation`; otherwise the kernel answers `ERESTART`. `None` disables the check.
    #[must_use]
    pub fn new(generation: impl Into<Option<u32>>) -> Self {
        let mut writer = Writer::new();
        transaction::begin(&mut writer, FIRST_SEQUENCE, generation.into());
        Self {
            writer,
            subjects: vec![Subject {
                what: What::Batch,
                origin: None,
            }],
            last: 0,
            flags: 0,
            now: clock::since_boot(),
        }
    }

    /// Sets the time since boot, from which elements that expire have the time left; it is that of
    /// [`new`](Self::new) otherwise.
    #[must_use]
    pub fn at(mut self, now: Duration) -> Self {
        self.now = now;
        self
    }

    /// Sets the flags (`NFT_TABLE_F_*`) of the table if this transaction creates it.
    #[must_use]
    pub fn with_flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// Gives the table its flags, or makes it with them.
    pub fn flag_table(&mut self) {
        let flags = Some(self.flags);
        self.push(What::Table, None, |w, sequence| {
            table::create(w, sequence, TABLE, flags)
        });
    }

    /// Makes a table of another name with these flags, and deletes it again.
    pub fn try_flags(&mut self) {
        const TRIAL: &str = "dfw-nft-trial";
        let flags = Some(self.flags);
        self.push(What::Table, None, |w, sequence| {
            table::create(w, sequence, TRIAL, flags)
        });
        self.push(What::Table, None, |w, sequence| {
            table::delete(w, sequence, TRIAL)
        });
    }

    fn next_sequence(&self) -> u32 {
        FIRST_SEQUENCE + u32::try_from(self.subjects.len()).unwrap_or(u32::MAX)
    }

    fn push(
        &mut self,
        what: What,
        comment: Option<&str>,
        write: impl FnOnce(&mut Writer, u32) -> usize,
    ) {
        let sequence = self.next_sequence();
        self.last = write(&mut self.writer, sequence);
        self.subjects.push(Subject {
            what,
            origin: comment.and_then(Origin::parse),
        });
    }

    /// Deletes dfw's table if there is one.
    fn delete_table(&mut self) {
        // Adding first makes the deletion succeed where there is none.
        // Without flags, which cannot be taken from a table whose owner is gone.
        self.push(What::Table, None, |w, sequence| {
            table::create(w, sequence, TABLE, None)
        });
        self.push(What::Table, None, |w, sequence| {
            table::delete(w, sequence, TABLE)
        });
    }

    /// Adds one operation of a plan. `stamp` is the comment that says who applied it.
    pub fn operation(&mut self, operation: &Operation<'_>, stamp: &str) {
        let of_chain = |name: &str| What::Chain(name.to_owned());
        let of_set = |name: &str| What::Set(name.to_owned());
        match operation {
            Operation::DeleteTable => self.delete_table(),
            Operation::NewTable => self.flag_table(),
            Operation::NewChain { name, base } => self.push(of_chain(name), None, |w, sequence| {
                chain::create(w, sequence, name, *base)
            }),
            Operation::FlushChain(name) => self.push(of_chain(name), None, |w, sequence| {
                rule::delete(w, sequence, name, None)
            }),
            Operation::DeleteChain(name) => self.push(of_chain(name), None, |w, sequence| {
                chain::delete(w, sequence, name)
            }),
            Operation::NewSet { name, set: made } => {
                let id = self.next_sequence();
                self.push(of_set(name), made.comment.as_deref(), |w, sequence| {
                    set::create(w, sequence, name, made, id)
                });
            }
            Operation::FlushSet(name) => {
                let what = What::Elements(name.clone().into_owned());
                self.push(what, None, |w, sequence| {
                    element::delete_all(w, sequence, name)
                });
            }
            Operation::DeleteSet(name) => self.push(of_set(name), None, |w, sequence| {
                set::delete(w, sequence, name)
            }),
            Operation::NewElements {
                set,
                elements,
                counted,
                comment,
            } => {
                let now = self.now;
                self.elements(set, elements, *comment, |w, sequence, next| {
                    element::create(w, sequence, set, (elements, *counted), now, next)
                });
            }
            Operation::DeleteElements { set, elements } => {
                self.elements(set, elements, None, |w, sequence, next| {
                    element::delete(w, sequence, set, elements, next)
                });
            }
            Operation::NewSketch { set, like, sketch } => self.sketch(set, like, sketch),
            Operation::NewRule {
                chain,
                rule: made,
                place,
                counter,
            } => {
                let what = What::Rule {
                    chain: (*chain).to_owned(),
                    text: made.to_string(),
                };
                let position = match place {
                    Place::First => Position::First,
                    Place::Before(handle) => Position::Before(*handle),
                    Place::Last => Position::Last,
                };
                self.push(what, made.comment.as_deref(), |w, sequence| {
                    rule::create(w, sequence, chain, made, position, *counter)
                });
            }
            Operation::DeleteRule {
                chain: name,
                handle,
            } => self.push(of_chain(name), None, |w, sequence| {
                rule::delete(w, sequence, name, Some(*handle))
            }),
            Operation::DeleteStray(stray) => self.delete_stray(stray),
            Operation::Stamp { again, fingerprint } => {
                if *again {
                    self.push(of_chain(STAMP), None, |w, sequence| {
                        chain::delete(w, sequence, STAMP)
                    });
                }
                self.push(of_chain(STAMP), None, |w, sequence| {
                    chain::create_stamp(w, sequence, STAMP, stamp, *fingerprint)
                });
            }
        }
    }

    /// Adds as many messages as the elements need. `write` writes elements from an index on, and
    /// returns where the message starts and the next index.
    fn elements(
        &mut self,
        set: &str,
        all: &Elements,
        comment: Option<&str>,
        write: impl Fn(&mut Writer, u32, usize) -> (usize, usize),
    ) {
        let mut next = 0;
        while next < all.len() {
            let (written, done) = (self.writer.bytes().len(), next);
            self.push(What::Elements(set.to_owned()), comment, |w, sequence| {
                let (start, after) = write(w, sequence, next);
                next = after;
                start
            });
            if done == 0 {
                // Elements of a set are about as long as each other. A buffer that grows by and by leaves as much
                // memory behind as it takes.
                let each = (self.writer.bytes().len() - written).div_ceil(next.max(1));
                self.writer.reserve(each * (all.len() - next));
            }
        }
    }

    fn sketch(&mut self, of: &str, like: &Elements, sketch: &Sketch) {
        let name = sketch_name(of);
        let table = sketch.table(like);
        let chunks = memory::chunks(&table);
        let id = self.next_sequence();
        self.push(What::Set(name.clone()), None, |w, sequence| {
            let contents = (&sketch.header()[..], chunks.len());
            memory::create_set(w, sequence, &name, contents, id)
        });
        let mut rest = &chunks[..];
        while !rest.is_empty() {
            self.push(What::Elements(name.clone()), None, |w, sequence| {
                let (start, count) = memory::create_elements(w, sequence, &name, rest);
                rest = &rest[count..];
                start
            });
        }
    }

    fn delete_stray(&mut self, stray: &Stray) {
        let (Stray::Set(name) | Stray::Object(_, name) | Stray::Flowtable(name)) = stray;
        self.push(What::Set(name.clone()), None, |w, sequence| match stray {
            Stray::Set(name) => set::delete(w, sequence, name),
            Stray::Object(kind, name) => other::delete_stateful(w, sequence, *kind, name),
            Stray::Flowtable(name) => other::delete_flowtable(w, sequence, name),
        });
    }

    /// Ends the transaction.
    ///
    /// # Errors
    /// [`TooLong`] if an attribute does not fit into a message.
    pub fn finish(mut self) -> Result<FinishedBatch, TooLong> {
        let sequence = self.next_sequence();
        transaction::end(&mut self.writer, sequence, self.last);
        Ok(FinishedBatch {
            bytes: self.writer.finish()?,
            subjects: self.subjects,
        })
    }
}

impl FinishedBatch {
    /// Returns the subject of the message with this sequence number.
    #[must_use]
    pub fn subject(&self, sequence: u32) -> Option<&Subject> {
        self.subjects
            .get(sequence.checked_sub(FIRST_SEQUENCE)? as usize)
    }
}
