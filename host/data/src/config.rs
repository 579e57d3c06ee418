//! The `[data]` table of a run: which source, which files, in which order. Whether the files exist is
//! found out by [`open`](crate::open).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where token ids come from. In TOML: `source = "text" | "shards" | "recorded"` and that source's keys,
/// all of them, no others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum DataConfig {
    /// A file whose bytes are the tokens (id = byte).
    Text {
        /// The file.
        path: PathBuf,
        /// How much of the file's end is for validation, from 0 (nothing) to less than 1.
        validation_fraction: f64,
        /// How windows of the rest are ordered.
        order: Order,
    },
    /// Files of token ids, read as one stream: one-dimensional `.npy` of uint16 or uint32 (build-nanogpt), llm.c's
    /// `.bin`, nanoGPT's raw `.bin`, and folders that `sapwood data tokenize` made.
    Shards {
        /// Where they stand.
        files: ShardList,
        /// How windows are ordered.
        order: Order,
    },
    /// Several such lists, which take turns by weight.
    Mixture {
        /// The lists.
        parts: Vec<MixturePart>,
        /// How each list's windows are ordered.
        order: Order,
    },
    /// A folder with `batches.npy`, one entry a step, and `eval.npy`: what another implementation read.
    Recorded {
        /// The folder.
        folder: PathBuf,
    },
}

/// Files of token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardList {
    /// Files, or folders: of one with a manifest its training part, of another `*train*.npy` and `*train*.bin` in
    /// name order.
    pub train: Vec<PathBuf>,
    /// Files, or folders (there `*val*`); empty for none.
    pub validation: Vec<PathBuf>,
    /// What the files are, where they do not say it themselves.
    pub format: Option<Format>,
}

/// A list of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenPart", into = "WrittenPart")]
pub struct MixturePart {
    /// Its share of all windows, in proportion to the others'.
    pub weight: f64,
    /// Where it stands.
    pub files: ShardList,
}

/// What a file without a header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Ids of two bytes, the lower first, and nothing else: nanoGPT's `train.bin`.
    RawUint16,
    /// The same of four bytes.
    RawUint32,
}

/// How the windows of the training part follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As they stand in the files, the same for every seed; the paper's.
    Sequential,
    /// Permuted anew in every epoch, by seed.
    Shuffled,
}

/// What a `[data]` table says that no source takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key of the source is not there.
    #[error("`{key}` is missing: source \"{source_name}\" takes {takes}")]
    Missing {
        /// The key.
        key: &'static str,
        /// The source, as written.
        source_name: &'static str,
        /// All keys of that source.
        takes: &'static str,
    },
    /// A key belongs to another source.
    #[error("`{key}` does not belong here: source \"{source_name}\" takes {takes}")]
    Foreign {
        /// The key.
        key: &'static str,
        /// The source, as written.
        source_name: &'static str,
        /// All keys of that source.
        takes: &'static str,
    },
}

impl ConfigError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            ConfigError::Missing { key, .. } => format!("write `{key}` in `[data]`; it has no default"),
            ConfigError::Foreign { key, .. } => format!("remove `{key}`, or choose another `source`"),
        }
    }
}

/// The table as it is written. An internally tagged enum would lose the place of an unknown key in the
/// file; a plain struct refuses it by name and line, and which keys go together is checked below.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    source: Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    train: Option<Vec<PathBuf>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<Vec<PathBuf>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Order>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<MixturePart>>,
}

/// A list of a mixture as it is written, without a table within the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPart {
    weight: f64,
    train: Vec<PathBuf>,
    validation: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<Format>,
}

impl From<WrittenPart> for MixturePart {
    fn from(written: WrittenPart) -> MixturePart {
        let WrittenPart { weight, train, validation, format } = written;
        MixturePart { weight, files: ShardList { train, validation, format } }
    }
}

impl From<MixturePart> for WrittenPart {
    fn from(part: MixturePart) -> WrittenPart {
        let MixturePart { weight, files: ShardList { train, validation, format } } = part;
        WrittenPart { weight, train, validation, format }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    Text,
    Shards,
    Mixture,
    Recorded,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::Text => "text",
            Source::Shards => "shards",
            Source::Mixture => "mixture",
            Source::Recorded => "recorded",
        }
    }

    fn takes(self) -> &'static str {
        match self {
            Source::Text => "`path`, `validation_fraction` and `order`",
            Source::Shards => "`train`, `validation`, `order` and perhaps `format`",
            Source::Mixture => "`parts` and `order`",
            Source::Recorded => "`folder` alone",
        }
    }

    fn needs<T>(self, key: &'static str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or(ConfigError::Missing { key, source_name: self.name(), takes: self.takes() })
    }
}

impl TryFrom<Written> for DataConfig {
    type Error = ConfigError;

