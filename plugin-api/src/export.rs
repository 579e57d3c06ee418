//! The macro that makes a library out of plugins.

/// Exports plugins, one library may hold several of several kinds. Call it once, at the top level of a
/// crate whose manifest says `crate-type = ["cdylib"]`.
///
/// ```
/// # use sapwood_plugin::*;
/// # #[derive(serde::Deserialize, schemars::JsonSchema)]
/// # struct NoConfig {}
/// # struct Quiet;
/// # impl Plugin for Quiet {
/// #     type Config = NoConfig;
/// #     fn new(_: NoConfig) -> Result<Quiet> { Ok(Quiet) }
/// # }
/// # impl MetricReporter for Quiet {
/// #     fn start(&mut self, _: &SessionFacts) -> Result<()> { Ok(()) }
/// #     fn event(&mut self, _: &RunEvent) -> Result<()> { Ok(()) }
/// #     fn flush(&mut self) -> Result<()> { Ok(()) }
/// #     fn finish(&mut self) -> Result<()> { Ok(()) }
/// # }
/// sapwood_plugin::export! {
///     reporter Quiet { id: "example/quiet", summary: "says nothing" }
/// }
/// # fn main() {}
/// ```
///
/// A plugin may have a page: `page: include_str!("lib.rs")` after its summary makes one of what the file says of itself in
/// its first lines (those with `//!`), which `sapwood plugin inspect --markdown` shows.
///
/// Version, licence and home page are those of the crate's manifest. Beside the one symbol that a host
/// looks up, the macro places the plugins' facts into a link section of their own, where a host reads
/// them without running anything.
#[macro_export]
macro_rules! export {
    ($( $kind:ident $plugin:ty {
        id: $id:literal, summary: $summary:literal $(, page: $page:expr)? $(,)?
    } )+) => {
        #[allow(unsafe_code)]
        const _: () = {
            const ENTRIES: &[$crate::__private::Entry] = &[
                $( $crate::__private::Entry::$kind::<$plugin>($id)$(.with_page($page))?, )+
            ];

            const PLUGINS: &[&str] = &[ $(
                "{\"kind\":\"", stringify!($kind),
                "\",\"id\":\"", $crate::__private::plain($id),
                "\",\"version\":\"", env!("CARGO_PKG_VERSION"),
                "\",\"summary\":\"", $crate::__private::plain($summary),
                "\",\"license\":\"", $crate::__private::plain(env!("CARGO_PKG_LICENSE")),
                "\",\"homepage\":\"", $crate::__private::plain(env!("CARGO_PKG_HOMEPAGE")),
                "\"},",
            )+ ];
            const PANIC: &str = if cfg!(panic = "unwind") { "\"panic\":\"unwind\"," } else { "\"panic\":\"abort\"," };
            const INTERFACES: &[&str] = $crate::__private::INTERFACE_FACTS;
            const LEN: usize = $crate::__private::total_len(&["{", $crate::__private::COMMON_FACTS, PANIC])
                + $crate::__private::total_len(INTERFACES)
                + $crate::__private::total_len(&["\"plugins\":["])
                + $crate::__private::total_len(PLUGINS)
                + $crate::__private::total_len(&["null]}"]);

            // Plain bytes in a section of their own: readable in the file, without running any of it. The
            // root refers to them, so that the linker keeps them.
            #[used]
            #[unsafe(link_section = ".sapwood")]
            static FACTS: [u8; LEN] = {
                let mut facts = [0; LEN];
                let groups: [&[&str]; 5] = [
                    &["{", $crate::__private::COMMON_FACTS, PANIC],
                    INTERFACES,
                    &["\"plugins\":["],
                    PLUGINS,
                    &["null]}"],
                ];
                let mut at = 0;
                let mut group = 0;
                while group < groups.len() {
                    at = $crate::__private::append(groups[group], &mut facts, at);
                    group += 1;
                }
                facts
            };

            // abi_stable's attribute, expanded by hand: the attribute names `::abi_stable`, which a plugin
            // need not depend on, and writes `#[no_mangle]`, which edition 2024 refuses.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static LIB_HEADER: $crate::__private::LibHeader = {
                fn root() -> $crate::__private::RootRef {
                    std::hint::black_box(&FACTS);
                    $crate::__private::root(ENTRIES)
                }
                extern "C" fn erased() -> $crate::__private::RootModuleResult {
                    $crate::__private::__call_root_module_loader(root)
                }
                // SAFETY: `erased` answers the root of the type that is named here.
                unsafe {
                    $crate::__private::LibHeader::from_constructor::<$crate::__private::RootRef>(
                        erased,
                        $crate::__private::CheckTypeLayout::Yes,
                    )
                }
            };
        };
    };
}
