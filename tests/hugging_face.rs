//! Models from and for `transformers`: a tiny one that it wrote is imported, exported, started from and refused where it is
//! damaged. That `transformers` loads what is exported is shown by `tests/golden/hugging_face/check_export.py`.

use std::fs;
use std::path::{Path, PathBuf};

use engine_native::{Cpu, Reference};
use inference::{Model, Piece};
use serde_json::{Value, json};
use trainer::hugging_face::StoredModel;

use crate::support::{Bench, json, left_out, root};

/// The golden model, in a folder of the bench.
fn golden(bench: &Bench) -> PathBuf {
    let (from, to) = (root().join("tests/golden/hugging_face/model"), bench.path("hf"));
    fs::create_dir(&to).expect("room");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from.join(name), to.join(name)).expect("room");
    }
    to
}

/// The header of a safetensors file, and its data.
fn parts(bytes: &[u8]) -> (Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).expect("a header"), bytes[8 + length..].to_vec())
}

fn file_of(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

/// Rewrites a safetensors file; its tensors in order of their data: name, dtype, shape, bytes.
type Tensor = (String, String, Vec<u64>, Vec<u8>);

fn tensors(path: &Path) -> Vec<Tensor> {
    let (header, data) = parts(&fs::read(path).expect("a file"));
    let of = |(name, facts): (&String, &Value)| {
        let range = [0, 1].map(|end| facts["data_offsets"][end].as_u64().expect("an offset") as usize);
        let shape = facts["shape"]
            .as_array()
            .expect("sizes")
            .iter()
            .map(|size| size.as_u64().expect("a size"))
            .collect();
        let dtype = facts["dtype"].as_str().expect("a type").to_owned();
        (name.clone(), dtype, shape, data[range[0]..range[1]].to_vec())
    };
    header.as_object().expect("tensors").iter().filter(|(name, _)| *name != "__metadata__").map(of).collect()
}

fn write(path: &Path, tensors: &[Tensor]) {
    let (mut header, mut data) = (json!({}), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]});
    }
    fs::write(path, file_of(&header, &data)).expect("room");
}

fn same_tensors(one: &Path, other: &Path) {
    let sorted = |path: &Path| {
        let mut all = tensors(path);
        all.sort();
        all
    };
    assert!(sorted(one) == sorted(other), "{} and {} hold other tensors", one.display(), other.display());
}

/// The largest difference between logits of the folder's model and recorded ones, `[tokens, V]`.
fn off(folder: &Path, ids: &[u32], first: usize, recorded: &[f64]) -> f64 {
    let stored = StoredModel::open(folder).expect("a model");
    let model = Model::new(Cpu::new(), &stored.shape, stored.tensors).expect("all tensors");
    let rows = model.forward(&[Piece { prefix: None, tokens: ids }]).expect("good tokens").rows;
    let logits = model.logits(&rows[first * stored.shape.width..]).expect("a processor");
    logits.iter().zip(recorded).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn logits_are_those_of_transformers() {
    let folder = root().join("tests/golden/hugging_face/model");
    let expected = json(&folder.join("expected.json"));
    let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).expect("ids");
    let logits: Vec<Vec<f64>> = serde_json::from_value(expected["logits"].clone()).expect("logits");
    let off = off(&folder, &ids, 0, &logits.concat());
    assert!(off < 1e-5, "a logit is off by {off:e}");
}

#[test]
fn logits_of_the_large_fixture_are_those_of_transformers() {
    let fixtures = std::env::var_os("SAPWOOD_FIXTURES").map(PathBuf::from).unwrap_or_default();
    let folder = fixtures.join("hf_fixture");
    if !folder.join("model.safetensors").is_file() {
        return left_out("fixtures", "SAPWOOD_FIXTURES does not name a folder with hf_fixture");
    }
    let expected = json(&folder.join("expected.json"));
    let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).expect("ids");
    let recorded = fs::read(folder.join("logits_pos_17.npy")).expect("recorded logits");
    let values = recorded[recorded.len() - 4 * 50_257..].chunks_exact(4);
    let values: Vec<f64> =
        values.map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")).into()).collect();
    let off = off(&folder, &ids[..18], 17, &values);
    assert!(off < 3e-5, "a logit is off by {off:e}");
}

