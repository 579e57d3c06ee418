//! The forward pass of a small GPT-2 in f64 and plain loops, for the loss of every token.
//! T = context, C = width, V = vocabulary.

use super::SmallModel;

const NORM_EPSILON: f64 = 1e-5;

impl SmallModel {
    /// The loss of every token but the last of one made-up sequence, in nats.
    pub fn token_losses(&self) -> Vec<f64> {
        let ids: Vec<usize> = (0..self.context).map(|t| (7 * t + 3) % self.vocabulary).collect();
        let width = self.widths.width;
        let [tokens, positions, gain, shift] = &self.shared[..] else { return Vec::new() };
        let mut x: Vec<Vec<f64>> = ids
            .iter()
            .enumerate()
            .map(|(t, &id)| {
                let token = row(tokens, id, width);
                token.iter().zip(row(positions, t, width)).map(|(a, b)| a + b).collect()
            })
            .collect();
        for (_, block) in &self.blocks {
            self.attention(&mut x, block);
            mlp(&mut x, block);
        }
        let y = norm(&x, gain, shift);
        y.iter().zip(&ids[1..]).map(|(y, &next)| self.loss(y, next)).collect()
    }

    fn loss(&self, y: &[f64], next: usize) -> f64 {
        let logit = |id| dot(y, &row(&self.shared[0], id, y.len()));
        let logits: Vec<f64> = (0..self.vocabulary).map(logit).collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| libm::exp(logit - most)).sum();
        most + libm::log(sum) - logits[next]
    }

    fn attention(&self, x: &mut [Vec<f64>], block: &[Vec<f32>]) {
        let head_width = self.head_width;
        let width = self.widths.heads * head_width;
        let qkv = linear(&norm(x, &block[0], &block[1]), &block[2], &block[3]);
        let scale = 1.0 / libm::sqrt(head_width as f64);
        let mut mixed = vec![vec![0.0; width]; x.len()];
        for head in 0..self.widths.heads {
            let (from, to) = (head * head_width, (head + 1) * head_width);
            for t in 0..x.len() {
                let query = &qkv[t][from..to];
                let scores: Vec<f64> =
                    qkv[..=t].iter().map(|key| scale * dot(query, &key[width + from..width + to])).collect();
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| libm::exp(score - most)).collect();
                let sum: f64 = weights.iter().sum();
                for (weight, value) in weights.iter().zip(&qkv) {
                    let value = &value[2 * width + from..2 * width + to];
                    for (mixed, value) in mixed[t][from..to].iter_mut().zip(value) {
                        *mixed += weight / sum * value;
                    }
                }
            }
        }
        add(x, &linear(&mixed, &block[4], &block[5]));
    }
}

fn mlp(x: &mut [Vec<f64>], block: &[Vec<f32>]) {
    let mut hidden = linear(&norm(x, &block[6], &block[7]), &block[8], &block[9]);
    for value in hidden.iter_mut().flatten() {
        let inner = 0.797_884_560_802_865_4 * (*value + 0.044_715 * value.powi(3));
        *value *= 0.5 * (1.0 + libm::tanh(inner));
    }
    add(x, &linear(&hidden, &block[10], &block[11]));
}

fn norm(x: &[Vec<f64>], gain: &[f32], shift: &[f32]) -> Vec<Vec<f64>> {
    let one = |row: &Vec<f64>| {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let scale = 1.0 / libm::sqrt(variance + NORM_EPSILON);
        let scaled = row.iter().zip(gain.iter().zip(shift));
        scaled.map(|(x, (gain, shift))| (x - mean) * scale * f64::from(*gain) + f64::from(*shift)).collect()
    };
    x.iter().map(one).collect()
}

/// `weight` is [in, out], row-major.
fn linear(x: &[Vec<f64>], weight: &[f32], bias: &[f32]) -> Vec<Vec<f64>> {
    let out = bias.len();
    let one = |row: &Vec<f64>| {
        let mut y: Vec<f64> = bias.iter().map(|bias| f64::from(*bias)).collect();
        for (x, weights) in row.iter().zip(weight.chunks(out)) {
            for (y, weight) in y.iter_mut().zip(weights) {
                *y += x * f64::from(*weight);
            }
        }
        y
    };
    x.iter().map(one).collect()
}

fn row(table: &[f32], index: usize, width: usize) -> Vec<f64> {
    table[index * width..(index + 1) * width].iter().map(|value| f64::from(*value)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    for (x, y) in x.iter_mut().flatten().zip(y.iter().flatten()) {
        *x += y;
    }
}
