//! GPT-2's forward pass over pieces of text, each after what is in a cache: the linear maps of all pieces are one product
//! over all of their rows, without padding. The kernels are those that the model was trained with.

use std::collections::HashMap;

use engine::{EngineError, ModelShape};
use engine_native::Kernels;
use engine_native::kernels::{Epilogue, Form, Linear, Norm};

use crate::InferenceError;
use crate::attention::attend;
use crate::cache::{Cache, Piece};

/// Rows of logits that exist at once.
const ROWS_OF_LOGITS: usize = 64;

/// A model on a device.
pub struct Model<K: Kernels> {
    kernels: K,
    shape: ModelShape,
    /// Token and position table once more, to be looked up in.
    tables: [Vec<f32>; 2],
    /// The tied head, and the last norm's gain and shift.
    shared: [K::Buffer; 3],
    /// In the order of a block's tensors.
    blocks: Vec<Vec<K::Buffer>>,
}

/// What came of a forward pass.
pub struct Passed {
    /// The last norm's output, `[rows, C]`, piece below piece: what the head reads.
    pub rows: Vec<f32>,
    /// Keys and values of each piece alone, without what was before it.
    pub caches: Vec<Cache>,
}

/// The buffers of a forward pass, `[rows, ...]`.
struct Work<B> {
    stream: B,
    middle: B,
    normed: B,
    moments: B,
    qkv: B,
    mixed: B,
    hidden: B,
}

impl<K: Kernels> Model<K> {
    /// Takes the tensors, by names such as `transformer.h.3.mlp.c_fc.weight`.
    ///
    /// # Errors
    /// A tensor that is missing or of another size.
    pub fn new(
        kernels: K,
        shape: &ModelShape,
        mut tensors: HashMap<String, Vec<f32>>,
    ) -> Result<Model<K>, InferenceError> {
        let mut take = |name: String, len: usize| {
            let values = tensors.remove(&name).filter(|values| values.len() == len);
            values.ok_or_else(|| {
                EngineError::NoSuchTensor(format!("the model lacks `{name}`, or has another size of it"))
            })
        };
        let mut shared = Vec::new();
        for spec in shape.shared_tensors() {
            shared.push(take(format!("transformer.{}", spec.class), spec.len())?);
        }
        let on_device = |values: &[f32]| {
            let mut buffer = kernels.zeros(values.len());
            kernels.upload(values, &mut buffer);
            buffer
        };
        let mut blocks = Vec::new();
        for position in 0..shape.layers {
            let tensors = shape.block_tensors().into_iter();
            let block = tensors.map(|spec| {
                Ok(on_device(&take(format!("transformer.h.{position}.{}", spec.class), spec.len())?))
            });
            blocks.push(block.collect::<Result<Vec<_>, EngineError>>()?);
        }
        let head = [on_device(&shared[0]), on_device(&shared[2]), on_device(&shared[3])];
        kernels.health()?;
        let mut tables = shared.into_iter();
        let tables = [tables.next().unwrap_or_default(), tables.next().unwrap_or_default()];
        Ok(Model { shape: shape.clone(), tables, shared: head, blocks, kernels })
    }

