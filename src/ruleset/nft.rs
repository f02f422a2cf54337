//! A ruleset as text in nft's own language: for people, and loadable by `nft -f`.

use core::time::Duration;
use std::fmt::{self, Display, Formatter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Base, Chain, Elements, Key, Row, Rule, Ruleset, Set, TABLE, Until, Value, with_rows};

/// How many elements of a set are printed on a line.
const ELEMENTS_PER_LINE: usize = 8;

impl Ruleset {
    /// Makes ends of elements the time that is left at a time since boot; those that have ended by then go.
    ///
    /// The text of a ruleset has ends as `timeout`.
    pub fn set_back(&mut self, now: Duration) {
        fn rows<R>(rows: &mut Vec<Until<R>>, now: Duration) {
            rows.retain(|row| row.end > now);
            for row in rows {
                row.end -= now;
            }
        }
        for set in self.sets.values_mut() {
            match &mut set.elements {
                Elements::Ipv4Until(all) => rows(all, now),
                Elements::Ipv6Until(all) => rows(all, now),
                _ => {}
            }
        }
    }
}

impl Display for Ruleset {
    /// Writes the table as `nft list table` would, base chains first.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        let mut first = true;
        let mut gap = |f: &mut Formatter<'_>| {
            if std::mem::take(&mut first) {
                Ok(())
            } else {
                f.write_char('\n')
            }
        };
        for line in &self.unknown {
            gap(f)?;
            writeln!(f, "\t# not dfw's: {line}")?;
        }
        for (name, set) in &self.sets {
            gap(f)?;
            write_set(f, name, set)?;
        }
        for (name, chain) in self.chains_in_order() {
            gap(f)?;
            write_chain(f, name, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
    let of = set.elements.set_type();
    let (keyword, leads) = if of.map {
        ("map", " : verdict")
    } else {
        ("set", "")
    };
    let fields: Vec<&str> = of.key.iter().map(|field| field.name()).collect();
    let key = fields.join(" . ");
    writeln!(f, "\t{keyword} {name} {{\n\t\ttype {key}{leads}")?;
    if let Some(room) = set.elements.room() {
        writeln!(f, "\t\tsize {room}")?;
    }
    let flags = [
        (of.interval, "interval"),
        (of.dynamic, "dynamic"),
        (of.expiring, "timeout"),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(has, flag)| has.then_some(flag));
    let flags: Vec<&str> = flags.collect();
    if !flags.is_empty() {
        writeln!(f, "\t\tflags {}", flags.join(","))?;
    }
    if of.counting {
        writeln!(f, "\t\tcounter")?;
    }
    if let Some(comment) = &set.comment {
        writeln!(f, "\t\tcomment \"{comment}\"")?;
    }
    write_elements(f, set.elements.texts())?;
    writeln!(f, "\t}}")
}

impl Elements {
    /// Returns the elements one by one, as nft writes them.
    #[must_use]
    pub fn texts(&self) -> Box<dyn Iterator<Item = String> + '_> {
        with_rows!(self, rows => Box::new(rows.iter().map(|row| RowText(row).to_string())))
    }
}

/// A row as nft writes it.
struct RowText<'a, R>(&'a R);

impl<R: Row> Display for RowText<'_, R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let row = self.0;
        match (row.first().values().as_ref(), row.last().values().as_ref()) {
            ([first], [last]) if R::INTERVAL => f.write_str(&interval_text(*first, *last))?,
            (fields, _) => {
                for (at, field) in fields.iter().enumerate() {
                    write!(f, "{}{field}", if at > 0 { " . " } else { "" })?;
                }
            }
        }
        if let Some(end) = row.end() {
            write!(f, " timeout {}s", end.as_secs().max(1))?;
        }
        if let Some(verdict) = row.verdict() {
            write!(f, " : {verdict}")?;
        }
        match row.comment() {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

fn interval_text(first: Value<'_>, last: Value<'_>) -> String {
    match (first, last) {
        (Value::Ipv4(first), Value::Ipv4(last)) => range4(first, last),
        (Value::Ipv6(first), Value::Ipv6(last)) => range6(first, last),
        _ if first == last => first.to_string(),
        _ => format!("{first}-{last}"),
    }
}

fn write_elements(f: &mut Formatter<'_>, elements: impl Iterator<Item = String>) -> fmt::Result {
    let mut count = 0;
    for element in elements {
        f.write_str(match count {
            0 => "\t\telements = { ",
            n if n % ELEMENTS_PER_LINE == 0 => ",\n\t\t             ",
            _ => ", ",
        })?;
        f.write_str(&element)?;
        count += 1;
    }
    if count > 0 {
        f.write_str(" }\n")
    } else {
        Ok(())
    }
}

/// Returns an inclusive range of addresses as nft writes it: an address, a network, or `a-b`.
pub(crate) fn span(first: IpAddr, last: IpAddr) -> String {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => range4(first.into(), last.into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => range6(first.into(), last.into()),
        _ => format!("{first}-{last}"),
    }
}

fn range4(first: u32, last: u32) -> String {
    let show = |a: u32| Ipv4Addr::from(a).to_string();
    range(show, first, last, u32::BITS)
}

fn range6(first: u128, last: u128) -> String {
    let show = |a: u128| Ipv6Addr::from(a).to_string();
    range(show, first, last, u128::BITS)
}

/// Returns a range of addresses with so many bits as one address, a network, or `a-b`.
fn range<A: Copy + Into<u128>>(show: impl Fn(A) -> String, a: A, b: A, bits: u32) -> String {
    let (first, last): (u128, u128) = (a.into(), b.into());
    // A network starts where its size divides the address; both ends then differ in the host bits
    // only.
    let host = first ^ last;
    let is_network = host & host.wrapping_add(1) == 0 && first & host == 0;
    if first == last {
        show(a)
    } else if is_network {
        format!("{}/{}", show(a), bits - host.count_ones())
    } else {
        format!("{}-{}", show(a), show(b))
    }
}

fn write_chain(f: &mut Formatter<'_>, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let Some(base) = chain.base {
        writeln!(f, "\t\t{base}")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hook = self.hook.name();
        let priority = match self.priority {
            0 => "filter".to_owned(),
            below if below < 0 => format!("filter - {}", below.unsigned_abs()),
            above => format!("filter + {above}"),
        };
        write!(
            f,
            "type filter hook {hook} priority {priority}; policy accept;"
        )
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, expression) in self.expressions.iter().enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{expression}")?;
        }
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_short_as_they_can_be() {
        assert_eq!(range4(0x0a00_0000, 0x0aff_ffff), "10.0.0.0/8");
        assert_eq!(range4(0, u32::MAX), "0.0.0.0/0");
        assert_eq!(range4(0x0a00_0001, 0x0a00_0002), "10.0.0.1-10.0.0.2");
        assert_eq!(range4(0x0a00_0007, 0x0a00_0007), "10.0.0.7");
        assert_eq!(
            range6(0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1),
            "2001:db8::/32"
        );
        assert_eq!(range6(0, u128::MAX), "::/0");
        assert_eq!(range6(1, 2), "::1-::2");
    }
}
