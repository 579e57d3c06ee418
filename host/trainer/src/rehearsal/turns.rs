//! Where a run changes what its steps do to tensors, as a dry run foresees it: two runs have a prefix in common up to the
//! first such step at which they differ.

use std::collections::BTreeSet;

use engine::Step;

use crate::trail::StepKey;

/// Most turns that are kept: what takes more of them shares no more than those.
const MOST_TURNS: usize = 100_000;

/// Where a run changes what its steps do to tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// The first steps of their kind, in order.
    turns: Vec<(Step, StepKey)>,
    /// The step after the last one that is known.
    end: Step,
    /// Steps before which the run looks at its tensors, the first step aside.
    looks: BTreeSet<Step>,
}

impl Turns {
    pub(crate) fn step(&mut self, step: Step, key: StepKey) {
        if self.turns.last().is_none_or(|(_, last)| *last != key) {
            if self.turns.len() == MOST_TURNS {
                return;
            }
            self.turns.push((step, key));
        }
        // One that was passed over ends what is known.
        if self.end == step {
            self.end = step.next();
        }
    }

    pub(crate) fn look(&mut self, step: Step) {
        if step.0 > 0 {
            self.looks.insert(step);
        }
    }

    /// The first step that two runs do not have in common.
    pub fn common(&self, other: &Turns) -> Step {
        let differ = self.turns.iter().zip(&other.turns).find(|(one, other)| one != other);
        let shorter = self.turns.len().min(other.turns.len());
        let first = |turns: &[(Step, StepKey)]| turns.get(shorter).map(|(step, _)| *step);
        let turn = match differ {
            Some((one, other)) => Some(one.0.min(other.0)),
            None => first(&self.turns).or(first(&other.turns)),
        };
        let end = self.end.min(other.end);
        turn.map_or(end, |turn| turn.min(end))
    }

    /// Steps up to that one before which the run looks at its tensors.
    pub fn looks_until(&self, until: Step) -> impl Iterator<Item = Step> + '_ {
        self.looks.range(..=until).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(keys: &[&str]) -> Turns {
        let mut turns = Turns::default();
        for (step, key) in keys.iter().enumerate() {
            turns.step(Step(step as u64), StepKey::default().after(key));
        }
        turns
    }

    #[test]
    fn runs_have_in_common_what_comes_before_the_first_difference() {
        let one = turns(&["a", "a", "b", "b", "c"]);
        let common = |keys: &[&str]| (one.common(&turns(keys)).0, turns(keys).common(&one).0);
        assert_eq!(common(&["a", "a", "b", "b", "c"]), (5, 5), "all of it");
        assert_eq!(common(&["a", "a", "b"]), (3, 3), "all that the shorter one has");
        assert_eq!(common(&["a", "a", "a", "b", "c"]), (2, 2));
        assert_eq!(common(&["a", "a", "b", "b", "b", "b"]), (4, 4));
        assert_eq!(common(&["b", "a"]), (0, 0));
        assert_eq!(common(&[]), (0, 0));
    }

    #[test]
    fn what_is_beyond_the_most_turns_is_not_known() {
        let mut many = Turns::default();
        for step in 0..MOST_TURNS as u64 + 10 {
            many.step(Step(step), StepKey::default().after(&step));
        }
        assert_eq!(many.common(&many.clone()).0, MOST_TURNS as u64);
    }
}
