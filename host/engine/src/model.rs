//! The model's description: its shape and the kind of block it is made of.

use serde::{Deserialize, Serialize};

use crate::{LayerId, TensorClass, TensorId, TensorRole, TensorSpec};

/// Shape of a decoder-only language model of the final depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Blocks of the whole model, the depth a growing run ends at.
    pub layers: usize,
    /// Width of the residual stream (`d_model`).
    pub width: usize,
    /// Attention heads; must divide `width`.
    pub heads: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Standard deviation of the initial weights; branch outputs are divided by `sqrt(2 layers)`.
    pub init_std: f64,
    /// Epsilon inside the root of the layer norm.
    pub norm_epsilon: f64,
    /// Hidden width of the blocks' MLPs; `None` = `4 width`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlp_width: Option<usize>,
    /// Width of a head; `None` = `width / heads`. Only a model that has not grown to its whole width yet differs there, so
    /// that it is no key of a configuration.
    #[serde(skip)]
    pub head_width: Option<usize>,
    /// What a block is made of.
    pub block: BlockKind,
}

/// How wide a model is, now or in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Widths {
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads of each block; how wide one is never changes.
    pub heads: usize,
    /// Hidden width of the blocks' MLPs.
    pub mlp_width: usize,
}

/// What a block is made of. GPT-2's is the one implemented; engines refuse any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockKind {
    /// Normalisation before each branch and before the head.
    pub norm: Norm,
    /// How a block learns where a token stands.
    pub position: Position,
    /// The second branch.
    pub mlp: Mlp,
    /// Whether linear maps and norms have biases.
    pub biases: bool,
    /// Whether the head is the token embedding's transpose.
    pub tied_head: bool,
}

/// Normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Layer norm before the branch, biased variance.
    LayerNorm,
    /// Root-mean-square norm.
    RmsNorm,
}

/// Positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// A learned table, added to the token embedding.
    Learned,
    /// Rotary embedding of queries and keys.
    Rotary,
}

/// The second branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mlp {
    /// Two linear maps with the tanh form of GELU between them.
    GeluTanh,
    /// Gated linear unit.
    SwiGlu,
}

/// Why a shape describes no model; `field` is the key at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// The key of [`ModelShape`] at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl BlockKind {
    /// GPT-2's block.
    pub const GPT2: BlockKind = BlockKind {
        norm: Norm::LayerNorm,
        position: Position::Learned,
        mlp: Mlp::GeluTanh,
        biases: true,
        tied_head: true,
    };
}

impl ModelShape {
    /// Refuses shapes that describe no model, and blocks that no engine implements.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), ModelError> {
        let counts: [(&'static str, usize, usize); 6] = [
            ("layers", self.layers, 1 << 16),
            ("width", self.width, 1 << 20),
            ("mlp_width", self.hidden(), 1 << 22),
            ("heads", self.heads, 1 << 16),
            ("context", self.context, 1 << 24),
            ("vocabulary", self.vocabulary, 1 << 24),
        ];
        for (field, value, most) in counts {
            if value == 0 || value > most {
                return Err(ModelError {
                    field,
                    message: format!("`{field}` is {value}"),
                    hint: format!("choose 1 to {most}"),
                });
            }
        }
        if self.head_width.is_none() && !self.width.is_multiple_of(self.heads) {
            return Err(ModelError {
                field: "heads",
                message: format!("{} heads do not divide a width of {}", self.heads, self.width),
                hint: format!("choose a divisor of {}, such as {}", self.width, self.nearest_heads()),
            });
        }
        for (field, value) in [("init_std", self.init_std), ("norm_epsilon", self.norm_epsilon)] {
            if !(value > 0.0 && value < 1e3) {
                return Err(ModelError {
                    field,
                    message: format!("`{field}` is {value}"),
                    hint: "choose a positive number below 1000".into(),
                });
            }
        }
        if self.block != BlockKind::GPT2 {
            return Err(ModelError {
                field: "block",
                message: format!("no engine implements the block {:?}", self.block),
                hint: "GPT-2's block is the one implemented: norm = \"layer-norm\", position = \"learned\", \
                       mlp = \"gelu-tanh\", biases = true, tied_head = true"
                    .into(),
            });
        }
        Ok(())
    }

    /// Hidden width of the blocks' MLPs.
    pub fn hidden(&self) -> usize {
        self.mlp_width.unwrap_or(self.width.saturating_mul(4))
    }

    /// Width of one head.
    pub fn head_width(&self) -> usize {
        self.head_width.unwrap_or(self.width / self.heads)
    }

