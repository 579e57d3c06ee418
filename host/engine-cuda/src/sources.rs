//! The kernels' sources, and which kernels each has. Not here: who compiles them.

/// One file of kernels in CUDA C++.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name.
    pub file: &'static str,
    /// What stands in it.
    pub text: &'static str,
    /// The kernels that it defines, by name.
    pub kernels: &'static [&'static str],
}

/// Stands before every source.
pub const PRELUDE: &str = include_str!("cu/prelude.cuh");

/// All of them.
pub const SOURCES: [Source; 8] = [
    Source { file: "adamw.cu", text: include_str!("cu/adamw.cu"), kernels: &["adamw"] },
    Source {
        file: "attention.cu",
        text: include_str!("cu/attention.cu"),
        kernels: &["attention", "attention_dots", "attention_query_gradient", "attention_key_gradient"],
    },
    Source { file: "classifier.cu", text: include_str!("cu/classifier.cu"), kernels: &["cross_entropy"] },
    Source {
        file: "columns.cu",
        text: include_str!("cu/columns.cu"),
        kernels: &["columns_of_chunks", "add_chunks"],
    },
    Source {
        file: "elements.cu",
        text: include_str!("cu/elements.cu"),
        kernels: &["scale", "sum_of_chunks", "squares_of_chunks", "compare_chunks", "total"],
    },
    Source {
        file: "embed.cu",
        text: include_str!("cu/embed.cu"),
        kernels: &["embed", "add_to_tokens", "add_to_positions"],
    },
    Source {
        file: "linear.cu",
        text: include_str!("cu/linear.cu"),
        kernels: &["add_bias", "add_bias_gelu", "add_bias_residual", "gelu", "gelu_backward"],
    },
    Source {
        file: "norm.cu",
        text: include_str!("cu/norm.cu"),
        kernels: &["layer_norm", "layer_norm_backward", "layer_norm_partials"],
    },
];

impl Source {
    /// What a compiler is given; it tells lines by the file's own numbers.
    pub fn program(&self) -> String {
        format!("#line 1 \"prelude.cuh\"\n{PRELUDE}\n#line 1 \"{}\"\n{}", self.file, self.text)
    }
}
