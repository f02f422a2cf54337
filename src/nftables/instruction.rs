//! The kernel's expressions, one message attribute each, as dfw uses them: everything goes
//! through register 1, and the second part of a concatenated key through the one that is four bytes
//! behind its beginning.
//!
//! The kernel calls these "expressions" too; here they are instructions, since several of them
//! make one [`Expression`](crate::ruleset::Expression) of the ruleset.

use crate::netlink::message::{Attribute, Attributes, Malformed, Writer};
use crate::ruleset::{Counter, Verdict};

use super::number::*;

/// One instruction. What does not have exactly this form is [`Raw`](Self::Raw).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Instruction {
    /// `[ meta load KEY => reg 1 ]`
    Meta(u32),
    /// `[ ct load KEY => reg 1, dir DIRECTION ]`
    Ct { key: u32, direction: Option<u8> },
    /// `[ ct set KEY with reg 1 ]`
    SetCt(u32),
    /// `[ payload load LENGTHb @ BASE + OFFSET => reg 1 ]`
    Payload { base: u32, offset: u32, length: u32 },
    /// `[ cmp eq reg 1 DATA ]`
    Cmp { op: u32, data: Vec<u8> },
    /// `[ bitwise reg 1 = ( reg 1 & MASK ) ^ 0 ]`, 4 bytes in host byte order
    Mask(Vec<u8>),
    /// [`Ct`](Self::Ct), [`Payload`](Self::Payload) or [`Mask`](Self::Mask) in register 9 instead of 1:
    /// the second part of a concatenated key.
    Beside(Box<Instruction>),
    /// `[ lookup reg 1 set SET ]`, for a verdict map with `dreg 0`
    Lookup {
        set: String,
        inverted: bool,
        verdict: bool,
    },
    /// `[ immediate reg 0 VERDICT ]`
    Immediate(Verdict),
    /// `[ immediate reg 1 DATA ]`
    Value(Vec<u8>),
    /// `[ counter ]`
    Counter,
    /// `[ limit rate RATE/UNIT burst BURST type packets flags OVER ]`, the unit in seconds
    Limit {
        rate: u64,
        unit: u64,
        burst: u32,
        over: bool,
    },
    /// `[ connlimit count COUNT flags 1 ]`
    OverCount(u32),
    /// `[ dynset update reg_key 1 set SET timeout TIMEOUTms expr [ LIMIT ] ]`, or `add`; no timeout is 0
    Dynset {
        set: String,
        update: bool,
        timeout: u64,
        limit: Box<Instruction>,
    },
    /// `[ log prefix PREFIX ]` at level warning, or `[ log prefix PREFIX group GROUP ]`
    Log { prefix: String, group: Option<u16> },
    /// `[ reject type TYPE code CODE ]`
    Reject { kind: u32, code: u8 },
    /// `[ fib FLAGS RESULT => reg 1 ]`
    Fib { result: u32, flags: u32 },
    /// Any other instruction, with its raw attributes.
    Raw { name: String, data: Vec<u8> },
}

impl Instruction {
    /// Compares register 1 with data.
    pub(super) fn equal(data: Vec<u8>) -> Self {
        Self::Cmp {
            op: NFT_CMP_EQ,
            data,
        }
    }

    /// Looks register 1 up in a set, or in a map to verdicts.
    pub(super) fn lookup(set: &str, verdict: bool) -> Self {
        Self::Lookup {
            set: set.to_owned(),
            inverted: false,
            verdict,
        }
    }

