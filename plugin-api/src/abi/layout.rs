//! Layouts as numbers: a hash of names, types, offsets and sizes of everything that crosses, so that two
//! sides that differ find out before the first call.

/// FNV-1a over bytes, at compile time.
pub const fn hash_bytes(bytes: &[u8], start: u64) -> u64 {
    let mut hash = start;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// FNV-1a over what a name consists of, at compile time. How a compiler spaces a type that it prints differs from
/// version to version, so spaces, commas and brackets do not count.
pub const fn hash_names(text: &str, start: u64) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = start;
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i].is_ascii_alphanumeric() || matches!(bytes[i], b'_' | b'&' | b'*') {
            hash = hash_bytes(&[bytes[i]], hash);
        }
        i += 1;
    }
    hash
}

/// A struct that crosses, as the test that guards the frozen revisions prints it.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// Name, type and offset of each field, in order.
    pub fields: &'static [(&'static str, &'static str, usize)],
    /// Its size in bytes.
    pub size: usize,
    /// Its alignment in bytes.
    pub align: usize,
    /// Hash of all that.
    pub layout: u64,
}

/// Folds numbers into a hash, at compile time.
pub const fn hash_numbers(numbers: &[u64], start: u64) -> u64 {
    let mut hash = start;
    let mut i = 0;
    while i < numbers.len() {
        hash = hash_bytes(&numbers[i].to_le_bytes(), hash);
        i += 1;
    }
    hash
}

/// Where FNV-1a starts.
pub const START: u64 = 0xcbf2_9ce4_8422_2325;

/// A hash as 16 hexadecimal digits, at compile time.
pub const fn hexadecimal(hash: u64) -> [u8; 16] {
    let digits = b"0123456789abcdef";
    let mut text = [0; 16];
    let mut i = 0;
    while i < 16 {
        text[i] = digits[(hash >> (60 - 4 * i)) as usize & 15];
        i += 1;
    }
    text
}

/// Declares a struct that crosses: `repr(C)`, with a constant `LAYOUT` that moves when it changes.
macro_rules! crossing {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident $(<$life:lifetime>)? {
            $( $(#[$field_attribute:meta])* pub $field:ident : $kind:ty, )*
        }
    ) => {
        $(#[$attribute])*
        #[repr(C)]
        pub struct $name $(<$life>)? {
            $( $(#[$field_attribute])* pub $field: $kind, )*
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// Hash of names, types, offsets and size.
            pub const LAYOUT: u64 = Self::DESCRIBED.layout;

            /// What the hash is of.
            pub const DESCRIBED: $crate::abi::layout::Described = described!(Self, $name { $($field: $kind,)* });
        }
    };
}

/// Describes a struct that crosses and is declared elsewhere, as authors see it. A field whose type is another one
/// does not compile.
macro_rules! described {
    ($this:ty, $name:ident { $( $field:ident : $kind:ty, )* }) => {{
        let names = concat!(stringify!($name), "{", $(stringify!($field), ":", stringify!($kind), ",",)* "}");
        let hash = $crate::abi::layout::hash_names(names, $crate::abi::layout::START);
        let numbers = &[
            $( std::mem::offset_of!($this, $field) as u64, )*
            std::mem::size_of::<$this>() as u64,
            std::mem::align_of::<$this>() as u64,
        ];
        $crate::abi::layout::Described {
            name: stringify!($name),
            fields: &[ $( (stringify!($field), stringify!($kind), std::mem::offset_of!($this, $field)), )* ],
            size: std::mem::size_of::<$this>(),
            align: std::mem::align_of::<$this>(),
            layout: $crate::abi::layout::hash_numbers(numbers, hash),
        }
    }};
}

/// Describes a struct of authors' own, with a proof that its fields have these types.
macro_rules! authors_struct {
    ($constant:ident = $name:ident { $( $field:ident : $kind:ty, )* }) => {
        #[doc = concat!("[`", stringify!($name), "`], which crosses as it is.")]
        pub const $constant: $crate::abi::layout::Described = {
            const fn fields_have_these_types(value: &$name) {
                $( let _: &$kind = &value.$field; )*
            }
            let _ = fields_have_these_types;
            described!($name, $name { $($field: $kind,)* })
        };
    };
}
