//! Who made a library: detached minisign signatures (`LIBRARY.minisig`), and the public keys that the user trusts.
//!
//! Not here: whether a study demands them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Cursor, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use minisign::{KeyPair, PublicKey, PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};

use crate::whole_file::write_whole;
use crate::{PluginError, bounded};

/// A key or a signature: a few lines.
const LARGEST_KEY_BYTES: u64 = 64 << 10;

/// A key that the user trusts.
pub struct TrustedKey {
    /// Its file's name without `.pub`.
    pub name: String,
    key: PublicKey,
}

/// A signature that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Whose key it was.
    pub by: String,
    /// What the signer has signed beside the library.
    pub comment: String,
}

/// The folder of the keys that the user trusts, `*.pub` in minisign's format.
pub fn trusted_keys_folder() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    config.map(|config| config.join("sapwood/trusted-keys"))
}

/// The keys that the user trusts, in the order of their names.
///
/// # Errors
/// A file in the folder that is no key.
pub fn trusted_keys() -> Result<Vec<TrustedKey>, PluginError> {
    let entries = trusted_keys_folder().and_then(|folder| fs::read_dir(folder).ok());
    let mut files: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
    files.sort();
    files.iter().map(|path| public_key(path)).collect()
}

/// Reads one public key.
///
/// # Errors
/// A file that is missing or no key.
pub fn public_key(path: &Path) -> Result<TrustedKey, PluginError> {
    let unreadable = |error: &dyn std::fmt::Display| PluginError::Signature {
        message: format!("{} is no public key: {error}", path.display()),
        hint: "`sapwood plugin sign --new-key FILE` makes a pair; FILE.pub is the public one".into(),
    };
    let text = bounded::read_text(path, LARGEST_KEY_BYTES).map_err(|error| unreadable(&error))?;
    let boxed = PublicKeyBox::from_string(&text).map_err(|error| unreadable(&error))?;
    let key = boxed.into_public_key().map_err(|error| unreadable(&error))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(TrustedKey { name, key })
}

/// Makes a pair without a password: the secret key, for the user's eyes only, and the public one beside it.
///
/// # Errors
/// One of the files is there already, or cannot be written.
pub fn new_key(secret: &Path) -> Result<PathBuf, PluginError> {
    let public = with_more(secret, "pub");
    let failed = |error: &dyn std::fmt::Display| PluginError::Signature {
        message: format!("no key could be made in {}: {error}", secret.display()),
        hint: "name a file that is not there yet, in a folder of yours".into(),
    };
    let pair = KeyPair::generate_unencrypted_keypair().map_err(|error| failed(&error))?;
    let texts = [
        pair.sk.to_box(None).map(SecretKeyBox::into_string),
        pair.pk.to_box().map(PublicKeyBox::into_string),
    ];
    let files = [(secret, OWNERS_ALONE), (public.as_path(), OPEN_TO_ALL)];
    for ((path, mode), text) in files.into_iter().zip(texts) {
        let text = text.map_err(|error| failed(&error))?;
        create(path, mode, &text).map_err(|error| failed(&error))?;
    }
    Ok(public)
}

const OWNERS_ALONE: u32 = 0o600;
/// The umask still takes its share.
const OPEN_TO_ALL: u32 = 0o666;