    /// Writes it as an element of a rule's list of expressions.
    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.nest(NFTA_LIST_ELEM, |w| self.encode_parts(w));
    }

    /// Writes its name and its data.
    pub(super) fn encode_parts(&self, w: &mut Writer) {
        w.string(NFTA_EXPR_NAME, self.name());
        match self {
            // As read, so not written anew.
            Self::Raw { data, .. } => w.nest(NFTA_EXPR_DATA, |w| w.raw(data)),
            Self::Beside(part) => {
                w.nest(NFTA_EXPR_DATA, |w| part.encode_data(w, NFT_REG32_01));
            }
            _ => w.nest(NFTA_EXPR_DATA, |w| self.encode_data(w, NFT_REG_1)),
        }
    }

    /// Writes a counter that begins with these numbers, as an attribute of this kind.
    pub(super) fn encode_counter(writer: &mut Writer, kind: u16, start: Counter) {
        let Counter { packets, bytes } = start;
        writer.nest(kind, |w| {
            w.string(NFTA_EXPR_NAME, Self::Counter.name());
            w.nest(NFTA_EXPR_DATA, |w| {
                w.be64(NFTA_COUNTER_BYTES, bytes);
                w.be64(NFTA_COUNTER_PACKETS, packets);
            });
        });
    }

    fn name(&self) -> &str {
        match self {
            Self::Meta(_) => "meta",
            Self::Ct { .. } | Self::SetCt(_) => "ct",
            Self::Payload { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Mask(_) => "bitwise",
            Self::Beside(part) => part.name(),
            Self::Lookup { .. } => "lookup",
            Self::Immediate(_) | Self::Value(_) => "immediate",
            Self::Counter => "counter",
            Self::Limit { .. } => "limit",
            Self::OverCount(_) => "connlimit",
            Self::Dynset { .. } => "dynset",
            Self::Log { .. } => "log",
            Self::Reject { .. } => "reject",
            Self::Fib { .. } => "fib",
            Self::Raw { name, .. } => name,
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each kind of instruction"
    )]
    fn encode_data(&self, w: &mut Writer, register: u32) {
        match self {
            Self::Meta(key) => {
                w.be32(NFTA_META_KEY, *key);
                w.be32(NFTA_META_DREG, NFT_REG_1);
            }
            Self::Ct { key, direction } => {
                w.be32(NFTA_CT_KEY, *key);
                w.be32(NFTA_CT_DREG, register);
                if let Some(direction) = direction {
                    w.attribute(NFTA_CT_DIRECTION, &[*direction]);
                }
            }
            Self::SetCt(key) => {
                w.be32(NFTA_CT_KEY, *key);
                w.be32(NFTA_CT_SREG, register);
            }
            Self::Payload {
                base,
                offset,
                length,
            } => {
                w.be32(NFTA_PAYLOAD_DREG, register);
                w.be32(NFTA_PAYLOAD_BASE, *base);
                w.be32(NFTA_PAYLOAD_OFFSET, *offset);
                w.be32(NFTA_PAYLOAD_LEN, *length);
            }
            Self::Cmp { op, data } => {
                w.be32(NFTA_CMP_SREG, NFT_REG_1);
                w.be32(NFTA_CMP_OP, *op);
                w.nest(NFTA_CMP_DATA, |w| w.attribute(NFTA_DATA_VALUE, data));
            }
            Self::Mask(mask) => {
                w.be32(NFTA_BITWISE_SREG, register);
                w.be32(NFTA_BITWISE_DREG, register);
                // A register has 16 bytes, so longer data is not dfw's.
                let length = u32::try_from(mask.len()).unwrap_or_default();
                w.be32(NFTA_BITWISE_LEN, length);
                w.nest(NFTA_BITWISE_MASK, |w| w.attribute(NFTA_DATA_VALUE, mask));
                w.nest(NFTA_BITWISE_XOR, |w| {
                    w.attribute(NFTA_DATA_VALUE, &vec![0; mask.len()]);
                });
            }
            Self::Lookup {
                set,
                inverted,
                verdict,
            } => {
                w.string(NFTA_LOOKUP_SET, set);
                w.be32(NFTA_LOOKUP_SREG, NFT_REG_1);
                if *verdict {
                    w.be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
                }
                if *inverted {
                    w.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
                }
            }
            Self::Immediate(verdict) => {
                w.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
                w.nest(NFTA_IMMEDIATE_DATA, |w| encode_verdict(w, verdict));
            }
            Self::Value(data) => {
                w.be32(NFTA_IMMEDIATE_DREG, NFT_REG_1);
                w.nest(NFTA_IMMEDIATE_DATA, |w| w.attribute(NFTA_DATA_VALUE, data));
            }
            Self::Counter | Self::Beside(_) | Self::Raw { .. } => {}
            Self::Limit {
                rate,
                unit,
                burst,
                over,
            } => {
                w.be64(NFTA_LIMIT_RATE, *rate);
                w.be64(NFTA_LIMIT_UNIT, *unit);
                w.be32(NFTA_LIMIT_BURST, *burst);
                w.be32(NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS);
                w.be32(NFTA_LIMIT_FLAGS, if *over { NFT_LIMIT_F_INV } else { 0 });
            }
            Self::OverCount(count) => {
                w.be32(NFTA_CONNLIMIT_COUNT, *count);
                w.be32(NFTA_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV);
            }
            Self::Dynset {
                set,
                update,
                timeout,
                limit,
            } => {
                w.string(NFTA_DYNSET_SET_NAME, set);
                let operation = if *update {
                    NFT_DYNSET_OP_UPDATE
                } else {
                    NFT_DYNSET_OP_ADD
                };
                w.be32(NFTA_DYNSET_OP, operation);
                w.be32(NFTA_DYNSET_SREG_KEY, NFT_REG_1);
                if *timeout > 0 {
                    w.be64(NFTA_DYNSET_TIMEOUT, *timeout);
                }
                w.nest(NFTA_DYNSET_EXPR, |w| limit.encode_parts(w));
            }
            Self::Log { prefix, group } => {
                w.string(NFTA_LOG_PREFIX, prefix);
                if let Some(group) = group {
                    w.attribute(NFTA_LOG_GROUP, &group.to_be_bytes());
                }
            }
            Self::Reject { kind, code } => {
                w.be32(NFTA_REJECT_TYPE, *kind);
                w.attribute(NFTA_REJECT_ICMP_CODE, &[*code]);
            }
            Self::Fib { result, flags } => {
                w.be32(NFTA_FIB_FLAGS, *flags);
                w.be32(NFTA_FIB_RESULT, *result);
                w.be32(NFTA_FIB_DREG, NFT_REG_1);
            }
        }
    }

    /// Decodes an element of a rule's list of expressions. Foreign instructions are not an error.
    pub(super) fn decode(element: &Attribute<'_>) -> Result<Self, Malformed> {
        let [_, name, data] = element.nested().table::<3>()?;
        let name = name
            .ok_or(Malformed("an expression without a name"))?
            .string()?;
        let data = data.map_or(&[][..], |data| data.payload);
        Ok(Self::decode_data(name, data).unwrap_or_else(|| Self::Raw {
            name: name.to_owned(),
            data: data.to_vec(),
        }))
    }

    /// Returns whether it is a counter.
    pub(super) fn is_counter(element: &Attribute<'_>) -> bool {
        let attributes = element.nested().table::<3>();
        attributes.is_ok_and(|[_, name, _]| name.is_some_and(|name| name.string() == Ok("counter")))
    }

    /// Returns the values of a counter; `None` for any other instruction.
    pub(super) fn counter_values(element: &Attribute<'_>) -> Option<Counter> {
        let [_, name, data] = element.nested().table::<3>().ok()?;
        if name?.string().ok()? != "counter" {
            return None;
        }
        let [_, bytes, packets] = data?.nested().table::<3>().ok()?;
        Some(Counter {
            packets: packets?.be64().ok()?,
            bytes: bytes?.be64().ok()?,
        })
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each kind of instruction"
    )]
    fn decode_data(name: &str, data: &[u8]) -> Option<Self> {
        // `fields` lists every possible attribute, so that no foreign attribute is overlooked.
        let fields = |known: &[u16]| fields(data, known);
        Some(match name {
            "meta" => {
                let f = fields(&[NFTA_META_DREG, NFTA_META_KEY])?;
                f.expect(NFTA_META_DREG, NFT_REG_1)?;
                Self::Meta(f.be32(NFTA_META_KEY)?)
            }
            "ct" => {
                let f = fields(&[NFTA_CT_DREG, NFTA_CT_KEY, NFTA_CT_DIRECTION, NFTA_CT_SREG])?;
                if f.get(NFTA_CT_SREG).is_some() {
                    f.expect(NFTA_CT_SREG, NFT_REG_1)?;
                    let is_load = f.get(NFTA_CT_DREG).or(f.get(NFTA_CT_DIRECTION)).is_some();
                    let key = f.be32(NFTA_CT_KEY)?;
                    return (!is_load).then_some(Self::SetCt(key));
                }
                let beside = f.is_beside(NFTA_CT_DREG)?;
                let direction = match f.get(NFTA_CT_DIRECTION) {
                    Some(attribute) => Some(byte(&attribute)?),
                    None => None,
                };
                let key = f.be32(NFTA_CT_KEY)?;
                Self::Ct { key, direction }.placed(beside)
            }
            "payload" => {
                let f = fields(&[
                    NFTA_PAYLOAD_DREG,
                    NFTA_PAYLOAD_BASE,
                    NFTA_PAYLOAD_OFFSET,
                    NFTA_PAYLOAD_LEN,
                ])?;
                Self::Payload {
                    base: f.be32(NFTA_PAYLOAD_BASE)?,
                    offset: f.be32(NFTA_PAYLOAD_OFFSET)?,
                    length: f.be32(NFTA_PAYLOAD_LEN)?,
                }
                .placed(f.is_beside(NFTA_PAYLOAD_DREG)?)
            }
            "cmp" => {
                let f = fields(&[NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA])?;
                f.expect(NFTA_CMP_SREG, NFT_REG_1)?;
                Self::Cmp {
                    op: f.be32(NFTA_CMP_OP)?,
                    data: value(&f.get(NFTA_CMP_DATA)?)?.to_vec(),
                }
            }
            "bitwise" => Self::decode_mask(&fields(&[
                NFTA_BITWISE_SREG,
                NFTA_BITWISE_DREG,
                NFTA_BITWISE_LEN,
                NFTA_BITWISE_MASK,
                NFTA_BITWISE_XOR,
                NFTA_BITWISE_OP,
            ])?)?,
            "lookup" => {
                let f = fields(&[
                    NFTA_LOOKUP_SET,
                    NFTA_LOOKUP_SREG,
                    NFTA_LOOKUP_DREG,
                    NFTA_LOOKUP_FLAGS,
                ])?;
                f.expect(NFTA_LOOKUP_SREG, NFT_REG_1)?;
                let verdict = f.get(NFTA_LOOKUP_DREG).is_some();
                if verdict {
                    f.expect(NFTA_LOOKUP_DREG, NFT_REG_VERDICT)?;
                }
                Self::Lookup {
                    set: f.get(NFTA_LOOKUP_SET)?.string().ok()?.to_owned(),
                    inverted: match f.be32(NFTA_LOOKUP_FLAGS) {
                        None | Some(0) => false,
                        Some(NFT_LOOKUP_F_INV) => true,
                        Some(_) => return None,
                    },
                    verdict,
                }
            }
            "immediate" => {
                let f = fields(&[NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA])?;
                let data = f.get(NFTA_IMMEDIATE_DATA)?;
                match f.be32(NFTA_IMMEDIATE_DREG)? {
                    NFT_REG_VERDICT => Self::Immediate(decode_verdict(&data)?),
                    NFT_REG_1 => Self::Value(value(&data)?.to_vec()),
                    _ => return None,
                }
            }
            "counter" => {
                fields(&[NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS, NFTA_COUNTER_PAD])?;
                Self::Counter
            }
            "limit" => {
                let f = fields(&[
                    NFTA_LIMIT_RATE,
                    NFTA_LIMIT_UNIT,
                    NFTA_LIMIT_BURST,
                    NFTA_LIMIT_TYPE,
                    NFTA_LIMIT_FLAGS,
                    NFTA_LIMIT_PAD,
                ])?;
                f.expect(NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS)?;
                let over = match f.be32(NFTA_LIMIT_FLAGS)? {
                    0 => false,
                    NFT_LIMIT_F_INV => true,
                    _ => return None,
                };
                Self::Limit {
                    rate: f.get(NFTA_LIMIT_RATE)?.be64().ok()?,
                    unit: f.get(NFTA_LIMIT_UNIT)?.be64().ok()?,
                    burst: f.be32(NFTA_LIMIT_BURST)?,
                    over,
                }
            }
            "connlimit" => {
                let f = fields(&[NFTA_CONNLIMIT_COUNT, NFTA_CONNLIMIT_FLAGS])?;
                f.expect(NFTA_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV)?;
                Self::OverCount(f.be32(NFTA_CONNLIMIT_COUNT)?)
            }
            "dynset" => Self::decode_dynset(&fields(&[
                NFTA_DYNSET_SET_NAME,
                NFTA_DYNSET_OP,
                NFTA_DYNSET_SREG_KEY,
                NFTA_DYNSET_TIMEOUT,
                NFTA_DYNSET_EXPR,
                NFTA_DYNSET_PAD,
                NFTA_DYNSET_FLAGS,
            ])?)?,
            "log" => {
                let f = fields(&[NFTA_LOG_PREFIX, NFTA_LOG_LEVEL, NFTA_LOG_GROUP])?;
                let group = match f.get(NFTA_LOG_GROUP) {
                    Some(group) => Some(u16::from_be_bytes(group.payload.try_into().ok()?)),
                    None => None,
                };
                if f.get(NFTA_LOG_LEVEL).is_some() {
                    f.expect(NFTA_LOG_LEVEL, LOG_LEVEL_WARNING)?;
                }
                Self::Log {
                    prefix: f.get(NFTA_LOG_PREFIX)?.string().ok()?.to_owned(),
                    group,
                }
            }
            "reject" => {
                let f = fields(&[NFTA_REJECT_TYPE, NFTA_REJECT_ICMP_CODE])?;
                let kind = f.be32(NFTA_REJECT_TYPE)?;
                // The kernel leaves out the code of a TCP reset, which has none.
                let code = match f.get(NFTA_REJECT_ICMP_CODE) {
                    Some(attribute) => byte(&attribute)?,
                    None => 0,
                };
                Self::Reject { kind, code }
            }
            "fib" => {
                let f = fields(&[NFTA_FIB_DREG, NFTA_FIB_RESULT, NFTA_FIB_FLAGS])?;
                f.expect(NFTA_FIB_DREG, NFT_REG_1)?;
                Self::Fib {
                    result: f.be32(NFTA_FIB_RESULT)?,
                    flags: f.be32(NFTA_FIB_FLAGS)?,
                }
            }
            _ => return None,
        })
    }

    fn decode_mask(f: &Fields<'_>) -> Option<Self> {
        let beside = f.is_beside(NFTA_BITWISE_SREG)?;
        if f.is_beside(NFTA_BITWISE_DREG)? != beside {
            return None;
        }
        // Missing before Linux 5.6; 0 is mask and xor.
        if f.get(NFTA_BITWISE_OP).is_some() {
            f.expect(NFTA_BITWISE_OP, 0)?;
        }
        let mask = value(&f.get(NFTA_BITWISE_MASK)?)?.to_vec();
        if value(&f.get(NFTA_BITWISE_XOR)?)? != vec![0; mask.len()] {
            return None;
        }
        f.expect(NFTA_BITWISE_LEN, u32::try_from(mask.len()).ok()?)?;
        Some(Self::Mask(mask).placed(beside))
    }

    fn decode_dynset(f: &Fields<'_>) -> Option<Self> {
        f.expect(NFTA_DYNSET_SREG_KEY, NFT_REG_1)?;
        // The kernel says that the set has no expression of its own, which nft and dfw never give it.
        let flags = f.be32(NFTA_DYNSET_FLAGS).unwrap_or(0);
        let update = match f.be32(NFTA_DYNSET_OP)? {
            NFT_DYNSET_OP_ADD => false,
            NFT_DYNSET_OP_UPDATE => true,
            _ => return None,
        };
        let timeout = match f.get(NFTA_DYNSET_TIMEOUT) {
            Some(timeout) => timeout.be64().ok()?,
            None => 0,
        };
        let set = f.get(NFTA_DYNSET_SET_NAME)?;
        let set = set.string().ok()?;
        let limit = Self::decode(&f.get(NFTA_DYNSET_EXPR)?).ok()?;
        (flags & !NFT_DYNSET_F_EXPR == 0).then(|| Self::Dynset {
            set: set.to_owned(),
            update,
            timeout,
            limit: Box::new(limit),
        })
    }

    fn placed(self, beside: bool) -> Self {
        if beside {
            Self::Beside(Box::new(self))
        } else {
            self
        }
    }
}

