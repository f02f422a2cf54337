//! How much is measured.

/// All of it, only the sizes that have limits, or so little that it is a matter of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Full,
    Goals,
    Small,
}

impl Scale {
    /// The limit for a size: the wanted one where that is meant, a weaker one in a small run, where
    /// starting the program weighs more than the work; none otherwise.
    pub(crate) fn limit(self, is_meant: bool, wanted: f64, small: f64) -> Option<f64> {
        match self {
            Self::Full | Self::Goals => is_meant.then_some(wanted),
            Self::Small => Some(small),
        }
    }

    /// Lengths of lists.
    pub(crate) fn lists(self) -> &'static [usize] {
        match self {
            Self::Full => &[1_000, 10_000, 100_000, 1_000_000],
            Self::Goals => &[1_000_000],
            Self::Small => &[20_000],
        }
    }

    /// Lengths of the lists that packets are judged by.
    pub(crate) fn packets(self) -> &'static [usize] {
        match self {
            Self::Full => &[10, 1_000, 10_000, 1_000_000],
            Self::Goals => &[1_000, 10_000, 1_000_000],
            Self::Small => &[1_000],
        }
    }

    /// Numbers of ports.
    pub(crate) fn ports(self) -> &'static [usize] {
        match self {
            Self::Full => &[10, 100, 1_000, 10_000],
            Self::Goals => &[1_000],
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
