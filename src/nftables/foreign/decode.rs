//! Decodes messages about objects of other tables.

use crate::ruleset::TABLE;

use super::super::instruction::value;
use super::super::number::*;
use super::{
    Data, Extension, Field, Foreign, ForeignElement, ForeignSet, Into, Name, NatChain, Order,
    REGISTERS, Register, Step, Verdict,
};
use crate::netlink::message::{Attribute, Attributes, Malformed, Message};

/// Reads a message about an object of another table; `None` for any other.
///
/// # Errors
/// If it is malformed, or has a name that is not UTF-8.
pub fn decode(message: &Message<'_>) -> Result<Option<Foreign>, Malformed> {
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Ok(None);
    }
    let family = message.family()?;
    let attributes = message.attributes()?;
    Ok(match message.kind & 0xff {
        NFT_MSG_NEWTABLE => {
            let [_, name, flags] = attributes.table::<3>()?;
            let flags = flags.map_or(Ok(0), |flags| flags.be32())?;
            let dormant = flags & NFT_TABLE_F_DORMANT != 0;
            dormant
                .then(|| Ok(Foreign::Dormant(family, text(name)?)))
                .transpose()?
        }
        NFT_MSG_NEWCHAIN => decode_base(family, attributes)?,
        NFT_MSG_NEWRULE => Some(decode_rule(family, attributes)?),
        NFT_MSG_NEWSET => Some(decode_set(family, attributes)?),
        NFT_MSG_NEWSETELEM => {
            let [_, _, _, list] = attributes.table::<4>()?;
            let list = list.map_or(&[][..], |list| list.payload);
            let elements = Attributes::new(list).map(|element| decode_element(&element?));
            Some(Foreign::Elements(elements.collect::<Result<_, _>>()?))
        }
        _ => None,
    })
}

fn decode_base(family: u8, attributes: Attributes<'_>) -> Result<Option<Foreign>, Malformed> {
    let table = attributes.table::<13>()?;
    let is_nat = table[usize::from(NFTA_CHAIN_TYPE)].is_some_and(|kind| kind.string() == Ok("nat"));
    let Some(hook) = table[usize::from(NFTA_CHAIN_HOOK)] else {
        return Ok(None);
    };
    let [_, number, priority] = hook.nested().table::<3>()?;
    let read = |a: Option<Attribute<'_>>| a.ok_or(Malformed("incomplete hook"))?.be32();
    let name = name(
        family,
        table[usize::from(NFTA_CHAIN_TABLE)],
        table[usize::from(NFTA_CHAIN_NAME)],
    )?;
    let is_ip = [NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6].contains(&family);
    let is_own = family == NFPROTO_INET && name.1 == TABLE;
    if !is_ip || is_own || read(number)? != NF_INET_PRE_ROUTING {
        return Ok(None);
    }
    let priority = read(priority)?.cast_signed();
    if !is_nat {
        return Ok((priority < CONNTRACK).then_some(Foreign::Early(name)));
    }
    Ok(Some(Foreign::Base(NatChain {
        name,
        priority,
        accepts: table[usize::from(NFTA_CHAIN_POLICY)]
            .is_none_or(|policy| policy.be32() == Ok(NF_ACCEPT)),
    })))
}

/// Where connection tracking looks at packets (`NF_IP_PRI_CONNTRACK` of `linux/netfilter_ipv4.h`).
const CONNTRACK: i32 = -200;

fn decode_rule(family: u8, attributes: Attributes<'_>) -> Result<Foreign, Malformed> {
    let table = attributes.table::<8>()?;
    let name = name(
        family,
        table[usize::from(NFTA_RULE_TABLE)],
        table[usize::from(NFTA_RULE_CHAIN)],
    )?;
    let list = table[usize::from(NFTA_RULE_EXPRESSIONS)];
    let list = list.map_or(&[][..], |list| list.payload);
    let steps = Attributes::new(list).map(|element| decode_step(&element?));
    Ok(Foreign::Rule(name, steps.collect::<Result<_, _>>()?))
}

