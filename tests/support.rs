//! A temporary folder with a study of seconds, the binary run in it with nothing of this machine around it, and
//! the plugins that it is run with. What is proved stands in the other modules.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use expect_test::Expect;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const SAPWOOD: &str = env!("CARGO_BIN_EXE_sapwood");

/// The study that most tests run, changed line by line.
const TINY: &str = include_str!("fixtures/tiny.toml");

/// A temporary folder with `text.txt` and `study.toml`.
pub(crate) struct Bench {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

/// What the binary said, and how it ended; `None` for a signal.
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Bench {
    /// With the tiny study as it stands.
    pub(crate) fn new() -> Bench {
        Bench::with(&[])
    }

    /// With the tiny study, each of these passages replaced.
    pub(crate) fn with(edits: &[(&str, &str)]) -> Bench {
        built_plugins();
        let bench = Bench {
            folder: tempfile::tempdir().expect("room for a temporary folder"),
            variables: Vec::new(),
        };
        bench.write("text.txt", text(40_000));
        bench.write_study(edits);
        bench
    }

    /// Writes `study.toml` again, each of these passages of the tiny study replaced.
    pub(crate) fn write_study(&self, edits: &[(&str, &str)]) {
        let edited = edits.iter().fold(TINY.to_owned(), |study, (from, to)| {
            assert_eq!(study.matches(from).count(), 1, "`{from}` has to stand in the study once");
            study.replace(from, to)
        });
        self.write("study.toml", edited);
    }

    /// Adds to the end of `study.toml`.
    pub(crate) fn add_to_study(&self, text: &str) {
        let study = fs::read_to_string(self.path("study.toml")).expect("a study was written");
        self.write("study.toml", study + text);
    }

    /// From here on the binary is run with that variable.
    pub(crate) fn set_variable(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("room for a small file");
    }

    /// Runs the binary in the folder until it ends.
    pub(crate) fn sapwood(&self, args: &[&str]) -> Ran {
        self.ran(self.command(args).output().expect("the binary was built for this test"))
    }

    /// Runs the binary in the folder until it ends, its standard output going there.
    pub(crate) fn sapwood_into(&self, args: &[&str], stdout: impl Into<Stdio>) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let child = command.spawn().expect("the binary was built for this test");
        // The command would keep the other end of a pipe open.
        drop(command);
        self.end(child)
    }

    /// The same in another folder.
    pub(crate) fn sapwood_from(&self, folder: &Path, args: &[&str]) -> Ran {
        let output = self.command(args).current_dir(folder).output();
        self.ran(output.expect("the binary was built for this test"))
    }

    /// Runs the study into `out`, one run at a time.
    pub(crate) fn study(&self) -> Ran {
        self.sapwood(&["study", "study.toml", "--out", "out", "--jobs", "1"])
    }

    /// Starts the binary in the folder.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary was built for this test")
    }

    /// Waits for what was started.
    pub(crate) fn end(&self, child: Child) -> Ran {
        self.ran(child.wait_with_output().expect("it is ours to wait for"))
    }

    /// The binary in the folder, with no environment (no plugin folders of the user, no log level) but the
    /// place where a fixture leaves a mark when it is loaded.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SAPWOOD);
        command.args(args).current_dir(self.folder.path()).env_clear();
        command.env("SAPWOOD_TEST_MARK", self.path("mark"));
        command.env("XDG_CONFIG_HOME", self.path("config"));
        command.env("XDG_CACHE_HOME", target_folder().join("test-cache"));
        // A process that a plugin ends here is told of by the next one here, and by no other test's.
        command.env("XDG_STATE_HOME", self.path("state"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Whether the fixtures' library was loaded.
    pub(crate) fn is_marked(&self) -> bool {
        self.path("mark").exists()
    }

    fn ran(&self, output: Output) -> Ran {
        let text = |bytes: &[u8]| self.without_places(&String::from_utf8_lossy(bytes));
        Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code() }
    }

    /// Paths of this machine by their meaning, so that snapshots are the same on every one.
    fn without_places(&self, text: &str) -> String {
        let temporary = self.folder.path().display().to_string();
        let text = text.replace(&temporary, "TMP").replace(&beside_the_binary().display().to_string(), "BIN");
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

impl Ran {
    /// Everything that a snapshot of a refusal holds.
    pub(crate) fn said(&self) -> String {
        let code = self.code.map_or_else(|| "a signal".into(), |code| format!("exit {code}"));
        format!("{}{}{code}\n", self.stdout, self.stderr)
    }

    /// It has to have ended well; answers what it printed as its result.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.said());
        self.stdout
    }
}

/// Compares what was said with a snapshot, and makes sure that nothing was trained.
pub(crate) fn refused(bench: &Bench, ran: &Ran, expected: &Expect) {
    expected.assert_eq(&ran.said());
    let runs = bench.path("out/runs");
    assert!(!runs.exists(), "something was run: {:?}", files_below(&runs));
}

/// Words in an order that repeats by seed; a small model learns them at once.
pub(crate) fn text(bytes: usize) -> String {
    const WORDS: [&str; 8] = ["the", "slow", "old", "wood", "grew", "ring", "by", "ring."];
    let mut random = Random(1);
    let mut text = String::new();
    while text.len() < bytes {
        text += WORDS[random.below(8) as usize];
        text.push(' ');
    }
    text
}

/// Numbers that look random and repeat by seed (xorshift64*, Vigna 2016).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((self.bits() >> 32) * end) >> 32
    }
}

