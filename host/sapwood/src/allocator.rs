//! How the C library's allocator divides its memory while runs come and go.
#![allow(unsafe_code, reason = "mallopt is a function of C")]

/// Enough that threads seldom wait for each other: what a step needs is allocated once a phase.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;

/// Few arenas. Left to itself, glibc makes up to eight for each core; the threads of each run fill another one, none is given back,
/// and a study of many runs grows to several times what it needs (`tests/soak/studies.py` measures it).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_few_arenas() {
    // SAFETY: it takes two numbers, and may be called at any time; what it answers (0: not taken) changes nothing here.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_few_arenas() {}
