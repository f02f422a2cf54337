//! Ports of databases, and of others that must not be open to everybody.

use crate::net::Protocol;

/// A service that must not be open to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// Its port, as its documentation has it.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// What it is called.
    pub name: &'static str,
    /// Why it must not be open to everybody: a sentence without a period.
    pub reason: &'static str,
}

const PASSWORDS: &str = "anyone can try passwords, and exploit flaws that need none";
const NO_PASSWORD: &str = "by default it asks for no password";

const DATABASES: [Database; 13] = [
    tcp(1433, "Microsoft SQL Server", PASSWORDS),
    tcp(1521, "Oracle Database", PASSWORDS),
    tcp(
        2375,
        "the Docker API without TLS",
        "anyone who reaches it is root on this host",
    ),
    tcp(2379, "etcd", NO_PASSWORD),
    tcp(3306, "MySQL or MariaDB", PASSWORDS),
    tcp(5432, "PostgreSQL", PASSWORDS),
    tcp(5984, "CouchDB", PASSWORDS),
    tcp(6379, "Redis or Valkey", NO_PASSWORD),
    tcp(9042, "Cassandra", NO_PASSWORD),
    tcp(9200, "Elasticsearch or OpenSearch", PASSWORDS),
    tcp(11211, "Memcached", "it asks for no password"),
    Database {
        protocol: Protocol::Udp,
        ..tcp(
            11211,
            "Memcached",
            "it asks for no password, and answers amplify attacks on others",
        )
    },
    tcp(27017, "MongoDB", NO_PASSWORD),
];

const fn tcp(port: u16, name: &'static str, reason: &'static str) -> Database {
    Database {
        port,
        protocol: Protocol::Tcp,
        name,
        reason,
    }
}

/// Returns the database that has this port by default.
#[must_use]
pub fn database(protocol: Protocol, port: u16) -> Option<&'static Database> {
    all().find(|database| (database.protocol, database.port) == (protocol, port))
}

/// Returns all of them, by port.
pub(super) fn all() -> impl Iterator<Item = &'static Database> {
    const { &DATABASES }.iter()
}
