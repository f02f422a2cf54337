//! Where the bundle of a site is: `https://HOST/…/SITE/`.

use std::fmt;
use std::str::FromStr;

use super::text::as_text;
use super::word::Word;

/// The longest address, in bytes.
const LONGEST: usize = 1024;

/// The address of a bundle on a web server. It ends with the name of the site and `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    site: Word,
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

    /// Returns the address of a file of the bundle.
    #[must_use]
    pub fn of(&self, file: &str) -> String {
        format!("{}{file}", self.text)
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
        let rest = text.strip_prefix("https://").ok_or("not `https://`")?;
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@\\\"<>".contains(&byte);
        if text.len() > LONGEST || !rest.bytes().all(is_plain) {
            return Err("it has a user, a query, or characters that an address does not have");
        }
        let form = "write it with the name of the site and `/` at its end: `https://HOST/SITE/`";
        let mut parts = rest.strip_suffix('/').ok_or(form)?.rsplit('/');
        let site = parts.next().and_then(|site| site.parse().ok());
        let host = parts.next_back().filter(|host| !host.is_empty());
        let site = site.filter(|_| host.is_some() && parts.all(|part| !part.is_empty()));
        Ok(Self {
            text: text.to_owned(),
            site: site.ok_or(form)?,
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
            "etcd://example.com/prod",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
