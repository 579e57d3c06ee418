//! Tells the library which compiler and target it was built by: facts that a host reads before loading.

use std::process::Command;

fn main() {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=SAPWOOD_PLUGIN_RUSTC={}", version.unwrap_or_default().trim());
    println!("cargo:rustc-env=SAPWOOD_PLUGIN_TARGET={target}");
    println!("cargo:rerun-if-changed=build.rs");
}