fn decode_set(family: u8, attributes: Attributes<'_>) -> Result<Foreign, Malformed> {
    let table = attributes.table::<21>()?;
    let number = |kind: u16| table[usize::from(kind)].map_or(Ok(0), |a| a.be32());
    let name = name(
        family,
        table[usize::from(NFTA_SET_TABLE)],
        table[usize::from(NFTA_SET_NAME)],
    )?;
    let mut parts = Vec::new();
    if let Some(desc) = table[usize::from(NFTA_SET_DESC)]
        && let [_, _, Some(concat)] = desc
            .nested()
            .table::<{ NFTA_SET_DESC_CONCAT as usize + 1 }>()?
    {
        for part in concat.nested() {
            let part = part?.nested().table::<2>()?[usize::from(NFTA_SET_FIELD_LEN)];
            parts.push(part.ok_or(Malformed("a part without a length"))?.be32()? as usize);
        }
    }
    let flags = number(NFTA_SET_FLAGS)?;
    let set = ForeignSet {
        parts,
        length: number(NFTA_SET_KEY_LEN)? as usize,
        interval: flags & NFT_SET_INTERVAL != 0,
        elements: None,
        changes: flags & (NFT_SET_TIMEOUT | NFT_SET_EVAL) != 0,
    };
    Ok(Foreign::Set(name, set))
}

fn decode_element(element: &Attribute<'_>) -> Result<ForeignElement, Malformed> {
    let table = element.nested().table::<16>()?;
    let bytes = |kind: u16| {
        let value = table[usize::from(kind)].as_ref().and_then(value);
        value.map(<[u8]>::to_vec)
    };
    let flags = table[usize::from(NFTA_SET_ELEM_FLAGS)].map_or(Ok(0), |flags| flags.be32())?;
    let key = bytes(NFTA_SET_ELEM_KEY);
    if key.is_none() && flags & NFT_SET_ELEM_CATCHALL == 0 {
        return Err(Malformed("an element without a key"));
    }
    let data = table[usize::from(NFTA_SET_ELEM_DATA)].as_ref();
    Ok(ForeignElement {
        key,
        last: bytes(NFTA_SET_ELEM_KEY_END),
        ends: flags & NFT_SET_ELEM_INTERVAL_END != 0,
        data: match (data.and_then(value), data.and_then(verdict)) {
            (Some(value), _) => Data::Value(value.to_vec()),
            (None, Some(verdict)) => Data::Verdict(verdict),
            (None, None) => Data::None,
        },
    })
}

/// Reads an instruction. An instruction that cannot be evaluated exactly becomes [`Step::Unknown`].
fn decode_step(element: &Attribute<'_>) -> Result<Step, Malformed> {
    let [_, name, data] = element.nested().table::<3>()?;
    let name = name
        .ok_or(Malformed("an expression without a name"))?
        .string()?;
    let data = data.map_or(&[][..], |data| data.payload);
    let table = Attributes::new(data).table::<10>()?;
    Ok(decode_known(name, &Fields(table)).unwrap_or(Step::Unknown))
}

