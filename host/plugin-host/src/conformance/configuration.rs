//! Questions about the configuration: its schema, what is refused and how, and instances as such.

use serde_json::{Map, Value, json};

use super::process::memory_over;
use super::subject::{Instance, survived, while_doing};
use super::{Answer, Question, Said, Subject, not_applicable, noted, passed};

pub(super) const QUESTIONS: &[Question] = &[
    Question { name: "schema-describes-a-table", asks: "has a JSON Schema of a table", ask: is_object },
    Question { name: "schema-documents-every-key", asks: "says what each key is for", ask: documented },
    Question { name: "schema-repeats", asks: "has the same schema each time", ask: schema_repeats },
    Question { name: "schema-fits-the-configuration", asks: "knows the keys that it is given", ask: fits },
    Question { name: "configuration-is-taken", asks: "takes its own example", ask: taken },
    Question { name: "unknown-key-is-refused", asks: "names a key that it does not know", ask: unknown_key },
    Question { name: "wrong-type-is-refused", asks: "names a key of the wrong type", ask: wrong_type },
    Question { name: "missing-key-is-refused", asks: "refuses to guess a required key", ask: missing_key },
    Question { name: "other-json-is-refused", asks: "refuses what is no table", ask: other_json },
    Question { name: "broken-json-is-refused", asks: "refuses what is no JSON", ask: broken_json },
    Question { name: "huge-configuration-is-survived", asks: "survives megabytes and depth", ask: huge },
    Question { name: "extreme-numbers-are-survived", asks: "survives 0, -1 and 10^300", ask: extremes },
    Question { name: "errors-are-one-line", asks: "errs in one line", ask: one_line },
    Question { name: "instances-come-and-go", asks: "leaks no instance", ask: come_and_go },
];

/// Not a question of the list: which example the schema gives; the answer holds it as its digest.
pub(super) static EXAMPLE: Question = Question { name: "example", asks: "gives an example", ask: example };

fn schema(subject: &Subject) -> Result<Value, String> {
    let text = subject.open()?.schema(subject.kind, &subject.id).map_err(while_doing("has no schema"))?;
    serde_json::from_str(&text).map_err(|error| format!("the schema is no JSON: {error}"))
}

fn example(subject: &Subject) -> Answer {
    let digest = schema(subject)?["examples"].get(0).map(Value::to_string).unwrap_or_default();
    Ok(Said { digest, ..Said::default() })
}

fn properties(schema: &Value) -> Map<String, Value> {
    schema["properties"].as_object().cloned().unwrap_or_default()
}

fn is_object(subject: &Subject) -> Answer {
    match &schema(subject)?["type"] {
        Value::String(kind) if kind == "object" => passed(),
        other => Err(format!("the schema's type is {other}, not \"object\"")),
    }
}

fn documented(subject: &Subject) -> Answer {
    let silent: Vec<String> = properties(&schema(subject)?)
        .into_iter()
        .filter(|(_, schema)| schema["description"].as_str().is_none_or(|text| text.trim().is_empty()))
        .map(|(key, _)| key)
        .collect();
    if silent.is_empty() {
        return passed();
    }
    Err(format!("{} without a doc comment in the config's struct", silent.join(", ")))
}

fn schema_repeats(subject: &Subject) -> Answer {
    if schema(subject)? == schema(subject)? { passed() } else { Err("differs".into()) }
}

