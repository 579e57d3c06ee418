//! `config.json`: a GPT-2 that is implemented here, or one error by the field that makes it another model.

use std::fs;
use std::path::Path;

use engine::{BlockKind, ModelShape};
use plugin_host::bounded;
use serde_json::{Map, Value, json};

use super::CONFIG_FILE;
use crate::TrainError;
use crate::storage::failing;

/// Largest such file that is read: a megabyte, a thousand times what one has.
const LARGEST_BYTES: u64 = 1 << 20;

/// Most of anything that is counted: sizes are multiplied before they are checked as a whole.
const MOST: u64 = 1 << 24;

/// What a `config.json` says of a model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelConfig {
    pub(crate) shape: ModelShape,
    /// The token that a text begins with, and the one that ends it; a vocabulary of bytes has neither.
    pub(crate) special_tokens: [Option<u32>; 2],
}

/// Fields whose one value is what is implemented; the value is also transformers' default where the field is absent.
const FIXED: [(&str, Value); 6] = [
    ("scale_attn_weights", Value::Bool(true)),
    ("scale_attn_by_inverse_layer_idx", Value::Bool(false)),
    ("reorder_and_upcast_attn", Value::Bool(false)),
    ("add_cross_attention", Value::Bool(false)),
    ("is_encoder_decoder", Value::Bool(false)),
    ("tie_word_embeddings", Value::Bool(true)),
];

/// Reads it from a folder.
///
/// # Errors
/// A file that is missing or no JSON object, or the first field that describes another model.
pub(crate) fn read(folder: &Path) -> Result<ModelConfig, TrainError> {
    let path = folder.join(CONFIG_FILE);
    let unfit =
        |reason: String, hint: &str| TrainError::Unfit { path: path.clone(), reason, hint: hint.into() };
    let bytes = fs::metadata(&path).map_err(failing("read", &path))?.len();
    if bytes > LARGEST_BYTES {
        return Err(unfit(
            format!("has {bytes} bytes, too many for a model's configuration"),
            "name a model's folder",
        ));
    }
    let text = bounded::read(&path, LARGEST_BYTES).map_err(failing("read", &path))?;
    let value: Value = serde_json::from_slice(&text)
        .map_err(|error| unfit(format!("is no JSON: {error}"), "download the file again"))?;
    let Value::Object(fields) = value else {
        return Err(unfit("is no JSON object".into(), "download the file again"));
    };
    Fields { fields: &fields }.model().map_err(|wrong| unfit(wrong.reason, wrong.hint))
}

/// One field that is at fault.
struct Wrong {
    reason: String,
    hint: &'static str,
}

struct Fields<'a> {
    fields: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn model(&self) -> Result<ModelConfig, Wrong> {
        self.kind()?;
        self.fixed()?;
        let norm_epsilon = self.number("layer_norm_epsilon", 1e-5)?;
        let shape = ModelShape {
            layers: self.count("n_layer")?,
            width: self.count("n_embd")?,
            heads: self.count("n_head")?,
            context: self.context()?,
            vocabulary: self.count("vocab_size")?,
            init_std: self.number("initializer_range", 0.02)?,
            norm_epsilon,
            mlp_width: self.get("n_inner").map(|_| self.count("n_inner")).transpose()?,
            head_width: None,
            block: BlockKind::GPT2,
        };
        shape.check().map_err(|error| Wrong {
            reason: format!("has `{}`: {error}", field_of(error.field)),
            hint: "check the file against the one that the model came with",
        })?;
        let token = |name| self.token(name, shape.vocabulary);
        let special_tokens = [token("bos_token_id")?, token("eos_token_id")?];
        Ok(ModelConfig { shape, special_tokens })
    }

    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn kind(&self) -> Result<(), Wrong> {
        match self.get("model_type") {
            Some(Value::String(kind)) if kind == "gpt2" => {}
            other => return Err(only("model_type", other, "\"gpt2\"")),
        }
        match self.get("activation_function") {
            None => Ok(()),
            // Two names of the tanh form.
            Some(Value::String(name)) if name == "gelu_new" || name == "gelu_pytorch_tanh" => Ok(()),
            other => Err(only("activation_function", other, "\"gelu_new\", the tanh form of GELU")),
        }
    }

    fn fixed(&self) -> Result<(), Wrong> {
        for (name, implemented) in &FIXED {
            if let Some(value) = self.get(name).filter(|value| *value != implemented) {
                return Err(only(name, Some(value), &implemented.to_string()));
            }
        }
        for name in ["pruned_heads", "quantization_config"] {
            let is_empty = |value: &&Value| value.as_object().is_some_and(Map::is_empty);
            if let Some(value) = self.get(name).filter(|value| !is_empty(value)) {
                return Err(only(name, Some(value), "no such field"));
            }
        }
        Ok(())
    }

    /// `n_positions`, which old files call `n_ctx` and newer ones say twice.
    fn context(&self) -> Result<usize, Wrong> {
        let names = ["n_positions", "n_ctx"].into_iter().filter(|name| self.get(name).is_some());
        let counts = names.map(|name| self.count(name)).collect::<Result<Vec<usize>, Wrong>>()?;
        match counts[..] {
            [] => self.count("n_positions"),
            [context] => Ok(context),
            [positions, context] if positions == context => Ok(context),
            _ => Err(Wrong {
                reason: format!("has `n_ctx` {}, but `n_positions` {}", counts[1], counts[0]),
                hint: "the table of positions has `n_positions` rows: correct `n_ctx`",
            }),
        }
    }

    fn count(&self, name: &str) -> Result<usize, Wrong> {
        let value = self.get(name).ok_or_else(|| Wrong {
            reason: format!("lacks `{name}`"),
            hint: "check the file against the one that the model came with",
        })?;
        let count =
            value.as_u64().filter(|count| *count <= MOST).and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| only(name, Some(value), &format!("a whole number up to {MOST}")))
    }

    fn number(&self, name: &str, otherwise: f64) -> Result<f64, Wrong> {
        match self.get(name) {
            None => Ok(otherwise),
            Some(value) => value.as_f64().ok_or_else(|| only(name, Some(value), "a number")),
        }
    }

    fn token(&self, name: &str, vocabulary: usize) -> Result<Option<u32>, Wrong> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        // Where the vocabulary was changed by hand the old default often stays behind: then it is none.
        id.map(|id| Some(id).filter(|id| (*id as usize) < vocabulary))
            .ok_or_else(|| only(name, Some(value), "a token id"))
    }
}

