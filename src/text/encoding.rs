//! Bytes to text: UTF-8, or what they are instead.

use super::problem::Problem;

/// Returns the text of a file without a byte order mark, and the problem of the whole file, if any.
pub(super) fn decode(mut bytes: Vec<u8>) -> (String, Option<Problem>) {
    if let Some(problem) = no_text(&bytes) {
        return (String::new(), Some(problem));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    String::from_utf8(bytes).map_or_else(
        |error| {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (text, Some(Problem::NotUtf8 { at, utf16 }))
        },
        |text| (text, None),
    )
}

/// Returns the format of a file that is not text, by its first bytes.
fn no_text(bytes: &[u8]) -> Option<Problem> {
    const FORMATS: [(&[u8], &str, &str); 6] = [
        (
            b"\x1f\x8b",
            "compressed by gzip",
            "unpack it first: `gunzip FILE`",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "compressed by zstd",
            "unpack it first: `unzstd FILE`",
        ),
        (
            b"\xfd7zXZ\0",
            "compressed by xz",
            "unpack it first: `unxz FILE`",
        ),
        (
            b"BZh",
            "compressed by bzip2",
            "unpack it first: `bunzip2 FILE`",
        ),
        (
            b"PK\x03\x04",
            "a ZIP archive",
            "unpack it first: `unzip FILE`",
        ),
        (
            b"%PDF-",
            "a PDF",
            "a policy or a list is plain text in UTF-8",
        ),
    ];
    let known = FORMATS.iter().find(|(magic, ..)| bytes.starts_with(magic));
    if let Some((_, what, help)) = known {
        return Some(Problem::NotText { what, help });
    }
    let utf32 = bytes.starts_with(b"\xff\xfe\0\0") || bytes.starts_with(b"\0\0\xfe\xff");
    if utf32 {
        return Some(Problem::NotText {
            what: "UTF-32",
            help: "save it as UTF-8: `iconv -f UTF-32 -t UTF-8 FILE`",
        });
    }
    // The beginning is enough: text has none of them at all.
    let head = &bytes[..bytes.len().min(4096)];
    let zeros = |odd: usize| {
        head.iter()
            .skip(odd)
            .step_by(2)
            .filter(|byte| **byte == 0)
            .count()
    };
    let (even, odd) = (zeros(0), zeros(1));
    if even + odd == 0 || bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return None;
    }
    // ASCII in UTF-32 has three zeros for each character.
    let utf32 = |character: usize| {
        let mut quads = head.chunks_exact(4).peekable();
        quads.peek().is_some()
            && quads.all(|quad| (0..4).all(|at| (quad.get(at) == Some(&0)) != (at == character)))
    };
    // ASCII in UTF-16 has a zero in every second byte.
    let utf16 = even.max(odd) * 4 > head.len() && even.min(odd) * 4 <= even.max(odd);
    let (what, help) = if utf32(0) {
        (
            "UTF-32",
            "save it as UTF-8: `iconv -f UTF-32LE -t UTF-8 FILE`",
        )
    } else if utf32(3) {
        (
            "UTF-32",
            "save it as UTF-8: `iconv -f UTF-32BE -t UTF-8 FILE`",
        )
    } else if utf16 && even > odd {
        (
            "UTF-16, the higher byte first",
            "save it as UTF-8: `iconv -f UTF-16BE -t UTF-8 FILE`",
        )
    } else if utf16 {
        (
            "UTF-16, as some programs on Windows save text",
            "save it as UTF-8: `iconv -f UTF-16LE -t UTF-8 FILE`",
        )
    } else {
        (
            "no text: it has zero bytes",
            "a policy or a list is plain text in UTF-8",
        )
    };
    Some(Problem::NotText { what, help })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_has_its_own_advice() {
        let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
        let wide = |text: &str| text.chars().map(u32::from).collect::<Vec<u32>>();
        let text = "203.0.113.7\n203.0.113.8\n";
        let (two, four) = (units(text), wide(text));
        let le: Vec<u8> = two.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let be: Vec<u8> = two.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let le4: Vec<u8> = four.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let be4: Vec<u8> = four.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
        for (bytes, from) in [
            (le, "UTF-16LE"),
            (be, "UTF-16BE"),
            (le4.clone(), "UTF-32LE"),
            (be4.clone(), "UTF-32BE"),
            (marked(b"\xff\xfe\0\0", &le4), "UTF-32"),
            (marked(b"\0\0\xfe\xff", &be4), "UTF-32"),
        ] {
            let Some(Problem::NotText { help, .. }) = decode(bytes).1 else {
                panic!("{from} is taken for text");
            };
            assert!(help.contains(&format!("iconv -f {from} -t")), "{help}");
        }
        let Some(Problem::NotText { what, .. }) = decode(vec![0; 64]).1 else {
            panic!("zeros are taken for text");
        };
        assert_eq!(what, "no text: it has zero bytes");
    }
}
