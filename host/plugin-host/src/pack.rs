//! Packs: one file with a library for each target that its author has built, and a manifest. A gzipped tar with
//! `pack.json` first. Not here: where an unpacked library goes (`install`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sapwood_plugin::host::{read_facts, target};
use sapwood_plugin::{Kind, LibraryFacts};
use serde::{Deserialize, Serialize};

use crate::needs::{self, Glibc};
use crate::registry::refused;
use crate::store::sha256_of;
use crate::whole_file::write_whole;
use crate::{PluginError, bounded, trust};

/// How a pack's file ends.
pub const EXTENSION: &str = "sapwood-pack";

const FORMAT: u32 = 1;
const MANIFEST: &str = "pack.json";
/// Most bytes of a manifest, and of a library.
const LARGEST_MANIFEST: u64 = 1 << 20;
const LARGEST_LIBRARY: u64 = bounded::LARGEST_LIBRARY_BYTES;
/// A library for each machine there is, and the manifest.
const MOST_ENTRIES: usize = 64;
/// What a tar's header has room for.
const LONGEST_NAME_BYTES: usize = 100;

/// What a pack holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    format: u32,
    /// What each of its libraries offers: the same plugins in the same versions.
    pub plugins: Vec<PackedPlugin>,
    /// By target triple.
    pub libraries: BTreeMap<String, PackedLibrary>,
}

/// A plugin of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedPlugin {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// A library of a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedLibrary {
    /// Its file's name, without a folder.
    pub file: String,
    /// The hash of its bytes.
    pub sha256: String,
    /// The GNU C library that it needs; `None` where it names none.
    pub glibc: Option<Glibc>,
}

/// Writes a pack of these libraries.
///
/// # Errors
/// A library that is none of ours, two for one target, libraries that do not offer the same, or a file that cannot be
/// written.
pub fn pack(libraries: &[PathBuf], to: &Path) -> Result<Pack, PluginError> {
    let mut pack = Pack { format: FORMAT, plugins: Vec::new(), libraries: BTreeMap::new() };
    let mut contents = Vec::new();
    for (index, path) in libraries.iter().enumerate() {
        let facts = read_facts(path).map_err(|refusal| refused(path, &refusal))?;
        let bytes = bounded::read(path, LARGEST_LIBRARY)
            .map_err(|error| wrong(path, format!("cannot be read: {error}")))?;
        let plugins = plugins_of(&facts);
        if index > 0 && plugins != pack.plugins {
            return Err(wrong(
                path,
                "does not offer the plugins of the first library, in the same versions".into(),
            ));
        }
        pack.plugins = plugins;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let library =
            PackedLibrary { file: name, sha256: sha256_of(&bytes), glibc: needs::newest_named(&bytes) };
        let name = inside(&facts.target, &library);
        if name.len() > LONGEST_NAME_BYTES {
            return Err(wrong(
                path,
                format!("would be called `{name}` in a pack, which is too long for one"),
            ));
        }
        contents.push((name, bytes));
        if pack.libraries.insert(facts.target.clone(), library).is_some() {
            return Err(wrong(path, format!("is the second library for {}", facts.target)));
        }
    }
    write(&pack, &contents, to).map_err(|error| PluginError::Host {
        message: format!("{} cannot be written: {error}", to.display()),
    })?;
    Ok(pack)
}

fn plugins_of(facts: &LibraryFacts) -> Vec<PackedPlugin> {
    let plugin = |plugin: &sapwood_plugin::Descriptor| PackedPlugin {
        kind: plugin.kind,
        id: plugin.id.clone(),
        version: plugin.version.clone(),
    };
    facts.plugins.iter().map(plugin).collect()
}

fn inside(target: &str, library: &PackedLibrary) -> String {
    format!("{target}/{}", library.file)
}

fn write(pack: &Pack, contents: &[(String, Vec<u8>)], to: &Path) -> io::Result<()> {
    let manifest = serde_json::to_vec_pretty(pack)?;
    write_whole(to, |file| {
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        let files = contents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        for (name, bytes) in [(MANIFEST, manifest.as_slice())].into_iter().chain(files) {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes)?;
        }
        archive.into_inner()?.finish()?;
        Ok(())
    })
}

