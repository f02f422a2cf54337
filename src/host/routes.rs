//! The interfaces of default routes in the main table (`Documentation/networking/proc_net_tcp.rst` describes
//! it; `net/ipv4/fib_trie.c`, `net/ipv6/route.c`).

use std::collections::BTreeSet;
use std::fs;

/// Reads them in the network namespace of this thread, of both families; none where that cannot be read.
#[must_use]
pub fn default_interfaces() -> BTreeSet<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (v4, v6) = (
        read("/proc/thread-self/net/route"),
        read("/proc/thread-self/net/ipv6_route"),
    );
    parse_v4(&v4).chain(parse_v6(&v6)).collect()
}

/// Interface, destination, gateway, flags, three numbers, mask; the numbers are hexadecimal.
fn parse_v4(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = *fields.get(1)? == "00000000" && *fields.get(7)? == "00000000";
        is_default.then(|| fields.first().map(|name| (*name).to_owned()))?
    })
}

/// Destination and the length of its prefix first, flags and the interface last. Reject routes have the
/// interface `lo`.
fn parse_v6(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let everything = fields.first()?.bytes().all(|digit| digit == b'0');
        let name = fields.last()?;
        let is_default = everything && *fields.get(1)? == "00" && *name != "lo";
        is_default.then(|| (*name).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_distinguished() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  br0\t00000000\t017100CB\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(parse_v4(v4).collect::<Vec<_>>(), ["br0"]);
        let zero = "0".repeat(32);
        let v6 = format!(
            "20010db8000100000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 eth1\n\
             {zero} 00 {zero} 00 20010db8000100000000000000000001 00000400 1 0 00000003 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        );
        assert_eq!(parse_v6(&v6).collect::<Vec<_>>(), ["eth0"]);
    }
}
