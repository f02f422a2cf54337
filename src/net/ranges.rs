//! Canonical sets of numbers, which addresses are.

/// A kind of number that ranges are made of.
pub trait Number: Copy + Ord {
    /// The first number.
    const FIRST: Self;
    /// The last number.
    const LAST: Self;

    /// Returns the number after this one; `None` after the last.
    fn after(self) -> Option<Self>;

    /// Returns the number before this one; `None` before the first.
    fn before(self) -> Option<Self>;
}

macro_rules! number {
    ($number:ty) => {
        impl Number for $number {
            const FIRST: Self = Self::MIN;
            const LAST: Self = Self::MAX;

            fn after(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    };
}
number!(u32);
number!(u128);

/// Disjoint, non-adjacent inclusive ranges of numbers, ascending.
///
/// Ranges of one number are kept apart from longer ones, as one number instead of two: most entries of long lists are
/// single addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ranges<T> {
    /// Ascending.
    singles: Vec<T>,
    /// First and last number, ascending, which are not equal.
    longer: Vec<(T, T)>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self {
            singles: Vec::new(),
            longer: Vec::new(),
        }
    }
}

impl<T: Number> Ranges<T> {
    /// Returns the set of all numbers.
    #[must_use]
    pub fn all() -> Self {
        Self {
            singles: Vec::new(),
            longer: vec![(T::FIRST, T::LAST)],
        }
    }

    /// Makes room for so many ranges of one number.
    pub(super) fn with_room(singles: usize) -> Self {
        Self {
            singles: Vec::with_capacity(singles),
            longer: Vec::new(),
        }
    }

    /// Adds a range that is behind all others and not adjacent to the last.
    pub(super) fn push(&mut self, (first, last): (T, T)) {
        if first == last {
            self.singles.push(first);
        } else {
            self.longer.push((first, last));
        }
    }

    /// Returns the ranges of one number, ascending.
    #[must_use]
    pub fn singles(&self) -> &[T] {
        &self.singles
    }

    /// Returns the first and the last number of each of the other ranges, ascending.
    #[must_use]
    pub fn longer(&self) -> &[(T, T)] {
        &self.longer
    }

    /// Returns the first and the last number of each range, ascending.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(&self.singles, &self.longer)
    }

    /// Returns the ranges that do not end before a number.
    #[must_use]
    pub fn since(&self, number: T) -> Iter<'_, T> {
        let single = self.singles.partition_point(|&single| single < number);
        let longer = self.longer.partition_point(|&(_, last)| last < number);
        Iter::new(
            self.singles.get(single..).unwrap_or_default(),
            self.longer.get(longer..).unwrap_or_default(),
        )
    }

    /// Returns the number of ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.singles.len() + self.longer.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.singles.is_empty() && self.longer.is_empty()
    }

    /// Returns whether these are all numbers.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.longer == [(T::FIRST, T::LAST)]
    }

    /// Returns whether a number is in one of the ranges.
    #[must_use]
    pub fn contains(&self, number: T) -> bool {
        let next = self.since(number).next();
        next.is_some_and(|(first, _)| first <= number)
    }

    /// Returns whether two sets have a number in common.
    #[must_use]
    pub fn meet(&self, other: &Self) -> bool {
        let (few, many) = if self.len() < other.len() {
            (self, other)
        } else {
            (other, self)
        };
        few.iter().any(|(first, last)| {
            let next = many.since(first).next();
            next.is_some_and(|(start, _)| start <= last)
        })
    }

    /// Returns the numbers that are in no range.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut gaps = Self::default();
        let mut from = Some(T::FIRST);
        for (first, last) in self {
            let before = first.before();
            gaps.extend(from.zip(before).filter(|(from, before)| from <= before));
            from = last.after();
        }
        gaps.extend(from.map(|from| (from, T::LAST)));
        gaps
    }

    /// Returns the numbers that are in this set and not in another. Allocates for the result only: lists that are
    /// compared have a million entries and few that differ.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        let mut others = other.iter().peekable();
        for (first, last) in self {
            let mut from = Some(first);
            while let Some(start) = from {
                match others.peek() {
                    Some(&(_, other_last)) if other_last < start => {
                        others.next();
                    }
                    Some(&(other_first, other_last)) if other_first <= last => {
                        let before = other_first.before();
                        rest.extend(before.filter(|end| start <= *end).map(|end| (start, end)));
                        from = other_last.after().filter(|next| *next <= last);
                    }
                    _ => {
                        rest.push((start, last));
                        from = None;
                    }
                }
            }
        }
        rest
    }

    /// Returns the numbers that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        // Where the one is short, most of the other is not looked at.
        let start = |ranges: &Self| ranges.iter().next().map_or(T::LAST, |(first, _)| first);
        let (mut these, mut others) = (self.since(start(other)), other.since(start(self)));
        let (mut a, mut b) = (these.next(), others.next());
        let mut common = Self::default();
        while let (Some((a_first, a_last)), Some((b_first, b_last))) = (a, b) {
            let (first, last) = (a_first.max(b_first), a_last.min(b_last));
            common.extend((first <= last).then_some((first, last)));
            if a_last < b_last {
                a = these.next();
            } else {
                b = others.next();
            }
        }
        common
    }

    fn extend(&mut self, range: Option<(T, T)>) {
        if let Some(range) = range {
            self.push(range);
        }
    }
}

impl<'a, T: Number> IntoIterator for &'a Ranges<T> {
    type Item = (T, T);
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The first and the last number of each range, by the first one.
#[derive(Debug, Clone)]
pub struct Iter<'a, T> {
    singles: &'a [T],
    longer: &'a [(T, T)],
}

impl<'a, T> Iter<'a, T> {
    /// Ranges of one number and others, both ascending; they may overlap.
    pub(super) fn new(singles: &'a [T], longer: &'a [(T, T)]) -> Self {
        Self { singles, longer }
    }
}

impl<T: Number> Iterator for Iter<'_, T> {
    type Item = (T, T);

    fn next(&mut self) -> Option<(T, T)> {
        match (self.singles.split_first(), self.longer.split_first()) {
            (Some((&single, rest)), longer)
                if longer.is_none_or(|(&(first, _), _)| single < first) =>
            {
                self.singles = rest;
                Some((single, single))
            }
            (_, Some((&range, rest))) => {
                self.longer = rest;
                Some(range)
            }
            (_, None) => None,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let rest = self.singles.len() + self.longer.len();
        (rest, Some(rest))
    }
}
