//! A plugin as a page in Markdown: what it is, where its method comes from, what it takes. All of it is what the plugin
//! says of itself, in its manifest and in the schema of its configuration.

use plugin_host::api::Descriptor;
use plugin_host::api::abi::export_parts::PAGE_KEY;
use serde_json::{Map, Value};

/// The page, without a line break at its end.
pub(super) fn page(plugin: &Descriptor, schema: &Value) -> String {
    let Descriptor { kind, id, version, license, summary, homepage, .. } = plugin;
    let mut parts = vec![format!("# `{id}`\n\n{kind} {version} ({license})\n\n{summary}")];
    if !homepage.is_empty() {
        parts.push(format!("Source: <{homepage}>"));
    }
    let keys = keys(schema);
    parts.extend(schema[PAGE_KEY].as_str().map(str::to_owned));
    parts.push("## Configuration".to_owned());
    parts.extend(schema["description"].as_str().map(str::to_owned));
    if !keys.is_empty() {
        let rows: Vec<String> = keys.iter().map(Key::row).collect();
        parts.push(format!("| key | takes | default | |\n| --- | --- | --- | --- |\n{}", rows.join("\n")));
    }
    parts.extend(keys.iter().filter_map(Key::words));
    let examples = schema["examples"].as_array().into_iter().flatten();
    parts.extend(examples.map(|example| format!("Example:\n\n```json\n{example}\n```")));
    parts.join("\n\n")
}

/// One key of a configuration.
struct Key<'a> {
    name: &'a str,
    is_required: bool,
    /// What stands beside the key.
    beside: &'a Value,
    /// What it refers to, or itself.
    meant: &'a Value,
}

/// Required ones first, each half in alphabetical order.
fn keys(schema: &Value) -> Vec<Key<'_>> {
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let properties = schema["properties"].as_object().into_iter().flat_map(Map::iter);
    let mut keys: Vec<Key<'_>> = properties
        .map(|(name, beside)| {
            let is_required = required.iter().any(|key| key == name);
            Key { name, is_required, beside, meant: meant(schema, beside) }
        })
        .collect();
    keys.sort_by_key(|key| (!key.is_required, key.name));
    keys
}

/// Follows a reference into `$defs`, alone or beside `null`.
fn meant<'a>(schema: &'a Value, beside: &'a Value) -> &'a Value {
    let choices = beside["anyOf"].as_array().into_iter().flatten();
    let reference = std::iter::once(beside).chain(choices).find_map(|choice| choice["$ref"].as_str());
    let found = reference.and_then(|reference| schema.pointer(reference.strip_prefix('#')?));
    found.unwrap_or(beside)
}

impl Key<'_> {
    fn row(&self) -> String {
        let default = match (&self.beside["default"], self.is_required) {
            (_, true) => "required".to_owned(),
            (Value::Null, false) => "none".to_owned(),
            (default, false) => format!("`{default}`"),
        };
        let (takes, description) = (in_a_cell(&self.takes()), in_a_cell(self.description()));
        format!("| `{}` | {takes} | {default} | {description} |", self.name)
    }

    fn description(&self) -> &str {
        let description = self.beside["description"].as_str().or(self.meant["description"].as_str());
        description.unwrap_or_default()
    }

    /// Words to choose from, or types.
    fn takes(&self) -> String {
        let words: Vec<String> = self.choices().map(|(word, _)| format!("`{word}`")).collect();
        if !words.is_empty() {
            return words.join(", ");
        }
        if let Some(variant) = self.variants().next() {
            return format!("table, by its `{}`", variant.tag);
        }
        let types = match &self.meant["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
            Value::String(one) => vec![one.as_str()],
            _ => Vec::new(),
        };
        match (types.join(" or "), self.meant["items"]["type"].as_str()) {
            (list, Some(of)) if list == "array" => format!("list of {of}s"),
            (types, _) if types.is_empty() => "anything".into(),
            (types, _) => types,
        }
    }

    /// What each word means, where words are to be chosen from.
    fn words(&self) -> Option<String> {
        let words = self.choices().map(|(word, meaning)| format!("- `{word}`: {meaning}"));
        let words: Vec<String> = words.chain(self.variants().map(|variant| variant.line())).collect();
        (!words.is_empty()).then(|| format!("`{}` is one of\n\n{}", self.name, words.join("\n")))
    }

    /// Tables that are told apart by the word under one of their keys.
    fn variants(&self) -> impl Iterator<Item = Variant<'_>> {
        self.meant["oneOf"].as_array().into_iter().flatten().filter_map(Variant::read)
    }

    /// Words that are documented one by one.
    fn choices(&self) -> impl Iterator<Item = (&str, &str)> {
        let choices = self.meant["oneOf"].as_array().into_iter().flatten();
        choices.filter_map(|choice| {
            Some((choice["const"].as_str()?, choice["description"].as_str().unwrap_or_default()))
        })
    }
}

/// One of several tables that a key takes.
struct Variant<'a> {
    tag: &'a str,
    word: &'a str,
    table: &'a Value,
}

