//! A Rust file with its comments and literals told apart from its code, so that a rule about code is not broken by a
//! sentence about it.
//!
//! Never a full parser: it knows comments, texts, raw texts, characters and lifetimes, and that is what it takes.

use std::ops::Range;

/// A Rust file's text, looked at three ways. All offsets are those of the text.
#[derive(Debug)]
pub(super) struct Source {
    /// The text with every byte of comments and literals, quotes included, made a blank.
    code: String,
    /// `code` with the modules under `#[cfg(test)]` made blanks too.
    product: String,
    /// The text literals, quotes included.
    literals: Vec<Range<usize>>,
}

impl Source {
    pub(super) fn new(text: &str) -> Self {
        let mut scanner = Scanner { bytes: text.as_bytes(), code: text.as_bytes().to_vec(), literals: Vec::new() };
        scanner.scan();
        let product = without_test_modules(&scanner.code);
        let text_of = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: text_of(scanner.code), product: text_of(product), literals: scanner.literals }
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    pub(super) fn product(&self) -> &str {
        &self.product
    }

    pub(super) fn literals(&self) -> &[Range<usize>] {
        &self.literals
    }
}

/// Where `word` stands in `code`, with no letter, digit or underscore on either side where `word` itself has one.
pub(super) fn word_places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(place, _)| place).filter(move |&place| {
        let before = place.checked_sub(1).and_then(|index| bytes.get(index));
        let behind = bytes.get(place + word.len());
        let joins = |outside: Option<&u8>, edge: Option<u8>| {
            outside.is_some_and(|byte| is_word(*byte)) && edge.is_some_and(is_word)
        };
        !joins(before, word.bytes().next()) && !joins(behind, word.bytes().last())
    })
}

/// The index just behind the bracket that closes the one at `open`; the end of the code when none does.
pub(super) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (index, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    code: Vec<u8>,
    literals: Vec<Range<usize>>,
}

impl Scanner<'_> {
    fn scan(&mut self) {
        let mut at = 0;
        while at < self.bytes.len() {
            at = match &self.bytes[at..] {
                [b'/', b'/', ..] => self.blank(at, self.line_end(at)),
                [b'/', b'*', ..] => self.blank(at, self.block_comment_end(at)),
                [b'"', ..] => self.literal(at, self.text_end(at + 1)),
                [b'r', b'"' | b'#', ..] if !self.joins_word(at) => match self.raw_text_end(at + 1) {
                    Some(end) => self.literal(at, end),
                    None => at + 1,
                },
                [b'\'', ..] => match self.character_end(at) {
                    Some(end) => self.blank(at, end),
                    None => at + 1,
                },
                _ => at + 1,
            };
        }
    }

    /// Whether the byte at `at` goes on with a word; `b` and `c` in front of a raw text are part of the text.
    fn joins_word(&self, at: usize) -> bool {
        let before = |back: usize| at.checked_sub(back).and_then(|index| self.bytes.get(index));
        let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        match before(1) {
            Some(b'b' | b'c') => is_word(before(2)),
            byte => is_word(byte),
        }
    }

    fn blank(&mut self, start: usize, end: usize) -> usize {
        for byte in &mut self.code[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        end
    }

    fn literal(&mut self, start: usize, end: usize) -> usize {
        self.literals.push(start..end);
        self.blank(start, end)
    }

    fn line_end(&self, at: usize) -> usize {
        self.bytes[at..].iter().position(|byte| *byte == b'\n').map_or(self.bytes.len(), |length| at + length)
    }

    fn block_comment_end(&self, start: usize) -> usize {
        let (mut at, mut depth) = (start, 0);
        while at < self.bytes.len() {
            match &self.bytes[at..] {
                [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
                [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
                _ => at += 1,
            }
            if depth == 0 {
                return at;
            }
        }
        self.bytes.len()
    }

    fn text_end(&self, mut at: usize) -> usize {
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'\\' => at += 2,
                b'"' => return at + 1,
                _ => at += 1,
            }
        }
        self.bytes.len()
    }

    /// The end of `#"…"#` with any number of hashes; `None` for a raw name such as `r#type`.
    fn raw_text_end(&self, start: usize) -> Option<usize> {
        let hashes = self.bytes[start..].iter().take_while(|byte| **byte == b'#').count();
        let inside = start + hashes + 1;
        if self.bytes.get(inside - 1) != Some(&b'"') {
            return None;
        }
        let close = [b"\"", "#".repeat(hashes).as_bytes()].concat();
        let length = self.bytes[inside..].windows(close.len()).position(|window| window == close)?;
        Some(inside + length + close.len())
    }

    /// The end of a character literal; `None` for a lifetime.
    fn character_end(&self, start: usize) -> Option<usize> {
        if self.bytes.get(start + 1) == Some(&b'\\') {
            let length = self.bytes[start + 3..].iter().position(|byte| *byte == b'\'')?;
            return Some(start + 3 + length + 1);
        }
        let first = *self.bytes.get(start + 1)?;
        let length = match first {
            0..0x80 => 1,
            0x80..0xe0 => 2,
            0xe0..0xf0 => 3,
            _ => 4,
        };
        (self.bytes.get(start + 1 + length) == Some(&b'\'')).then_some(start + 2 + length)
    }
}

fn without_test_modules(code: &[u8]) -> Vec<u8> {
    const MARK: &str = "#[cfg(test)]";
    let text = String::from_utf8_lossy(code);
    let mut product = code.to_vec();
    for (start, _) in text.match_indices(MARK) {
        let behind = &text[start + MARK.len()..];
        let until_block = behind.find(['{', ';']).unwrap_or(0);
        let open = start + MARK.len() + until_block;
        let end = if text.as_bytes().get(open) == Some(&b'{') { closing(&text, open) } else { open };
        for byte in &mut product[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        for text in [
            "a // todo\nb",
            "a /* x /* y */ todo */ b",
            "a \"todo \\\" // \" b",
            "a r#\"todo \" // \"# b",
            "a br\"todo\" b",
            "a b\"todo\" b",
            "a '\"' b '\\'' 'é' b \"todo\"",
            "fn f<'a>(x: &'a str) b \"todo\"",
        ] {
            let source = Source::new(text);
            assert_eq!(source.code().len(), text.len(), "{text}");
            assert!(!source.code().contains("todo"), "{text}: {:?}", source.code());
            assert!(
                source.code().starts_with(&text[..1]) && source.code().contains('b'),
                "{text}: {:?}",
                source.code()
            );
        }
        assert!(Source::new("let r#type = todo;").code().contains("todo"));
    }

    #[test]
    fn test_modules_are_no_product() {
        let source = Source::new("fn a() {}\n#[cfg(test)]\nmod tests { fn b() { let x = \"}\"; } }\nfn c() {}");
        assert!(source.code().contains("fn b"));
        assert!(!source.product().contains("fn b"));
        assert!(source.product().contains("fn c"));
        let source = Source::new("#[cfg(test)]\nmod testing;\nfn c() {}");
        assert!(source.product().contains("fn c") && !source.product().contains("testing"));
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(word_places("tokio stokio tokios tokio::x _tokio", "tokio").collect::<Vec<_>>(), [0, 20]);
        assert_eq!(word_places("x.await; x.awaited", ".await").collect::<Vec<_>>(), [1]);
    }
}
