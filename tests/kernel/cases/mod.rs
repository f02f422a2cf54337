//! Every expression of a rule three times: as dfw has it, as libnftnl 1.2 prints it
//! (`nft --debug=netlink` shows the same), and as libnftnl is told to build it. A file for each group of
//! expressions, of the same name as in `src/ruleset/expression/` and `src/nftables/expression/`.

mod address;
mod conntrack;
mod interface;
mod per_source;
mod port;
mod statement;

use std::ffi::CStr;

use dfw::ruleset::Expression;
use nftnl::nftnl_sys as sys;

use crate::libnftnl::{Raw, Value};

/// What dfw says, the same in the words of libnftnl, and the same built with libnftnl.
pub(crate) struct Case {
    pub(crate) says: Expression,
    pub(crate) printed: Vec<String>,
    pub(crate) built: Vec<Raw>,
}

fn case(says: Expression, steps: Vec<(String, Raw)>) -> Case {
    let (printed, built) = steps.into_iter().unzip();
    Case {
        says,
        printed,
        built,
    }
}

/// One of the kernel's expressions, as it is printed and as it is built.
fn step(printed: &str, name: &'static CStr, attributes: &[(u32, Value)]) -> (String, Raw) {
    (
        printed.to_owned(),
        Raw {
            name,
            attributes: attributes.to_vec(),
        },
    )
}

const REGISTER: Value = Value::U32(1);

fn meta(word: &str, key: u32) -> (String, Raw) {
    let attributes = [
        (sys::NFTNL_EXPR_META_KEY, Value::U32(key)),
        (sys::NFTNL_EXPR_META_DREG, REGISTER),
    ];
    step(&format!("meta load {word} => reg 1"), c"meta", &attributes)
}

fn ct(word: &str, key: u32) -> (String, Raw) {
    let attributes = [
        (sys::NFTNL_EXPR_CT_KEY, Value::U32(key)),
        (sys::NFTNL_EXPR_CT_DREG, REGISTER),
    ];
    step(&format!("ct load {word} => reg 1"), c"ct", &attributes)
}

fn ct_original(word: &str, key: u32) -> (String, Raw) {
    let (_, mut raw) = ct(word, key);
    raw.attributes.push((sys::NFTNL_EXPR_CT_DIR, Value::U8(0)));
    (format!("ct load {word} => reg 1 , dir original"), raw)
}

fn payload(base: (&str, u32), offset: u32, length: u32) -> (String, Raw) {
    step(
        &format!(
            "payload load {length}b @ {} header + {offset} => reg 1",
            base.0
        ),
        c"payload",
        &[
            (sys::NFTNL_EXPR_PAYLOAD_DREG, REGISTER),
            (sys::NFTNL_EXPR_PAYLOAD_BASE, Value::U32(base.1)),
            (sys::NFTNL_EXPR_PAYLOAD_OFFSET, Value::U32(offset)),
            (sys::NFTNL_EXPR_PAYLOAD_LEN, Value::U32(length)),
        ],
    )
}

const NETWORK: (&str, u32) = ("network", 1);
const TRANSPORT: (&str, u32) = ("transport", 2);

fn cmp(word: &str, op: u32, hex: &str, bytes: &[u8]) -> (String, Raw) {
    step(
        &format!("cmp {word} reg 1 {hex}"),
        c"cmp",
        &[
            (sys::NFTNL_EXPR_CMP_SREG, REGISTER),
            (sys::NFTNL_EXPR_CMP_OP, Value::U32(op)),
            (sys::NFTNL_EXPR_CMP_DATA, Value::Bytes(bytes.to_vec())),
        ],
    )
}

fn eq(hex: &str, bytes: &[u8]) -> (String, Raw) {
    cmp("eq", 0, hex, bytes)
}

fn masked(hex: &str, mask: &[u8]) -> (String, Raw) {
    step(
        &format!("bitwise reg 1 = ( reg 1 & {hex} ) ^ 0x00000000"),
        c"bitwise",
        &[
            (sys::NFTNL_EXPR_BITWISE_SREG, REGISTER),
            (sys::NFTNL_EXPR_BITWISE_DREG, REGISTER),
            (
                sys::NFTNL_EXPR_BITWISE_LEN,
                Value::U32(u32::try_from(mask.len()).unwrap_or(0)),
            ),
            (sys::NFTNL_EXPR_BITWISE_MASK, Value::Bytes(mask.to_vec())),
            (
                sys::NFTNL_EXPR_BITWISE_XOR,
                Value::Bytes(vec![0; mask.len()]),
            ),
        ],
    )
}

/// The same for a whole register.
fn all_masked(hex: &str, mask: &[u8]) -> (String, Raw) {
    let (text, raw) = masked(hex, mask);
    (text + &" 0x00000000".repeat(3), raw)
}

/// The same for the second part of a concatenated key.
fn beside((printed, mut raw): (String, Raw)) -> (String, Raw) {
    let registers: &[u32] = match raw.name.to_bytes() {
        b"bitwise" => &[sys::NFTNL_EXPR_BITWISE_SREG, sys::NFTNL_EXPR_BITWISE_DREG],
        b"ct" => &[sys::NFTNL_EXPR_CT_DREG],
        _ => &[sys::NFTNL_EXPR_PAYLOAD_DREG],
    };
    let attributes = raw.attributes.iter_mut();
    for (_, value) in attributes.filter(|(key, _)| registers.contains(key)) {
        *value = Value::U32(9);
    }
    (printed.replace("reg 1", "reg 9"), raw)
}

fn bit(hex: &str, mask: u32) -> [(String, Raw); 2] {
    let bitwise = masked(hex, &mask.to_ne_bytes());
    [bitwise, cmp("neq", 1, "0x00000000", &[0; 4])]
}

fn lookup(set: &'static CStr, member: bool) -> (String, Raw) {
    let mut attributes = vec![
        (sys::NFTNL_EXPR_LOOKUP_SREG, REGISTER),
        (sys::NFTNL_EXPR_LOOKUP_SET, Value::Text(set)),
    ];
    if !member {
        attributes.push((sys::NFTNL_EXPR_LOOKUP_FLAGS, Value::U32(1)));
    }
    let flags = if member { "" } else { " 0x1" };
    step(
        &format!("lookup reg 1 set {}{flags}", set.to_string_lossy()),
        c"lookup",
        &attributes,
    )
}

fn lookup_map(map: &'static CStr) -> (String, Raw) {
    let (printed, mut raw) = lookup(map, true);
    raw.attributes
        .push((sys::NFTNL_EXPR_LOOKUP_DREG, Value::U32(0)));
    (format!("{printed} dreg 0"), raw)
}

/// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_GOTO` and `NFT_RETURN`.
pub(crate) const DROP: u32 = 0;
pub(crate) const ACCEPT: u32 = 1;
pub(crate) const JUMP: u32 = (-3_i32).cast_unsigned();
pub(crate) const GOTO: u32 = (-4_i32).cast_unsigned();
pub(crate) const RETURN: u32 = (-5_i32).cast_unsigned();

/// Keys of `enum nft_meta_keys` and `enum nft_ct_keys`.
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const OIFKIND: u32 = 27;
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;
const CT_PROTO_DST: u32 = 12;
const CT_LABELS: u32 = 13;

/// Every expression that a rule can have.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = interface::cases();
    cases.extend(conntrack::cases());
    cases.extend(address::cases());
    cases.extend(port::cases());
    cases.extend(per_source::cases());
    cases.extend(statement::cases());
    cases
}