fn fits(subject: &Subject) -> Answer {
    let (schema, config) = (schema(subject)?, &subject.config);
    let Some(config) = config.as_object() else { return Err(format!("{config} is no table")) };
    let known = properties(&schema);
    let closed = schema["additionalProperties"] == json!(false);
    if let Some(key) = config.keys().find(|key| closed && !known.contains_key(*key)) {
        return Err(format!("the schema has no `{key}`"));
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    match required.iter().filter_map(Value::as_str).find(|key| !config.contains_key(*key)) {
        Some(key) => Err(format!(
            "`{key}` is required: give one with --config, or an example in the schema \
             (`#[schemars(extend(\"examples\" = [{{ … }}]))]`)"
        )),
        None => passed(),
    }
}

fn taken(subject: &Subject) -> Answer {
    subject.make(&subject.config.to_string()).map_err(while_doing("is refused"))?;
    passed()
}

/// Has to be refused, without a panic; answers the error.
fn refused(subject: &Subject, what: &str, config: &str) -> Result<sapwood_plugin::Error, String> {
    match subject.make(config) {
        Ok(_) => Err(format!("takes {what}")),
        Err(error) if error.panicked().is_some() => Err(format!("{what}: {error}")),
        Err(error) => Ok(error),
    }
}

fn with(subject: &Subject, key: &str, value: Value) -> String {
    let mut config = subject.config.clone();
    if let Some(config) = config.as_object_mut() {
        config.insert(key.into(), value);
    }
    config.to_string()
}

fn unknown_key(subject: &Subject) -> Answer {
    let key = "no-such-key-anywhere";
    let error = refused(subject, "a key that its schema does not have", &with(subject, key, json!(1)))?;
    let named = error.field() == Some(key) || error.message().contains(key);
    if named { passed() } else { Err(format!("does not name the unknown key: {error}")) }
}

fn wrong_type(subject: &Subject) -> Answer {
    let schema = schema(subject)?;
    let typed = properties(&schema).into_iter().filter(|(_, schema)| schema.as_object().is_some());
    let mut asked = 0;
    for (key, _) in typed {
        let what = format!("nested lists of text for `{key}`");
        let error = refused(subject, &what, &with(subject, &key, json!([[[["text"]]]])))?;
        let named =
            error.field().is_some_and(|field| field.starts_with(&key)) || error.message().contains(&key);
        if !named {
            return Err(format!("does not name `{key}`: {error}"));
        }
        asked += 1;
    }
    if asked == 0 { not_applicable("takes no option") } else { noted(format!("{asked} keys")) }
}

fn missing_key(subject: &Subject) -> Answer {
    let required = schema(subject)?["required"].as_array().cloned().unwrap_or_default();
    for key in required.iter().filter_map(Value::as_str) {
        let mut config = subject.config.clone();
        config.as_object_mut().map(|config| config.remove(key));
        let error = refused(subject, &format!("a configuration without `{key}`"), &config.to_string())?;
        if !error.to_string().contains(key) && error.field() != Some(key) {
            return Err(format!("does not name the missing `{key}`: {error}"));
        }
    }
    if required.is_empty() { not_applicable("no key is required") } else { passed() }
}

fn other_json(subject: &Subject) -> Answer {
    for config in ["null", "7", "true", "\"text\""] {
        refused(subject, config, config)?;
    }
    passed()
}

fn broken_json(subject: &Subject) -> Answer {
    for config in ["", "{", "{]", "{\"a\":}", "\u{0}", "{} {}", "nul"] {
        refused(subject, &format!("{config:?}"), config)?;
    }
    passed()
}

fn huge(subject: &Subject) -> Answer {
    refused(subject, "a megabyte under one key", &with(subject, "no-such-key", json!("x".repeat(1 << 20))))?;
    let deep = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    refused(subject, "ten thousand tables in each other", &deep)?;
    let long_key = with(subject, &"k".repeat(1 << 16), json!(1));
    refused(subject, "a key of 64 KiB", &long_key)?;
    passed()
}

fn extremes(subject: &Subject) -> Answer {
    let is_number = |schema: &Value| {
        let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
        kinds.iter().any(|kind| kind == "integer" || kind == "number")
    };
    let values = [
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(-1e300),
        json!(f64::MIN_POSITIVE),
    ];
    let mut asked = 0;
    for (key, _) in properties(&schema(subject)?).into_iter().filter(|(_, schema)| is_number(schema)) {
        for value in &values {
            let what = format!("{key} = {value}");
            if let Some(instance) = survived(&what, subject.make(&with(subject, &key, value.clone())))? {
                try_out(&what, instance, subject)?;
            }
            asked += 1;
        }
    }
    if asked == 0 {
        not_applicable("no option is a number")
    } else {
        noted(format!("{asked} configurations"))
    }
}

/// What was taken must not panic later either.
fn try_out(what: &str, instance: Instance, subject: &Subject) -> Result<(), String> {
    match instance {
        Instance::Strategy(mut strategy) => {
            survived(what, super::strategy::usual_run().drive(&mut *strategy)).map(|_| ())
        }
        Instance::Initializer(mut initializer) => super::initializer::try_out(what, &mut *initializer),
        Instance::Reporter(mut reporter) => {
            let run = super::reporter::usual_run(subject)?;
            survived(what, run.tell(&mut *reporter)).map(|_| ())
        }
    }
}

fn one_line(subject: &Subject) -> Answer {
    let error = refused(subject, "an unknown key", &with(subject, "no-such-key", json!(1)))?;
    let message = error.message();
    if message.trim().is_empty() || message.contains('\n') {
        return Err(format!("{message:?} is not one line of text"));
    }
    passed()
}

fn come_and_go(subject: &Subject) -> Answer {
    let config = subject.config.to_string();
    memory_over(4000, |_| subject.make(&config).map(|_| ()).map_err(while_doing("is refused")))
}