// ---------------------------------------------------------------- what a study leaves behind

/// Every file below a folder, by its path there, in order.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("a folder that nobody changes").path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Every line of a log, as JSON.
pub(crate) fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), number + 1))
    };
    text.lines().enumerate().map(line).collect()
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of a study's runs, `runs/ARM/BUDGET/seed-N`, in order.
pub(crate) fn run_folders(study: &Path) -> Vec<PathBuf> {
    let run_files = files_below(&study.join("runs")).into_iter().filter(|file| file.ends_with("run.json"));
    run_files.filter_map(|file| file.parent().map(Path::to_path_buf)).collect()
}

/// What a finished run comes to and no clock touches, file by file: its logs, and its last checkpoint's tensors.
pub(crate) fn results(run: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut results: Vec<(String, Vec<u8>)> =
        ["metrics.jsonl", "decisions.jsonl"].map(|name| (name.to_owned(), read(&run.join(name)))).into();
    let mut evaluations = json_lines(&run.join("evals.jsonl"));
    for evaluation in &mut evaluations {
        let fields = evaluation.as_object_mut().expect("an evaluation has fields");
        fields.remove("wall_seconds");
        fields.remove("joules");
    }
    results.push(("evals.jsonl".into(), format!("{evaluations:?}").into_bytes()));
    let steps = json(&run.join("DONE"))["steps"].as_u64().expect("a finished run says its steps");
    for name in ["weights.safetensors", "moments.safetensors"] {
        results.push((name.to_owned(), read(&run.join(format!("checkpoints/{steps:08}")).join(name))));
    }
    results
}

/// Both studies have the same runs, and these came to the same bits.
pub(crate) fn same_results(one: &Path, other: &Path) {
    let (ones, others) = (run_folders(one), run_folders(other));
    let names = |study: &Path, runs: &[PathBuf]| -> Vec<PathBuf> {
        runs.iter().map(|run| run.strip_prefix(study).expect("a run of the study").to_path_buf()).collect()
    };
    assert!(!ones.is_empty(), "nothing to compare in {}", one.display());
    assert_eq!(names(one, &ones), names(other, &others));
    for (one, other) in ones.iter().zip(&others) {
        for ((name, bytes), (_, other_bytes)) in results(one).iter().zip(&results(other)) {
            assert!(bytes == other_bytes, "{name} differs between {} and {}", one.display(), other.display());
        }
    }
}

// ---------------------------------------------------------------- building

/// The workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The folder that the binary lies in, where plugins are found without being told.
pub(crate) fn beside_the_binary() -> &'static Path {
    Path::new(SAPWOOD).parent().expect("a binary lies in a folder")
}

/// Cargo's target folder.
fn target_folder() -> &'static Path {
    let (folder, triple) = outputs_folder();
    if triple.is_some() { folder.parent().expect("it lies in the target folder") } else { folder }
}

/// Where cargo put what this test is made of (it keeps a folder for tests there): the target folder, or the one
/// inside it that is named after the triple which `--target` was given.
fn outputs_folder() -> (&'static Path, Option<&'static str>) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder for tests inside it");
    let name = folder.file_name().and_then(OsStr::to_str);
    (folder, name.filter(|name| name.starts_with(&format!("{}-", std::env::consts::ARCH))))
}