#[test]
fn reading_piece_by_piece_is_reading_whole() {
    let stored = StoredModel::open(&root().join("tests/golden/hugging_face/model")).expect("a model");
    let (shape, tensors) = (stored.shape, stored.tensors);
    let exact = Model::new(Reference, &shape, tensors.clone()).expect("all tensors");
    let model = Model::new(Cpu::new(), &shape, tensors).expect("all tensors");
    let ids = [7, 1, 63, 0, 33, 33, 12, 5, 41, 62, 2, 9, 9, 30, 11, 8];
    let whole = exact.forward(&[Piece { prefix: None, tokens: &ids }]).expect("good tokens").rows;
    let mut cache = inference::Cache::default();
    for (at, id) in ids.iter().enumerate() {
        // Beside another piece of another length, which must not matter.
        let pieces = [
            Piece { prefix: Some(&cache), tokens: std::slice::from_ref(id) },
            Piece { prefix: None, tokens: &ids[..3] },
        ];
        let mut passed = model.forward(&pieces).expect("good tokens");
        let row = &whole[at * shape.width..(at + 1) * shape.width];
        let off = row.iter().zip(&passed.rows).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(off < 2e-5, "position {at} is off by {off:e}");
        cache.append(passed.caches.swap_remove(0));
    }
    assert_eq!(cache.len(), 16);
    assert!(model.forward(&[Piece { prefix: Some(&cache), tokens: &[1] }]).is_err(), "the context is full");
}

#[test]
fn import_and_export_without_a_step_give_back_the_same_bits() {
    let bench = Bench::new();
    let hf = golden(&bench);
    bench
        .sapwood(&["import", "hf", "--out", "model", "--sunk-flops", "2.5e20", "--sunk-tokens", "1000"])
        .good();
    bench.sapwood(&["export", "model", "--out", "back"]).good();
    same_tensors(&hf.join("model.safetensors"), &bench.path("back/model.safetensors"));
    let note = json(&bench.path("model/import.json"));
    assert_eq!(note["sunk_cost"], json!({"flops": "250000000000000000000", "tokens": 1000}));
    let card = fs::read_to_string(bench.path("back/README.md")).expect("a card");
    assert!(card.contains("250000000000000000000"), "{card}");
    let again = bench.sapwood(&["export", "model", "--out", "back"]);
    assert!(again.code == Some(4) && again.stderr.contains("back is there already"), "{}", again.said());
}

#[test]
fn names_without_a_prefix_masks_a_tied_head_several_files_and_half_precision_are_read() {
    let bench = Bench::new();
    let hf = golden(&bench);
    let all = tensors(&hf.join("model.safetensors"));
    let mut changed: Vec<Tensor> =
        all.iter().cloned().map(|(name, t, s, b)| (name.replace("transformer.", ""), t, s, b)).collect();
    let wte = changed.iter().find(|tensor| tensor.0 == "wte.weight").cloned().expect("a table");
    changed.push(("lm_head.weight".into(), wte.1, wte.2, wte.3));
    changed.push(("h.0.attn.bias".into(), "U8".into(), vec![1, 1, 2, 2], vec![1, 0, 1, 1]));
    changed.push(("h.0.attn.masked_bias".into(), "F32".into(), vec![], vec![0; 4]));
    let (one, other) = changed.split_at(changed.len() / 2);
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let mut map = json!({});
    for (part, name) in [one, other].into_iter().zip(names) {
        write(&hf.join(name), part);
        part.iter().for_each(|tensor| map[&tensor.0] = json!(name));
    }
    fs::rename(hf.join("model.safetensors"), bench.path("whole")).expect("a rename");
    bench.write("hf/model.safetensors.index.json", json!({"weight_map": map}).to_string());
    bench.sapwood(&["import", "hf", "--out", "model"]).good();
    same_tensors(&bench.path("whole"), &bench.path("model/model.safetensors"));

    // The upper halves of the same numbers, as bf16 and as the f32 that they are.
    let half = |bytes: &[u8]| -> Vec<u8> { bytes.chunks_exact(4).flat_map(|b| [b[2], b[3]]).collect() };
    let wide = |bytes: &[u8]| -> Vec<u8> { bytes.chunks_exact(4).flat_map(|b| [0, 0, b[2], b[3]]).collect() };
    let bf16: Vec<Tensor> =
        all.iter().map(|(n, _, s, b)| (n.clone(), "BF16".into(), s.clone(), half(b))).collect();
    let f32s: Vec<Tensor> =
        all.iter().map(|(n, t, s, b)| (n.clone(), t.clone(), s.clone(), wide(b))).collect();
    write(&hf.join("model.safetensors"), &bf16);
    write(&bench.path("wide"), &f32s);
    bench.sapwood(&["import", "hf", "--out", "bf16"]).good();
    same_tensors(&bench.path("wide"), &bench.path("bf16/model.safetensors"));
}

