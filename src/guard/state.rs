//! State on disk: the last good policies with all their files, published ports without a policy key, and grants.
//!
//! Each is a file: a line with a version and a digest, followed by JSON. A new file replaces the old one
//! atomically. Each version of dfw reads the files of earlier versions: an upgrade must not open ports that
//! were closed.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, BufWriter, Seek, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use siphasher::sip128::{Hasher128, SipHasher13};
use thiserror::Error;

use crate::file::{self, Accept, Limit};
use crate::net::{AddressSet, HostPorts, Protocol};
use crate::store::Policies;
use crate::text::{ACCEPTED, SourceMap};
use crate::untrusted;

use super::granted::Saved;
use super::site;

/// A file in the state folder.
struct Kept {
    name: &'static str,
    /// What it begins with.
    title: &'static str,
}

/// The version that is written. In version 1, some policy keys have their former spelling.
const VERSION: u32 = 2;

const POLICY: Kept = Kept {
    name: "last-good",
    title: "dfw last good policy",
};
const PORTS: Kept = Kept {
    name: "published",
    title: "dfw published ports",
};
const GRANTS: Kept = Kept {
    name: "grants",
    title: "dfw grants",
};
const SITE: Kept = Kept {
    name: "site",
    title: "dfw site",
};
const ALL: [Kept; 4] = [POLICY, PORTS, GRANTS, SITE];

/// The error of reading or writing state.
#[derive(Debug, Error)]
pub(super) enum Error {
    /// The file does not exist.
    #[error("{} does not exist", untrusted::path(.0))]
    Missing(PathBuf),
    /// The file cannot be read or written.
    #[error("{}: {error}", untrusted::path(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// The file is damaged.
    #[error("{} is damaged: it is ignored", untrusted::path(.0))]
    Damaged(PathBuf),
    /// The file was written by a newer version.
    #[error(
        "{} is of version {version}, which a newer dfw has written: it is ignored",
        untrusted::path(path)
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The file is intact, but its policies are not valid for this version.
    #[error("{} is not valid for this version of dfw: it is ignored", untrusted::path(.0))]
    Invalid(PathBuf),
}

/// What is written of policies.
#[derive(Debug, Serialize)]
struct Written<'a> {
    /// Where the policies are.
    path: &'a Path,
    /// Where the fetched lists are.
    cache: Option<&'a Path>,
    /// The policies among the files: those of a bundle may be in several folders.
    policies: Vec<&'a Path>,
    /// Each file with its text, fetched lists included.
    files: Vec<(Cow<'a, Path>, Text<'a>)>,
}

/// What is read of them.
#[derive(Debug, Deserialize)]
struct Texts {
    path: PathBuf,
    #[serde(default)]
    cache: Option<PathBuf>,
    /// Missing in files of earlier versions, where they are the policies at the path.
    #[serde(default)]
    policies: Option<Vec<PathBuf>>,
    files: Vec<(PathBuf, String)>,
}

/// The text of a file: its own, or that of a list of which only the addresses are kept.
#[derive(Debug, Hash)]
enum Text<'a> {
    Own(&'a str),
    List(&'a AddressSet),
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Own(text) => serializer.serialize_str(text),
            Self::List(list) => serializer.collect_str(&list.lines()),
        }
    }
}

/// Returns all files of policies: those that were read, and the fetched lists that are used.
fn files(policies: &Policies) -> impl Iterator<Item = (Cow<'_, Path>, Text<'_>)> {
    let sources = &policies.sources;
    let own = sources.files();
    let own = own.map(|(path, text)| (path.into(), Text::Own(text)));
    let fetched = policies.policy.fetched();
    let fetched = fetched.filter(|(_, _, fetched)| fetched.list.unknown().is_none());
    let fetched = fetched.filter_map(|(_, source, fetched)| {
        let path = sources.cache()?.join(fetched.request.key());
        Some((path.into(), Text::List(&source.addresses)))
    });
    own.chain(fetched)
}

/// Returns a digest of the names and texts of all files of policies.
pub(super) fn digest(policies: &Policies) -> u128 {
    let mut hasher = SipHasher13::new();
    for file in files(policies) {
        file.hash(&mut hasher);
    }
    hasher.finish128().as_u128()
}

/// Saves policies in place of the saved ones.
pub(super) fn write(folder: &Path, path: &Path, policies: &Policies) -> Result<(), Error> {
    let written = Written {
        path,
        cache: policies.sources.cache(),
        policies: policies
            .files
            .iter()
            .filter_map(|file| policies.sources.path(*file))
            .collect(),
        files: files(policies).collect(),
    };
    POLICY.write(folder, &written)
}

