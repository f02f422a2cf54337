//! What changed in a text of many lines, such as a list of a million addresses.
//!
//! A line of a delta copies lines of the former text (`=N`), skips some (`-N`), or is a new line behind a `+`. What is
//! signed is the digest of the result, so a delta is trusted with nothing.

use std::collections::BTreeMap;

use memchr::memchr_iter;

/// The most bytes of a delta. One that would be larger is not used: the whole text is.
pub const LIMIT: usize = 64 << 10;

/// Returns the delta from one text to another; `None` if it is larger than [`LIMIT`], or a text does not end with a
/// line break.
#[must_use]
pub fn between(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let old_lines = lines(old)?;
    let new_lines = lines(new)?;
    // Sorted lists have each line once. What is there twice is found where it is first behind the last place.
    let mut places: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (at, line) in old_lines.iter().enumerate().rev() {
        places.entry(line).or_default().push(at);
    }
    let mut delta = Writer::default();
    let mut at = 0;
    for line in new_lines {
        let found = places.get_mut(line).and_then(|places| {
            while places.last().is_some_and(|place| *place < at) {
                places.pop();
            }
            places.pop()
        });
        match found {
            Some(place) => {
                delta.skip(place - at);
                delta.copy();
                at = place + 1;
            }
            None => delta.add(line),
        }
        if delta.text.len() > LIMIT {
            return None;
        }
    }
    let text = delta.finish();
    (text.len() <= LIMIT).then_some(text)
}

/// Returns the text that a delta makes of another one, if it has exactly `size` bytes.
///
/// # Errors
/// If the delta is malformed, goes beyond the end of the former text, or the result has another size.
pub fn apply(old: &[u8], delta: &[u8], size: u64) -> Result<Vec<u8>, &'static str> {
    const WRONG: &str = "the delta does not fit";
    let size = usize::try_from(size).map_err(|_| WRONG)?;
    if delta.len() > LIMIT {
        return Err("the delta is too large");
    }
    let mut rest = old;
    let mut new = Vec::new();
    for line in lines(delta).ok_or(WRONG)? {
        let (kind, text) = line.split_first().ok_or(WRONG)?;
        let taken = match kind {
            b'+' => text,
            b'=' | b'-' => {
                let taken;
                (taken, rest) =
                    rest.split_at(end_of(rest, number(text).ok_or(WRONG)?).ok_or(WRONG)?);
                if *kind == b'=' { taken } else { &[] }
            }
            _ => return Err(WRONG),
        };
        let breaks = usize::from(*kind == b'+');
        if new.len() + taken.len() + breaks > size {
            return Err(WRONG);
        }
        if new.is_empty() {
            new.reserve_exact(size.min(old.len() + delta.len()));
        }
        new.extend_from_slice(taken);
        new.extend_from_slice(if breaks == 1 { b"\n" } else { b"" });
    }
    if new.len() == size {
        Ok(new)
    } else {
        Err(WRONG)
    }
}

/// Returns the lines of a text without their breaks; `None` if the last one has none.
fn lines(text: &[u8]) -> Option<Vec<&[u8]>> {
    let text = match text {
        [] => return Some(Vec::new()),
        text => text.strip_suffix(b"\n")?,
    };
    Some(text.split(|byte| *byte == b'\n').collect())
}

/// Returns where so many lines end.
fn end_of(text: &[u8], lines: usize) -> Option<usize> {
    let last = lines.checked_sub(1)?;
    memchr_iter(b'\n', text).nth(last).map(|at| at + 1)
}

/// Parses a number from 1, in its one spelling.
fn number(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?;
    let is_plain = !text.starts_with(['0', '+']) && text.len() < 12;
    is_plain.then(|| text.parse().ok()).flatten()
}

/// A delta that is being written.
#[derive(Default)]
struct Writer {
    text: Vec<u8>,
    copied: usize,
}

impl Writer {
    fn copy(&mut self) {
        self.copied += 1;
    }

    fn skip(&mut self, lines: usize) {
        if lines > 0 {
            self.flush();
            self.text
                .extend_from_slice(format!("-{lines}\n").as_bytes());
        }
    }

    fn add(&mut self, line: &[u8]) {
        self.flush();
        self.text.push(b'+');
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    fn flush(&mut self) {
        if self.copied > 0 {
            let line = format!("={}\n", self.copied);
            self.text.extend_from_slice(line.as_bytes());
            self.copied = 0;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(lines: &[u8]) -> Vec<u8> {
        lines
            .iter()
            .flat_map(|line| [b'a' + line % 8, b'\n'])
            .collect()
    }

    #[test]
    fn a_delta_of_few_changes_is_small() {
        let lines = |numbers: &mut dyn Iterator<Item = u32>| -> String {
            let lines: Vec<_> = numbers.map(|number| number.to_string()).collect();
            lines.join("\n") + "\n"
        };
        let old = lines(&mut (0..100_000));
        let new: String = (0..100_000)
            .filter(|number| number % 2_000 != 7)
            .map(|number| {
                if number % 2_000 == 0 {
                    format!("{number}\nnew\n")
                } else {
                    format!("{number}\n")
                }
            })
            .collect();
        let delta = between(old.as_bytes(), new.as_bytes()).unwrap();
        assert!(delta.len() < 2_000, "{}", delta.len());
        let size = new.len() as u64;
        assert_eq!(
            apply(old.as_bytes(), &delta, size),
            Ok(new.clone().into_bytes())
        );
        assert!(apply(old.as_bytes(), &delta, size - 1).is_err());
        assert!(apply(old.as_bytes(), &delta, size + 1).is_err());
        assert!(apply(&old.as_bytes()[..1000], &delta, size).is_err());
        assert!(between(old.as_bytes(), b"no break").is_none());
        let other = lines(&mut (100_000..200_000));
        assert!(between(old.as_bytes(), other.as_bytes()).is_none());
    }

    #[test]
    fn a_malformed_delta_is_an_error() {
        for wrong in [
            "=1",
            "=0\n",
            "=01\n",
            "=+1\n",
            "=3\n",
            "*1\n",
            "\n",
            "=\n",
            "-\n",
            "=99999999999999\n",
        ] {
            assert!(apply(b"a\nb\n", wrong.as_bytes(), 2).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_delta_makes_the_new_text(old in prop::collection::vec(any::<u8>(), 0..40), new in prop::collection::vec(any::<u8>(), 0..40)) {
            let (old, new) = (text(&old), text(&new));
            let delta = between(&old, &new).unwrap();
            prop_assert_eq!(apply(&old, &delta, new.len() as u64), Ok(new));
        }

        #[test]
        fn no_delta_makes_more_than_was_asked_for(old in any::<Vec<u8>>(), delta in "([=+-][0-9a]{0,3}\n){0,9}", size in 0..64_u64) {
            if let Ok(new) = apply(&old, delta.as_bytes(), size) {
                prop_assert_eq!(new.len() as u64, size);
            }
        }
    }
}