fn decode_known(name: &str, f: &Fields<'_>) -> Option<Step> {
    Some(match name {
        "payload" => f.payload()?,
        "meta" if f.get(NFTA_META_SREG).is_some() => Step::Nothing,
        "meta" => Step::Load {
            to: f.register(NFTA_META_DREG)?,
            field: match f.be32(NFTA_META_KEY)? {
                NFT_META_L4PROTO => Field::Protocol,
                NFT_META_NFPROTO => Field::Family,
                NFT_META_PROTOCOL => Field::EtherType,
                NFT_META_IIFNAME => Field::InterfaceName,
                NFT_META_IIF => Field::InterfaceIndex,
                _ => Field::Other,
            },
        },
        "ct" if f.get(NFTA_CT_SREG).is_some() => match f.be32(NFTA_CT_KEY)? {
            NFT_CT_MARK => Step::SetConnectionMark,
            _ => Step::Nothing,
        },
        "ct" => Step::Load {
            to: f.register(NFTA_CT_DREG)?,
            field: match f.be32(NFTA_CT_KEY)? {
                NFT_CT_STATE => Field::State,
                _ => Field::Other,
            },
        },
        "fib" => Step::Load {
            to: f.register(NFTA_FIB_DREG)?,
            field: match (f.be32(NFTA_FIB_RESULT)?, f.be32(NFTA_FIB_FLAGS)?) {
                (NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR) => Field::AddressType,
                _ => Field::Other,
            },
        },
        "bitwise" => f.bitwise()?,
        "cmp" => Step::Compare {
            register: f.register(NFTA_CMP_SREG)?,
            order: match f.be32(NFTA_CMP_OP)? {
                NFT_CMP_EQ => Order::Equal,
                NFT_CMP_NEQ => Order::Unequal,
                NFT_CMP_LT => Order::Less,
                NFT_CMP_LTE => Order::AtMost,
                NFT_CMP_GT => Order::Greater,
                NFT_CMP_GTE => Order::AtLeast,
                _ => return None,
            },
            value: f.value(NFTA_CMP_DATA)?,
        },
        "range" => Step::Range {
            register: f.register(NFTA_RANGE_SREG)?,
            inverted: f.be32(NFTA_RANGE_OP)? != 0,
            first: f.value(NFTA_RANGE_FROM_DATA)?,
            last: f.value(NFTA_RANGE_TO_DATA)?,
        },
        "lookup" => f.lookup()?,
        "immediate" => f.immediate()?,
        "nat" if f.be32(NFTA_NAT_TYPE)? == NFT_NAT_DNAT => Step::Dnat {
            family: u8::try_from(f.be32(NFTA_NAT_FAMILY)?).ok()?,
            address: f
                .registers(NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_ADDR_MAX)
                .ok()?,
            port: f
                .registers(NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_REG_PROTO_MAX)
                .ok()?,
            network: f.be32(NFTA_NAT_FLAGS).unwrap_or_default() & NF_NAT_RANGE_NETMAP != 0,
        },
        "redir" => Step::Redirect {
            port: f
                .registers(NFTA_REDIR_REG_PROTO_MIN, NFTA_REDIR_REG_PROTO_MAX)
                .ok()?,
        },
        "match" => Step::Match(f.extension()?),
        "target" => Step::Target(f.extension()?),
        "notrack" => Step::Untrack,
        "counter" | "log" | "last" => Step::Nothing,
        "byteorder" | "connlimit" | "dynset" | "exthdr" | "hash" | "limit" | "numgen"
        | "objref" | "osf" | "quota" | "rt" | "socket" | "tunnel" | "xfrm" => Step::Condition,
        _ => return None,
    })
}

fn verdict(data: &Attribute<'_>) -> Option<Verdict> {
    let [_, _, verdict] = data.nested().table::<3>().ok()?;
    let [_, code, chain] = verdict?.nested().table::<3>().ok()?;
    let chain = || Some(chain?.string().ok()?.to_owned());
    Some(match code?.be32().ok()? {
        NF_ACCEPT => Verdict::Accept,
        NFT_JUMP => Verdict::Jump(chain()?),
        NFT_GOTO => Verdict::Goto(chain()?),
        NFT_RETURN => Verdict::Return,
        // `NFT_BREAK` continues with the next rule.
        NFT_CONTINUE | NFT_BREAK => Verdict::Continue,
        _ => Verdict::Other,
    })
}

fn name(
    family: u8,
    table: Option<Attribute<'_>>,
    name: Option<Attribute<'_>>,
) -> Result<Name, Malformed> {
    Ok((family, text(table)?, text(name)?))
}

fn text(attribute: Option<Attribute<'_>>) -> Result<String, Malformed> {
    attribute
        .ok_or(Malformed("a name is missing"))?
        .string()
        .map(str::to_owned)
}

/// The attributes of an instruction.
struct Fields<'a>([Option<Attribute<'a>>; 10]);

impl<'a> Fields<'a> {
    fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    fn be32(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.be32().ok()
    }