/// Reads the saved policies.
pub(super) fn read(folder: &Path) -> Result<Policies, Error> {
    let bytes = POLICY.bytes(folder)?;
    let (version, texts): (_, Texts) = POLICY.decode(folder, &bytes)?;
    drop(bytes);
    let mut sources = SourceMap::in_memory(texts.files);
    if let Some(cache) = texts.cache {
        sources = sources.with_fetched(cache, None);
    }
    if version < 2 {
        sources.accept_former_spellings();
    }
    let read = match &texts.policies {
        Some(policies) => Policies::read_named(sources, policies),
        None => Policies::read(sources, &texts.path),
    };
    read.map_err(|_| Error::Invalid(POLICY.path(folder)))
}

/// Saves ports in place of the saved ones.
pub(super) fn write_ports(folder: &Path, ports: &[HostPorts]) -> Result<(), Error> {
    let ports: Vec<Port<'_>> = ports
        .iter()
        .map(|port| (port.address, port.protocol.name(), port.first, port.last))
        .collect();
    PORTS.write(folder, &ports)
}

/// Reads the saved ports.
pub(super) fn read_ports(folder: &Path) -> Result<Vec<HostPorts>, Error> {
    let bytes = PORTS.bytes(folder)?;
    let (_, ports): (_, Vec<Port<'_>>) = PORTS.decode(folder, &bytes)?;
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

/// Saves grants in place of the saved ones.
pub(super) fn write_grants(folder: &Path, grants: &Saved) -> Result<(), Error> {
    GRANTS.write(folder, grants)
}

/// Reads the saved grants.
pub(super) fn read_grants(folder: &Path) -> Result<Saved, Error> {
    let bytes = GRANTS.bytes(folder)?;
    GRANTS.decode(folder, &bytes).map(|(_, grants)| grants)
}

/// Saves what is known of a site in place of what is saved.
pub(super) fn write_site(folder: &Path, site: &site::state::Saved) -> Result<(), Error> {
    SITE.write(folder, site)
}

/// Reads what is saved of a site.
pub(super) fn read_site(folder: &Path) -> Result<site::state::Saved, Error> {
    let bytes = SITE.bytes(folder)?;
    SITE.decode(folder, &bytes).map(|(_, site)| site)
}

/// The address, the protocol, the first and the last port.
type Port<'a> = (Option<IpAddr>, &'a str, u16, u16);

/// Creates the directory with mode 0700. An existing one gets that mode if this process owns it and it holds
/// only guard's files.
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

/// Returns whether the directory holds only guard's files: the option may name `/var/lib` or `/tmp`.
fn holds_nothing_else(folder: &Path) -> io::Result<bool> {
    let ours = |name: &[u8]| {
        let accepted = name.strip_prefix(b".").unwrap_or(name);
        if accepted.starts_with(ACCEPTED.as_bytes()) {
            return true;
        }
        ALL.iter().any(|kept| {
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

/// Deletes temporary files of a crashed guard.
pub(super) fn sweep(folder: &Path) {
    for kept in ALL {
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
        let title = self.title;
        let header = |digest: u128| format!("{title}, version {VERSION}, digest {digest:032x}\n");
        let fill = |file: &mut BufWriter<&File>| {
            // The digest is known at the end.
            file.write_all(header(0).as_bytes())?;
            // Each line of a list is two small writes.
            let mut body = BufWriter::new(Digesting {
                hasher: SipHasher13::new(),
                file: &mut *file,
            });
            serde_json::to_writer(&mut body, what)?;
            body.flush()?;
            let digest = body.get_ref().hasher.finish128().as_u128();
            drop(body);
            if file.stream_position()? > Limit::STATE.bytes() {
                return Err(Limit::STATE.exceeded());
            }
            file.rewind()?;
            file.write_all(header(digest).as_bytes())
        };
        prepare(folder)
            .and_then(|()| file::replace_with(&to, 0o600, fill))
            .map_err(failed)
    }

    fn bytes(&self, folder: &Path) -> Result<Vec<u8>, Error> {
        let path = self.path(folder);
        file::read(&path, Accept::Regular, Limit::STATE).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing(path),
            _ => Error::Io { path, error },
        })
    }

    /// Returns the version and the contents of a file.
    fn decode<'a, T: Deserialize<'a>>(
        &self,
        folder: &Path,
        bytes: &'a [u8],
    ) -> Result<(u32, T), Error> {
        let damaged = || Error::Damaged(self.path(folder));
        let (version, digest, body) = self.header(bytes).ok_or_else(damaged)?;
        if version > VERSION {
            let path = self.path(folder);
            return Err(Error::Newer { path, version });
        }
        if digest != digest_of(body) {
            return Err(damaged());
        }
        let what = serde_json::from_slice(body).map_err(|_| damaged())?;
        Ok((version, what))
    }

    /// Splits a file into its version, its digest and what follows.
    fn header<'a>(&self, bytes: &'a [u8]) -> Option<(u32, u128, &'a [u8])> {
        let end = memchr::memchr(b'\n', bytes)?;
        let (header, body) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
        let rest = header.strip_prefix(self.title)?;
        let (version, digest) = rest.strip_prefix(", version ")?.split_once(", digest ")?;
        let digest = u128::from_str_radix(digest, 16).ok()?;
        Some((version.parse().ok()?, digest, body))
    }
}

/// Computes the digest of what it writes.
struct Digesting<'a, 'f> {
    hasher: SipHasher13,
    file: &'a mut BufWriter<&'f File>,
}

impl Write for Digesting<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.write(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn digest_of(body: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new();
    hasher.write(body);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod versions;

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
        write(&folder, Path::new("p"), &policies).unwrap();
        let back = read(&folder).unwrap();
        assert_eq!(digest(&back), digest(&policies));
        assert_eq!(
            format!("{:?}", back.policy),
            format!("{:?}", policies.policy)
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&POLICY.path(&folder))), (0o700, 0o600));
        fs::remove_dir_all(&folder).unwrap();
    }

    /// The policies of a bundle may be in folders, which are not read otherwise.
    #[test]
    fn policies_in_folders_come_back() {
        let folder = folder("groups");
        let sources = SourceMap::in_memory([
            ("p/a.yaml", "default: deny\n"),
            ("p/web/b.yaml", "ports: {80: [192.0.2.7]}\n"),
        ]);
        let groups = [PathBuf::from("p/web")];
        let policies = Policies::read_groups(sources, Path::new("p"), &groups, &groups).unwrap();
        write(&folder, Path::new("p"), &policies).unwrap();
        let back = read(&folder).unwrap();
        assert_eq!(digest(&back), digest(&policies));
        assert_eq!(back.policy.ports.len(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    /// Of a fetched list only the addresses are kept, and its text is written again.
    #[test]
    fn a_fetched_list_comes_back() {
        let folder = folder("fetched");
        let read_with = |list: &str| {
            let policy = "default: deny\nsources: {home: {name: home.example.com}}\n\
                          ports: {80: {allow: any, except: [home]}}\n";
            let files = [("p/a.yaml", policy), ("cache/name-home.example.com", list)];
            let sources = SourceMap::in_memory(files).with_fetched(PathBuf::from("cache"), None);
            Policies::read(sources, Path::new("p")).unwrap()
        };
        let policies = read_with("# an answer\n192.0.2.9\n192.0.2.7 # one\n2001:db8::1\n");
        write(&folder, Path::new("p"), &policies).unwrap();
        let back = read(&folder).unwrap();
        let held = |policies: &Policies| {
            let source = policies.policy.sources.values().next().unwrap();
            source.addresses.lines().to_string()
        };
        assert_eq!(held(&back), "192.0.2.7\n192.0.2.9\n2001:db8::1\n");
        assert_eq!(digest(&back), digest(&policies));
        assert_ne!(digest(&back), digest(&read_with("192.0.2.7\n")));
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
    fn kept_ports_are_restored() {
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
    fn former_spellings_are_read_from_version_1_only() {
        let folder = folder("former");
        write(&folder, Path::new("p"), &policies()).unwrap();
        let text = "default: deny\nports: {80: {allow: any, refuse: reject}}\n";
        let body = serde_json::json!({"path": "p", "files": [["p/a.yaml", text]]}).to_string();
        let keep = |version: u32| {
            let digest = digest_of(body.as_bytes());
            let header = format!(
                "{}, version {version}, digest {digest:032x}\n",
                POLICY.title
            );
            fs::write(POLICY.path(&folder), header + &body).unwrap();
            read(&folder)
        };
        let former = keep(1).unwrap().policy;
        let port = former.ports.values().next().unwrap();
        assert_eq!(port.deny_with, crate::policy::DenyWith::Reject);
        assert!(matches!(keep(VERSION), Err(Error::Invalid(_))));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_of_a_newer_version_is_named() {
        let folder = folder("newer");
        write_ports(&folder, &[]).unwrap();
        let path = PORTS.path(&folder);
        let text = fs::read_to_string(&path).unwrap();
        let newer = format!(", version {},", VERSION + 1);
        let newer = text.replace(&format!(", version {VERSION},"), &newer);
        fs::write(&path, newer).unwrap();
        let error = read_ports(&folder).unwrap_err().to_string();
        assert!(error.contains("which a newer dfw has written"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn damaged_files_are_detected() {
        let folder = folder("damaged");
        write(&folder, Path::new("p"), &policies()).unwrap();
        let path = POLICY.path(&folder);
        let whole = fs::read(&path).unwrap();
        for at in [0, POLICY.title.len() + 30, whole.len() / 2, whole.len() - 1] {
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
