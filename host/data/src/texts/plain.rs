//! Plain text.

use std::io::Read;
use std::sync::atomic::AtomicU64;

use super::inputs::Input;
use super::reading::open;
use super::{BadText, Cut, Found, LARGEST_TEXT_BYTES, TextError};

pub(super) fn read<E: From<TextError>>(
    input: &Input,
    cut: Cut,
    bytes_read: &AtomicU64,
    each: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut bytes = Vec::new();
    let file = open(input, 0, bytes_read)?;
    file.take(LARGEST_TEXT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| TextError::of_reading(&input.path, source))?;
    if bytes.len() as u64 > LARGEST_TEXT_BYTES {
        let (path, place) = (input.path.clone(), "byte 0".into());
        return Err(TextError::TooLarge { path, place, limit: LARGEST_TEXT_BYTES }.into());
    }
    let text = match str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let (place, reason) = (format!("byte {}", error.valid_up_to()), "is not UTF-8".into());
            return each(Err(BadText { place, reason }));
        }
    };
    match cut {
        Cut::Files => each(Ok(text)),
        Cut::Lines => text.lines().try_for_each(|line| each(Ok(line))),
        Cut::Paragraphs => paragraphs(text).try_for_each(|paragraph| each(Ok(paragraph))),
    }
}

/// What stands between blank lines, without the line's end behind it.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut length = 0;
        let mut end = None;
        for line in rest.split_inclusive('\n') {
            match (line.trim().is_empty(), end) {
                // Blank lines before the paragraph.
                (true, None) => {}
                (true, Some(_)) => break,
                (false, _) => end = Some(length + line.trim_end_matches(['\n', '\r']).len()),
            }
            length += line.len();
        }
        let end = end?;
        let blank = rest.split_inclusive('\n').take_while(|line| line.trim().is_empty()).map(str::len).sum();
        let paragraph = &rest[blank..end];
        rest = &rest[length..];
        Some(paragraph)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_stand_between_blank_lines() {
        let cut = |text| paragraphs(text).collect::<Vec<_>>();
        assert_eq!(cut("\n\none\ntwo\n \n\t\nthree\r\n\r\nfour"), ["one\ntwo", "three", "four"]);
        assert_eq!(cut("  indented\n"), ["  indented"]);
        assert!(cut("").is_empty() && cut("\n \n").is_empty());
    }
}