#[test]
fn what_is_damaged_or_no_such_model_is_one_clear_error() {
    let bench = Bench::new();
    let hf = golden(&bench);
    let (good, config) = (hf.join("model.safetensors"), json(&hf.join("config.json")));
    let (bytes, all) = (fs::read(&good).expect("a file"), tensors(&good));
    let check = |what: &str, said: &str| {
        let ran = bench.sapwood(&["import", "hf", "--out", "model"]);
        let is_one = ran.stderr.matches("error: ").count() == 1 && ran.stderr.contains("hint: ");
        assert!(ran.code == Some(4) && is_one && ran.stderr.contains(said), "{what}: {}", ran.said());
        assert!(!bench.path("model").exists() && !bench.path("model.tmp").exists(), "{what} left something");
    };
    let with = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut changed = all.clone();
        change(&mut changed);
        write(&good, &changed);
    };
    let at = |all: &[Tensor], name: &str| {
        all.iter().position(|tensor| tensor.0.ends_with(name)).expect("it is there")
    };

    fs::write(&good, &bytes[..bytes.len() / 2]).expect("room");
    check("truncated", "is no safetensors file, or not all of one");
    fs::write(&good, b"").expect("room");
    check("empty", "has 0 bytes with all that belong to it, but its config.json claims");
    fs::write(&good, [&u64::MAX.to_le_bytes()[..], &bytes].concat()).expect("room");
    check("a header beyond all memory", "is no safetensors file");
    with(&|all| drop(all.remove(at(all, "h.1.ln_2.bias"))));
    check("a tensor less", "lacks `transformer.h.1.ln_2.bias`");
    with(&|all| all.push(("transformer.h.3.ln_1.bias".into(), "F32".into(), vec![1], vec![0; 4])));
    check("a block more", "has `transformer.h.3.ln_1.bias`, which no GPT-2 of its config.json has");
    with(&|all| {
        let place = at(all, "h.0.mlp.c_fc.weight");
        all[place].2.reverse();
    });
    check("turned", "as [128, 32], where its config.json needs [32, 128]: it is stored [out, in]");
    with(&|all| {
        let place = at(all, "h.2.attn.c_attn.bias");
        all[place].3[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    check("NaN", "has NaN at element 1 of `transformer.h.2.attn.c_attn.bias`");
    with(&|all| {
        let mut head = all[at(all, "wte.weight")].clone();
        head.0 = "lm_head.weight".into();
        head.3[0] ^= 1;
        all.push(head);
    });
    check("untied", "only a tied head is implemented");
    with(&|all| {
        let twice = all[at(all, "ln_f.bias")].clone();
        all.push((twice.0.replace("transformer.", ""), twice.1, twice.2, twice.3));
    });
    check("twice", "which was there already");
    with(&|all| {
        let place = at(all, "ln_f.bias");
        all[place].1 = "I32".into();
    });
    check("integers", "as I32; f32, bf16 or f16 is needed");

    fs::write(&good, &bytes).expect("room");
    for (field, value) in
        [("activation_function", json!("relu")), ("n_layer", json!("three")), ("n_head", json!(5))]
    {
        let mut other = config.clone();
        other[field] = value;
        bench.write("hf/config.json", other.to_string());
        check(field, &format!("`{field}`"));
    }
    bench.write("hf/config.json", "{");
    check("half a configuration", "is no JSON");
    bench.write("hf/config.json", config.to_string());

    fs::remove_file(&good).expect("it is there");
    check("no tensors", "has neither model.safetensors nor model.safetensors.index.json");
    for name in ["../text.txt", "/etc/passwd", "../hf/model.safetensors"] {
        let index = json!({"weight_map": {"transformer.wte.weight": name}});
        bench.write("hf/model.safetensors.index.json", index.to_string());
        check(name, "which is none of its folder");
    }
}

#[test]
fn a_study_starts_from_an_imported_model_and_says_what_does_not_fit() {
    let small = "layers = 2\nwidth = 16\nheads = 2\ncontext = 16\nvocabulary = 256";
    let fitting = "layers = 3\nwidth = 32\nheads = 4\ncontext = 16\nvocabulary = 256";
    let bench =
        Bench::with(&[(small, fitting), ("seeds = [1, 2]", "seeds = [1]"), ("factor = 2", "factor = 3")]);
    golden(&bench);
    bench.sapwood(&["import", "hf", "--out", "model", "--sunk-flops", "1e15"]).good();
    let begin = |folder: &str, out: &str| {
        let from = format!("initial_model.from={folder}");
        bench.sapwood(&["study", "study.toml", "--out", out, "--jobs", "1", "--set", &from])
    };
    let refused = begin("model", "other");
    assert!(
        refused.code == Some(4) && refused.stderr.contains("sapwood import --vocabulary 256"),
        "{}",
        refused.said()
    );

    let padded =
        bench.sapwood(&["import", "hf", "--out", "padded", "--vocabulary", "256", "--sunk-flops", "1e15"]);
    assert!(padded.good().contains("192 rows added, each the mean of the others"));
    begin("padded", "out").good();
    let run = json(&bench.path("out/runs/stack/compute/seed-1/run.json"));
    assert_eq!(run["initial_model"]["sunk_cost"]["flops"], json!(1_000_000_000_000_000_u64));
    let report = fs::read_to_string(bench.path("out/report/report.md")).expect("a report");
    for line in ["had cost 1.000e15 FLOPs", "FLOPs without that, 1.000e15 with it"] {
        assert!(report.contains(line), "no `{line}` in\n{report}");
    }
    // Grown to an odd depth, taken home and read again: the same model.
    bench.sapwood(&["export", "out/runs/stack/compute/seed-1", "--out", "home"]).good();
    let (run, home) = (bench.path("out/runs/stack/compute/seed-1"), bench.path("home"));
    let [one, other] = [&run, &home].map(|folder| StoredModel::open(folder).expect("a model"));
    assert_eq!((one.shape.layers, other.shape.layers), (3, 3));
    assert!(one.tensors == other.tensors);
    let card = fs::read_to_string(home.join("README.md")).expect("a card");
    for line in ["| 15 | 1 -> 3 |", "| plugin sapwood/stack", "FLOPs, those before included"] {
        assert!(card.contains(line), "no `{line}` in\n{card}");
    }
}

/// Token ids as build-nanogpt keeps them.
fn npy(ids: impl ExactSizeIterator<Item = u16>) -> Vec<u8> {
    let header = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({},), }}", ids.len());
    let header = format!("{header:<117}\n");
    let length = u16::try_from(header.len()).expect("a short header").to_le_bytes();
    let data = ids.flat_map(u16::to_le_bytes);
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat().into_iter().chain(data).collect()
}

