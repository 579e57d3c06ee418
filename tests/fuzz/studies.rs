//! A study's table, damaged by a seed: its values as JSON has them, written as TOML again.

use serde_json::Value;

use crate::damage_by_seed::Dice;

/// `None` where what came of it cannot be written as TOML.
pub(crate) fn damaged(dice: &mut Dice, table: &toml::Table, words: &[&str]) -> Option<toml::Table> {
    let mut json = serde_json::to_vec(table).expect("a table is a value");
    dice.json(&mut json, words);
    let value = without_nothing(serde_json::from_slice(&json).ok()?)?;
    toml::Table::try_from(value).ok()
}

/// TOML has no word for what is not there.
fn without_nothing(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) => Some(items.into_iter().filter_map(without_nothing).collect()),
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(name, value)| Some((name, without_nothing(value)?)));
            Some(Value::Object(kept.collect()))
        }
        value => Some(value),
    }
}