impl<'a> Variant<'a> {
    fn read(table: &'a Value) -> Option<Variant<'a>> {
        let mut properties = table["properties"].as_object()?.iter();
        let (tag, word) =
            properties.find_map(|(key, meant)| Some((key.as_str(), meant["const"].as_str()?)))?;
        Some(Variant { tag, word, table })
    }

    /// The word, what it means, and the keys beside it.
    fn line(&self) -> String {
        let Variant { tag, word, table } = self;
        let mut line =
            format!("- `{tag} = \"{word}\"`: {}", table["description"].as_str().unwrap_or_default());
        for key in keys(table).iter().filter(|key| key.name != *tag) {
            let default = match (&key.beside["default"], key.is_required) {
                (Value::Null, _) | (_, true) => String::new(),
                (default, false) => format!(", default `{default}`"),
            };
            line += &format!("\n  - `{}` ({}{default}): {}", key.name, key.takes(), key.description());
        }
        line
    }
}

/// Text that breaks no table.
fn in_a_cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use plugin_host::api::Kind;
    use serde_json::json;

    use super::*;

    fn descriptor(homepage: &str) -> Descriptor {
        Descriptor {
            kind: Kind::Strategy,
            id: "ada/plateau".into(),
            version: "1.2.3".into(),
            summary: "adds a block whenever the loss has stopped falling".into(),
            license: "MIT".into(),
            homepage: homepage.into(),
        }
    }

    #[test]
    fn a_page_says_what_each_key_takes_and_what_happens_without_it() {
        let schema = json!({
            "description": "When it grows.",
            "x-page": "Growth at plateaus: `|loss| < gain`.\n\nOurs.",
            "properties": {
                "depths": { "type": "array", "items": { "type": "integer" }, "description": "One | another." },
                "gain": { "type": "number", "default": 0.5, "description": "Nats." },
                "most": { "type": ["integer", "null"], "default": null, "description": "Blocks." },
                "order": { "$ref": "#/$defs/Order" },
                "place": { "anyOf": [{ "$ref": "#/$defs/Order" }, { "type": "null" }], "description": "Where." },
            },
            "required": ["order", "depths"],
            "examples": [{ "depths": [1, 2], "order": "stack" }],
            "$defs": { "Order": {
                "description": "Which order.",
                "oneOf": [
                    { "const": "stack", "description": "On top." },
                    { "const": "each", "description": "Each on itself." },
                ],
            } },
        });
        expect![[r#"
            # `ada/plateau`

            strategy 1.2.3 (MIT)

            adds a block whenever the loss has stopped falling

            Source: <https://arxiv.org/abs/1234.56789>

            Growth at plateaus: `|loss| < gain`.

            Ours.

            ## Configuration

            When it grows.

            | key | takes | default | |
            | --- | --- | --- | --- |
            | `depths` | list of integers | required | One \| another. |
            | `order` | `stack`, `each` | required | Which order. |
            | `gain` | number | `0.5` | Nats. |
            | `most` | integer | none | Blocks. |
            | `place` | `stack`, `each` | none | Where. |

            `order` is one of

            - `stack`: On top.
            - `each`: Each on itself.

            `place` is one of

            - `stack`: On top.
            - `each`: Each on itself.

            Example:

            ```json
            {"depths":[1,2],"order":"stack"}
            ```"#]]
        .assert_eq(&page(&descriptor("https://arxiv.org/abs/1234.56789"), &schema));
    }

    #[test]
    fn tables_of_several_kinds_are_told_apart_by_their_word() {
        let kind = |word: &str, most: Value| {
            let properties = json!({ "rule": { "type": "string", "const": word }, "most": most });
            json!({ "description": "Often.", "type": "object", "properties": properties, "required": ["rule"] })
        };
        let schema = json!({
            "properties": { "drop": { "$ref": "#/$defs/Rule", "description": "How often." } },
            "required": ["drop"],
            "$defs": { "Rule": { "oneOf": [
                kind("anneal", json!({ "type": "number", "default": 0.4, "description": "At most." })),
                kind("other", json!({ "type": ["integer", "null"], "description": "Blocks." })),
            ] } },
        });
        expect![[r##"
            # `ada/plateau`

            strategy 1.2.3 (MIT)

            adds a block whenever the loss has stopped falling

            ## Configuration

            | key | takes | default | |
            | --- | --- | --- | --- |
            | `drop` | table, by its `rule` | required | How often. |

            `drop` is one of

            - `rule = "anneal"`: Often.
              - `most` (number, default `0.4`): At most.
            - `rule = "other"`: Often.
              - `most` (integer): Blocks."##]]
        .assert_eq(&page(&descriptor(""), &schema));
    }

    #[test]
    fn a_plugin_that_takes_nothing_has_no_table() {
        expect![[r#"
            # `ada/plateau`

            strategy 1.2.3 (MIT)

            adds a block whenever the loss has stopped falling

            ## Configuration

            Takes no option."#]]
        .assert_eq(&page(&descriptor(""), &json!({ "description": "Takes no option." })));
    }
}