/// Never in the place of a file: a secret key that is overwritten is lost.
fn create(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Signs a library; answers the signature's file, beside it. A key with a password asks for it on the terminal.
///
/// # Errors
/// The library or the key cannot be read, or the signature not be written.
pub fn sign(library: &Path, secret: &Path) -> Result<PathBuf, PluginError> {
    let failed = |error: &dyn std::fmt::Display| PluginError::Signature {
        message: format!("{} cannot be signed with {}: {error}", library.display(), secret.display()),
        hint: "`sapwood plugin sign --new-key FILE` makes a key".into(),
    };
    let text = bounded::read_text(secret, LARGEST_KEY_BYTES).map_err(|error| failed(&error))?;
    let boxed = SecretKeyBox::from_string(&text).map_err(|error| failed(&error))?;
    let key: SecretKey = match boxed.into_unencrypted_secret_key() {
        Ok(key) => key,
        Err(_) => SecretKey::from_file(secret, None).map_err(|error| failed(&error))?,
    };
    let file = File::open(library).map_err(|error| failed(&error))?;
    let comment = format!("file:{}", library.file_name().unwrap_or_default().to_string_lossy());
    let signature = minisign::sign(None, &key, file, Some(&comment), Some("signature of a sapwood plugin"));
    let signature = signature.map_err(|error| failed(&error))?.into_string();
    let path = with_more(library, "minisig");
    write_whole(&path, |file| file.write_all(signature.as_bytes())).map_err(|error| failed(&error))?;
    Ok(path)
}

/// Whose signature a library bears; `bytes` are the library's as they will be loaded.
///
/// # Errors
/// There is no signature, or none of these keys has made it for these bytes.
pub fn verify(library: &Path, bytes: &[u8], keys: &[TrustedKey]) -> Result<Signed, PluginError> {
    let refused = |reason: String, hint: &str| PluginError::Refused {
        path: library.to_path_buf(),
        reason,
        hint: hint.into(),
    };
    let path = with_more(library, "minisig");
    let text = bounded::read_text(&path, LARGEST_KEY_BYTES).map_err(|error| {
        refused(
            format!("is not signed: {} cannot be read: {error}", path.display()),
            "get the signature that belongs to it",
        )
    })?;
    let signature = SignatureBox::from_string(&text).map_err(|error| {
        refused(
            format!("has a signature that cannot be read: {error}"),
            "get the signature that belongs to it",
        )
    })?;
    for TrustedKey { name, key } in keys {
        if minisign::verify(key, &signature, Cursor::new(bytes), true, false, false).is_ok() {
            return Ok(Signed { by: name.clone(), comment: signature.trusted_comment().unwrap_or_default() });
        }
    }
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    let known = if names.is_empty() {
        "no key is trusted".into()
    } else {
        format!("trusted are {}", names.join(", "))
    };
    Err(refused(
        format!("bears no good signature of a trusted key: {known}"),
        "copy the signer's public key into ~/.config/sapwood/trusted-keys if you trust them; else do not use it",
    ))
}

fn with_more(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
    }

    impl Bench {
        /// A library, and a key that has signed it.
        fn new() -> Bench {
            let bench = Bench { folder: tempfile::tempdir().expect("room") };
            fs::write(bench.path("a.so"), b"a library").expect("room");
            new_key(&bench.path("me")).expect("a new file");
            sign(&bench.path("a.so"), &bench.path("me")).expect("a key that was just made");
            bench
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn verify(&self, bytes: &[u8], key: &str) -> Result<Signed, String> {
            let key = public_key(&self.path(key)).expect("a key that was just made");
            verify(&self.path("a.so"), bytes, &[key]).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_signature_is_good_for_its_bytes_and_its_key_alone() {
        let bench = Bench::new();
        let good = Signed { by: "me".into(), comment: "file:a.so".into() };
        assert_eq!(bench.verify(b"a library", "me.pub"), Ok(good));
        let refusal = bench.verify(b"a librarY", "me.pub").expect_err("one byte differs");
        assert!(refusal.ends_with("bears no good signature of a trusted key: trusted are me"), "{refusal}");
        new_key(&bench.path("other")).expect("a new file");
        let refusal = bench.verify(b"a library", "other.pub").expect_err("somebody else's");
        assert!(refusal.ends_with("trusted are other"), "{refusal}");
        fs::write(bench.path("a.so.minisig"), "rubbish").expect("room");
        let refusal = bench.verify(b"a library", "me.pub").expect_err("no signature");
        assert!(refusal.contains("has a signature that cannot be read"), "{refusal}");
        fs::remove_file(bench.path("a.so.minisig")).expect("it was there");
        let refusal = bench.verify(b"a library", "me.pub").expect_err("no signature");
        assert!(refusal.contains("is not signed"), "{refusal}");
    }

    #[test]
    fn a_key_is_never_overwritten_and_is_for_its_owner_alone() {
        let bench = Bench::new();
        let before = fs::read(bench.path("me")).expect("it was made");
        assert!(new_key(&bench.path("me")).is_err());
        assert_eq!(fs::read(bench.path("me")).expect("it was made"), before);
        let mode = |name| fs::metadata(bench.path(name)).expect("it was made").permissions().mode() & 0o777;
        assert_eq!(mode("me"), 0o600);
        fs::write(bench.path("ordinary"), "").expect("room");
        assert_eq!(mode("me.pub"), mode("ordinary"), "the public key is for all");
    }
}