fn only(name: &str, found: Option<&Value>, implemented: &str) -> Wrong {
    let found = found.map_or_else(|| "nothing".into(), ToString::to_string);
    Wrong {
        reason: format!("has {found} as `{name}`; what is implemented is {implemented}"),
        hint: "choose a GPT-2 whose blocks are the original ones; there is no other model here",
    }
}

fn field_of(key: &str) -> &str {
    match key {
        "layers" => "n_layer",
        "width" => "n_embd",
        "mlp_width" => "n_inner",
        "heads" => "n_head",
        "context" => "n_positions",
        "vocabulary" => "vocab_size",
        "init_std" => "initializer_range",
        "norm_epsilon" => "layer_norm_epsilon",
        other => other,
    }
}

/// What transformers reads again.
pub(crate) fn written(config: &ModelConfig) -> Value {
    let ModelConfig { shape, special_tokens: [begin, end] } = config;
    json!({
        "activation_function": "gelu_new",
        "add_cross_attention": false,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": begin,
        "dtype": "float32",
        "embd_pdrop": 0.0,
        "eos_token_id": end,
        "initializer_range": shape.init_std,
        "layer_norm_epsilon": shape.norm_epsilon,
        "model_type": "gpt2",
        "n_ctx": shape.context,
        "n_embd": shape.width,
        "n_head": shape.heads,
        "n_inner": shape.mlp_width.filter(|_| shape.hidden() != 4 * shape.width),
        "n_layer": shape.layers,
        "n_positions": shape.context,
        "reorder_and_upcast_attn": false,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": true,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": shape.vocabulary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Value {
        json!({
            "model_type": "gpt2", "n_layer": 3, "n_embd": 48, "n_head": 4, "n_positions": 32, "n_ctx": 32,
            "vocab_size": 257, "activation_function": "gelu_new", "bos_token_id": 256, "eos_token_id": 50_256,
        })
    }

    fn read_fields(value: &Value) -> Result<ModelConfig, Wrong> {
        Fields { fields: value.as_object().expect("an object") }.model()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let Ok(config) = read_fields(&fields()) else { panic!("a good one") };
        assert_eq!(config.special_tokens, [Some(256), None]);
        assert_eq!((config.shape.layers, config.shape.norm_epsilon), (3, 1e-5));
        let Ok(again) = read_fields(&written(&config)) else { panic!("our own") };
        assert_eq!(again, config);
    }

    #[test]
    fn another_model_is_named_by_its_field() {
        let check = |field: &str, value: Value, said: &str| {
            let mut fields = fields();
            fields[field] = value;
            let Err(wrong) = read_fields(&fields) else { panic!("`{field}` was taken") };
            assert!(wrong.reason.contains(said), "{}", wrong.reason);
        };
        check("model_type", json!("llama"), "has \"llama\" as `model_type`");
        check("activation_function", json!("gelu"), "has \"gelu\" as `activation_function`");
        check(
            "scale_attn_by_inverse_layer_idx",
            json!(true),
            "has true as `scale_attn_by_inverse_layer_idx`",
        );
        check("tie_word_embeddings", json!(false), "has false as `tie_word_embeddings`");
        check("pruned_heads", json!({"0": [1]}), "`pruned_heads`");
        check("n_ctx", json!(16), "has `n_ctx` 16, but `n_positions` 32");
        check("n_head", json!(5), "has `n_head`: 5 heads do not divide a width of 48");
        check("n_layer", json!(-1), "has -1 as `n_layer`; what is implemented is a whole number");
        check("n_embd", json!(null), "lacks `n_embd`");
        check("n_embd", json!(u64::MAX), "as `n_embd`; what is implemented is a whole number up to 16777216");
        check("n_embd", json!(1 << 24), "has `n_embd`");
        check("layer_norm_epsilon", json!(0), "has `layer_norm_epsilon`");
        check("n_inner", json!(0), "has `n_inner`");
    }
}