    fn try_from(mut written: Written) -> Result<DataConfig, ConfigError> {
        let source = written.source;
        let config = match source {
            Source::Text => DataConfig::Text {
                path: source.needs("path", written.path.take())?,
                validation_fraction: source
                    .needs("validation_fraction", written.validation_fraction.take())?,
                order: source.needs("order", written.order.take())?,
            },
            Source::Shards => DataConfig::Shards {
                files: ShardList {
                    train: source.needs("train", written.train.take())?,
                    validation: source.needs("validation", written.validation.take())?,
                    format: written.format.take(),
                },
                order: source.needs("order", written.order.take())?,
            },
            Source::Mixture => DataConfig::Mixture {
                parts: source.needs("parts", written.parts.take())?,
                order: source.needs("order", written.order.take())?,
            },
            Source::Recorded => {
                DataConfig::Recorded { folder: source.needs("folder", written.folder.take())? }
            }
        };
        match written.first_left() {
            None => Ok(config),
            Some(key) => Err(ConfigError::Foreign { key, source_name: source.name(), takes: source.takes() }),
        }
    }
}

impl Written {
    fn of(source: Source) -> Written {
        Written {
            source,
            path: None,
            validation_fraction: None,
            train: None,
            validation: None,
            format: None,
            folder: None,
            order: None,
            parts: None,
        }
    }

    /// A key that the source did not take.
    fn first_left(&self) -> Option<&'static str> {
        let left = [
            ("path", self.path.is_some()),
            ("validation_fraction", self.validation_fraction.is_some()),
            ("train", self.train.is_some()),
            ("validation", self.validation.is_some()),
            ("format", self.format.is_some()),
            ("folder", self.folder.is_some()),
            ("order", self.order.is_some()),
            ("parts", self.parts.is_some()),
        ];
        left.into_iter().find_map(|(key, is_left)| is_left.then_some(key))
    }
}

impl From<DataConfig> for Written {
    fn from(config: DataConfig) -> Written {
        match config {
            DataConfig::Text { path, validation_fraction, order } => Written {
                path: Some(path),
                validation_fraction: Some(validation_fraction),
                order: Some(order),
                ..Written::of(Source::Text)
            },
            DataConfig::Shards { files: ShardList { train, validation, format }, order } => Written {
                train: Some(train),
                validation: Some(validation),
                format,
                order: Some(order),
                ..Written::of(Source::Shards)
            },
            DataConfig::Mixture { parts, order } => {
                Written { parts: Some(parts), order: Some(order), ..Written::of(Source::Mixture) }
            }
            DataConfig::Recorded { folder } => {
                Written { folder: Some(folder), ..Written::of(Source::Recorded) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(toml: &str) -> String {
        toml::from_str::<DataConfig>(toml).expect_err("must be refused").to_string()
    }

    #[test]
    fn every_source_is_read_and_written_back() {
        for text in [
            "source = \"text\"\npath = \"a.txt\"\nvalidation_fraction = 0.1\norder = \"shuffled\"\n",
            "source = \"shards\"\ntrain = [\"a\", \"b\"]\nvalidation = []\norder = \"sequential\"\n",
            "source = \"shards\"\ntrain = [\"train.bin\"]\nvalidation = []\nformat = \"raw-uint16\"\norder = \"shuffled\"\n",
            "source = \"mixture\"\norder = \"shuffled\"\n\n[[parts]]\nweight = 0.8\ntrain = [\"web\"]\nvalidation = [\"web\"]\n\n\
             [[parts]]\nweight = 0.2\ntrain = [\"code.bin\"]\nvalidation = []\nformat = \"raw-uint32\"\n",
            "source = \"recorded\"\nfolder = \"golden\"\n",
        ] {
            let config: DataConfig = toml::from_str(text).expect("a whole table");
            assert_eq!(toml::to_string(&config).expect("only plain values"), text);
            let json = serde_json::to_string(&config).expect("only plain values");
            assert_eq!(serde_json::from_str::<DataConfig>(&json).expect("what was written"), config);
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_line() {
        let message = refusal("source = \"recorded\"\nfolder = \"golden\"\nshufle = true\n");
        assert!(message.contains("unknown field `shufle`"), "{message}");
        assert!(message.contains("line 3"), "{message}");
    }

    #[test]
    fn a_key_of_another_source_is_refused_by_name() {
        let message = refusal("source = \"recorded\"\nfolder = \"golden\"\norder = \"sequential\"\n");
        assert!(
            message.contains("`order` does not belong here: source \"recorded\" takes `folder` alone"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_key_is_named() {
        let message = refusal("source = \"text\"\npath = \"a.txt\"\nvalidation_fraction = 0.1\n");
        assert!(message.contains("`order` is missing: source \"text\" takes"), "{message}");
        assert!(refusal("path = \"a.txt\"\n").contains("missing field `source`"));
    }

    #[test]
    fn an_unknown_source_or_order_is_refused_with_the_choice() {
        let message = refusal("source = \"hub\"\n");
        assert!(message.contains("`hub`") && message.contains("`shards`"), "{message}");
        let message = refusal("source = \"shards\"\ntrain = []\nvalidation = []\norder = \"random\"\n");
        assert!(message.contains("`random`") && message.contains("`shuffled`"), "{message}");
    }
}
