//! Apache Parquet: one column of strings, a row group at a time.

mod pages;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use self::pages::CheckedPages;
use super::inputs::{Input, Unit};
use super::{BadText, Found, LARGEST_TEXT_BYTES, TextError};
use crate::DataError;
use crate::contained::contained;

/// Rows that are held at once.
const ROWS_AT_ONCE: usize = 512;

/// How many row groups a file has.
pub(super) fn row_groups(path: &Path) -> Result<usize, TextError> {
    Ok(open(path)?.num_row_groups())
}

pub(super) fn read<E: From<TextError>>(
    input: &Input,
    unit: &Unit,
    field: &str,
    bytes_read: &AtomicU64,
    each: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let path = &input.path;
    let file = open(path)?;
    let groups = match *unit {
        Unit::RowGroup(group) => group..group + 1,
        _ => 0..file.num_row_groups(),
    };
    let column = column_of(path, file.metadata().file_metadata().schema_descr(), field)?;
    for group in groups {
        let before =
            file.metadata().row_groups().iter().take(group).map(|group| group.num_rows().max(0) as u64);
        let rows_before = before.fold(0, u64::saturating_add);
        let group = asked(path, || file.get_row_group(group))?;
        read_group(path, &*group, column, rows_before, each)?;
        bytes_read.fetch_add(group.metadata().compressed_size().max(0) as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn read_group<E: From<TextError>>(
    path: &Path,
    group: &dyn RowGroupReader,
    column: usize,
    rows_before: u64,
    each: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let lacks = || damaged(path, &ParquetError::General("a row group lacks a column of its schema".into()));
    let chunk = group.metadata().columns().get(column).ok_or_else(lacks)?;
    let defined = chunk.column_descr().max_def_level();
    let pages = asked(path, || group.get_column_page_reader(column))?;
    let pages = Box::new(CheckedPages { pages, max_definition_level: defined });
    let ColumnReader::ByteArrayColumnReader(mut reader) = get_column_reader(chunk.column_descr_ptr(), pages)
    else {
        return Err(
            damaged(path, &ParquetError::General("its column is not what its schema says".into())).into()
        );
    };
    let mut row = rows_before;
    let (mut values, mut levels) = (Vec::<ByteArray>::new(), Vec::new());
    loop {
        values.clear();
        levels.clear();
        let (rows, ..) =
            asked(path, || reader.read_records(ROWS_AT_ONCE, Some(&mut levels), None, &mut values))?;
        if rows == 0 {
            return Ok(());
        }
        let mut texts = values.iter();
        for index in 0..rows {
            row += 1;
            // A column of which every row has a value has no levels.
            let is_there = levels.get(index).is_none_or(|&level| level == defined);
            let place = || format!("row {row}");
            match is_there.then(|| texts.next()).flatten().map(ByteArray::data) {
                None => each(Err(BadText { place: place(), reason: "has no text (null)".into() }))?,
                Some(text) if text.len() as u64 > LARGEST_TEXT_BYTES => {
                    let path = path.into();
                    return Err(
                        TextError::TooLarge { path, place: place(), limit: LARGEST_TEXT_BYTES }.into()
                    );
                }
                Some(text) => match str::from_utf8(text) {
                    Ok(text) => each(Ok(text))?,
                    Err(_) => each(Err(BadText { place: place(), reason: "is not UTF-8".into() }))?,
                },
            }
        }
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, TextError> {
    let file = File::open(path).map_err(|source| DataError::Unreadable { path: path.into(), source })?;
    asked(path, || SerializedFileReader::new(file))
}

/// What `parquet` answers, or what it says against it. On some damaged pages it panics (60.1: lengths that lead out of a
/// page); then its reader is dropped together with what it has read.
fn asked<T>(path: &Path, call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, TextError> {
    let answered = contained(call).map_err(|reason| TextError::Damaged { path: path.into(), reason })?;
    answered.map_err(|error| damaged(path, &error))
}

/// The number of the column of strings of that name.
fn column_of(path: &Path, schema: &SchemaDescriptor, field: &str) -> Result<usize, TextError> {
    let columns = schema.columns();
    let is_wanted = |column: usize| {
        let column = &columns[column];
        column.path().string() == field
            && column.physical_type() == Type::BYTE_ARRAY
            && column.max_rep_level() == 0
    };
    (0..columns.len()).find(|&column| is_wanted(column)).ok_or_else(|| {
        let names: Vec<String> =
            columns.iter().map(|column| format!("`{}`", column.path().string())).collect();
        TextError::NoColumn { path: path.into(), field: field.into(), there: names.join(", ") }
    })
}

fn damaged(path: &Path, error: &ParquetError) -> TextError {
    TextError::Damaged { path: path.into(), reason: error.to_string() }
}
