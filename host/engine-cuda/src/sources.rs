//! The kernels' sources, file by file, and which kernels each has: what a file of `cu/` is found by. Not here: who
//! compiles them.

use crate::driver::Number;

/// One file of kernels in CUDA C++.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name.
    pub file: &'static str,
    /// What stands in it.
    pub text: &'static str,
    /// Which numbers its activations may be kept in.
    pub activations: &'static [Number],
}

/// Stands before every source, and after what says which numbers activations are kept in.
const PRELUDE: &str = include_str!("cu/prelude.cuh");

/// What a kernel's definition opens with, up to its name or to what bounds its registers.
const KERNEL: &str = "extern \"C\" __global__ void ";
const BOUNDS: &str = "__launch_bounds__(";

const BOTH: &[Number] = &[Number::F32, Number::Bf16];

/// All of them.
pub const SOURCES: &[Source] = &[
    Source { file: "adamw.cu", text: include_str!("cu/adamw.cu"), activations: BOTH },
    Source { file: "attention.cu", text: include_str!("cu/attention.cu"), activations: BOTH },
    Source {
        file: "attention_tensor.cu",
        text: concat!(
            "#line 1 \"tensor.cuh\"\n",
            include_str!("cu/tensor.cuh"),
            "#line 1 \"attention_tensor.cu\"\n",
            include_str!("cu/attention_tensor.cu")
        ),
        activations: &[Number::Bf16],
    },
    Source { file: "classifier.cu", text: include_str!("cu/classifier.cu"), activations: BOTH },
    Source { file: "columns.cu", text: include_str!("cu/columns.cu"), activations: BOTH },
    Source { file: "elements.cu", text: include_str!("cu/elements.cu"), activations: BOTH },
    Source { file: "embed.cu", text: include_str!("cu/embed.cu"), activations: BOTH },
    Source { file: "linear.cu", text: include_str!("cu/linear.cu"), activations: BOTH },
    Source { file: "norm.cu", text: include_str!("cu/norm.cu"), activations: BOTH },
];

/// Those for activations of such numbers.
pub fn of(activations: Number) -> impl Iterator<Item = &'static Source> {
    SOURCES.iter().filter(move |source| source.activations.contains(&activations))
}

impl Source {
    /// The kernels that it defines, by name.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> + use<> {
        let definitions =
            self.text.split(KERNEL).skip(1).map(|definition| match definition.strip_prefix(BOUNDS) {
                Some(bounded) => bounded.split_once(") ").map_or("", |(_, definition)| definition),
                None => definition,
            });
        definitions.filter_map(|definition| definition.split('(').next())
    }

    /// What a compiler is given for activations of such numbers; it tells lines by the file's own numbers.
    pub fn program(&self, activations: Number) -> String {
        let which = match activations {
            Number::F32 => "#undef ACTIVATIONS_IN_BF16",
            Number::Bf16 => "#define ACTIVATIONS_IN_BF16",
        };
        let Source { file, text, .. } = self;
        format!("{which}\n#line 1 \"prelude.cuh\"\n{PRELUDE}\n#line 1 \"{file}\"\n{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_found_by_its_name() {
        let adamw: Vec<&str> = SOURCES[0].kernels().collect();
        assert_eq!(adamw, ["adamw"]);
        for source in SOURCES {
            let defined = source.text.matches("__global__").count();
            assert_eq!(source.kernels().count(), defined, "a kernel of {} opens otherwise", source.file);
            let is_name =
                |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            assert!(source.kernels().all(is_name), "{}", source.file);
        }
    }
}
