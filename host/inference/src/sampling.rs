//! One token after another: which is drawn of the logits, and how the cache goes along. Same model, prompt and seed,
//! same text.

use engine_native::Kernels;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::InferenceError;
use crate::cache::{Cache, Piece};
use crate::model::Model;

/// How a token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the largest.
    pub temperature: f64,
    /// Only so many of the most probable tokens are drawn from.
    pub top_k: Option<usize>,
    /// Only the fewest most probable tokens are drawn from that have this probability together.
    pub top_p: Option<f64>,
}

impl Sampling {
    /// Draws a token; `dice` is uniform in [0, 1). Of equal logits, the lower id comes first.
    fn draw(&self, logits: &[f32], dice: f64) -> u32 {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if self.temperature == 0.0 {
            return order.into_iter().min_by(by_logit).unwrap_or_default();
        }
        order.sort_unstable_by(by_logit);
        order.truncate(self.top_k.unwrap_or(order.len()).max(1));
        let Some(&first) = order.first() else { return 0 };
        let largest = f64::from(logits[first as usize]);
        let weight = |id: &u32| ((f64::from(logits[*id as usize]) - largest) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let enough = self.top_p.unwrap_or(1.0) * weights.iter().sum::<f64>();
        let mut kept = 0.0;
        let count = weights
            .iter()
            .take_while(|weight| {
                let goes_on = kept < enough;
                kept += **weight;
                goes_on
            })
            .count()
            .max(1);
        let mut left = dice * weights[..count].iter().sum::<f64>();
        for (id, weight) in order.iter().zip(&weights[..count]) {
            left -= weight;
            if left < 0.0 {
                return *id;
            }
        }
        order[count - 1]
    }
}

/// A text that goes on.
pub struct Generation<'m, K: Kernels> {
    model: &'m Model<K>,
    sampling: Sampling,
    random: ChaCha8Rng,
    cache: Cache,
    /// All that has been read and drawn.
    tokens: Vec<u32>,
}

impl<'m, K: Kernels> Generation<'m, K> {
    /// After a prompt of at least one token, of which the model reads the last ones that its context holds.
    pub fn after(model: &'m Model<K>, prompt: &[u32], sampling: Sampling, seed: u64) -> Generation<'m, K> {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Generation { model, sampling, random, cache: Cache::default(), tokens: prompt.to_vec() }
    }

    /// The next token. Where the context is full, the model goes on from its newer half.
    ///
    /// # Errors
    /// A prompt that the model cannot read, or a failing device.
    pub fn next_token(&mut self) -> Result<u32, InferenceError> {
        let context = self.model.shape().context;
        if self.cache.is_empty() {
            self.tokens.drain(..self.tokens.len().saturating_sub(context));
        } else if self.cache.len() == context {
            self.cache = Cache::default();
            self.tokens.drain(..self.tokens.len() - context.div_ceil(2));
        }
        let unread = &self.tokens[self.cache.len()..];
        let passed = self.model.forward(&[Piece { prefix: Some(&self.cache), tokens: unread }])?;
        passed.caches.into_iter().for_each(|cache| self.cache.append(cache));
        let last = passed.rows.len().saturating_sub(self.model.shape().width);
        let logits = self.model.logits(&passed.rows[last..])?;
        let token = self.sampling.draw(&logits, self.random.random());
        self.tokens.push(token);
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_what_was_asked_for() {
        let logits = [0.0, 2.0, 1.0, 2.0];
        let check = |temperature, top_k, top_p, dice, drawn| {
            assert_eq!(Sampling { temperature, top_k, top_p }.draw(&logits, dice), drawn);
        };
        check(0.0, None, None, 0.99, 1);
        check(1.0, Some(1), None, 0.99, 1);
        check(1.0, Some(2), None, 0.49, 1);
        check(1.0, Some(2), None, 0.51, 3);
        check(1.0, None, Some(0.5), 0.99, 3);
        check(1.0, None, Some(0.01), 0.99, 1);
        check(1.0, None, None, 0.999_999, 0);
        // e^2 of 2 e^2 + e + 1 is 0.399.
        check(1.0, None, None, 0.39, 1);
        check(1.0, None, None, 0.41, 3);
    }
}