    /// Width of all heads together: of queries, of keys, of values, and of what attention gives out.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_width()
    }

    /// How wide it is.
    pub fn widths(&self) -> Widths {
        Widths { width: self.width, heads: self.heads, mlp_width: self.hidden() }
    }

    /// The same model that wide, with heads as wide as this one's.
    pub fn with_widths(&self, widths: Widths) -> ModelShape {
        let Widths { width, heads, mlp_width } = widths;
        let (head_width, mlp_width) = (Some(self.head_width()), Some(mlp_width));
        ModelShape { width, heads, head_width, mlp_width, ..self.clone() }
    }

    /// The same model with that hidden width.
    pub fn with_hidden(&self, mlp_width: usize) -> ModelShape {
        self.with_widths(Widths { mlp_width, ..self.widths() })
    }

    /// The tensors that all blocks share: embeddings and the final norm.
    pub fn shared_tensors(&self) -> Vec<TensorSpec> {
        let (c, v, t) = (self.width, self.vocabulary, self.context);
        vec![
            spec("wte.weight", &[v, c], TensorRole::TokenEmbedding),
            spec("wpe.weight", &[t, c], TensorRole::PositionEmbedding),
            spec("ln_f.weight", &[c], TensorRole::NormGain),
            spec("ln_f.bias", &[c], TensorRole::NormShift),
        ]
    }

    /// The tensors of one block, in the order of their use.
    pub fn block_tensors(&self) -> Vec<TensorSpec> {
        let (c, a, hidden) = (self.width, self.attention_width(), self.hidden());
        use TensorRole::{BranchOutputBias, BranchOutputWeight, NormGain, NormShift};
        vec![
            spec("ln_1.weight", &[c], NormGain),
            spec("ln_1.bias", &[c], NormShift),
            spec("attn.c_attn.weight", &[c, 3 * a], TensorRole::Weight),
            spec("attn.c_attn.bias", &[3 * a], TensorRole::Bias),
            spec("attn.c_proj.weight", &[a, c], BranchOutputWeight),
            spec("attn.c_proj.bias", &[c], BranchOutputBias),
            spec("ln_2.weight", &[c], NormGain),
            spec("ln_2.bias", &[c], NormShift),
            spec("mlp.c_fc.weight", &[c, hidden], TensorRole::Weight),
            spec("mlp.c_fc.bias", &[hidden], TensorRole::Bias),
            spec("mlp.c_proj.weight", &[hidden, c], BranchOutputWeight),
            spec("mlp.c_proj.bias", &[c], BranchOutputBias),
        ]
    }

    /// Every tensor of a stack of these blocks: the shared ones, then block by block.
    pub fn tensors(&self, layers: &[LayerId]) -> Vec<(TensorId, TensorSpec)> {
        let shared = self.shared_tensors().into_iter().map(|spec| (TensorId::shared(spec.class), spec));
        let block = self.block_tensors();
        let blocks = layers.iter().flat_map(|&layer| {
            block.iter().map(move |spec| (TensorId::block(layer, spec.class), spec.clone()))
        });
        shared.chain(blocks).collect()
    }

    /// The class of that name, of a block or shared.
    pub fn class(&self, name: &str) -> Option<TensorClass> {
        let known = self.block_tensors().into_iter().chain(self.shared_tensors());
        known.map(|spec| spec.class).find(|class| class.0 == name)
    }

    /// Parameters of one block.
    pub fn block_parameters(&self) -> u64 {
        self.block_tensors().iter().map(|spec| spec.len() as u64).sum()
    }

    /// Parameters of a model of that depth, the tied head counted once.
    pub fn parameters(&self, depth: usize) -> u64 {
        let shared: u64 = self.shared_tensors().iter().map(|spec| spec.len() as u64).sum();
        shared + depth as u64 * self.block_parameters()
    }

    fn nearest_heads(&self) -> usize {
        let divides = |heads: &usize| self.width.is_multiple_of(*heads);
        (1..=self.width).filter(divides).min_by_key(|heads| heads.abs_diff(self.heads)).unwrap_or(1)
    }
}

fn spec(name: &'static str, shape: &[usize], role: TensorRole) -> TensorSpec {
    TensorSpec { class: TensorClass(name), shape: shape.to_vec(), role }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> ModelShape {
        ModelShape {
            layers: 12,
            width: 768,
            heads: 12,
            context: 1024,
            vocabulary: 50_304,
            init_std: 0.02,
            norm_epsilon: 1e-5,
            mlp_width: None,
            head_width: None,
            block: BlockKind::GPT2,
        }
    }

    #[test]
    fn gpt2_has_124m_parameters() {
        assert_eq!(shape().parameters(12), 124_475_904);
    }

    #[test]
    fn a_narrower_mlp_has_fewer_parameters() {
        let narrow = shape().with_hidden(768);
        assert_eq!(shape().block_parameters() - narrow.block_parameters(), 3 * 768 * (2 * 768 + 1));
        assert_eq!(
            ModelShape { mlp_width: Some(0), ..shape() }.check().expect_err("none").field,
            "mlp_width"
        );
    }

    #[test]
    fn a_model_with_half_of_its_heads_keeps_their_width() {
        let narrow = shape().with_widths(Widths { width: 384, heads: 3, mlp_width: 1536 });
        assert_eq!((narrow.head_width(), narrow.attention_width()), (64, 192));
        assert_eq!(narrow.check(), Ok(()));
        let sizes = |class: &str| {
            let specs = narrow.block_tensors().into_iter();
            specs.filter(|spec| spec.class.0 == class).map(|spec| spec.shape).next().expect("a block's")
        };
        assert_eq!(
            (sizes("attn.c_attn.weight"), sizes("attn.c_proj.weight")),
            (vec![384, 576], vec![192, 384])
        );
        assert_eq!(narrow.with_widths(shape().widths()).parameters(12), shape().parameters(12));
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused_with_the_nearest_that_do() {
        let error = ModelShape { heads: 13, ..shape() }.check().expect_err("768 / 13 is no whole number");
        assert_eq!((error.field, error.hint.as_str()), ("heads", "choose a divisor of 768, such as 12"));
    }

    #[test]
    fn other_blocks_are_refused() {
        let block = BlockKind { norm: Norm::RmsNorm, ..BlockKind::GPT2 };
        assert_eq!(ModelShape { block, ..shape() }.check().expect_err("not implemented").field, "block");
    }
}
