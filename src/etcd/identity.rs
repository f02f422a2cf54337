//! The certificate that names this host or administrator, and the authority that is trusted.

use std::io;
use std::path::Path;

use etcd_client::{Certificate, TlsOptions};

use crate::file::{self, Accept, Limit};
use crate::untrusted;

use super::Error;

/// The most bytes of a file.
const SIZE: u64 = 1 << 20;

/// The files of a folder for TLS: `ca.pem`, `cert.pem` and `key.pem`.
#[derive(Clone)]
pub struct Identity {
    tls: TlsOptions,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// [`Error::Identity`] with the file that cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = file::read_protected(&path, Accept::Regular, Limit::of(SIZE));
            bytes.and_then(not_empty).map_err(|error| {
                Error::Identity(format!("cannot read {}: {error}", untrusted::path(&path)))
            })
        };
        let (authority, certificate, key) = (read("ca.pem")?, read("cert.pem")?, read("key.pem")?);
        let identity = etcd_client::Identity::from_pem(certificate, key);
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(authority))
            .identity(identity);
        Ok(Self { tls })
    }

    /// Returns the options for a connection to a member whose certificate has this name or address.
    pub(super) fn tls(&self, host: &str) -> TlsOptions {
        self.tls.clone().domain_name(host)
    }
}

fn not_empty(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    if bytes.is_empty() {
        Err(io::Error::other("it is empty"))
    } else {
        Ok(bytes)
    }
}
