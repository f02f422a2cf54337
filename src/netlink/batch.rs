//! One transaction: the messages of a batch, and which of them each refusal is about.

use std::fmt;

use crate::plan::{self, Counted, Operation, STAMP, Sketch, Stray, sketch_name};
use crate::ruleset::{Elements, Origin, Ruleset};

use super::number::*;
use super::wire::{ACK, Malformed, REQUEST, TooLong, Writer};
use super::{deletion, memory, object, wire};

/// What a message of a batch is about, for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What it is.
    pub what: What,
    /// The place of the policy behind it.
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
            Self::Table => write!(f, "table inet {}", crate::ruleset::TABLE),
            Self::Chain(name) => write!(f, "chain {name}"),
            Self::Set(name) => write!(f, "set {name}"),
            Self::Elements(name) => write!(f, "the elements of set {name}"),
            Self::Rule { chain, text } => write!(f, "a rule of chain {chain}: {text}"),
        }
    }
}

/// A transaction that is being written. All of it or nothing takes effect.
#[derive(Debug)]
pub struct Batch {
    writer: Writer,
    /// By sequence number, from [`FIRST_SEQUENCE`] on.
    subjects: Vec<Subject>,
    last: usize,
    /// Those of the table when it is made.
    flags: u32,
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
    /// Begins a transaction that takes effect only if nobody has changed any ruleset of the
    /// network namespace since `generation`; otherwise the kernel answers `ERESTART`. `None` does
    /// not care.
    #[must_use]
    pub fn new(generation: impl Into<Option<u32>>) -> Self {
        let mut writer = Writer::new();
        let kind = NFNL_MSG_BATCH_BEGIN;
        writer.message(
            kind,
            REQUEST,
            FIRST_SEQUENCE,
            NFPROTO_UNSPEC,
            NFNL_SUBSYS_NFTABLES,
            |w| {
                if let Some(generation) = generation.into() {
                    w.be32(NFNL_BATCH_GENID, generation);
                }
            },
        );
        Self {
            writer,
            subjects: vec![Subject {
                what: What::Batch,
                origin: None,
            }],
            last: 0,
            flags: 0,
        }
    }

    /// The table gets these flags (`NFT_TABLE_F_*`) where this transaction makes it.
    #[must_use]
    pub fn with_flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// Gives the table its flags, or makes it with them.
    pub fn flag_table(&mut self) {
        let flags = self.flags;
        self.push(What::Table, None, |w, sequence| {
            object::new_table(w, sequence, Some(flags))
        });
    }

