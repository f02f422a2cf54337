//! libnftnl as a second opinion: it reads what dfw writes, and writes what dfw reads. All of its C
//! interface that the witnesses need, wrapped.

#![expect(
    unsafe_code,
    reason = "the safe crate has neither a decoder nor half of the expressions"
)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use nftnl::expr::Expression;
use nftnl::nftnl_sys as sys;
use nftnl::{Batch, MsgType, NlMsg, ProtoFamily, Rule};

/// `NFT_MSG_NEWRULE`, `NFT_MSG_NEWSET` and `NFT_MSG_NEWSETELEM` of the subsystem 10.
const NEW_RULE: u16 = 0x0a06;
const NEW_SET: u16 = 0x0a09;
const NEW_ELEMENTS: u16 = 0x0a0c;

/// A number or some bytes of an attribute.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    Bytes(Vec<u8>),
    Text(&'static CStr),
    /// An expression within another.
    Expression(Box<Raw>),
}

/// An expression by its name and the attributes of libnftnl.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) name: &'static CStr,
    pub(crate) attributes: Vec<(u32, Value)>,
}

/// libnftnl numbers the attributes of expressions with 32 bits and takes 16.
fn attribute(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Expression for Raw {
    fn to_expr(&self, _: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        self.allocated()
    }
}

impl Raw {
    fn allocated(&self) -> NonNull<sys::nftnl_expr> {
        // SAFETY: the name is a C string; libnftnl copies what it is given.
        let expression = unsafe { sys::nftnl_expr_alloc(self.name.as_ptr()) };
        for (number, value) in &self.attributes {
            let number = attribute(*number);
            // SAFETY: as above, and the lengths are those of the slices.
            unsafe {
                match value {
                    Value::U8(value) => sys::nftnl_expr_set_u8(expression, number, *value),
                    Value::U16(value) => sys::nftnl_expr_set_u16(expression, number, *value),
                    Value::U32(value) => sys::nftnl_expr_set_u32(expression, number, *value),
                    Value::U64(value) => sys::nftnl_expr_set_u64(expression, number, *value),
                    Value::Bytes(bytes) => {
                        let data = bytes.as_ptr().cast::<c_void>();
                        sys::nftnl_expr_set(expression, number, data, length(bytes));
                    }
                    Value::Text(text) => {
                        sys::nftnl_expr_set_str(expression, number, text.as_ptr());
                    }
                    Value::Expression(inner) => {
                        // Taken over by the outer one.
                        let inner = inner.allocated().as_ptr().cast::<c_void>();
                        sys::nftnl_expr_set(expression, number, inner, 0);
                    }
                }
            }
        }
        NonNull::new(expression).unwrap_or_else(|| std::process::abort())
    }
}

/// A set of libnftnl with its elements.
pub(crate) struct Set(NonNull<sys::nftnl_set>);

/// An element as libnftnl has it; `end` marks the key behind a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) end: bool,
    /// The code of a verdict, and the chain that it leads to.
    pub(crate) verdict: Option<(u32, Option<&'static CStr>)>,
}

impl Set {
    pub(crate) fn new(table: &CStr, name: &str, attributes: &[(u32, u32)]) -> Result<Self> {
        // SAFETY: no precondition.
        let set = NonNull::new(unsafe { sys::nftnl_set_alloc() }).context("no memory")?;
        let (own, name) = (Self(set), CString::new(name)?);
        // SAFETY: the set is alive, and libnftnl copies the strings.
        unsafe {
            sys::nftnl_set_set_str(
                set.as_ptr(),
                attribute(sys::NFTNL_SET_TABLE),
                table.as_ptr(),
            );
            sys::nftnl_set_set_str(set.as_ptr(), attribute(sys::NFTNL_SET_NAME), name.as_ptr());
        }
        for (number, value) in attributes {
            // SAFETY: the set is alive; these attributes are numbers of 32 bits.
            unsafe { sys::nftnl_set_set_u32(set.as_ptr(), attribute(*number), *value) };
        }
        Ok(own)
    }

    pub(crate) fn add(&self, element: &Element) {
        let number = attribute;
        // SAFETY: the element is alive until the set takes it, and libnftnl copies what it is
        // given.
        unsafe {
            let new = sys::nftnl_set_elem_alloc();
            let key = element.key.as_ptr().cast::<c_void>();
            sys::nftnl_set_elem_set(
                new,
                number(sys::NFTNL_SET_ELEM_KEY),
                key,
                length(&element.key),
            );
            if element.end {
                sys::nftnl_set_elem_set_u32(new, number(sys::NFTNL_SET_ELEM_FLAGS), 1);
            }
            if let Some((code, chain)) = element.verdict {
                sys::nftnl_set_elem_set_u32(new, number(sys::NFTNL_SET_ELEM_VERDICT), code);
                if let Some(chain) = chain {
                    let name = chain.as_ptr();
                    sys::nftnl_set_elem_set_str(new, number(sys::NFTNL_SET_ELEM_CHAIN), name);
                }
            }
            sys::nftnl_set_elem_add(self.0.as_ptr(), new);
        }
    }

    /// Has each element count.
    pub(crate) fn count(&self) {
        /// `NFTNL_SET_EXPR` of libnftnl 1.1.6 and later.
        const EXPRESSION: u16 = 17;
        // SAFETY: the set is alive and takes the expression over.
        unsafe {
            let counter = sys::nftnl_expr_alloc(c"counter".as_ptr());
            sys::nftnl_set_set_data(self.0.as_ptr(), EXPRESSION, counter.cast(), 0);
        }
    }

    pub(crate) fn number(&self, number: u32) -> u32 {
        // SAFETY: the set is alive; a missing number is 0.
        unsafe { sys::nftnl_set_get_u32(self.0.as_ptr(), attribute(number)) }
    }

    /// The set as libnftnl prints it, elements included.
    pub(crate) fn printed(&self) -> Result<String> {
        printed(|buffer, size| {
            // SAFETY: the buffer has that many bytes, and the set is alive.
            unsafe { sys::nftnl_set_snprintf(buffer, size, self.0.as_ptr(), 0, 0) }
        })
    }

    /// The elements as a message of their own.
    pub(crate) fn elements(&self) -> Elements<'_> {
        Elements(self)
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { sys::nftnl_set_free(self.0.as_ptr()) };
    }
}