    /// Its shape.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// Reads these pieces.
    ///
    /// # Errors
    /// A token outside the vocabulary, a piece that is empty or longer than the context with what is before it, or a
    /// failing device.
    pub fn forward(&self, pieces: &[Piece<'_>]) -> Result<Passed, InferenceError> {
        pieces.iter().try_for_each(|piece| self.check(piece))?;
        let rows: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
        let mut caches: Vec<Cache> =
            pieces.iter().map(|piece| Cache { blocks: Vec::new(), len: piece.tokens.len() }).collect();
        if rows == 0 {
            return Ok(Passed { rows: Vec::new(), caches });
        }
        let mut work = self.work(rows);
        self.kernels.upload(&self.embedded(pieces), &mut work.stream);
        for block in 0..self.shape.layers {
            self.attention(block, pieces, rows, &mut work, &mut caches);
            self.mlp(block, rows, &mut work);
        }
        let [_, gain, shift] = &self.shared;
        let form = Form::of(&self.shape, 1, rows);
        self.kernels.layer_norm(
            &form,
            &work.stream,
            &Norm { gain, shift },
            &mut work.normed,
            &mut work.moments,
        );
        let rows = self.kernels.download(&work.normed, rows * self.shape.width);
        self.kernels.health()?;
        Ok(Passed { rows, caches })
    }

    /// Logits of rows that [`forward`](Model::forward) gave, `[rows, V]`.
    ///
    /// # Errors
    /// A failing device.
    pub fn logits(&self, rows: &[f32]) -> Result<Vec<f32>, InferenceError> {
        let mut logits = Vec::new();
        for rows in rows.chunks(ROWS_OF_LOGITS * self.shape.width) {
            let (x, count) = self.uploaded(rows);
            let mut out = self.kernels.zeros(count * self.shape.vocabulary);
            let form = Form::of(&self.shape, 1, count);
            self.kernels.logits(&form, &x, 0, count, &self.shared[0], &mut out);
            logits.extend(self.kernels.download(&out, count * self.shape.vocabulary));
        }
        self.kernels.health()?;
        Ok(logits)
    }

    /// The loss in nats of a target after each of these rows.
    ///
    /// # Errors
    /// As for [`logits`](Model::logits), and a target outside the vocabulary.
    pub fn losses(&self, rows: &[f32], targets: &[u32]) -> Result<Vec<f32>, InferenceError> {
        self.check_ids(targets)?;
        let (x, count) = self.uploaded(rows);
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut scratch = self.kernels.zeros(count.min(ROWS_OF_LOGITS) * self.shape.vocabulary);
        let mut losses = self.kernels.zeros(count);
        let form = Form::of(&self.shape, 1, count);
        let mut tokens = self.kernels.tokens(count, false);
        // No kernel of this call looks at inputs.
        self.kernels.load(&[], targets, &mut tokens);
        self.kernels.classifier(&form, &x, &self.shared[0], &tokens, &mut scratch, &mut losses, None);
        self.kernels.health()?;
        Ok(self.kernels.download(&losses, count))
    }

    fn uploaded(&self, rows: &[f32]) -> (K::Buffer, usize) {
        let mut x = self.kernels.zeros(rows.len());
        self.kernels.upload(rows, &mut x);
        (x, rows.len() / self.shape.width)
    }

    fn check(&self, piece: &Piece<'_>) -> Result<(), InferenceError> {
        let (len, context) = (piece.before() + piece.tokens.len(), self.shape.context);
        if piece.tokens.is_empty() || len > context {
            let reason = format!("{len} tokens are to be read; the model reads 1 to {context}");
            return Err(InferenceError::Tokens { reason, hint: "shorten the text".into() });
        }
        self.check_ids(piece.tokens)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), InferenceError> {
        match ids.iter().find(|&&id| id as usize >= self.shape.vocabulary) {
            None => Ok(()),
            Some(id) => Err(InferenceError::Tokens {
                reason: format!("token {id} is outside the model's vocabulary of {}", self.shape.vocabulary),
                hint: "use the tokenizer that the model was trained with".into(),
            }),
        }
    }

    fn work(&self, rows: usize) -> Work<K::Buffer> {
        let (shape, zeros) = (&self.shape, |width: usize| self.kernels.zeros(rows * width));
        Work {
            stream: zeros(shape.width),
            middle: zeros(shape.width),
            normed: zeros(shape.width),
            moments: zeros(2),
            qkv: zeros(3 * shape.attention_width()),
            mixed: zeros(shape.attention_width()),
            hidden: zeros(shape.hidden()),
        }
    }

    fn embedded(&self, pieces: &[Piece<'_>]) -> Vec<f32> {
        let (width, [tokens, positions]) = (self.shape.width, &self.tables);
        let row = |table: &'_ [f32], at: usize| table[at * width..(at + 1) * width].to_vec();
        let places = pieces.iter().flat_map(|piece| {
            piece.tokens.iter().enumerate().map(|(i, &id)| (id as usize, piece.before() + i))
        });
        places
            .flat_map(|(id, position)| {
                row(tokens, id)
                    .into_iter()
                    .zip(row(positions, position))
                    .map(|(token, position)| token + position)
            })
            .collect()
    }

    fn attention(
        &self,
        block: usize,
        pieces: &[Piece<'_>],
        rows: usize,
        work: &mut Work<K::Buffer>,
        caches: &mut [Cache],
    ) {
        let (kernels, tensors) = (&self.kernels, &self.blocks[block]);
        let (width, attention) = (self.shape.width, self.shape.attention_width());
        let norm = Norm { gain: &tensors[0], shift: &tensors[1] };
        kernels.layer_norm(
            &Form::of(&self.shape, 1, rows),
            &work.stream,
            &norm,
            &mut work.normed,
            &mut work.moments,
        );
        let measures = Linear { rows, inputs: width, outputs: 3 * attention };
        kernels.linear(measures, &work.normed, &tensors[2], &tensors[3], Epilogue::Bias, &mut work.qkv);
        let qkv = kernels.download(&work.qkv, rows * 3 * attention);
        let mut mixed = vec![0.0; rows * attention];
        attend(&self.shape, pieces, block, &qkv, &mut mixed);
        keep(pieces, attention, &qkv, caches);
        kernels.upload(&mixed, &mut work.mixed);
        let measures = Linear { rows, inputs: attention, outputs: width };
        let residual = Epilogue::Residual { stream: &work.stream, gate: 1.0 };
        kernels.linear(measures, &work.mixed, &tensors[4], &tensors[5], residual, &mut work.middle);
    }

    fn mlp(&self, block: usize, rows: usize, work: &mut Work<K::Buffer>) {
        let (kernels, tensors) = (&self.kernels, &self.blocks[block]);
        let (width, hidden) = (self.shape.width, self.shape.hidden());
        let norm = Norm { gain: &tensors[6], shift: &tensors[7] };
        kernels.layer_norm(
            &Form::of(&self.shape, 1, rows),
            &work.middle,
            &norm,
            &mut work.normed,
            &mut work.moments,
        );
        let measures = Linear { rows, inputs: width, outputs: hidden };
        kernels.linear(
            measures,
            &work.normed,
            &tensors[8],
            &tensors[9],
            Epilogue::Gelu(None),
            &mut work.hidden,
        );
        let measures = Linear { rows, inputs: hidden, outputs: width };
        let residual = Epilogue::Residual { stream: &work.middle, gate: 1.0 };
        kernels.linear(measures, &work.hidden, &tensors[10], &tensors[11], residual, &mut work.stream);
    }
}

/// Puts one block's keys and values of each piece into its cache.
fn keep(pieces: &[Piece<'_>], attention: usize, qkv: &[f32], caches: &mut [Cache]) {
    let mut rows = qkv.chunks_exact(3 * attention);
    for (piece, cache) in pieces.iter().zip(caches) {
        let mut kept = [Vec::new(), Vec::new()];
        for row in rows.by_ref().take(piece.tokens.len()) {
            kept[0].extend_from_slice(&row[attention..2 * attention]);
            kept[1].extend_from_slice(&row[2 * attention..]);
        }
        cache.blocks.push(kept);
    }
}
