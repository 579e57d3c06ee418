//! Which vector instructions are used: the best that the processor has, or fewer on request; and the macro
//! that compiles a function once for each. Not here: the functions.
#![allow(unsafe_code)]

/// Vector instructions, in the order of their width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the architecture has: SSE2 on x86-64.
    Baseline,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL).
    Avx512,
}

/// A level that this processor was seen to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Available {
    level: Level,
    best: Level,
}

impl Available {
    /// The best level that the processor has and that is no higher than `most`.
    pub(crate) fn at_most(most: Level) -> Available {
        let best = detect();
        Available { level: best.min(most), best }
    }

    pub(crate) fn level(self) -> Level {
        self.level
    }

    /// Whether nothing is held back: the matrix library, which detects for itself, may then be used.
    pub(crate) fn is_best(self) -> bool {
        self.level == self.best
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, _) => Level::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Baseline
}

/// Makes `name(available, ...)`, which calls `body::<FMA>(...)` compiled for the level that is available.
/// The body is generic over whether multiply-add is one instruction, and `#[inline(always)]`.
macro_rules! vectorised {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$doc])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        fn $name(available: $crate::cpu::level::Available, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { $body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { $body::<true>($($arg),*) }
                match available.level() {
                    // SAFETY: `Available` holds no level that the processor was not seen to have.
                    $crate::cpu::level::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::level::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::level::Level::Baseline => {}
                }
            }
            $body::<false>($($arg),*)
        }
    };
}
pub(crate) use vectorised;
