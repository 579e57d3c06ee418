//! What a comparison of losses comes to, with the words for it at every place that says so. How it is concluded stands in `losses.rs`;
//! sentences with numbers are made in `sentence.rs` and `paragraph.rs`.

use serde::Serialize;

/// What a comparison of losses comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The interval lies below zero.
    Better,
    /// The interval lies above zero.
    Worse,
    /// The interval covers zero, and lies so close to it that the study's margin is kept: equal, as far as that counts.
    Equal,
    /// The interval covers zero.
    Inconclusive,
    /// Fewer than three pairs.
    TooFewSeeds,
    /// A run of the arm diverged: a mean over the others would flatter it.
    Diverged,
    /// There is no pair.
    NotCompared,
}

/// What is said of an outcome: places differ in how much room they have, and in what was asked there.
pub(crate) struct Words {
    /// In a cell of a table.
    pub(crate) cell: &'static str,
    /// Before the names of such arms, in the verdict on the study.
    pub(crate) group: &'static str,
    /// To the question on the page's first screen, before the names of such arms.
    pub(crate) answer: &'static str,
    /// In such an arm's row there.
    pub(crate) row: &'static str,
}

impl Outcome {
    /// In the order in which a reader is told.
    pub(crate) const ALL: [Outcome; 7] = [
        Outcome::Better,
        Outcome::Worse,
        Outcome::Equal,
        Outcome::Inconclusive,
        Outcome::TooFewSeeds,
        Outcome::Diverged,
        Outcome::NotCompared,
    ];

    pub(crate) fn words(self) -> Words {
        let [cell, group, answer, row] = match self {
            Outcome::Better => ["better", "Better", "Yes", "better"],
            Outcome::Worse => ["worse", "Worse", "No", "worse"],
            Outcome::Equal => ["equal", "Equal within the study's margin", "Equal", "equal"],
            Outcome::Inconclusive => [
                "inconclusive",
                "No difference that the seeds could show",
                "Not to be told",
                "no difference shown",
            ],
            Outcome::TooFewSeeds => {
                ["few seeds", "Too few seeds for a verdict", "Too few seeds to tell", "too few seeds"]
            }
            Outcome::Diverged => ["diverged", "Diverged in some seed", "Diverged", "diverged"],
            Outcome::NotCompared => ["not compared", "Not compared", "Not compared", "not compared"],
        };
        Words { cell, group, answer, row }
    }
}