/// What a pack holds, by its manifest.
///
/// # Errors
/// A file that is missing or no pack.
pub fn read(path: &Path) -> Result<Pack, PluginError> {
    entries(path, |name, content| Ok((name == MANIFEST).then(|| content.to_vec())))
        .and_then(|manifest| manifest.ok_or_else(|| wrong(path, "is no pack: it has no manifest".into())))
        .and_then(|manifest| {
            let pack: Pack = serde_json::from_slice(&manifest)
                .map_err(|error| wrong(path, format!("has a manifest that cannot be read: {error}")))?;
            if pack.format != FORMAT {
                return Err(wrong(path, format!("has format {}, this host reads {FORMAT}", pack.format)));
            }
            Ok(pack)
        })
}

/// Writes the library for this machine into a folder, under its own name; answers its file.
///
/// # Errors
/// A pack without one, or whose library needs a newer C library, or is not what the manifest says.
pub fn unpack(path: &Path, folder: &Path) -> Result<PathBuf, PluginError> {
    trust::check(path).map_err(|refusal| refused(path, &refusal))?;
    let pack = read(path)?;
    let Some(library) = pack.libraries.get(target()) else {
        let targets: Vec<&str> = pack.libraries.keys().map(String::as_str).collect();
        return Err(wrong(path, format!("has no library for {}, only for {}", target(), targets.join(", "))));
    };
    let name = Path::new(&library.file).file_name().filter(|name| *name == library.file.as_str());
    let name =
        name.ok_or_else(|| wrong(path, format!("names a file `{}` that leads elsewhere", library.file)))?;
    let wanted = inside(target(), library);
    let bytes = entries(path, |name, content| Ok((name == wanted).then(|| content.to_vec())))?;
    let bytes = bytes.filter(|bytes| sha256_of(bytes) == library.sha256);
    let bytes = bytes.ok_or_else(|| wrong(path, format!("does not hold {wanted} as its manifest says")))?;
    needs::check(&bytes).map_err(|refusal| refused(path, &refusal))?;
    let to = folder.join(name);
    File::create(&to).and_then(|mut file| file.write_all(&bytes)).map_err(|error| PluginError::Host {
        message: format!("{} cannot be written: {error}", to.display()),
    })?;
    Ok(to)
}

/// Looks at the files of a pack in turn until something is found.
fn entries<T>(
    path: &Path,
    mut look: impl FnMut(&str, &[u8]) -> io::Result<Option<T>>,
) -> Result<Option<T>, PluginError> {
    let file = File::open(path).map_err(|error| wrong(path, format!("cannot be read: {error}")))?;
    let mut search = || -> io::Result<Option<T>> {
        let mut archive = tar::Archive::new(GzDecoder::new(&file));
        // Raw: headers that say more of the next entry may be of any length, and are read whole.
        for (number, entry) in archive.entries()?.raw(true).enumerate() {
            if number == MOST_ENTRIES {
                return Err(io::Error::other(format!("it holds more than {MOST_ENTRIES} files")));
            }
            let entry = entry?;
            let name = entry.path()?.to_string_lossy().into_owned();
            if !entry.header().entry_type().is_file() {
                return Err(io::Error::other(format!("`{name}` is no file")));
            }
            let most = if name == MANIFEST { LARGEST_MANIFEST } else { LARGEST_LIBRARY };
            if entry.size() > most {
                return Err(io::Error::other(format!("`{name}` has {} bytes", entry.size())));
            }
            // Not by the size that the archive claims: what is read is what is held.
            let mut content = Vec::new();
            entry.take(most).read_to_end(&mut content)?;
            if let Some(found) = look(&name, &content)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    };
    search().map_err(|error| wrong(path, format!("is no pack, or is cut short: {error}")))
}

fn wrong(path: &Path, reason: String) -> PluginError {
    let hint =
        "`sapwood plugin pack LIBRARY… --out NAME.sapwood-pack` makes one; ask its author for another".into();
    PluginError::Refused { path: path.to_path_buf(), reason, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GNU tar puts a long name of the next file into an entry of its own, which readers take whole into memory.
    #[test]
    fn what_is_no_file_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().expect("room");
        let path = folder.path().join("a.sapwood-pack");
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_path("long").expect("a short one");
        header.set_cksum();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed
            .write_all(header.as_bytes())
            .and_then(|()| packed.write_all(&[b'x'; 1 << 20]))
            .expect("into memory");
        std::fs::write(&path, packed.finish().expect("into memory")).expect("room");
        let refused = read(&path).expect_err("it is no file").to_string();
        assert!(refused.contains("`long` is no file"), "{refused}");
    }
}
