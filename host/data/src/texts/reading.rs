//! A file as a stream of bytes, decompressed where its name says so, with a count of what was read of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};

use super::TextError;
use super::inputs::{Compression, Input};

const AT_ONCE: usize = 1 << 18;

/// The bytes of a file from `first_byte` on, which is 0 where it is compressed.
pub(super) fn open<'a>(
    input: &Input,
    first_byte: u64,
    bytes_read: &'a AtomicU64,
) -> Result<Box<dyn BufRead + 'a>, TextError> {
    let opened = || -> io::Result<Box<dyn BufRead + 'a>> {
        let mut file = File::open(&input.path)?;
        file.seek(SeekFrom::Start(first_byte))?;
        let counted = BufReader::with_capacity(AT_ONCE, Counted { file, bytes_read });
        Ok(match input.compression {
            Compression::None => Box::new(counted),
            // Both go on behind the end of a member or frame: `cat a.gz b.gz` is a file, too.
            Compression::Gzip => {
                Box::new(BufReader::with_capacity(AT_ONCE, flate2::bufread::MultiGzDecoder::new(counted)))
            }
            Compression::Zstandard => Box::new(BufReader::with_capacity(
                AT_ONCE,
                zstd::stream::read::Decoder::with_buffer(counted)?,
            )),
        })
    };
    opened().map_err(|source| TextError::of_reading(&input.path, source))
}

struct Counted<'a> {
    file: File,
    bytes_read: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
