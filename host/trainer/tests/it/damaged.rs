//! Whatever lies in a folder of Hugging Face's or in a checkpoint, reading it ends well or in an error that names the
//! file: no panic, no case without end, no memory that a header merely claims. Each case is a seed.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use trainer::hugging_face::{Import, StoredModel, export, import};
use trainer::{RecordedRun, TrainError, checkpoint};

use crate::bench::{Bench, Told, grow};
use crate::damage::{Dice, check_told, search};

/// Seeds that have found something once, of folders of Hugging Face's.
const KEPT_FOLDERS: [u64; 1] = [80_708];
/// Of checkpoints.
const KEPT_CHECKPOINTS: [u64; 1] = [14_971];

const WORDS: [&str; 14] = [
    "n_layer",
    "n_inner",
    "gpt2",
    "gelu_new",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "../model.safetensors",
    "weights.safetensors",
    "plugins/strategy.bin",
    "../../../run.json",
    "attn.c_attn.weight",
    "transformer.wte.weight",
    "new",
    "BF16",
];

/// Files by their names below a folder.
type Files = Vec<(String, Vec<u8>)>;

/// A run that has grown, with a checkpoint.
fn trained() -> Bench {
    let bench = Bench::new();
    let growing = Told::to(|context, actions| {
        if context.step == 4 {
            grow(context, actions)?;
        }
        Ok(())
    });
    bench.run(growing).expect("a good run");
    bench
}

fn files_below(folder: &Path) -> Files {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(&next).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is below").to_string_lossy().into_owned();
                files.push((name, fs::read(&path).expect("a file")));
            }
        }
    }
    files.sort();
    files
}

fn write(files: &Files, folder: &Path) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("room");
        fs::write(path, bytes).expect("room for a small file");
    }
}

/// A folder as `transformers` writes it: in one file, and in two with an index.
fn folders(bench: &Bench) -> Vec<Files> {
    let to = bench.temporary.path().join("exported");
    let model = StoredModel::open(bench.folder().path()).expect("it was just trained");
    export(&model, &to).expect("plain GPT-2");
    let wanted = ["config.json", "model.safetensors", "tokenizer.json"];
    let mut single = files_below(&to);
    single.retain(|(name, _)| wanted.contains(&name.as_str()));
    let (_, bytes) = single.iter().find(|(name, _)| name == "model.safetensors").expect("its tensors");
    let tensors = SafeTensors::deserialize(bytes).expect("it was just written");
    let mut parts = [Vec::new(), Vec::new()];
    let mut places = serde_json::Map::new();
    for (number, (name, view)) in tensors.iter().enumerate() {
        places.insert(name.into(), format!("model-0000{}-of-00002.safetensors", number % 2 + 1).into());
        parts[number % 2].push((name.to_owned(), halved(&view, number)));
    }
    let mut sharded = single.clone();
    sharded.retain(|(name, _)| name != "model.safetensors");
    for (number, part) in parts.iter().enumerate() {
        let views = part.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as its shape says"))
        });
        let file = serialize(views, None).expect("into memory");
        sharded.push((format!("model-0000{}-of-00002.safetensors", number + 1), file));
    }
    let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": places });
    sharded.push(("model.safetensors.index.json".into(), index.to_string().into_bytes()));
    vec![single, sharded]
}

/// Every third tensor in bf16.
fn halved(view: &TensorView<'_>, number: usize) -> (Dtype, Vec<usize>, Vec<u8>) {
    let shape = view.shape().to_vec();
    if number.is_multiple_of(3) {
        let upper = view.data().chunks_exact(4).flat_map(|value| [value[2], value[3]]);
        return (Dtype::BF16, shape, upper.collect());
    }
    (Dtype::F32, shape, view.data().to_vec())
}

