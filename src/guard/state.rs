//! What is kept on disk: the last good policy, with all files that it was read from, and the ports that
//! engines publish and no policy names.
//!
//! A file each: a line with a digest, and behind it JSON. It is written beside the former one and
//! takes its place whole.

use crate::net::{HostPorts, Protocol};
use std::fs::{self, DirBuilder};
use std::hash::{Hash, Hasher};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use thiserror::Error;

use crate::file::{self, Accept, Limit};
use crate::store::Policies;
use crate::text::SourceMap;
use crate::untrusted;

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
    #[error("{} does not exist", untrusted::path(.0))]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error("{}: {error}", untrusted::path(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged: it is ignored", untrusted::path(.0))]
    Damaged(PathBuf),
    /// It is whole, and is not a valid policy any more.
    #[error("{} is not valid for this version of dfw: it is ignored", untrusted::path(.0))]
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
pub(super) fn digest(sources: &SourceMap) -> u128 {
    let mut hasher = SipHasher13::new();
    for (path, text) in sources.files() {
        path.hash(&mut hasher);
        text.hash(&mut hasher);
    }
    hasher.finish128().as_u128()
}

/// Keeps a policy in place of the one that is kept.
pub(super) fn write(folder: &Path, path: &Path, sources: &SourceMap) -> Result<(), Error> {
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
    Policies::read(SourceMap::in_memory(files), &texts.path)
        .map_err(|_| Error::Invalid(POLICY.path(folder)))
}

/// Keeps ports in place of those that are kept.
pub(super) fn write_ports(folder: &Path, ports: &[HostPorts]) -> Result<(), Error> {
    let ports: Vec<Port<'_>> = ports
        .iter()
        .map(|port| (port.address, port.protocol.name(), port.first, port.last))
        .collect();
    PORTS.write(folder, &ports)
}

/// Reads the ports that are kept.
pub(super) fn read_ports(folder: &Path) -> Result<Vec<HostPorts>, Error> {
    let bytes = PORTS.bytes(folder)?;
    let ports: Vec<Port<'_>> = PORTS.decode(folder, &bytes)?;
    let ports = ports
        .into_iter()
        .filter_map(|(address, name, first, last)| {
            Some(HostPorts {
                address,
                protocol: Protocol::by_name(name)?,
                first,
                last,
            })
        });
    Ok(ports.filter(|port| port.first <= port.last).collect())
}

/// The address, the protocol, the first and the last port.
type Port<'a> = (Option<IpAddr>, &'a str, u16, u16);

/// Makes the folder if there is none, for nobody but its owner. One that is there is closed to others if
/// it is this process's, and nothing but what guard keeps is in it.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let is = fs::metadata(folder)?;
    let open = is.mode() & 0o077 != 0;
    if open && is.uid() == rustix::process::geteuid().as_raw() && holds_nothing_else(folder)? {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Whether all files in the folder are guard's: somebody may have named `/var/lib`, or `/tmp`.
fn holds_nothing_else(folder: &Path) -> io::Result<bool> {
    let ours = |name: &[u8]| {
        [POLICY, PORTS].iter().any(|kept| {
            let beside = [b".", kept.name.as_bytes(), b"."].concat();
            name == kept.name.as_bytes() || name.starts_with(&beside)
        })
    };
    for entry in fs::read_dir(folder)? {
        if !ours(entry?.file_name().as_encoded_bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes away what a guard that crashed has left there.
pub(super) fn sweep(folder: &Path) {
    for kept in [POLICY, PORTS] {
        file::sweep(&kept.path(folder));
    }
}

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
        let mut bytes = format!("{}{:032x}\n", self.magic, digest_of(&body)).into_bytes();
        bytes.extend(body);
        if u64::try_from(bytes.len()).is_ok_and(|length| length > Limit::STATE.bytes()) {
            return Err(failed(Limit::STATE.exceeded()));
        }
        prepare(folder)
            .and_then(|()| file::replace(&to, 0o600, &bytes))
            .map_err(failed)
    }

    fn bytes(&self, folder: &Path) -> Result<Vec<u8>, Error> {
        let path = self.path(folder);
        file::read(&path, Accept::Regular, Limit::STATE).map_err(|error| match error.kind() {
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
        let sources = SourceMap::in_memory([
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
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&POLICY.path(&folder))), (0o700, 0o600));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_of_others_is_left_as_it_is() {
        let folder = folder("others");
        fs::create_dir(&folder).unwrap();
        let mode = || fs::metadata(&folder).unwrap().mode() & 0o777;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.join("database"), "").unwrap();
        prepare(&folder).unwrap();
        assert_eq!(mode(), 0o755);
        fs::remove_file(folder.join("database")).unwrap();
        write_ports(&folder, &[]).unwrap();
        assert_eq!(mode(), 0o700);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn kept_ports_come_back() {
        let folder = folder("ports");
        assert!(matches!(read_ports(&folder), Err(Error::Missing(_))));
        let port = |address: Option<&str>, protocol, first, last| HostPorts {
            address: address.map(|address| address.parse().unwrap()),
            protocol,
            first,
            last,
        };
        let ports = [
            port(None, Protocol::Tcp, 80, 80),
            port(Some("2001:db8::1"), Protocol::Udp, 1000, 1010),
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
