//! Every source to machine code of every architecture that is promised, by NVRTC, which needs no GPU for it.

use engine_cuda::driver::Number;
use engine_cuda::nvidia::{Library, cubin};
use engine_cuda::sources::{self, SOURCES, Source};

use crate::compiled::NUMBERS;

const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "sm_90a"];

/// Whether NVRTC is there; else it is said.
fn is_there() -> bool {
    if !Library::Nvrtc.is_there() {
        let why = format!("{} cannot be loaded (install {})", Library::Nvrtc, Library::Nvrtc.package());
        crate::compiled::skip("nvrtc", &why);
        return false;
    }
    true
}

#[test]
fn every_source_compiles_for_every_architecture() {
    if !is_there() {
        return;
    }
    for (source, number) in
        NUMBERS.into_iter().flat_map(|number| sources::of(number).map(move |source| (source, number)))
    {
        for architecture in ARCHITECTURES {
            let image = cubin(source, number, architecture).unwrap_or_else(|error| panic!("{error}"));
            let what = format!("{} for {architecture}, activations in {number:?}", source.file);
            assert_eq!(image[..4], *b"\x7fELF", "{what}");
            for kernel in source.kernels() {
                let is_named = image.windows(kernel.len()).any(|window| window == kernel.as_bytes());
                assert!(is_named, "{what} has no {kernel}");
            }
        }
    }
}

#[test]
fn what_does_not_compile_is_told_with_its_place() {
    if !is_there() {
        return;
    }
    let broken = Source { file: "broken.cu", text: "\n\nint x = ;", ..SOURCES[0] };
    let said = cubin(&broken, Number::F32, "sm_90").expect_err("it is broken").to_string();
    assert!(said.contains("broken.cu(3)"), "{said}");
    let said = cubin(&SOURCES[0], Number::F32, "sm_12").expect_err("no such GPU").to_string();
    assert!(said.contains("sm_12"), "{said}");
}
