//! A tokenizer over bytes as the `tokenizer.json` that `tokenizers` and `transformers` load. What is in its vocabulary
//! is decided by whose it is.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// A token for each byte and no other.
pub(super) fn of_bytes() -> Value {
    let characters = byte_characters();
    let vocabulary = characters.iter().enumerate().map(|(byte, name)| (name.to_string(), byte.into()));
    // Without the expression that cuts into words: there is nothing to be joined within one.
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    written(vocabulary.collect(), &[], &byte_level, &json!([]))
}

/// Byte pairs: each token from the 256th on is joined of two before it. `special` stands behind the last.
pub(super) fn of_byte_pairs(tokens: &[Vec<u8>], special: &str) -> Value {
    let characters = byte_characters();
    let name = |token: &[u8]| token.iter().map(|&byte| characters[usize::from(byte)]).collect::<String>();
    let ranks: HashMap<&[u8], usize> =
        tokens.iter().enumerate().map(|(rank, token)| (&token[..], rank)).collect();
    let merge = |(rank, token): (usize, &Vec<u8>)| {
        let (left, right) = joined_of(token, rank, &ranks)?;
        Some(format!("{} {}", name(left), name(right)))
    };
    let merges: Vec<String> = tokens.iter().enumerate().filter_map(merge).collect();
    let mut vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(rank, token)| (name(token), rank.into())).collect();
    vocabulary.insert(special.into(), tokens.len().into());
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let added = json!([{
        "id": tokens.len(), "content": special, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    }]);
    written(vocabulary, &merges, &byte_level, &added)
}

fn written(vocabulary: Map<String, Value>, merges: &[String], byte_level: &Value, added: &Value) -> Value {
    json!({
        "version": "1.0",
        "truncation": null, "padding": null, "added_tokens": added, "normalizer": null, "post_processor": null,
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    })
}

/// The two tokens that a token is joined of: what pairs of lower rank make of its bytes. `None` of a single byte.
fn joined_of<'a>(
    token: &'a [u8],
    rank: usize,
    ranks: &HashMap<&[u8], usize>,
) -> Option<(&'a [u8], &'a [u8])> {
    // Where the pieces end.
    let mut ends: Vec<usize> = (1..=token.len()).collect();
    while ends.len() > 2 {
        let start = |piece: usize| if piece == 0 { 0 } else { ends[piece - 1] };
        let pair =
            |piece: usize| ranks.get(&token[start(piece)..ends[piece + 1]]).filter(|&&pair| pair < rank);
        let lowest = (0..ends.len() - 1).filter_map(|piece| Some((pair(piece)?, piece))).min()?;
        ends.remove(lowest.1);
    }
    (ends.len() == 2).then(|| token.split_at(ends[0]))
}

/// GPT-2's names of bytes: printable ones by themselves, all others from U+0100 on in order.
fn byte_characters() -> Vec<char> {
    let mut next = 0x100;
    let name = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            let name = char::from_u32(next).unwrap_or(char::REPLACEMENT_CHARACTER);
            next += 1;
            name
        }
    };
    (0..=u8::MAX).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_names_that_gpt2_gives_them() {
        let names = byte_characters();
        // 'Ġ' and 'Ċ', as in every vocab.json of GPT-2.
        assert_eq!((names[b' ' as usize], names[b'\n' as usize], names[b'a' as usize]), ('Ġ', 'Ċ', 'a'));
        let all: std::collections::BTreeSet<char> = names.iter().copied().collect();
        assert_eq!(all.len(), 256);
    }
}
