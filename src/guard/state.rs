//! What is kept on disk: the last good policy, with all files that it was read from, and the ports that
//! engines publish and no policy names.
//!
//! A file each: a line with a digest, and behind it JSON. It is written beside the former one and
//! takes its place whole.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use thiserror::Error;

use crate::host::engine::{PortRange, Transport};
use crate::policies::Policies;
use crate::source::Sources;

/// A file in the state folder.
struct Kept {
    name: &'static str,
    /// What it begins with; the digest follows.
    magic: &'static str,
}

const POLICY: Kept = Kept {
    name: "last-good",
    magic: "dfw last good policy, version 1, digest ",
};
const PORTS: Kept = Kept {
    name: "published",
    magic: "dfw published ports, version 1, digest ",
};

/// Why what is kept cannot be had.
#[derive(Debug, Error)]
pub(super) enum Error {
    /// There is none.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged: it is ignored", .0.display())]
    Damaged(PathBuf),
    /// It is whole, and is not a valid policy any more.
    #[error("{} is not valid for this version of dfw: it is ignored", .0.display())]
    Invalid(PathBuf),
}

#[derive(Debug, Serialize, Deserialize)]
struct Texts<'a> {
    /// Where the policies were.
    path: PathBuf,
    /// Each file with its text.
    #[serde(borrow)]
    files: Vec<(PathBuf, std::borrow::Cow<'a, str>)>,
}

/// A number that all texts of a policy have a share in, and their names.
pub(super) fn digest(sources: &Sources) -> u128 {
    let mut hasher = SipHasher13::new();
    for (path, text) in sources.files() {
        path.hash(&mut hasher);
        text.hash(&mut hasher);
    }
    hasher.finish128().as_u128()
}

/// Keeps a policy in place of the one that is kept.
pub(super) fn write(folder: &Path, path: &Path, sources: &Sources) -> Result<(), Error> {
    let files = sources.files();
    let texts = Texts {
        path: path.to_owned(),
        files: files
            .map(|(path, text)| (path.to_owned(), text.into()))
            .collect(),
    };
    POLICY.write(folder, &texts)
}

/// Reads the policy that is kept.
pub(super) fn read(folder: &Path) -> Result<Policies, Error> {
    let bytes = POLICY.bytes(folder)?;
    let texts: Texts<'_> = POLICY.decode(folder, &bytes)?;
    let files = texts.files.into_iter();
    let files = files.map(|(path, text)| (path, text.into_owned()));
    Policies::read(Sources::in_memory(files), &texts.path)
        .map_err(|_| Error::Invalid(POLICY.path(folder)))
}

/// Keeps ports in place of those that are kept.
pub(super) fn write_ports(folder: &Path, ports: &[PortRange]) -> Result<(), Error> {
    let ports: Vec<Port<'_>> = ports
        .iter()
        .map(|port| (port.address, port.transport.name(), port.first, port.last))
        .collect();
    PORTS.write(folder, &ports)
}

/// Reads the ports that are kept.
pub(super) fn read_ports(folder: &Path) -> Result<Vec<PortRange>, Error> {
    let bytes = PORTS.bytes(folder)?;
    let ports: Vec<Port<'_>> = PORTS.decode(folder, &bytes)?;
    let ports = ports
        .into_iter()
        .filter_map(|(address, name, first, last)| {
            Some(PortRange {
                address,
                transport: Transport::by_name(name)?,
                first,
                last,
            })
        });
    Ok(ports.filter(|port| port.first <= port.last).collect())
}

/// The address, the protocol, the first and the last port.
type Port<'a> = (Option<IpAddr>, &'a str, u16, u16);

impl Kept {
    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.name)
    }

    fn write(&self, folder: &Path, what: &impl Serialize) -> Result<(), Error> {
        let to = self.path(folder);
        let failed = |error: io::Error| Error::Io {
            path: to.clone(),
            error,
        };
        let body = serde_json::to_vec(what).map_err(|error| failed(error.into()))?;
        let new = folder.join(format!("{}.new", self.name));
        let written = fs::create_dir_all(folder).and_then(|()| {
            let mut file = File::create(&new)?;
            writeln!(file, "{}{:032x}", self.magic, digest_of(&body))?;
            file.write_all(&body)?;
            file.sync_all()?;
            fs::rename(&new, &to)?;
            File::open(folder)?.sync_all()
        });
        if written.is_err() {
            // Half a file is of no use, and takes room that is scarce.
            let _ = fs::remove_file(&new);
        }
        written.map_err(failed)
    }

    fn bytes(&self, folder: &Path) -> Result<Vec<u8>, Error> {
        let path = self.path(folder);
        fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing(path),
            _ => Error::Io { path, error },
        })
    }

    fn decode<'a, T: Deserialize<'a>>(&self, folder: &Path, bytes: &'a [u8]) -> Result<T, Error> {
        let whole = || {
            let rest = bytes.strip_prefix(self.magic.as_bytes())?;
            let (digest, body) = rest.split_at_checked(32)?;
            let body = body.strip_prefix(b"\n")?;
            let digest = u128::from_str_radix(std::str::from_utf8(digest).ok()?, 16).ok()?;
            (digest == digest_of(body))
                .then(|| serde_json::from_slice(body).ok())
                .flatten()
        };
        whole().ok_or_else(|| Error::Damaged(self.path(folder)))
    }
}

fn digest_of(body: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new();
    hasher.write(body);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("dfw-state-{name}-{}", std::process::id()))
    }

    fn policies() -> Policies {
        let sources = Sources::in_memory([
            ("p/a.yaml", "default: deny\nsources: {o: {file: lists/o}}\n"),
            ("p/b.yaml", "ports: {80: [o]}\n"),
            ("p/lists/o", "192.0.2.7\n"),
        ]);
        Policies::read(sources, Path::new("p")).unwrap()
    }

    #[test]
    fn what_is_kept_is_what_comes_back() {
        let folder = folder("same");
        assert!(matches!(read(&folder), Err(Error::Missing(_))));
        let policies = policies();
        write(&folder, Path::new("p"), &policies.sources).unwrap();
        let back = read(&folder).unwrap();
        assert_eq!(digest(&back.sources), digest(&policies.sources));
        assert_eq!(
            format!("{:?}", back.policy),
            format!("{:?}", policies.policy)
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn kept_ports_come_back() {
        let folder = folder("ports");
        assert!(matches!(read_ports(&folder), Err(Error::Missing(_))));
        let port = |address: Option<&str>, transport, first, last| PortRange {
            address: address.map(|address| address.parse().unwrap()),
            transport,
            first,
            last,
        };
        let ports = [
            port(None, Transport::Tcp, 80, 80),
            port(Some("2001:db8::1"), Transport::Udp, 1000, 1010),
        ];
        write_ports(&folder, &ports).unwrap();
        assert_eq!(read_ports(&folder).unwrap(), ports);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_damaged_is_told_from_what_is_whole() {
        let folder = folder("damaged");
        write(&folder, Path::new("p"), &policies().sources).unwrap();
        let path = POLICY.path(&folder);
        let whole = fs::read(&path).unwrap();
        for at in [0, POLICY.magic.len() + 3, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(read(&folder), Err(Error::Damaged(_))), "{at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(read(&folder), Err(Error::Damaged(_))), "{at}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