/// Damages a file or two; JSON as JSON, the headers of safetensors files, too.
fn damage(dice: &mut Dice, files: &mut Files) {
    for _ in 0..=dice.below(2) {
        let at = dice.below(files.len());
        let (name, bytes) = &mut files[at];
        let is_json = serde_json::from_slice::<serde_json::Value>(bytes).is_ok_and(|value| value.is_object());
        if is_json {
            dice.json(bytes, &WORDS);
        } else if name.ends_with(".safetensors") && dice.below(3) > 0 {
            header(dice, bytes);
        } else if dice.below(30) == 0 {
            files.remove(at);
            return;
        } else {
            dice.bytes(bytes);
        }
    }
}

fn header(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let Some(length) = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length) as usize) else {
        return;
    };
    let Some(end) = length.checked_add(8).filter(|end| *end <= bytes.len()) else { return };
    let mut json = bytes[8..end].to_vec();
    if serde_json::from_slice::<serde_json::Value>(&json).is_err() {
        return;
    }
    dice.json(&mut json, &WORDS);
    let length = (json.len() as u64).to_le_bytes();
    *bytes = [&length[..], &json, &bytes[end..]].concat();
}

fn check_folder(seed: u64, folders: &[Files]) {
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut files = dice.one_of(folders);
    damage(&mut dice, &mut files);
    let from = folder.path().join("from");
    write(&files, &from);
    let told = |error: TrainError| check_told(seed, folder.path(), &error.to_string(), &error.hint());
    let vocabulary = dice.one_of(&[None, None, Some(12), Some(usize::MAX)]);
    let wanted = Import { vocabulary, ..Import::default() };
    let to = folder.path().join("to");
    match import(&from, &to, &wanted) {
        Ok(_) => drop(StoredModel::open(&to).expect("what was imported can be opened")),
        Err(error) => {
            told(error);
            assert!(!to.exists(), "seed {seed} leaves a folder behind");
        }
    }
    match StoredModel::open(&from) {
        Ok(model) => export(&model, &folder.path().join("again")).map_or_else(told, drop),
        Err(error) => told(error),
    }
}

fn check_checkpoint(seed: u64, bench: &Bench, run: &Files) {
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let newest = newest_of(run);
    let (mut checkpoint_files, others): (Files, Files) =
        run.iter().cloned().partition(|(name, _)| name.starts_with(&newest));
    damage(&mut dice, &mut checkpoint_files);
    let path = folder.path().join(&newest);
    write(&checkpoint_files, folder.path());
    write(&others, folder.path());
    let told = |error: TrainError| check_told(seed, folder.path(), &error.to_string(), &error.hint());
    let loaded = checkpoint::load(&path, &bench.config.model);
    let opened = StoredModel::open(&path);
    if let (Ok(_), Err(error)) = (&loaded, &opened) {
        panic!("seed {seed} can be gone on with, but not opened: {error}");
    }
    loaded.map_or_else(told, drop);
    match opened {
        Ok(model) => export(&model, &folder.path().join("exported")).map_or_else(told, drop),
        Err(error) => told(error),
    }
    StoredModel::open(folder.path()).map_or_else(told, drop);
    RecordedRun::read(trainer::folder::RunFolder::at(folder.path())).map_or_else(told, drop);
}

/// Below the run's folder.
fn newest_of(run: &Files) -> String {
    let states = run.iter().filter_map(|(name, _)| name.strip_suffix("/state.json"));
    states.max().expect("it has checkpoints").to_owned()
}

#[test]
fn whatever_lies_in_a_folder_of_hugging_face_s_it_is_a_model_or_is_refused() {
    let folders = folders(&trained());
    search("hugging-face", &KEPT_FOLDERS, 300, |seed| check_folder(seed, &folders));
}

#[test]
fn whatever_lies_in_a_checkpoint_it_is_one_or_is_refused() {
    let bench = trained();
    let run: PathBuf = bench.folder().path().to_path_buf();
    let files = files_below(&run);
    search("checkpoints", &KEPT_CHECKPOINTS, 300, |seed| check_checkpoint(seed, &bench, &files));
}
