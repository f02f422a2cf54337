//! The ephemeral port range of the kernel (`Documentation/networking/ip-sysctl.rst`).

use std::fs;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The ports of sockets that do not request one, of both families, TCP and UDP. The default is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalPorts {
    /// `net.ipv4.ip_local_port_range`: first and last; `None` if unknown.
    range: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`: the ports that the kernel skips, as ranges.
    reserved: Vec<(u16, u16)>,
}

impl LocalPorts {
    /// Returns an ephemeral port range without reserved ports.
    #[must_use]
    pub fn new(range: Option<(u16, u16)>, reserved: Vec<(u16, u16)>) -> Self {
        Self { range, reserved }
    }

    /// Reads the values of this thread's network namespace; the default if that fails.
    #[must_use]
    pub fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read(RANGE), &read(RESERVED))
    }

    fn parse(range: &str, reserved: &str) -> Self {
        let mut ends = range.split_whitespace().map(str::parse);
        let range = match (ends.next(), ends.next()) {
            (Some(Ok(first)), Some(Ok(last))) => Some((first, last)),
            _ => None,
        };
        let reserved = reserved.trim().split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        Self::new(range, reserved.collect())
    }

    /// Returns the first and last ephemeral port; `None` if unknown.
    #[must_use]
    pub fn range(&self) -> Option<(u16, u16)> {
        self.range
    }

    /// Returns the reserved ports, as ranges.
    #[must_use]
    pub fn reserved(&self) -> &[(u16, u16)] {
        &self.reserved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let ports = LocalPorts::parse("32768\t60999\n", "8080,40000-50000\n");
        assert_eq!(ports.range(), Some((32768, 60999)));
        assert_eq!(ports.reserved(), [(8080, 8080), (40000, 50000)]);
        let none = LocalPorts::parse("32768\t60999\n", "\n");
        assert_eq!(none.reserved(), []);
        assert_eq!(LocalPorts::parse("", ""), LocalPorts::default());
    }
}