    fn value(&self, kind: u16) -> Option<Vec<u8>> {
        value(&self.get(kind)?).map(<[u8]>::to_vec)
    }

    /// Returns where a register begins: there are four of 16 bytes, or sixteen of 4 bytes in the same place.
    fn register(&self, kind: u16) -> Option<Register> {
        let number = self.be32(kind)?;
        let at = match number {
            NFT_REG_1..=NFT_REG_4 => (number - NFT_REG_1) * 16,
            NFT_REG32_00..=NFT_REG32_15 => (number - NFT_REG32_00) * 4,
            _ => return None,
        };
        usize::try_from(at).ok()
    }

    /// First and last of a range, which are the same if the last is left out; `None` without either.
    fn registers(&self, first: u16, last: u16) -> Result<Option<(Register, Register)>, ()> {
        if self.get(first).is_none() {
            return Ok(None);
        }
        let last = self.get(last).map_or(first, |_| last);
        let register = |kind| self.register(kind).ok_or(());
        Ok(Some((register(first)?, register(last)?)))
    }

    fn payload(&self) -> Option<Step> {
        // Without a register to load into it writes into the packet.
        let to = self.register(NFTA_PAYLOAD_DREG)?;
        let number = |kind| usize::try_from(self.be32(kind)?).ok();
        let (offset, length) = (number(NFTA_PAYLOAD_OFFSET)?, number(NFTA_PAYLOAD_LEN)?);
        if length > REGISTERS || offset > usize::from(u8::MAX) {
            return Some(Step::Condition);
        }
        let field = match self.be32(NFTA_PAYLOAD_BASE)? {
            NFT_PAYLOAD_NETWORK_HEADER => Field::Network { offset, length },
            NFT_PAYLOAD_TRANSPORT_HEADER => Field::Transport { offset, length },
            _ => return Some(Step::Condition),
        };
        Some(Step::Load { field, to })
    }

    fn bitwise(&self) -> Option<Step> {
        // Missing before Linux 5.6; 0 is mask and xor.
        if self.be32(NFTA_BITWISE_OP).unwrap_or_default() != 0 {
            return Some(Step::Condition);
        }
        let (mask, xor) = (
            self.value(NFTA_BITWISE_MASK)?,
            self.value(NFTA_BITWISE_XOR)?,
        );
        (mask.len() == xor.len()).then_some(Step::Bitwise {
            from: self.register(NFTA_BITWISE_SREG)?,
            to: self.register(NFTA_BITWISE_DREG)?,
            mask,
            xor,
        })
    }

    fn lookup(&self) -> Option<Step> {
        let into = match self.be32(NFTA_LOOKUP_DREG) {
            None => Into::Nothing,
            Some(NFT_REG_VERDICT) => Into::Verdict,
            Some(_) => Into::Register(self.register(NFTA_LOOKUP_DREG)?),
        };
        Some(Step::Lookup {
            set: self.get(NFTA_LOOKUP_SET)?.string().ok()?.to_owned(),
            register: self.register(NFTA_LOOKUP_SREG)?,
            inverted: match self.be32(NFTA_LOOKUP_FLAGS) {
                None | Some(0) => false,
                Some(NFT_LOOKUP_F_INV) => true,
                Some(_) => return None,
            },
            into,
        })
    }

    fn immediate(&self) -> Option<Step> {
        let data = self.get(NFTA_IMMEDIATE_DATA)?;
        Some(match self.be32(NFTA_IMMEDIATE_DREG)? {
            NFT_REG_VERDICT => Step::Verdict(verdict(&data)?),
            _ => Step::Value {
                to: self.register(NFTA_IMMEDIATE_DREG)?,
                value: value(&data)?.to_vec(),
            },
        })
    }

    fn extension(&self) -> Option<Extension> {
        Some(Extension {
            name: self.get(NFTA_MATCH_NAME)?.string().ok()?.to_owned(),
            revision: self.be32(NFTA_MATCH_REV)?,
            data: self.get(NFTA_MATCH_INFO)?.payload.to_vec(),
        })
    }
}