    /// Makes a table of another name with these flags, and deletes it again.
    pub fn try_flags(&mut self) {
        const TRIAL: &str = "dfw-nft-trial";
        let flags = Some(self.flags);
        self.push(What::Table, None, |w, sequence| {
            object::table(w, NFT_MSG_NEWTABLE, wire::CREATE, sequence, TRIAL, flags)
        });
        self.push(What::Table, None, |w, sequence| {
            object::table(w, NFT_MSG_DELTABLE, 0, sequence, TRIAL, None)
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
    pub fn delete_table(&mut self) {
        // Adding first makes the deletion succeed where there is none.
        // Without flags, which cannot be taken from a table whose owner is gone.
        self.push(What::Table, None, |w, sequence| {
            object::new_table(w, sequence, None)
        });
        self.push(What::Table, None, deletion::table);
    }

    /// Makes dfw's table with all its contents. `comment` says who did it.
    pub fn new_table(&mut self, ruleset: &Ruleset, comment: &str) {
        let plan = plan::replace(ruleset, 0);
        let is_deletion = |operation: &&Operation<'_>| **operation == Operation::DeleteTable;
        let all = plan.main.iter().skip_while(is_deletion);
        all.for_each(|operation| self.operation(operation, comment));
    }

    /// Carries out one step of a plan. `stamp` says who does it.
    pub fn operation(&mut self, operation: &Operation<'_>, stamp: &str) {
        let chain = |name: &str| What::Chain(name.to_owned());
        let set = |name: &str| What::Set(name.to_owned());
        match operation {
            Operation::DeleteTable => self.delete_table(),
            Operation::NewTable => self.flag_table(),
            Operation::NewChain { name, base } => self.push(chain(name), None, |w, sequence| {
                object::new_chain(w, sequence, name, *base)
            }),
            Operation::FlushChain(name) => self.push(chain(name), None, |w, sequence| {
                deletion::rules(w, sequence, name, None)
            }),
            Operation::DeleteChain(name) => self.push(chain(name), None, |w, sequence| {
                deletion::chain(w, sequence, name)
            }),
            Operation::NewSet { name, set: made } => {
                let id = self.next_sequence();
                self.push(set(name), made.comment.as_deref(), |w, sequence| {
                    object::new_set(w, sequence, name, made, id)
                });
            }
            Operation::FlushSet(name) => {
                let what = What::Elements(name.clone().into_owned());
                self.push(what, None, |w, sequence| {
                    deletion::all_elements(w, sequence, name)
                });
            }
            Operation::DeleteSet(name) => self.push(set(name), None, |w, sequence| {
                deletion::set(w, sequence, name)
            }),
            Operation::NewElements {
                set,
                elements,
                counted,
                comment,
            } => self.elements(NFT_MSG_NEWSETELEM, set, (elements, *counted), *comment),
            Operation::DeleteElements { set, elements } => {
                self.elements(NFT_MSG_DELSETELEM, set, (elements, None), None);
            }
            Operation::NewSketch { set, like, sketch } => self.sketch(set, like, sketch),
            Operation::NewRule {
                chain,
                rule,
                place,
                counter,
            } => {
                let what = What::Rule {
                    chain: (*chain).to_owned(),
                    text: rule.to_string(),
                };
                self.push(what, rule.comment.as_deref(), |w, sequence| {
                    object::new_rule(w, sequence, chain, rule, *place, *counter)
                });
            }
            Operation::DeleteRule {
                chain: name,
                handle,
            } => self.push(chain(name), None, |w, sequence| {
                deletion::rules(w, sequence, name, Some(*handle))
            }),
            Operation::DeleteStray(stray) => {
                let what = match stray {
                    Stray::Set(name) | Stray::Object(_, name) | Stray::Flowtable(name) => name,
                };
                self.push(set(what), None, |w, sequence| {
                    deletion::stray(w, sequence, stray)
                });
            }
            Operation::Stamp { again, fingerprint } => {
                if *again {
                    self.push(chain(STAMP), None, |w, sequence| {
                        deletion::chain(w, sequence, STAMP)
                    });
                }
                self.push(chain(STAMP), None, |w, sequence| {
                    object::new_stamp(w, sequence, stamp, *fingerprint)
                });
            }
        }
    }

    fn elements(
        &mut self,
        kind: u16,
        set: &str,
        all: (&Elements, Option<&Counted>),
        comment: Option<&str>,
    ) {
        let mut next = 0;
        while next < all.0.len() {
            self.push(What::Elements(set.to_owned()), comment, |w, sequence| {
                let (start, after) = object::elements(w, kind, sequence, set, all, next);
                next = after;
                start
            });
        }
    }

    fn sketch(&mut self, of: &str, like: &Elements, sketch: &Sketch) {
        let name = sketch_name(of);
        let chunks = memory::chunks(sketch, like);
        let id = self.next_sequence();
        self.push(What::Set(name.clone()), None, |w, sequence| {
            memory::new_set(w, sequence, of, sketch, chunks.len(), id)
        });
        let mut rest = &chunks[..];
        while !rest.is_empty() {
            self.push(What::Elements(name.clone()), None, |w, sequence| {
                let (start, count) = memory::new_elements(w, sequence, of, rest);
                rest = &rest[count..];
                start
            });
        }
    }

    /// Ends the transaction.
    ///
    /// # Errors
    /// If something does not fit into a message.
    pub fn finish(mut self) -> Result<FinishedBatch, TooLong> {
        // Kernels before 6.10 acknowledge no end of a batch, so the last message asks for it.
        self.writer.add_flags(self.last, ACK);
        let sequence = self.next_sequence();
        let kind = NFNL_MSG_BATCH_END;
        self.writer.message(
            kind,
            REQUEST,
            sequence,
            NFPROTO_UNSPEC,
            NFNL_SUBSYS_NFTABLES,
            |_| {},
        );
        Ok(FinishedBatch {
            bytes: self.writer.finish()?,
            subjects: self.subjects,
        })
    }
}

impl FinishedBatch {
    /// What the message with this sequence number is about.
    #[must_use]
    pub fn subject(&self, sequence: u32) -> Option<&Subject> {
        self.subjects
            .get(sequence.checked_sub(FIRST_SEQUENCE)? as usize)
    }

    /// How many messages there are, without the end.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether there are none; there always is a beginning.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }
}

/// What the kernel says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message's sequence number.
    pub sequence: u32,
    /// 0 for an acknowledgement.
    pub errno: i32,
    /// The kernel's own words.
    pub text: Option<String>,
    /// Where in the message the trouble is, in bytes.
    pub offset: Option<u32>,
}

impl Answer {
    /// Reads an `NLMSG_ERROR`.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn decode(message: &wire::Message<'_>) -> Result<Self, Malformed> {
        /// `NLM_F_ACK_TLVS`: attributes follow.
        const ATTRIBUTES: u16 = 0x200;
        let Some((errno, rest)) = message.body.split_first_chunk::<4>() else {
            return Err(Malformed("short error"));
        };
        let errno = i32::from_ne_bytes(*errno).checked_neg().unwrap_or(i32::MAX);
        let mut answer = Self {
            sequence: message.sequence,
            errno,
            text: None,
            offset: None,
        };
        // Only the header of the message in question is repeated, thanks to NETLINK_CAP_ACK.
        if let (true, Some(attributes)) = (message.flags & ATTRIBUTES != 0, rest.get(16..)) {
            let [_, text, offset] = wire::Attributes::new(attributes).table::<3>()?;
            answer.text = text.and_then(|text| text.string().ok()).map(str::to_owned);
            answer.offset = offset
                .and_then(|offset| offset.payload.try_into().ok())
                .map(u32::from_ne_bytes);
        }
        Ok(answer)
    }
}
