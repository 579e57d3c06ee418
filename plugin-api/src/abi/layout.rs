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
            pub const LAYOUT: u64 = {
                let names = concat!(stringify!($name), "{", $(stringify!($field), ":", stringify!($kind), ",",)* "}");
                let hash = $crate::abi::layout::hash_bytes(names.as_bytes(), $crate::abi::layout::START);
                let numbers = &[
                    $( std::mem::offset_of!(Self, $field) as u64, )*
                    std::mem::size_of::<Self>() as u64,
                    std::mem::align_of::<Self>() as u64,
                ];
                $crate::abi::layout::hash_numbers(numbers, hash)
            };
        }
    };
}
