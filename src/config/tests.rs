use std::cell::RefCell;
use std::thread::{self, ThreadId};

use super::resolve::GRACE;
use super::*;
use crate::project::Question;

mod corpus;
mod declared;

/// Nobody is asked in these tests.
struct Nobody;

impl Ask for Nobody {
    async fn ask(&self, question: Question) -> Result<Vec<u8>> {
        Err(Error::failed(format!("{:?}", question.argv), "asked in a test"))
    }
}

/// Answers with the packages of a module, and notes on which thread it was asked.
#[derive(Default)]
struct GoList {
    threads: RefCell<Vec<ThreadId>>,
}

impl Ask for GoList {
    async fn ask(&self, _: Question) -> Result<Vec<u8>> {
        self.threads.borrow_mut().push(thread::current().id());
        // A worker must not run ahead of an answer.
        tokio::task::yield_now().await;
        Ok(b"main\t/x\t/x\n".to_vec())
    }
}

#[test]
fn a_configuration_that_is_read_on_another_thread_is_the_same_and_questions_are_asked_here() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("go.mod"), "module x\n").unwrap();
    std::fs::write(directory.path().join("main.go"), "package main\n").unwrap();
    let options = Options { directory: directory.path().to_owned(), ..Options::default() };
    let (here, apart) = (GoList::default(), GoList::default());
    let described = |config: Result<Config>| match config {
        Ok(config) => format!("{:?}", config.services[0].recipe),
        Err(error) => error.to_string(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let expected = described(runtime.block_on(load(&options, &here)));
    let found = described(runtime.block_on(load_apart(options, &apart)));
    assert_eq!(found, expected);
    let asked = apart.threads.into_inner();
    assert!(!asked.is_empty() && asked.iter().all(|id| *id == thread::current().id()));
    assert_eq!(asked.len(), here.threads.into_inner().len());
}

/// Resolves a configuration as if it lay in a directory of its own.
pub(crate) fn resolve(name: &str, text: &str) -> Result<Config> {
    let directory = tempfile::tempdir().unwrap().keep();
    resolve_in(&directory, name, text, &[])
}

/// The same with these keys on the command line.
pub(crate) fn resolve_with(name: &str, text: &str, keys: &[(&str, &str)]) -> Result<Config> {
    let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let directory = tempfile::tempdir().unwrap().keep();
    load_in(&directory, name, text, Options { keys, ..Options::default() })
}

fn resolve_in(directory: &Path, name: &str, text: &str, args: &[&str]) -> Result<Config> {
    let args = args.iter().map(OsString::from).collect();
    load_in(directory, name, text, Options { args, ..Options::default() })
}

fn load_in(directory: &Path, name: &str, text: &str, options: Options) -> Result<Config> {
    std::fs::write(directory.join(name), text).unwrap();
    let options = Options {
        directory: directory.canonicalize().unwrap(),
        config: Some(name.into()),
        ..options
    };
    let config = now(load(&options, &Nobody));
    std::fs::remove_dir_all(directory).unwrap();
    config
}

/// A future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

fn shell(text: &str) -> Command {
    Command::Shell(text.to_owned(), Vec::new())
}

fn argv(words: &[&str]) -> Command {
    Command::Argv(words.iter().map(OsString::from).collect())
}

/// The example with its comments taken off.
fn uncommented() -> String {
    let is_key = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = "));
        key.is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let lines = example::TEXT.lines().map(|line| if is_key(line) { &line[2..] } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_glob_that_leads_out_of_the_root_is_told_to_match_nothing() {
    let text =
        "[build]\ncmd = \"make\"\n[watch]\ninclude = [\"/etc/*.conf\", \"../x/**\", \"a/*.b\"]\n";
    let config = resolve("hotrun.toml", text).unwrap();
    let told = config.project.warnings.iter().filter(|warning| warning.contains("matches nothing"));
    assert_eq!(told.count(), 2, "{:?}", config.project.warnings);
}

#[test]
fn the_example_shows_the_defaults() {
    let work = |text: &str| text.replace("cmd = \"\"", "cmd = \"true\"");
    let written = resolve("hotrun.toml", &work(&uncommented())).unwrap();
    let silent = resolve("hotrun.toml", "[build]\ncmd = \"true\"\n").unwrap();
    let shown = |config: &Config| {
        let root = config.only().watch.roots[0].display().to_string();
        format!(
            "{:#?} {:?}",
            (
                &config.only().recipe.build,
                &config.only().recipe.run,
                &config.only().recipe.post_cmd,
                &config.only().recipe.tmp_dir,
                &config.only().watch
            ),
            &config.only().recipe.ready.timeout
        )
        .replace(&root, "ROOT")
        // The only difference: `kill_delay` is written.
        .replace("is_grace_chosen: true", "is_grace_chosen: false")
    };
    assert_eq!(shown(&written), shown(&silent));
    assert_eq!(written.project.warnings, [""; 0]);
}

#[test]
fn init_writes_a_file_that_resolves_without_a_warning() {
    for kind in [Kind::Unknown, Kind::Cargo("/x".into()), Kind::Go("/x".into())] {
        let text = example::for_project(&kind, None);
        Document::parse("hotrun.toml", &text).unwrap();
    }
    let config = resolve("hotrun.toml", &example::for_project(&Kind::Unknown, None)).unwrap();
    assert_eq!(config.project.warnings, [""; 0]);
    assert_eq!(config.only().recipe.build.stages, [Stage::shell("make app".to_owned())]);
}

#[test]
fn presence_decides_never_truthiness() {
    let config = resolve("hotrun.toml", "[build]\ncmd = \"x\"\nkill_delay = 0\n").unwrap();
    assert_eq!(config.only().recipe.run.grace, Duration::ZERO);
    let config = resolve(".air.toml", "[build]\ndelay = 0\nexclude_regex = []\n").unwrap();
    assert_eq!(config.only().recipe.build.delay, Duration::ZERO);
    assert!(config.only().watch.exclude_regex.is_empty());
    assert_eq!(config.only().recipe.run.grace, GRACE);
    for generated in ["0", "\"0s\"", "\"\""] {
        let config = resolve(".air.toml", &format!("[build]\nkill_delay = {generated}\n")).unwrap();
        assert_eq!(
            config.only().recipe.run.grace,
            GRACE,
            "{generated}: air init wrote it, nobody chose it"
        );
    }
}

#[test]
fn airs_integers_under_a_millisecond_are_milliseconds() {
    let grace = |value: &str| {
        resolve(".air.toml", &format!("[build]\nkill_delay = {value}\n"))
            .unwrap()
            .only()
            .recipe
            .run
            .grace
    };
    assert_eq!(grace("500"), Duration::from_millis(500));
    assert_eq!(grace("1000000"), Duration::from_millis(1));
    assert_eq!(grace("500000000"), Duration::from_millis(500));
    assert_eq!(grace("\"500us\""), Duration::from_micros(500));
    let native = resolve("hotrun.toml", "[build]\ncmd = \"x\"\nkill_delay = 1000000\n").unwrap();
    assert_eq!(native.only().recipe.run.grace, Duration::from_secs(1000));
}

#[test]
fn airs_defaults_hold_in_an_empty_air_toml() {
    let config = resolve(".air.toml", "").unwrap();
    let root = config.only().watch.roots[0].clone();
    assert_eq!(
        config.only().recipe.build.stages,
        [Stage::shell("go build -o ./tmp/main .".to_owned())]
    );
    let main = root.join("tmp/main");
    assert_eq!(
        config.only().recipe.run.program,
        Program::Command(Command::Argv(vec![main.into()]))
    );
    assert_eq!(config.only().recipe.tmp_dir, root.join("tmp"));
    assert!(config.only().makes_tmp);
    assert!(!config.only().watch.gitignore);
    let moved = resolve(".air.toml", "tmp_dir = \".dev\"\n").unwrap();
    assert_eq!(
        moved.only().recipe.build.stages,
        [Stage::shell("go build -o .dev/main .".to_owned())]
    );
}

#[test]
fn full_bin_beats_entrypoint_beats_bin() {
    let program = |text: &str| {
        let config = resolve(".air.toml", &format!("[build]\n{text}")).unwrap();
        let root = config.only().watch.roots[0].display().to_string();
        match config.only().recipe.run.program.clone() {
            Program::Command(Command::Argv(words)) => {
                let words = words.iter().map(|word| word.to_string_lossy().replace(&root, "ROOT"));
                format!("argv {}", words.collect::<Vec<_>>().join("|"))
            }
            Program::Command(Command::Shell(text, _)) => {
                format!("sh {}", text.replace(&root, "ROOT"))
            }
            other => format!("{other:?}"),
        }
    };
    let all = "bin = \"./b\"\nentrypoint = [\"./e\", \"x\"]\nfull_bin = \"A=1 ./f\"\n";
    assert_eq!(program(all), "sh A=1 ./f");
    assert_eq!(program("bin = \"./b\"\nentrypoint = [\"./e\", \"x\"]\n"), "argv ROOT/e|x");
    assert_eq!(program("bin = \"./b\"\nargs_bin = [\"-p\", \"1\"]\n"), "argv ROOT/b|-p|1");
    assert_eq!(program("entrypoint = \"./e\"\nargs_bin = [\"$PORT\"]\n"), "sh ROOT/e $PORT");
    let on_path = program("entrypoint = [\"sh\", \"-x\"]\n");
    assert!(on_path.starts_with("argv /") && on_path.ends_with("/sh|-x"), "{on_path}");
    assert_eq!(program("full_bin = \"\"\nbin = \"\"\n"), "argv ROOT/tmp/main");
    assert_eq!(program("bin = \"./b\"\nargs_bin = [\"two words\"]\n"), "argv ROOT/b|two|words");
}

#[test]
fn an_argument_that_air_would_tear_apart_is_warned_about() {
    let text = "[build]\nbin = \"./b\"\nargs_bin = [\"two words\"]\n";
    let config = resolve(".air.toml", text).unwrap();
    assert!(
        config.project.warnings[0].starts_with("a shell reads the argument \"two words\""),
        "{:?}",
        config.project.warnings
    );
    let quoted = "[build]\nbin = \"./b\"\nargs_bin = [\"'two words'\"]\n";
    assert_eq!(resolve(".air.toml", quoted).unwrap().project.warnings, [""; 0]);
}

#[test]
fn files_named_after_air_are_airs() {
    for name in [
        ".air.toml",
        "air.toml",
        ".air.debug.toml",
        ".air.conf",
        "api.air.toml",
        ".config/air.toml",
    ] {
        assert!(air::is_airs(Path::new(name)), "{name}");
    }
    for name in ["hotrun.toml", ".hotrun.toml", "airport.toml", "repair.toml"] {
        assert!(!air::is_airs(Path::new(name)), "{name}");
    }
}

#[test]
fn the_first_name_wins_and_another_tools_air_toml_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let found = || {
        let options = Options { directory: path.clone(), ..Options::default() };
        find(&options).unwrap().map(|file| file.display().to_string())
    };
    assert_eq!(found(), None);
    std::fs::write(path.join("air.toml"), "[format]\nline-width = 80\n").unwrap();
    assert_eq!(found(), None, "the configuration of an R formatter");
    std::fs::write(path.join("air.toml"), "[build]\ncmd = \"x\"\n").unwrap();
    assert_eq!(found().as_deref(), Some("air.toml"));
    std::fs::write(path.join(".air.toml"), "").unwrap();
    assert_eq!(found().as_deref(), Some(".air.toml"));
    std::fs::write(path.join("hotrun.toml"), "").unwrap();
    assert_eq!(found().as_deref(), Some("hotrun.toml"));
}

#[test]
fn tables_of_the_articles_mean_what_their_authors_meant() {
    let misnamed = "[watch]\ninclude_files = [\".go\", \"Makefile\"]\nexclude_dirs = [\"out\"]\n";
    let config = resolve(".air.toml", misnamed).unwrap();
    let root = config.only().watch.roots[0].clone();
    assert_eq!(config.only().watch.extensions, Extensions::Only(BTreeSet::from(["go".to_owned()])));
    assert_eq!(config.only().watch.include_files, BTreeSet::from([root.join("Makefile")]));
    assert_eq!(config.only().watch.exclude_dirs, BTreeSet::from([root.join("out")]));
    let misplaced = "[watch]\ninclude_ext = [\"go\"]\nexclude_dir = [\"./.git\", \"./web\"]\n\
                     [meta]\ntmp_dir = \"build\"\nsend_error_to_tty = true\n";
    let config = resolve(".air.toml", misplaced).unwrap();
    let root = config.only().watch.roots[0].clone();
    assert_eq!(
        config.only().watch.exclude_dirs,
        BTreeSet::from([root.join(".git"), root.join("web")])
    );
    assert_eq!(config.only().recipe.tmp_dir, root.join("build"));
    assert_eq!(
        config.project.warnings,
        ["meta.send_error_to_tty has no effect: errors always go to the terminal"]
    );
}

#[test]
fn a_native_entrypoint_is_split_as_a_shell_would_without_expansion() {
    let text = "[build]\nentrypoint = \"node 'my app.js' $PORT\"\n";
    let config = resolve("hotrun.toml", text).unwrap();
    let expected = argv(&["node", "my app.js", "$PORT"]);
    assert_eq!(config.only().recipe.run.program, Program::Command(expected));
    assert!(
        config.only().recipe.build.stages.is_empty() && config.only().recipe.build.check.is_some()
    );
    let unchecked = resolve("hotrun.toml", &format!("{text}check = false\n")).unwrap();
    assert!(!unchecked.only().policy(&unchecked.project).builds);
    let unclosed = resolve("hotrun.toml", "[build]\nentrypoint = \"node 'x\"\n").unwrap_err();
    assert!(unclosed.to_string().contains("quotes closed"), "{unclosed}");
    let full = resolve("hotrun.toml", "[build]\nfull_bin = \"a | b\"\n").unwrap();
    assert_eq!(full.only().recipe.run.program, Program::Command(shell("a | b")));
}

#[test]
fn extensions_may_be_written_with_a_dot() {
    let config =
        resolve("hotrun.toml", "[build]\ncmd = \"x\"\ninclude_ext = [\".rs\", \"toml\"]\n");
    let expected = BTreeSet::from(["rs".to_owned(), "toml".to_owned()]);
    assert_eq!(config.unwrap().only().watch.extensions, Extensions::Only(expected));
}

#[test]
fn options_of_the_command_line_reach_the_program() {
    let directory = tempfile::tempdir().unwrap().keep();
    let text = "[build]\nentrypoint = [\"x\", \"a\"]\nargs_bin = [\"b\"]\n";
    let config = resolve_in(&directory, "hotrun.toml", text, &["c d"]).unwrap();
    assert_eq!(config.only().recipe.run.program, Program::Command(argv(&["x", "a", "b", "c d"])));
}

#[test]
fn in_a_file_named_after_air_env_sets_nothing_and_that_is_told_once() {
    for text in ["[env]\nPORT = \"1\"\nLIST = [1]\n", "env = \"dev\"\n", "[[env]]\nA = \"b\"\n"] {
        let config = resolve(".air.toml", text).unwrap();
        assert_eq!(config.only().recipe.env.inline, []);
        let [warning] = &config.project.warnings[..] else {
            panic!("{text} {:?}", config.project.warnings)
        };
        assert!(
            warning.contains(": [env] has no effect in air's files; use env_files"),
            "{warning}"
        );
        assert!(warning.starts_with(".air.toml:"), "{warning}");
        let empty = resolve(".air.toml", "[env]\n").unwrap();
        assert_eq!(empty.only().recipe.env.inline, []);
    }
    // Other tables of hotrun's own that people invent do not keep hotrun from running.
    for text in ["run = \"x\"\n", "ready = true\n", "watch = [\"a\"]\n", "[run]\ncmd = \"x\"\n"] {
        let config = resolve(".air.toml", text).unwrap();
        assert_eq!(config.project.warnings.len(), 1, "{text} {:?}", config.project.warnings);
        assert!(
            resolve("hotrun.toml", &format!("{text}[build]\ncmd = \"x\"\n")).is_ok()
                == text.contains("[run]")
        );
    }
    let native = resolve("hotrun.toml", "[build]\ncmd = \"x\"\n[env]\nPORT = 1\n").unwrap();
    assert_eq!(native.only().recipe.env.inline, [("PORT".to_owned(), "1".to_owned())]);
    let options = Options {
        directory: tempfile::tempdir().unwrap().keep(),
        keys: vec![("env.PORT".to_owned(), "2".to_owned())],
        config: Some(".air.toml".into()),
        ..Options::default()
    };
    std::fs::write(options.directory.join(".air.toml"), "[env]\nPORT = \"1\"\n").unwrap();
    let config = now(load(&options, &Nobody)).unwrap();
    std::fs::remove_dir_all(&options.directory).unwrap();
    assert_eq!(
        config.only().recipe.env.inline,
        [("PORT".to_owned(), "2".to_owned())],
        "the command line does"
    );
}

#[test]
fn warnings_are_in_the_order_of_the_file_and_offer_airs_own_keys_first() {
    let text = "unknown_z = 1\n[build]\nstop_signal = \"TERM\"\ninclude_exts = [\"go\"]\n\
                [aaa]\nx = 1\n[build.linux]\nports = 1\n";
    let warnings = resolve(".air.toml", text).unwrap().project.warnings;
    let lines: Vec<u32> =
        warnings.iter().map(|one| one.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted() && lines.len() == 5, "{warnings:?}");
    assert!(warnings[2].ends_with("did you mean build.include_ext?"), "{warnings:?}");
    for warning in &warnings {
        let offered = warning.split_once("did you mean ").map(|(_, key)| key.trim_end_matches('?'));
        assert!(
            offered.is_none_or(|key| keys::find(key).is_some_and(|key| key.of == keys::Of::Air)),
            "{warning}"
        );
    }
}

#[test]
fn a_glob_in_the_place_of_a_regular_expression_is_named_with_the_one_that_was_meant() {
    for (written, meant) in [
        ("*_templ.go", Some("_templ\\.go$")),
        ("**/*.gen.go", Some("\\.gen\\.go$")),
        ("*/a?.go", Some("/a[^/]\\.go$")),
        ("*(", None),
        ("*.{js,ts", None),
    ] {
        let text = format!("[build]\nexclude_regex = [\n  \"_test.go\",\n  \"{written}\",\n]\n");
        let error = resolve(".air.toml", &text).unwrap_err().to_string();
        let place = format!(".air.toml:4:3: build.exclude_regex: {written:?}: expected regular");
        assert!(error.starts_with(&place), "{error}");
        match meant {
            Some(meant) => {
                assert!(error.contains(&format!("as a regular expression: '{meant}'")), "{error}");
                let fixed = format!("[build]\nexclude_regex = ['{meant}']\n");
                resolve(".air.toml", &fixed).unwrap();
            }
            None => assert!(!error.contains("as a regular"), "{error}"),
        }
    }
}

#[test]
fn a_path_with_backslashes_is_the_one_with_slashes_unless_such_a_file_exists() {
    for key in ["bin", "entrypoint"] {
        let text = format!("[build]\n{key} = 'tmp\\main.exe'\n");
        let directory = tempfile::tempdir().unwrap().keep();
        let config = resolve_in(&directory, ".air.toml", &text, &[]).unwrap();
        let program = directory.join("tmp/main.exe");
        assert_eq!(
            config.only().recipe.run.program,
            Program::Command(Command::Argv(vec![program.into()]))
        );
        let told = format!("build.{key} = \"tmp\\\\main.exe\" is run as tmp/main.exe");
        assert!(config.project.warnings[0].starts_with(&told), "{:?}", config.project.warnings);

        let directory = tempfile::tempdir().unwrap().keep();
        let program = directory.join("tmp\\main.exe");
        std::fs::write(&program, "").unwrap();
        let config = resolve_in(&directory, ".air.toml", &text, &[]).unwrap();
        assert_eq!(
            config.only().recipe.run.program,
            Program::Command(Command::Argv(vec![program.into()]))
        );
        assert_eq!(config.project.warnings, [""; 0]);
    }
}

#[test]
fn in_air_mode_a_restart_waits_a_second_for_the_old_program_unless_kill_delay_is_written() {
    let graces = |name: &str, keys: &str| {
        let run = resolve(name, &format!("[build]\ncmd = \"x\"\n{keys}"))
            .unwrap()
            .only()
            .recipe
            .run
            .clone();
        (run.restart_grace.as_secs(), run.grace.as_secs(), run.is_grace_chosen)
    };
    assert_eq!(graces(".air.toml", ""), (1, 5, false));
    assert_eq!(graces(".air.toml", "kill_delay = \"0s\"\n"), (1, 5, false));
    assert_eq!(graces(".air.toml", "kill_delay = \"3s\"\n"), (3, 3, true));
    assert_eq!(graces("hotrun.toml", ""), (5, 5, false));
    assert_eq!(graces("hotrun.toml", "kill_delay = \"3s\"\n"), (3, 3, true));
}

#[test]
fn fuzz_a_configuration_of_any_shape_is_read_or_refused_with_its_name() {
    let example = uncommented();
    let small = "env_files = [\".env\"]\n[build]\ncmd = \"make {}\"\nkill_delay = \"1s\"\n\
                 [[build.rules]]\ninclude_ext = [\"ts\"]\ncmd = \"cat \\\"{}\\\" $(echo {})\"\n\
                 [[listen]]\naddress = \"unix:x\"\n[ready]\nhttp = \"http://localhost:80/\"\n\
                 [watch]\ninclude = [\"**/*.rs\"]\n[env]\nA = 1\n";
    let words =
        ["[build]", "[[build.rules]]", "exclude_regex = [\"*\"]", "\"9e99h\"", "true", "{}"];
    crate::fuzz::hammer(&[&example, small], &words, |text| {
        for name in ["hotrun.toml", ".air.toml"] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join(name), text).unwrap();
            let options = Options {
                directory: directory.path().canonicalize().unwrap(),
                config: Some(name.into()),
                ..Options::default()
            };
            if let Err(error) = now(load(&options, &Nobody)) {
                assert!(!error.reason().is_empty() && matches!(error.code(), 1 | 2), "{error}");
            }
        }
    });
}

#[test]
fn dots_in_spare_stand_for_the_default() {
    for (written, has_default, has_own) in [
        ("[\"*mine*\", \"...\"]", true, true),
        ("[\"...\", \"!*mine*\"]", true, false),
        ("[\"...\"]", true, false),
        ("[\"*mine*\"]", false, true),
        ("[]", false, false),
    ] {
        let text = format!("spare = {written}\n[build]\ncmd = \"true\"\n");
        let spare =
            Spare::new(&resolve("hotrun.toml", &text).unwrap().only().recipe.spare).unwrap();
        assert_eq!(spare.has("java GradleDaemon 8"), has_default, "{written}");
        assert_eq!(spare.has("mine"), has_own, "{written}");
    }
}
