//! How GPT-2 cuts text into words before it looks for byte pairs, without a regular expression:
//!
//! ```text
//! '(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s
//! ```
//!
//! What is a letter, a number and a space is asked of `regex-syntax` once, so that it is of the same version of
//! Unicode as in programs that use the expression. What becomes of the words does not stand here.

use regex_syntax::hir::{Class as Ranges, HirKind};

/// The classes that the expression tells apart.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Class {
    Other,
    Letter,
    Number,
    Space,
}

/// The class of every character, by its code point.
pub(super) struct Splitter {
    classes: Box<[Class]>,
}

impl Splitter {
    pub(super) fn new() -> Splitter {
        let mut classes = vec![Class::Other; char::MAX as usize + 1].into_boxed_slice();
        for (expression, class) in
            [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)]
        {
            let parsed = regex_syntax::parse(expression).expect("the features of these classes are on");
            let HirKind::Class(Ranges::Unicode(ranges)) = parsed.kind() else {
                unreachable!("{expression} is a class of characters");
            };
            for range in ranges.ranges() {
                classes[range.start() as usize..=range.end() as usize].fill(class);
            }
        }
        Splitter { classes }
    }

    /// Where the word ends that begins at `start`, the border of a character before the end of the text.
    #[inline]
    pub(super) fn word_end(&self, text: &str, start: usize) -> usize {
        let bytes = text.as_bytes();
        match bytes[start] {
            b'\'' => match contraction(&bytes[start + 1..]) {
                0 => self.run(text, start + 1, Class::Other),
                length => start + 1 + length,
            },
            b' ' => match self.class_at(text, start + 1) {
                None => start + 1,
                Some((Class::Space, _)) => self.spaces(text, start),
                Some((class, after)) => self.run(text, after, class),
            },
            _ => match self.class_at(text, start) {
                None => start,
                Some((Class::Space, _)) => self.spaces(text, start),
                Some((class, after)) => self.run(text, after, class),
            },
        }
    }

    /// All spaces from `start` on where the text ends with them; else all but the last, which belongs to what
    /// follows or is a word by itself.
    fn spaces(&self, text: &str, start: usize) -> usize {
        let (mut last, mut end) = (start, start);
        while let Some((Class::Space, after)) = self.class_at(text, end) {
            (last, end) = (end, after);
        }
        if end == text.len() || last == start { end } else { last }
    }

    /// Where characters of that class end.
    #[inline]
    fn run(&self, text: &str, start: usize, class: Class) -> usize {
        let bytes = text.as_bytes();
        let mut end = start;
        loop {
            while end < bytes.len() && bytes[end] < 0x80 {
                if self.classes[bytes[end] as usize] != class {
                    return end;
                }
                end += 1;
            }
            match self.class_at(text, end) {
                Some((here, after)) if here == class => end = after,
                _ => return end,
            }
        }
    }

    /// The class of the character at `at`, and where the next one begins.
    #[inline]
    fn class_at(&self, text: &str, at: usize) -> Option<(Class, usize)> {
        let byte = *text.as_bytes().get(at)?;
        if byte < 0x80 {
            return Some((self.classes[byte as usize], at + 1));
        }
        let character = text[at..].chars().next()?;
        Some((self.classes[character as usize], at + character.len_utf8()))
    }
}

/// Letters of a contraction after its apostrophe, 0 for none.
fn contraction(after: &[u8]) -> usize {
    match after {
        [b's' | b'd' | b'm' | b't', ..] => 1,
        [b'l', b'l', ..] | [b'v' | b'r', b'e', ..] => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let splitter = Splitter::new();
        let mut words = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let end = splitter.word_end(text, at);
            words.push(&text[at..end]);
            at = end;
        }
        assert_eq!(words, expected);
    }

    #[test]
    fn words_take_one_space_before_them() {
        check("a b  c", &["a", " b", " ", " c"]);
        check("x1 22%!", &["x", "1", " 22", "%!"]);
    }

    #[test]
    fn spaces_at_the_end_stay_together() {
        check("a  \n ", &["a", "  \n "]);
        check("a \n\n b", &["a", " \n\n", " b"]);
        check("a\n\nb", &["a", "\n", "\n", "b"]);
        check("a\u{3000}b", &["a", "\u{3000}", "b"]);
    }

    #[test]
    fn contractions_are_lower_case_and_first_in_a_word() {
        check("I'll 'S 's !'re'", &["I", "'ll", " '", "S", " '", "s", " !'", "re", "'"]);
    }

    #[test]
    fn letters_are_by_category() {
        // U+0345 is alphabetic and no letter; U+2160 is a number.
        check("é\u{345}字ⅠⅡ😀", &["é", "\u{345}", "字", "ⅠⅡ", "😀"]);
    }
}
