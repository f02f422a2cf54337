//! Where the bundle of a site is: `https://HOST/…/SITE/`, or `etcd://HOST,HOST,HOST/SITE`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::text::as_text;
use super::word::Word;

/// The longest address, in bytes.
const LONGEST: usize = 1024;

/// The most members of a store that are named.
const MEMBERS: usize = 32;
/// The port of a store's members if an address names none (IANA: `etcd-client`).
const ETCD: u16 = 2379;

/// The address of a bundle on a web server, which ends with the name of the site and `/`, or in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    site: Word,
    members: Vec<Member>,
}

/// A member of an etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name or the address, without brackets.
    pub host: String,
    /// The port of its clients.
    pub port: u16,
}

impl Address {
    /// Returns whether a text is meant as an address and not as a path.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }

    /// Returns the site, the last name in the address.
    #[must_use]
    pub fn site(&self) -> &Word {
        &self.site
    }

    /// Returns the address of a file of a bundle on a web server.
    #[must_use]
    pub fn of(&self, file: &str) -> String {
        format!("{}{file}", self.text)
    }

    /// Returns the members of the store; none for a web server.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns whether the bundle is in etcd.
    #[must_use]
    pub fn is_etcd(&self) -> bool {
        !self.members.is_empty()
    }

    fn etcd(text: &str, rest: &str) -> Result<Self, &'static str> {
        let form = "write the members and the site: `etcd://HOST,HOST,HOST/SITE`";
        let (members, site) = rest.split_once('/').ok_or(form)?;
        let members = members
            .split(',')
            .map(Member::parse)
            .collect::<Option<Vec<_>>>();
        Ok(Self {
            text: text.to_owned(),
            site: site.parse().map_err(|_| form)?,
            members: members
                .filter(|members| members.len() <= MEMBERS)
                .ok_or(form)?,
        })
    }
}

impl Member {
    fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']')?;
            let address: Ipv6Addr = host.parse().ok()?;
            let port = match port {
                "" => ETCD,
                port => port.strip_prefix(':')?.parse().ok()?,
            };
            let host = address.to_string();
            return Some(Self { host, port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, ETCD),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (!host.is_empty() && host.bytes().all(is_plain)).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_etcd = text.strip_prefix("etcd://");
        let rest = is_etcd.or_else(|| text.strip_prefix("https://"));
        let rest = rest.ok_or("neither `https://` nor `etcd://`")?;
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@\\\"<>".contains(&byte);
        if text.len() > LONGEST || !rest.bytes().all(is_plain) {
            return Err("it has a user, a query, or characters that an address does not have");
        }
        if is_etcd.is_some() {
            return Self::etcd(text, rest);
        }
        let form = "write it with the name of the site and `/` at its end: `https://HOST/SITE/`";
        let mut parts = rest.strip_suffix('/').ok_or(form)?.rsplit('/');
        let site = parts.next().and_then(|site| site.parse().ok());
        let host = parts.next_back().filter(|host| !host.is_empty());
        let site = site.filter(|_| host.is_some() && parts.all(|part| !part.is_empty()));
        Ok(Self {
            text: text.to_owned(),
            site: site.ok_or(form)?,
            members: Vec::new(),
        })
    }
}

as_text!(Address);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_ends_with_the_site() {
        for (text, site) in [
            ("https://policies.example.com/prod/", "prod"),
            ("https://[2001:db8::1]:8443/dfw/web-1/", "web-1"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.site().as_str(), site);
            assert_eq!(address.of("head"), format!("{text}head"));
        }
        for wrong in [
            "http://example.com/prod/",
            "https://example.com/prod",
            "https://example.com/",
            "https:///prod/",
            "https://user@example.com/prod/",
            "https://example.com/prod/?a/",
            "https://example.com//prod/",
            "https://example.com/../",
            "https://example.com/Prod/",
            "https://example.com/a b/",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_store_has_members_and_a_site() {
        let address: Address = "etcd://a.example.com,192.0.2.1:4001,[2001:db8::1],[::1]:1/prod"
            .parse()
            .unwrap();
        assert!(address.is_etcd());
        assert_eq!(address.site().as_str(), "prod");
        let members: Vec<_> = address.members().iter().map(Member::to_string).collect();
        assert_eq!(
            members,
            [
                "a.example.com:2379",
                "192.0.2.1:4001",
                "[2001:db8::1]:2379",
                "[::1]:1"
            ]
        );
        for wrong in [
            "etcd://a",
            "etcd://a/",
            "etcd:///prod",
            "etcd://a,/prod",
            "etcd://a/prod/",
            "etcd://a/b/prod",
            "etcd://a:0x1/prod",
            "etcd://a:99999/prod",
            "etcd://[::1/prod",
            "etcd://[::1]1/prod",
            "etcd://user@a/prod",
            "etcd://a/Prod",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
