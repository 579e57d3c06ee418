//! Suites of questions that a model is judged by, one JSON object a line. An item's key is its line: what suites call an
//! index need not be unique.

mod lambada;
mod lines;
mod multiple_choice;
mod scoring;
mod text;

use serde::Serialize;

use crate::Tokenizer;
pub use lambada::{Lambada, LambadaItem, LambadaResult};
pub use multiple_choice::{ChoiceItem, ChoiceResult, MultipleChoice};
pub use text::{TextItem, TextResult, Texts};

/// How a suite is made into tokens, and for what kind of model: what none of that kind could read is refused at once.
pub struct Reader<'a> {
    /// From texts to ids.
    pub tokenizer: &'a dyn Tokenizer,
    /// Most tokens that the model reads.
    pub context: usize,
    /// Ids are below it.
    pub vocabulary: usize,
    /// So many items, at even distances over the file; `None` = all.
    pub items: Option<usize>,
}

/// A mean over items, and how far it may be off for their being a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error; `None` of a single item.
    pub standard_error: Option<f64>,
}

impl Estimate {
    /// The mean of these, its error from their sample variance.
    fn mean(values: impl Iterator<Item = f64> + Clone) -> Estimate {
        let count = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / count;
        let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
        let standard_error = (count > 1.0).then(|| (squares / (count - 1.0) / count).sqrt());
        Estimate { value: mean, standard_error }
    }

    /// Of a function of it with that value and slope there.
    fn through(self, value: f64, slope: f64) -> Estimate {
        Estimate { value, standard_error: self.standard_error.map(|error| error * slope.abs()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_share_is_the_known_one() {
        let hits = [1.0, 0.0, 0.0, 1.0, 1.0];
        let Estimate { value, standard_error } = Estimate::mean(hits.into_iter());
        assert_eq!(value, 0.6);
        let known = (0.6f64 * 0.4 / 4.0).sqrt();
        assert!((standard_error.expect("five items") - known).abs() < 1e-15);
        assert_eq!(Estimate::mean([1.0].into_iter()).standard_error, None);
    }
}