#[test]
fn one_study_grows_a_checkpoint_and_its_old_part_comes_home_untouched() {
    let bench = Bench::new();
    golden(&bench);
    bench.sapwood(&["import", "hf", "--out", "model"]).good();
    for (name, first) in [("train.npy", 0), ("validation.npy", 30_000u32)] {
        bench.write(name, npy((first..first + 20_000).map(|at| (at * at % 61) as u16)));
    }
    // The file as it is shipped, for a model as small as this one.
    fs::copy(root().join("configs/grow-a-checkpoint.toml"), bench.path("grow.toml")).expect("room");
    let settings = [
        "initial_model.from=model",
        "data.train=[\"train.npy\"]",
        "data.validation=[\"validation.npy\"]",
        "model.layers=5",
        "model.width=32",
        "model.heads=4",
        "model.context=16",
        "model.vocabulary=64",
        "budget.steps=20",
        "evaluation.every_steps=10",
        "arms.trained-on.strategy.config.layers=3",
        "arms.grown.strategy.config.first_layers=3",
        "arms.grown-then-all.strategy.config.first_layers=3",
    ];
    let mut args = vec!["study", "grow.toml", "--out", "out", "--jobs", "1"];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    bench.sapwood(&args).good();
    let receipts = fs::read_to_string(bench.path("out/runs/grown/compute/seed-1/decisions.jsonl"));
    let receipts = receipts.expect("a log");
    let edited = receipts.lines().find(|line| line.contains("\"edited\"")).expect("it grows");
    let edited: Value = serde_json::from_str(edited).expect("JSON");
    assert_eq!(
        (&edited["step"], &edited["depth_after"], &edited["claim"]),
        (&json!(0), &json!(5), &json!("exact"))
    );
    assert_eq!(edited["loss_before"], edited["loss_after"], "the function is what it was");

    let export = |arm: &str| {
        let run = format!("out/runs/{arm}/compute/seed-1");
        bench.sapwood(&["export", &run, "--out", arm]).good();
        StoredModel::open(&bench.path(arm)).expect("a model")
    };
    let (before, grown) = (StoredModel::open(&bench.path("model")).expect("a model"), export("grown"));
    assert_eq!((before.shape.layers, grown.shape.layers), (3, 5));
    // Groups of one and of two: new blocks stand at places 1 and 4.
    let places = [("h.0.", "h.0."), ("h.1.", "h.2."), ("h.2.", "h.3.")];
    for (name, values) in &before.tensors {
        let moved = places.iter().find(|(old, _)| name.contains(old));
        let there = moved.map_or(name.clone(), |(old, new)| name.replace(old, new));
        assert!(grown.tensors[&there] == *values, "{name} is not what it was");
    }
    assert!(
        grown.tensors["transformer.h.1.mlp.c_proj.weight"].iter().any(|value| *value != 0.0),
        "it trains"
    );
    let thawed = export("grown-then-all");
    assert!(thawed.tensors["transformer.wte.weight"] != before.tensors["transformer.wte.weight"]);
}

/// A tokenizer with more ids than the model has rows would have `transformers` ask for rows that are not there.
#[test]
fn a_model_of_ascii_goes_home_without_a_tokenizer_of_all_bytes() {
    let bench = Bench::with(&[("vocabulary = 256", "vocabulary = 128"), ("seeds = [1, 2]", "seeds = [1]")]);
    bench.write("text.txt", "the old wood grows slowly\n".repeat(1600));
    bench.sapwood(&["train", "study.toml", "--arm", "stack", "--seed", "1", "--out", "out"]).good();
    bench.sapwood(&["export", "out/runs/stack/compute/seed-1", "--out", "home"]).good();
    assert!(!bench.path("home/tokenizer.json").exists());
    let card = fs::read_to_string(bench.path("home/README.md")).expect("an export has a card");
    assert!(card.contains("none: bytes has 256 ids, and the model 128"), "{card}");
}
