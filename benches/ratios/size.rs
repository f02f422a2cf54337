//! How much is measured.

/// All of it, or so little that it is a matter of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Full,
    Small,
}

impl Scale {
    /// Lengths of lists.
    pub(crate) fn lists(self) -> &'static [usize] {
        match self {
            Self::Full => &[1_000, 10_000, 100_000, 1_000_000],
            Self::Small => &[1_000, 20_000],
        }
    }

    /// Lengths of the lists that packets are judged by.
    pub(crate) fn packets(self) -> &'static [usize] {
        match self {
            Self::Full => &[10, 1_000, 10_000, 1_000_000],
            Self::Small => &[1_000],
        }
    }

    /// Numbers of ports.
    pub(crate) fn ports(self) -> &'static [usize] {
        match self {
            Self::Full => &[10, 100, 1_000, 10_000],
            Self::Small => &[100],
        }
    }
}

/// 1000 as `1k`, and so on.
pub(crate) fn short(number: usize) -> String {
    match number {
        1_000_000.. => format!("{}M", number / 1_000_000),
        1_000.. => format!("{}k", number / 1_000),
        _ => number.to_string(),
    }
}