pub(crate) struct Elements<'a>(&'a Set);

/// `NLM_F_CREATE | NLM_F_ACK`.
const FLAGS: u16 = 0x400 | 0x4;

// SAFETY: what is written is one message with its payload, both by libnftnl.
unsafe impl NlMsg for Set {
    unsafe fn write(&self, buffer: *mut c_void, sequence: u32, _: MsgType) {
        let family = ProtoFamily::Inet as u16;
        // SAFETY: the batch gives a buffer that is large enough for any message.
        unsafe {
            let header = sys::nftnl_nlmsg_build_hdr(
                buffer.cast::<c_char>(),
                NEW_SET & 0xff,
                family,
                FLAGS,
                sequence,
            );
            sys::nftnl_set_nlmsg_build_payload(header, self.0.as_ptr());
        }
    }
}

// SAFETY: as above.
unsafe impl NlMsg for Elements<'_> {
    unsafe fn write(&self, buffer: *mut c_void, sequence: u32, _: MsgType) {
        let family = ProtoFamily::Inet as u16;
        // SAFETY: as above.
        unsafe {
            let header = sys::nftnl_nlmsg_build_hdr(
                buffer.cast::<c_char>(),
                NEW_ELEMENTS & 0xff,
                family,
                FLAGS,
                sequence,
            );
            sys::nftnl_set_elems_nlmsg_build_payload(header, self.0.0.as_ptr());
        }
    }
}

