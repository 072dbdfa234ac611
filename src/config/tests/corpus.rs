//! Real files of air's users, each with what a faithful reader makes of it. The files
//! themselves are not part of the project.

use std::fmt::Write as _;

use super::*;

/// For each file: how it was named where it was found, and what of it is not air's default.
const EXPECTED: &str = include_str!("corpus.txt");

/// Where the file lies, deep enough for a root two directories up, with what it speaks of.
fn place(number: &str, text: &str) -> PathBuf {
    let top = tempfile::tempdir().unwrap().keep().canonicalize().unwrap();
    let directory = top.join("above/project/here");
    std::fs::create_dir_all(directory.join("src")).unwrap();
    std::fs::create_dir_all(directory.join("../src")).unwrap();
    let table: toml::Table = text.parse().unwrap_or_default();
    let root = table.get("root").and_then(toml::Value::as_str).unwrap_or(".");
    let dirs = table.get("build").and_then(|build| build.get("include_dir")?.as_array());
    // Number 40 is about directories that are not there.
    for dir in dirs.into_iter().flatten().filter(|_| number != "40") {
        let dir = directory.join(root).join(dir.as_str().unwrap_or_default());
        std::fs::create_dir_all(dir).unwrap();
    }
    directory
}

/// What is not air's default, one fact a line.
fn describe(config: &Config, top: &Path, written: &toml::Table) -> String {
    let mut text = String::new();
    // Commands are not repeated here: they are to be what is written.
    let key = |name: &str| written.get("build").and_then(|build| build.get(name)).cloned();
    let is_written = |name: &str, text: &str| match key(name) {
        Some(toml::Value::String(one)) => one == text,
        Some(toml::Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(text)),
        _ => false,
    };
    let as_written = |names: &[&str], text: &str| {
        let name = names.iter().find(|name| is_written(name, text));
        name.map_or_else(|| text.to_owned(), |name| format!("{name} as written"))
    };
    let mut line = |name: &str, value: String| {
        let value = value.replace(&top.display().to_string(), "TOP");
        let value = value.replace("TOP/above/project/here", "HERE");
        writeln!(text, "{name}: {value}").unwrap();
    };
    let default_stage = Stage::shell("go build -o ./tmp/main .".to_owned());
    for stage in &config.only().recipe.build.stages {
        if *stage != default_stage {
            let text = as_written(&["pre_cmd", "cmd"], &stage.label);
            line(if stage.tolerated { "may fail" } else { "build" }, text);
        }
    }
    let program = match &config.only().recipe.run.program {
        Program::Command(Command::Argv(argv)) => {
            let words = argv.iter().map(|word| word.display().to_string());
            words.collect::<Vec<_>>().join(" | ")
        }
        Program::Command(Command::Shell(text, _)) => {
            format!("sh: {}", as_written(&["full_bin", "bin"], text))
        }
        other => format!("{other:?}"),
    };
    // Installed or not, it is the one that is meant.
    let program = match program.split_once(" | ") {
        Some((first, rest)) if first.ends_with("/dlv") => format!("dlv | {rest}"),
        _ => program,
    };
    if program != format!("{}/above/project/here/tmp/main", top.display()) {
        line("run", program);
    }
    let mut fact = |name: &str, is: bool, value: &dyn std::fmt::Debug| {
        if is {
            line(name, format!("{value:?}").replace('"', ""));
        }
    };
    let run = &config.only().recipe.run;
    fact("signal", run.signal != Signal::SIGTERM, &run.signal);
    fact("grace", run.grace != GRACE, &run.grace);
    fact("on_exit", run.on_exit != OnExit::Wait, &(run.on_exit, run.rerun_delay));
    fact("delay", !config.only().recipe.build.delay.is_zero(), &config.only().recipe.build.delay);
    fact("stop_on_error", config.only().recipe.build.stop_on_error, &true);
    fact("post_cmd", !config.only().recipe.post_cmd.is_empty(), &config.only().recipe.post_cmd);
    fact("env_files", !config.only().recipe.env.files.is_empty(), &config.only().recipe.env.files);
    let here = top.join("above/project/here");
    fact("root", config.only().watch.base != here, &config.only().watch.base);
    fact(
        "tmp_dir",
        config.only().recipe.tmp_dir != here.join("tmp"),
        &config.only().recipe.tmp_dir,
    );
    fact("no tmp_dir", !config.only().makes_tmp, &true);
    fact("clean_on_exit", config.project.clean_on_exit, &true);
    let log = config.only().recipe.log.as_ref().map(|log| &log.path);
    fact("log", log != Some(&config.only().recipe.tmp_dir.join("build-errors.log")), &log);
    let proxy = config.only().proxy.as_ref().map(|proxy| (proxy.port, proxy.hold));
    fact("proxy", proxy.is_some(), &(proxy, &config.only().recipe.upstream));
    describe_watch(&config.only().watch, &mut fact);
    let talk = &config.project.talk;
    fact("time", talk.time, &true);
    fact("loudness", talk.loudness != Loudness::All, &talk.loudness);
    fact("clear", talk.clear != Clear::Never, &talk.clear);
    // Number 7 has the system's temporary directory, in which this test itself may lie.
    let by_place = |warning: &&String| warning.starts_with("tmp_dir contains the project itself");
    for warning in config.project.warnings.iter().filter(|warning| !by_place(warning)) {
        line("warning", warning.clone());
    }
    text
}

