//! JSON lines: one object a line, one key of which is the text. Blank lines are passed over.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::inputs::{Input, Unit};
use super::reading::open;
use super::{BadText, Found, LARGEST_TEXT_BYTES, TextError};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) fn read<E: From<TextError>>(
    input: &Input,
    unit: &Unit,
    field: &str,
    bytes_read: &AtomicU64,
    each: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let (first_byte, end_byte) = match *unit {
        Unit::Lines { first_byte, end_byte } => (first_byte, end_byte),
        _ => (0, u64::MAX),
    };
    // From the byte before on, to see whether a line begins with the unit.
    let mut at = first_byte.saturating_sub(1);
    let mut file = open(input, at, bytes_read)?;
    let failed = |source| TextError::of_reading(&input.path, source);
    if first_byte > 0 {
        at += file.skip_until(b'\n').map_err(failed)? as u64;
    }
    let mut line = Vec::new();
    let mut lines = 0;
    while at < end_byte {
        line.clear();
        let mut limited = (&mut file).take(LARGEST_TEXT_BYTES + 1);
        let length = limited.read_until(b'\n', &mut line).map_err(failed)? as u64;
        if length == 0 {
            break;
        }
        let place = || format!("line {}", lines_before(&input.path, unit) + lines + 1);
        if length > LARGEST_TEXT_BYTES {
            let path = input.path.clone();
            return Err(TextError::TooLarge { path, place: place(), limit: LARGEST_TEXT_BYTES }.into());
        }
        let content = if at == 0 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line) } else { &line };
        let content = content.trim_ascii();
        if !content.is_empty() {
            match text_of(content, field) {
                Ok(text) => each(Ok(&text))?,
                Err(reason) => each(Err(BadText { place: place(), reason }))?,
            }
        }
        at += length;
        lines += 1;
    }
    Ok(())
}

/// The text of a line, or why it has none.
fn text_of<'a>(line: &'a [u8], field: &str) -> Result<Cow<'a, str>, String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let found = Field(field).deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    // The error's own place is within the line, and its line is always the first.
    let reason = |error: serde_json::Error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        format!("is no JSON object with a text `{field}`: {message} at column {}", error.column())
    };
    found.map_err(reason)?.ok_or_else(|| format!("has no `{field}`"))
}

/// Lines of a file before a unit: only who tells of an error counts them.
fn lines_before(path: &Path, unit: &Unit) -> u64 {
    let Unit::Lines { first_byte: first_byte @ 1.., .. } = *unit else { return 0 };
    let Ok(file) = File::open(path) else { return 0 };
    let mut before = BufReader::new(file).take(first_byte - 1);
    let mut lines = 1;
    while let Ok(bytes) = before.fill_buf().map(<[u8]>::to_vec)
        && !bytes.is_empty()
    {
        lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        before.consume(bytes.len());
    }
    lines
}

/// Finds one key of an object, and passes over all others.
struct Field<'a>(&'a str);

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(key)) = map.next_key()? {
            if key == self.0 && found.is_none() {
                found = Some(map.next_value::<Text<'de>>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_line_is_found_or_it_is_said_why_not() {
        let text = |line: &'static str| text_of(line.as_bytes(), "text");
        assert_eq!(text(r#"{"id": [1, {"text": 2}], "text": "a\nb"}"#).as_deref(), Ok("a\nb"));
        assert!(matches!(text(r#"{"text": "plain"}"#), Ok(Cow::Borrowed("plain"))));
        assert_eq!(text(r#"{"body": "a"}"#), Err("has no `text`".into()));
        let refused = |line| text(line).expect_err("must be refused");
        assert_eq!(
            refused(r#"{"text": 7}"#),
            "is no JSON object with a text `text`: invalid type: integer `7`, expected a string at column 10"
        );
        assert!(refused("[]").contains("expected an object"));
        assert!(refused(r#"{"text": "a"} x"#).contains("trailing characters"));
        assert!(refused(r#"{"text": "a"#).contains("EOF while parsing a string"));
    }

    /// What is found of a file that is cut into units of so many bytes.
    fn found(folder: &Path, content: &str, unit_bytes: u64) -> Vec<Result<String, BadText>> {
        let path = folder.join("in.jsonl");
        std::fs::write(&path, content).expect("room");
        let input = crate::texts::inputs(&[path], None).expect("a file").remove(0);
        let mut found = Vec::new();
        for first_byte in (0..input.bytes).step_by(unit_bytes as usize) {
            let unit = Unit::Lines { first_byte, end_byte: (first_byte + unit_bytes).min(input.bytes) };
            let mut each = |text: Found<'_>| -> Result<(), TextError> {
                found.push(text.map(ToOwned::to_owned));
                Ok(())
            };
            read(&input, &unit, "text", &AtomicU64::new(0), &mut each).expect("lines");
        }
        found
    }

    #[test]
    fn units_of_any_size_have_every_line_once_and_know_its_number() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let content = "{\"text\": \"a\"}\n\n{\"text\": \"long enough for several units\"}\n{\"no\": 1}\n{\"text\": \"b\"}";
        let whole = found(folder.path(), content, content.len() as u64);
        let bad = BadText { place: "line 4".into(), reason: "has no `text`".into() };
        assert_eq!(
            whole,
            [Ok("a".into()), Ok("long enough for several units".into()), Err(bad), Ok("b".into())]
        );
        for unit_bytes in 1..content.len() as u64 {
            assert_eq!(found(folder.path(), content, unit_bytes), whole, "units of {unit_bytes} bytes");
        }
    }
}