/// Writes a verdict as the data of an instruction or an element.
pub(super) fn encode_verdict(w: &mut Writer, verdict: &Verdict) {
    w.nest(NFTA_DATA_VERDICT, |w| {
        let code = match verdict {
            Verdict::Accept => NF_ACCEPT,
            Verdict::Drop => NF_DROP,
            Verdict::Jump(_) => NFT_JUMP,
            Verdict::Goto(_) => NFT_GOTO,
            Verdict::Return => NFT_RETURN,
        };
        w.be32(NFTA_VERDICT_CODE, code);
        if let Some(chain) = verdict.chain() {
            w.string(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

/// Decodes a verdict; `None` for one that dfw never writes.
pub(super) fn decode_verdict(data: &Attribute<'_>) -> Option<Verdict> {
    let [_, _, verdict] = data.nested().table::<3>().ok()?;
    let [_, code, chain] = verdict?.nested().table::<3>().ok()?;
    let chain = || Some(chain?.string().ok()?.to_owned());
    Some(match code?.be32().ok()? {
        NF_ACCEPT => Verdict::Accept,
        NF_DROP => Verdict::Drop,
        NFT_JUMP => Verdict::Jump(chain()?),
        NFT_GOTO => Verdict::Goto(chain()?),
        NFT_RETURN => Verdict::Return,
        _ => return None,
    })
}

/// Returns the bytes of a data attribute.
pub(super) fn value<'a>(data: &Attribute<'a>) -> Option<&'a [u8]> {
    let [_, value] = data.nested().table::<2>().ok()?;
    Some(value?.payload)
}

fn byte(attribute: &Attribute<'_>) -> Option<u8> {
    <[u8; 1]>::try_from(attribute.payload)
        .ok()
        .map(|[byte]| byte)
}

/// The attributes of an instruction, all of them known.
struct Fields<'a>([Option<Attribute<'a>>; 10]);

fn fields<'a>(data: &'a [u8], known: &[u16]) -> Option<Fields<'a>> {
    let mut table = [None; 10];
    for attribute in Attributes::new(data) {
        let attribute = attribute.ok().filter(|a| known.contains(&a.kind))?;
        *table.get_mut(usize::from(attribute.kind))? = Some(attribute);
    }
    Some(Fields(table))
}

impl<'a> Fields<'a> {
    fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    fn be32(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.be32().ok()
    }

    /// Returns whether a register is the one of a key's second part; `None` if it is none of dfw's.
    fn is_beside(&self, kind: u16) -> Option<bool> {
        match self.be32(kind)? {
            NFT_REG_1 => Some(false),
            NFT_REG32_01 => Some(true),
            _ => None,
        }
    }

    fn expect(&self, kind: u16, value: u32) -> Option<()> {
        (self.be32(kind)? == value).then_some(())
    }
}