/// The messages of a transaction: type and bytes, aligned as C wants them.
fn messages(bytes: &[u8]) -> Vec<(u16, Vec<u32>)> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while let (Some(length), Some(kind)) = (
        rest.first_chunk(),
        rest.get(4..).and_then(<[u8]>::first_chunk),
    ) {
        let (message, behind) = rest.split_at(u32::from_ne_bytes(*length) as usize);
        let words = message
            .chunks_exact(4)
            .filter_map(|word| word.first_chunk().copied());
        messages.push((
            u16::from_ne_bytes(*kind),
            words.map(u32::from_ne_bytes).collect(),
        ));
        rest = behind;
    }
    messages
}

/// The rules of a transaction as libnftnl prints them, a line for each of the kernel's expressions.
pub(crate) fn printed_rules(bytes: &[u8]) -> Result<Vec<Vec<String>>> {
    let rules = messages(bytes)
        .into_iter()
        .filter(|(kind, _)| *kind == NEW_RULE);
    rules.map(|(_, message)| printed_rule(&message)).collect()
}

fn printed_rule(message: &[u32]) -> Result<Vec<String>> {
    // SAFETY: the message is whole and aligned, and the rule is freed by nobody else.
    let text = unsafe {
        let rule = sys::nftnl_rule_alloc();
        let parsed = sys::nftnl_rule_nlmsg_parse(message.as_ptr().cast(), rule);
        let text = printed(|buffer, size| sys::nftnl_rule_snprintf(buffer, size, rule, 0, 0));
        sys::nftnl_rule_free(rule);
        ensure!(parsed == 0, "libnftnl cannot read a rule");
        text?
    };
    let expressions = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix('['));
    Ok(expressions
        .map(|line| line.trim_end_matches(']').trim().to_owned())
        .collect())
}

/// The sets of a transaction with their elements, as libnftnl reads them.
pub(crate) fn read_sets(bytes: &[u8]) -> Result<Vec<Set>> {
    let mut sets = Vec::new();
    for (kind, message) in messages(bytes) {
        let header = message.as_ptr().cast();
        if kind == NEW_SET {
            // SAFETY: no precondition.
            let set = NonNull::new(unsafe { sys::nftnl_set_alloc() }).context("no memory")?;
            sets.push(Set(set));
            // SAFETY: the message is whole and aligned, and the set is alive.
            let parsed = unsafe { sys::nftnl_set_nlmsg_parse(header, set.as_ptr()) };
            ensure!(parsed == 0, "libnftnl cannot read a set");
        } else if kind == NEW_ELEMENTS {
            // They follow their set.
            let set = sets.last().context("elements of no set")?.0;
            // SAFETY: as above.
            let parsed = unsafe { sys::nftnl_set_elems_nlmsg_parse(header, set.as_ptr()) };
            ensure!(parsed == 0, "libnftnl cannot read elements");
        }
    }
    Ok(sets)
}

fn printed(print: impl Fn(*mut c_char, usize) -> i32) -> Result<String> {
    let mut buffer = vec![0_u8; 64 * 1024];
    let length = print(buffer.as_mut_ptr().cast(), buffer.len());
    let length = usize::try_from(length).context("libnftnl cannot print")?;
    ensure!(length < buffer.len(), "too long to print");
    buffer.truncate(length);
    Ok(String::from_utf8(buffer)?)
}

/// Sends a transaction of libnftnl by libmnl, and waits for the answers to all of its messages.
pub(crate) fn send(socket: &mnl::Socket, batch: Batch) -> Result<()> {
    let batch = batch.finalize();
    socket.send_all(&batch)?;
    let mut buffer = vec![0; nftnl::nft_nlmsg_maxsize() as usize];
    for sequence in batch.sequence_numbers() {
        for answer in socket.recv(&mut buffer)? {
            mnl::cb_run(answer?, sequence, socket.portid())?;
        }
    }
    Ok(())
}
