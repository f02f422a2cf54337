//! Keys of sets: one field, or two concatenated.

use std::cmp::Ordering;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::L4Protocol;

/// The type of one field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A port of TCP, UDP or SCTP.
    Port,
    /// What follows the IP header.
    Protocol,
    /// The name of an interface.
    Interface,
}

impl Field {
    /// Returns the name of the type in nft's language.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Port => "inet_service",
            Self::Protocol => "inet_proto",
            Self::Interface => "ifname",
        }
    }
}

/// The value of one field of a key; addresses as the numbers that they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An IPv4 address.
    Ipv4(u32),
    /// An IPv6 address.
    Ipv6(u128),
    /// A port.
    Port(u16),
    /// A protocol.
    Protocol(L4Protocol),
    /// The name of an interface, 1 to 15 bytes.
    Interface(&'a str),
}

impl Value<'_> {
    /// Returns the type of the field.
    #[must_use]
    pub fn field(self) -> Field {
        match self {
            Self::Ipv4(_) => Field::Ipv4,
            Self::Ipv6(_) => Field::Ipv6,
            Self::Port(_) => Field::Port,
            Self::Protocol(_) => Field::Protocol,
            Self::Interface(_) => Field::Interface,
        }
    }

    /// Returns the value as a number; `None` for a name or a protocol.
    #[must_use]
    pub fn number(self) -> Option<u128> {
        match self {
            Self::Ipv4(number) => Some(number.into()),
            Self::Ipv6(number) => Some(number),
            Self::Port(number) => Some(number.into()),
            Self::Protocol(_) | Self::Interface(_) => None,
        }
    }

    /// Returns the value of a field with this number; `None` if it has none.
    #[must_use]
    pub fn of_number(field: Field, number: u128) -> Option<Self> {
        match field {
            Field::Ipv4 => number.try_into().ok().map(Self::Ipv4),
            Field::Ipv6 => Some(Self::Ipv6(number)),
            Field::Port => number.try_into().ok().map(Self::Port),
            Field::Protocol | Field::Interface => None,
        }
    }

    /// Returns the next value; `None` for the greatest, and for fields without an order.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Ipv4(number) => number.checked_add(1).map(Self::Ipv4),
            Self::Ipv6(number) => number.checked_add(1).map(Self::Ipv6),
            Self::Port(number) => number.checked_add(1).map(Self::Port),
            Self::Protocol(_) | Self::Interface(_) => None,
        }
    }

    /// Returns the previous value; `None` for the least, and for fields without an order.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        match self {
            Self::Ipv4(number) => number.checked_sub(1).map(Self::Ipv4),
            Self::Ipv6(number) => number.checked_sub(1).map(Self::Ipv6),
            Self::Port(number) => number.checked_sub(1).map(Self::Port),
            Self::Protocol(_) | Self::Interface(_) => None,
        }
    }

    /// Returns the greatest value of a field; `None` for fields without an order.
    #[must_use]
    pub fn greatest(field: Field) -> Option<Self> {
        match field {
            Field::Ipv4 => Some(Self::Ipv4(u32::MAX)),
            Field::Ipv6 => Some(Self::Ipv6(u128::MAX)),
            Field::Port => Some(Self::Port(u16::MAX)),
            Field::Protocol | Field::Interface => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(number) => Ipv4Addr::from(*number).fmt(f),
            Self::Ipv6(number) => Ipv6Addr::from(*number).fmt(f),
            Self::Port(number) => number.fmt(f),
            Self::Protocol(protocol) => f.write_str(protocol.name()),
            Self::Interface(name) => write!(f, "\"{name}\""),
        }
    }
}

/// A key of one field.
pub trait Scalar: Clone + Ord + fmt::Debug {
    /// The type of the field.
    const FIELD: Field;

    /// Returns the value of the key.
    fn value(&self) -> Value<'_>;

    /// Returns the key with a value; `None` if the value is of another field.
    fn of(value: Value<'_>) -> Option<Self>;

    /// Compares the key with a value; `None` if the value is of another field.
    fn compare(&self, value: Value<'_>) -> Option<Ordering>;
}

macro_rules! scalars {
    ($($kind:ident($number:ty)),+) => {
        $(impl Scalar for $number {
            const FIELD: Field = Field::$kind;

            fn value(&self) -> Value<'_> {
                Value::$kind(*self)
            }

            fn of(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::$kind(number) => Some(number),
                    _ => None,
                }
            }

            fn compare(&self, value: Value<'_>) -> Option<Ordering> {
                Self::of(value).map(|other| self.cmp(&other))
            }
        })+
    };
}

scalars!(Ipv4(u32), Ipv6(u128), Port(u16), Protocol(L4Protocol));

impl Scalar for String {
    const FIELD: Field = Field::Interface;

    fn value(&self) -> Value<'_> {
        Value::Interface(self)
    }

    fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Interface(name) => Some(name.to_owned()),
            _ => None,
        }
    }

    fn compare(&self, value: Value<'_>) -> Option<Ordering> {
        match value {
            Value::Interface(name) => Some(self.as_str().cmp(name)),
            _ => None,
        }
    }
}

/// A key: one field, or two concatenated.
pub trait Key: Clone + Ord + fmt::Debug {
    /// The types of its fields.
    const FIELDS: &'static [Field];

    /// As many values as there are fields.
    type Values<'a>: AsRef<[Value<'a>]>
    where
        Self: 'a;

    /// Returns the values of the fields, in order.
    fn values(&self) -> Self::Values<'_>;

    /// Returns the key with these values; `None` if they are of other fields.
    fn of_values(values: &[Value<'_>]) -> Option<Self>;

    /// Compares the key with these values; `None` if they are of other fields.
    fn compare(&self, values: &[Value<'_>]) -> Option<Ordering>;
}

impl<A: Scalar> Key for A {
    const FIELDS: &'static [Field] = &[A::FIELD];

    type Values<'a>
        = [Value<'a>; 1]
    where
        Self: 'a;

    fn values(&self) -> [Value<'_>; 1] {
        [self.value()]
    }

    fn of_values(values: &[Value<'_>]) -> Option<Self> {
        match values {
            [value] => Self::of(*value),
            _ => None,
        }
    }

    fn compare(&self, values: &[Value<'_>]) -> Option<Ordering> {
        match values {
            [value] => Scalar::compare(self, *value),
            _ => None,
        }
    }
}

impl<A: Scalar, B: Scalar> Key for (A, B) {
    const FIELDS: &'static [Field] = &[A::FIELD, B::FIELD];

    type Values<'a>
        = [Value<'a>; 2]
    where
        Self: 'a;

    fn values(&self) -> [Value<'_>; 2] {
        [self.0.value(), self.1.value()]
    }

    fn of_values(values: &[Value<'_>]) -> Option<Self> {
        match values {
            [a, b] => Some((A::of(*a)?, B::of(*b)?)),
            _ => None,
        }
    }

    fn compare(&self, values: &[Value<'_>]) -> Option<Ordering> {
        match values {
            [a, b] => Some(Scalar::compare(&self.0, *a)?.then(Scalar::compare(&self.1, *b)?)),
            _ => None,
        }
    }
}
