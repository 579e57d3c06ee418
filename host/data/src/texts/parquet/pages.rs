//! Pages of a Parquet column of strings, looked at before they are decoded: how many values they claim. `parquet` makes room
//! for that many without a look at the bytes (60.1), and a claim of petabytes ends the process. What the values are is
//! decided by its decoders.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

/// Most values of a page; writers end one after 20 thousand rows or a megabyte, whichever comes first.
const MOST_VALUES: usize = 1 << 24;
/// What a string takes in a dictionary at the least: its length.
const LEAST_BYTES_OF_A_STRING: usize = 4;

/// Pages that claim no more than they can hold.
pub(super) struct CheckedPages {
    pub(super) pages: Box<dyn PageReader>,
    /// Above 0 where a value may be null.
    pub(super) max_definition_level: i16,
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            check(page, self.max_definition_level)
                .ok_or_else(|| ParquetError::General("a page claims more values than it holds".into()))?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

/// `None` where a page claims too much.
fn check(page: &Page, max_definition_level: i16) -> Option<()> {
    let values = page.num_values() as usize;
    if let Page::DictionaryPage { buf, .. } = page {
        return (values <= buf.len() / LEAST_BYTES_OF_A_STRING).then_some(());
    }
    let (buf, levels) = match page {
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            (buf, (*def_levels_byte_len as usize).checked_add(*rep_levels_byte_len as usize)?)
        }
        Page::DataPage { buf, def_level_encoding, .. } => {
            (buf, levels_of_version_1(buf, *def_level_encoding, values, max_definition_level)?)
        }
        Page::DictionaryPage { .. } => return None,
    };
    let lists_of_lengths = match page.encoding() {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => return Some(()),
    };
    let mut lists = Deltas { bytes: buf.get(levels..)? };
    (0..lists_of_lengths).try_for_each(|_| lists.pass(values.min(MOST_VALUES)))
}

/// Bytes of the levels before the values; a column that is not repeated has definition levels at most.
fn levels_of_version_1(buf: &[u8], encoding: Encoding, values: usize, max_level: i16) -> Option<usize> {
    if max_level <= 0 {
        return Some(0);
    }
    match encoding {
        Encoding::RLE => {
            let length = u32::from_le_bytes(*buf.first_chunk()?);
            (length as usize).checked_add(4)
        }
        _ => {
            let bits = u16::BITS - max_level.unsigned_abs().leading_zeros();
            Some(values.checked_mul(bits as usize)?.div_ceil(8))
        }
    }
}

/// Lists of numbers in Parquet's DELTA_BINARY_PACKED, one behind the other.
struct Deltas<'a> {
    bytes: &'a [u8],
}

impl Deltas<'_> {
    /// Passes over a list of at most so many numbers.
    fn pass(&mut self, most: usize) -> Option<()> {
        let (block, in_block, count) = (self.number()?, self.number()?, self.number()?);
        let mini_block = block.checked_div(in_block).filter(|numbers| *numbers > 0)?;
        if count > most as u64 || in_block > block {
            return None;
        }
        // The first number.
        self.number()?;
        let mut left = count.saturating_sub(1);
        while left > 0 {
            // The least delta.
            self.number()?;
            let (widths, rest) = self.bytes.split_at_checked(usize::try_from(in_block).ok()?)?;
            self.bytes = rest;
            for &width in widths {
                if left == 0 {
                    break;
                }
                let bytes = mini_block.checked_mul(width.into())? / 8;
                // The last of a list need not be whole.
                self.bytes = self.bytes.get(usize::try_from(bytes).ok()?..).unwrap_or_default();
                left = left.saturating_sub(mini_block);
            }
        }
        Some(())
    }

    /// A number in base 128, the lowest digit first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for place in 0..10 {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_passed_over_whole_and_claims_are_refused() {
        // 3 numbers in blocks of 128 with 4 mini-blocks; then the one number 7.
        let good = [128, 1, 4, 3, 0, 2, 8, 0, 0, 0];
        let bytes: Vec<u8> = good.into_iter().chain([0; 32]).chain([128, 1, 4, 1, 14]).collect();
        let mut lists = Deltas { bytes: &bytes };
        assert_eq!((lists.pass(3), lists.pass(1)), (Some(()), Some(())));
        assert!(lists.bytes.is_empty());
        assert_eq!(Deltas { bytes: &bytes }.pass(2), None);
        assert_eq!(Deltas { bytes: &[0, 0, 200] }.pass(usize::MAX), None);
    }

    #[test]
    fn a_dictionary_holds_no_more_strings_than_lengths() {
        let page = |num_values| Page::DictionaryPage {
            buf: vec![0; 8].into(),
            num_values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        assert_eq!(check(&page(2), 1), Some(()));
        assert_eq!(check(&page(u32::MAX), 1), None);
    }
}