/// The folders below `plugins/`: the only list of the plugins that there is.
pub(crate) fn plugin_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("plugins")).expect("the workspace has plugins").flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.join("Cargo.toml").is_file()).collect();
    folders.sort();
    folders
}

/// The plugins' libraries. `cargo test` does not build a `cdylib` by itself, so this does, once.
pub(crate) fn built_plugins() -> &'static [PathBuf] {
    static LIBRARIES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let names: Vec<String> = plugin_folders().iter().map(|folder| package_name(folder)).collect();
        let mut build = cargo("build");
        build.current_dir(root()).arg("--target-dir").arg(target_folder());
        if beside_the_binary().ends_with("release") {
            build.arg("--release");
        }
        if let (_, Some(triple)) = outputs_folder() {
            build.args(["--target", triple]);
        }
        build.args(names.iter().flat_map(|name| ["-p", name]));
        succeed(build);
        names.iter().map(|name| beside_the_binary().join(library_name(name))).collect()
    })
}

/// The library of plugins that misbehave.
pub(crate) fn misbehaving() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build_outside(&root().join("tests/fixtures/misbehaving"), Panic::Unwinds))
}

/// What a panic does in a library.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Panic {
    Unwinds,
    Aborts,
}

/// Builds a crate that is no member of the workspace; answers its library. The versions are the workspace's,
/// so that nothing has to be fetched, and what crates have in common is built once.
pub(crate) fn build_outside(folder: &Path, panic: Panic) -> PathBuf {
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).expect("room for a lock file");
    let target = target_folder().join("test-plugins");
    let mut build = cargo("rustc");
    build.current_dir(folder).args(["--lib", "--release", "--offline", "--target-dir"]).arg(&target);
    if panic == Panic::Aborts {
        // Of this crate alone: a profile would have everything beneath it built once more.
        build.args(["--", "-C", "panic=abort"]);
    }
    succeed(build);
    target.join("release").join(library_name(&package_name(folder)))
}

/// Builds a crate that is no member of the workspace into a folder of its own below the target folder, with further
/// arguments; answers the folder of what came of it.
pub(crate) fn build_outside_into(folder: &Path, target: &str, arguments: &[&str]) -> PathBuf {
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).expect("room for a lock file");
    let target = target_folder().join(target);
    let mut build = cargo("build");
    build.current_dir(folder).args(["--release", "--offline", "--target-dir"]).arg(&target).args(arguments);
    succeed(build);
    target.join("release")
}

/// What cargo needs of the environment, and where it builds for plugins' crates what they have in common: once.
fn cargo_variables() -> Vec<(&'static str, String)> {
    let kept = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    let mut variables: Vec<(&'static str, String)> =
        kept.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect();
    variables.push(("CARGO", env!("CARGO").into()));
    variables.push(("CARGO_NET_OFFLINE", "true".into()));
    variables.push(("CARGO_BUILD_BUILD_DIR", target_folder().join("test-crates").display().to_string()));
    variables
}

/// Lets the binary, and what it starts, run cargo.
pub(crate) fn lend_cargo(bench: &mut Bench) {
    bench.variables.extend(cargo_variables());
}

/// The same for a program that a test starts by itself.
pub(crate) fn with_cargo_variables(command: &mut Command) {
    command.env_clear().envs(cargo_variables());
}

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg(command);
    cargo
}

fn succeed(mut command: Command) {
    let output = command.output().expect("cargo runs, since it runs this test");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A manifest as a table.
pub(crate) fn manifest(folder: &Path) -> toml::Table {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn package_name(folder: &Path) -> String {
    manifest(folder)["package"]["name"].as_str().expect("a package has a name").to_owned()
}

fn library_name(package: &str) -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    format!("{DLL_PREFIX}{}{DLL_SUFFIX}", package.replace('-', "_"))
}

// ---------------------------------------------------------------- what a machine may lack

/// Whether there is a Python 3 where programs are looked for without a `PATH`; says so if there is none.
pub(crate) fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").env_clear().output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        left_out("python3", "there is none in /usr/bin or /bin");
    }
    found
}

/// Leaves a test out where the machine lacks what it needs, unless `SAPWOOD_REQUIRE` names that.
pub(crate) fn left_out(what: &str, reason: &str) {
    let required = std::env::var("SAPWOOD_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == what), "{what} is required, but {reason}");
    // Past the harness, which keeps what a test prints to itself unless it fails.
    let _ = writeln!(std::io::stderr(), "left out: {what}: {reason}");
}