fn describe_watch(watch: &Watch, fact: &mut impl FnMut(&str, bool, &dyn std::fmt::Debug)) {
    let relative =
        |paths: &BTreeSet<PathBuf>| -> Vec<String> {
            let paths = paths.iter().map(|path| path.strip_prefix(&watch.base).unwrap_or(path));
            paths
                .map(|path| {
                    if path.as_os_str().is_empty() {
                        ".".into()
                    } else {
                        path.display().to_string()
                    }
                })
                .collect()
        };
    let extensions = Extensions::from_list(Some(air::default_extensions()));
    fact("ext", watch.extensions != extensions, &watch.extensions);
    let default: BTreeSet<_> =
        ["assets", "vendor", "testdata", "tmp"].map(|name| watch.base.join(name)).into();
    fact("exclude_dir", watch.exclude_dirs != default, &relative(&watch.exclude_dirs));
    fact("include_dir", !watch.include_dirs.is_empty(), &relative(&watch.include_dirs));
    fact("include_file", !watch.include_files.is_empty(), &relative(&watch.include_files));
    fact("more roots", watch.roots.len() > 1, &&watch.roots[1..]);
    let regex = watch.exclude_regex.patterns();
    fact("regex", regex != ["_test.go"], &regex);
    fact("exclude_file", !watch.exclude_files.is_empty(), &watch.exclude_files.len());
    let testdata = watch.base.join("testdata");
    fact("testdata watched", !watch.never.contains(&testdata), &true);
    fact("exclude_unchanged", watch.exclude_unchanged, &true);
    fact("follow_symlink", watch.follow_symlink, &true);
    let backend = (watch.backend, watch.poll_interval);
    fact("backend", backend != (Backend::Auto, None), &backend);
    for rule in &watch.rules {
        let what = (&rule.action, relative(&rule.include_dirs), &rule.extensions);
        fact(&format!("rule {}", rule.name), true, &what);
    }
}

#[test]
fn each_real_file_means_what_its_author_meant() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/air-corpus");
    if !corpus.is_dir() {
        let name = "each_real_file_means_what_its_author_meant";
        std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED {name}: there is no ../shared/air-corpus\n").as_bytes(),
        )
        .unwrap();
        return;
    }
    let listed = |directory: &Path| {
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        files.sort();
        files
    };
    let mut files = listed(&corpus);
    let seeds = listed(&corpus.join("../seed-configs"));
    assert_eq!((files.len(), seeds.len()), (60, 5));
    files.extend(seeds);
    let expected: Vec<&str> = EXPECTED.split("== ").skip(1).collect();
    let mut found = String::new();
    for (place_in_list, file) in files.iter().enumerate() {
        let is_seed = file.to_string_lossy().contains("seed-configs");
        let number = &file.file_name().unwrap().to_str().unwrap()[..2];
        let number = if is_seed { &format!("seed-{}", &number[..1]) } else { number };
        let header = expected.get(place_in_list).and_then(|one| one.lines().next());
        let name =
            header.and_then(|header| header.split_once(' ')).map_or(".air.toml", |one| one.1);
        let text = std::fs::read_to_string(file).unwrap();
        let directory = place(number, &text);
        std::fs::create_dir_all(directory.join(".config")).unwrap();
        std::fs::write(directory.join(name), &text).unwrap();
        let options = Options {
            directory: directory.clone(),
            config: Some(name.into()),
            ..Options::default()
        };
        let top = directory.join("../../..").canonicalize().unwrap();
        let described = match now(load(&options, &Nobody)) {
            Ok(config) => describe(&config, &top, &text.parse().unwrap_or_default()),
            Err(error) => format!("error {}: {error}\n", error.code()),
        };
        write!(found, "== {number} {name}\n{described}").unwrap();
        std::fs::remove_dir_all(top).unwrap();
    }
    if std::env::var_os("HOTRUN_WRITE_CORPUS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/corpus.txt");
        std::fs::write(path, &found).unwrap();
        return;
    }
    for (found, expected) in found.split("== ").zip(EXPECTED.split("== ")) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), EXPECTED.len());
}
