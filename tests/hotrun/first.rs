//! The first configuration of a project; and what is told of one.

use crate::sandbox::Sandbox;

/// What `hotrun init` writes here, which then must be without a warning.
#[track_caller]
fn init(project: &Sandbox, args: &[&str]) -> (String, String) {
    let (code, _, stderr) = project.run(args);
    assert_eq!(code, 0, "{stderr}");
    let text = std::fs::read_to_string(project.root().join("hotrun.toml")).unwrap();
    let (code, _, check) = project.run(&["-c", "hotrun.toml", "check"]);
    assert_eq!((code, check.as_str()), (0, ""), "{text}");
    project.sh("rm hotrun.toml");
    (text, stderr)
}

#[test]
fn init_knows_each_kind_of_project() {
    let starts = |project: &Sandbox, expected: &str| {
        let (text, _) = init(project, &["init"]);
        assert!(text.contains(expected), "expected {expected}\n{text}");
        assert!(text.lines().count() < 16, "it is small\n{text}");
    };
    let go = Sandbox::empty()
        .file("go.mod", "module example.com/x\n\ngo 1.21\n")
        .file("main.go", "package main\n\nfunc main() {}\n");
    if crate::sandbox::has("init_knows_each_kind_of_project (Go)", &["go"]) {
        starts(&go, "# Go: hotrun runs go build");
    }
    let cargo = Sandbox::empty()
        .file("Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2024\"\n")
        .file("src/main.rs", "fn main() {}\n");
    starts(&cargo, "# Cargo: hotrun runs cargo build");
}

/// Files of a project, the tool that it needs, and what hotrun alone would run.
type Kind = (&'static [(&'static str, &'static str)], &'static str, &'static str);

const KINDS: [Kind; 6] = [
    (
        &[("package.json", "{\"main\": \"dist/a.js\", \"scripts\": {\"build\": \"tsc\"}}")],
        "npm",
        "npm run build",
    ),
    (&[("package.json", "{\"scripts\": {\"dev\": \"vite\"}}")], "npm", "npm run dev"),
    (
        &[("package.json", "{\"scripts\": {\"dev\": \"DEBUG=a nodemon x.js\"}}")],
        "node",
        "node x.js",
    ),
    (&[("main.py", "app = FastAPI()\n")], "python3", "python3 -m uvicorn main:app --fd 3"),
    (&[("Procfile", "web: sh serve -p $PORT\n")], "sh", "sh serve -p $PORT"),
    (&[("Makefile", "build: x\nrun:\n\t./x\n")], "make", "make run"),
];

#[test]
fn init_writes_what_hotrun_alone_would_do() {
    let name = "init_writes_what_hotrun_alone_would_do";
    for (files, tool, command) in KINDS {
        if !crate::sandbox::has(&format!("{name} ({tool})"), &[tool]) {
            continue;
        }
        for words in [&["init"][..], &["init", "--full"]] {
            let mut project = Sandbox::empty();
            for (file, text) in files {
                project = project.file(file, text);
            }
            // What is built, run, listened on and watched; not where it is from.
            let summary = || {
                let (code, text, stderr) = project.run(&["check"]);
                assert_eq!(code, 0, "{stderr}");
                let lines = text.lines().take_while(|line| !line.is_empty());
                let is_own = |line: &&str| !line.contains("config  ") && !line.contains(" in ");
                lines.filter(is_own).collect::<Vec<_>>().join("\n")
            };
            let alone = summary();
            assert!(alone.contains(command), "{alone}");
            let (code, stdout, stderr) = project.run(words);
            assert_eq!(code, 0, "{stderr}");
            assert!(stdout.starts_with("wrote ROOT/hotrun.toml for "), "{stdout}");
            assert_eq!(summary(), alone, "{files:?} {words:?}");
            let (_, text, _) = project.run(&["check"]);
            assert!(!text.contains("warning"), "{text}");
        }
    }
}

#[test]
fn init_exits_1_where_it_knows_nothing() {
    for (files, reason) in [
        (&[][..], "no project that hotrun knows"),
        (&[("package.json", "{}")], "no script \"dev\" or \"start\""),
        (&[("compose.yaml", "")], "describes containers"),
    ] {
        let mut project = Sandbox::empty();
        for (file, text) in files {
            project = project.file(file, text);
        }
        let (code, stdout, stderr) = project.run(&["init"]);
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
        assert!(!project.root().join("hotrun.toml").exists());
    }
}

#[test]
fn init_does_not_put_a_file_before_the_one_that_is_read() {
    let project = Sandbox::empty().file(".air.toml", "[build]\ncmd = \"true\"\n");
    let (code, _, stderr) = project.run(&["init"]);
    assert_eq!(code, 2);
    assert!(stderr.starts_with("hotrun: ROOT/.air.toml: already exists\n"), "{stderr}");
    assert!(stderr.contains("hotrun init --from air"), "{stderr}");
}

#[test]
fn init_full_explains_every_key() {
    let (text, _) = init(&Sandbox::empty(), &["init", "--full"]);
    assert!(text.lines().count() > 100, "{text}");
}

#[test]
fn from_air_says_the_same_in_hotruns_own_file() {
    let air = "tmp_dir = \"build\"\n[build]\nargs_bin = [\"-v\"]\ndelay = 0\nkill_delay = \"2s\"\n\
               exclude_dir = [\"docs\"]\nfull_bin = \"\"\npoll = false\nstop_on_error = true\n\
               [log]\ntime = true\n[watch]\nexclude_dir = [\"lost\"]\ntypo = 1\n\
               [[build.rules]]\ninclude_dir = [\"web\"]\ninclude_ext = [\"ts\"]\ncmd = \"tsc\"\n";
    let project = Sandbox::empty().file(".air.toml", air);
    let (text, told) = init(&project, &["init", "--from", "air"]);
    assert_eq!(
        text,
        "# Converted from .air.toml by hotrun init.\ntmp_dir = \"build\"\n\n[build]\n\
         cmd = \"go build -o ./build/main .\"\nentrypoint = [\"./build/main\", \"-v\"]\n\
         include_ext = [\"go\", \"tpl\", \"tmpl\", \"html\"]\nexclude_dir = [\"docs\"]\n\
         exclude_regex = [\"_test.go\"]\nkill_delay = \"2000ms\"\nstop_on_error = true\n\n\
         [[build.rules]]\nname = \"rule-1\"\ncmd = \"tsc\"\ninclude_dir = [\"web\"]\n\
         include_ext = [\"ts\"]\n\n[watch]\ngitignore = false\n\n[log]\ntime = true\n"
    );
    assert!(told.contains("unknown key watch.typo"), "{told}");
}

#[test]
fn a_proxy_of_airs_is_on_or_off_as_it_was_and_0_stays_an_unset_port() {
    for (keys, expected) in [
        ("enabled = false\nproxy_port = 0\napp_port = 0\napp_start_timeout = 0\n", ""),
        (
            "enabled = false\nproxy_port = 8090\napp_port = 8080\n",
            "\n[proxy]\nenabled = false\nproxy_port = 8090\napp_port = 8080\n",
        ),
        (
            "enabled = true\nproxy_port = 8090\napp_port = 0\napp_start_timeout = 9000\n\
             routes = { \"/a.b\" = 1 }\n",
            "\n[proxy]\nenabled = true\nproxy_port = 8090\napp_start_timeout = \"9s\"\n\
             routes = { \"/a.b\" = 1 }\n",
        ),
    ] {
        let project = Sandbox::empty().file(".air.toml", &format!("[proxy]\n{keys}"));
        let (text, told) = init(&project, &["init", "--from", "air"]);
        let begin = text.find("\n[proxy]").unwrap_or(text.len());
        assert_eq!(&text[begin..], expected, "{told}");
    }
}

#[test]
fn from_fresh() {
    let conf = "root:              .\ntmp_path:          ./out\nbuild_name:        app\n\
                valid_ext:         .go, .html\nno_rebuild_ext:    .html\nignored:  assets, out\n\
                build_delay:       600\ncolors:            0\nlog_color_main: cyan\n";
    let project = Sandbox::empty().file("runner.conf", conf);
    let (text, told) = init(&project, &["init", "--from=fresh"]);
    assert_eq!(
        text,
        "# Converted from runner.conf by hotrun init.\ntmp_dir = \"out\"\n\n[build]\n\
         cmd = \"go build -o ./out/app .\"\nentrypoint = [\"./out/app\"]\n\
         log = \"runner-build-errors.log\"\ninclude_ext = [\"go\"]\n\
         exclude_dir = [\"assets\", \"out\"]\n\n[[build.rules]]\nname = \"no rebuild\"\n\
         action = \"restart\"\ninclude_ext = [\"html\"]\n\n[color]\nmode = \"never\"\n"
    );
    assert!(told.contains("build_delay: 600") && told.contains("log_color_main"), "{told}");
}

#[test]
fn from_realize() {
    let yaml = "settings:\n  legacy:\n    force: false\nschema:\n- name: api\n  path: .\n  commands:\n\
                \x20   fmt: {status: true}\n    install: {status: true, args: [\"-race\"]}\n    run:\n\
                \x20     status: true\n  args: [serve, --port=1]\n  env:\n    MODE: dev\n  watcher:\n\
                \x20   extensions: [go, html]\n    paths: [/]\n    ignored_paths: [.git]\n    ignore: {paths: [vendor], regex: [_test]}\n\
                \x20   scripts:\n    - {type: before, command: echo before}\n\
                \x20   - {type: after, command: echo after}\n- name: web\n  path: ./web\n";
    let project = Sandbox::empty().file(".realize.yaml", yaml);
    let (text, told) = init(&project, &["init", "-from", "realize"]);
    assert_eq!(
        text,
        "# Converted from .realize.yaml by hotrun init.\n\n[env]\nMODE = \"dev\"\n\n[build]\n\
         pre_cmd = [\"gofmt -l -w .\", \"echo before\"]\ncmd = \"go build -race -o ./tmp/main .\"\n\
         entrypoint = [\"./tmp/main\"]\nargs_bin = [\"serve\", \"--port=1\"]\n\
         include_ext = [\"go\", \"html\"]\nexclude_dir = [\".git\", \"vendor\"]\n\
         exclude_regex = [\"_test\"]\n"
    );
    assert!(told.contains("the project web") && told.contains("echo after"), "{told}");
    let broken = Sandbox::empty().file(".realize.yaml", "schema: [\n");
    assert_eq!(broken.run(&["init", "--from", "realize"]).0, 2);
}

#[test]
fn from_nodemon() {
    let json = "{\"watch\": [\"src\"], \"ext\": \"ts,json\", \"ignore\": [\"**/*.spec.ts\", \"dist\"],\n\
                \"exec\": \"tsc && node dist/index.js\", \"env\": {\"PORT\": 3000}, \"delay\": 500,\n\
                \"legacyWatch\": true, \"pollingInterval\": 200,\n\
                \"signal\": \"SIGUSR2\", \"verbose\": true, \"events\": {\"start\": \"x\"}}";
    let project = Sandbox::empty().file("nodemon.json", json).file("src/a.ts", "");
    let (text, told) = init(&project, &["init", "--from", "nodemon"]);
    let expected = "[env]\nPORT = \"3000\"\n\n[build]\ncmd = \"tsc\"\n\
                    entrypoint = \"node dist/index.js\"\ninclude_ext = [\"ts\", \"json\"]\n\
                    include_dir = [\"src\"]\npoll_interval = \"200ms\"\n\n[watch]\n\
                    exclude = [\"**/*.spec.ts\", \"**/dist/**\"]\nbackend = \"poll\"\n\n\
                    [run]\nsignal = \"USR2\"\n";
    assert_eq!(text, format!("# Converted from nodemon.json by hotrun init.\n\n{expected}"));
    assert!(told.contains("delay: 500") && told.contains("events: "), "{told}");
    let package = "{\"main\": \"app.js\", \"nodemonConfig\": {\"ext\": \"js\"}}";
    let (text, _) =
        init(&Sandbox::empty().file("package.json", package), &["init", "--from", "nodemon"]);
    assert!(text.contains("entrypoint = \"node app.js\""), "{text}");
    let (code, _, stderr) = Sandbox::empty().run(&["init", "--from", "nodemon"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("no nodemon.json, and no nodemonConfig"), "{stderr}");
}

#[test]
fn from_a_command_line_of_cargo_watch() {
    let cargo = || {
        Sandbox::empty()
            .file(
                "Cargo.toml",
                "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
            )
            .file("src/main.rs", "fn main() {}\n")
    };
    let convert = |line: &[&str]| {
        let args: Vec<&str> =
            ["init", "--from", "cargo-watch"].iter().chain(line).copied().collect();
        init(&cargo(), &args)
    };
    let (text, told) = convert(&[
        "cargo",
        "watch",
        "-c",
        "--poll",
        "-w",
        "src",
        "-i",
        "*.tmp",
        "-E",
        "A=b",
        "-x",
        "check",
        "-x",
        "run --bin x -- --port 1",
    ]);
    assert_eq!(
        text,
        "# Converted from a command line of cargo watch by hotrun init.\n\n[env]\nA = \"b\"\n\n\
         [build]\npre_cmd = [\"cargo check\"]\nargs_bin = [\"--port\", \"1\"]\n\
         include_dir = [\"src\"]\n\n[watch]\nexclude = [\"**/*.tmp\"]\nbackend = \"poll\"\n\n[screen]\n\
         clear_on_rebuild = true\n"
    );
    assert!(told.contains("--bin x: pass it each time: hotrun --bin x"), "{told}");
    let (text, _) = convert(&["--", "cargo", "watch", "-x", "test", "-s", "echo $DONE"]);
    assert!(text.contains("cmd = \"cargo test\"\nfull_bin = \"echo $DONE\"\n"), "{text}");
    let (code, _, stderr) = cargo().run(&["init", "--from", "cargo-watch", "--", "--frobnicate"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--frobnicate"), "{stderr}");
    let (code, _, stderr) = cargo().run(&["init", "--from", "cargo-watch"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("needs its command line"), "{stderr}");
}

#[test]
fn check_shows_every_value_with_where_it_is_from() {
    let config = "[build]\ncmd = \"true\"\nexclude_dir = [\"docs\"]\n[env]\nA = \"1\"\n";
    let project =
        Sandbox::empty().file(".air.toml", config).file("main.go", "").file("sub/a.go", "");
    let (code, stdout, _) =
        project.run(&["check", "--all", "--tmp_dir", "out", "-build.rerun", "true"]);
    assert_eq!(code, 0);
    let has = |key: &str, origin: &str| {
        let found = stdout
            .lines()
            .any(|line| line.starts_with(key) && line.ends_with(&format!("# {origin}")));
        assert!(found, "{key} {origin}\n{stdout}");
    };
    has("cmd = \"true\"", ".air.toml:2");
    has("exclude_dir = [\"docs\"]", ".air.toml:3");
    assert!(stdout.contains(".air.toml:5: [env] has no effect in air's files"), "{stdout}");
    assert!(!stdout.contains("A = "), "{stdout}");
    has("tmp_dir = \"out\"", "option");
    has("rerun = \"true\"", "option");
    has("include_ext = [\"go\", \"tpl\", \"tmpl\", \"html\"]", "default");
    has("kill_delay = \"5s\"", "default");
    assert!(stdout.contains("  watches  2 of the "), "{stdout}");
    assert!(stdout.contains("2 in 2 directories: files ending in go"), "{stdout}");
}

#[test]
fn explain_says_what_a_save_triggers_and_by_which_key() {
    let config = "env_files = [\".env\"]\n[build]\ncmd = \"true\"\nexclude_dir = [\"docs\"]\n\
                  [watch]\ngitignore = true\n\
                  [[build.rules]]\nname = \"gen\"\ninclude_ext = [\"templ\"]\ncmd = \"templ generate\"\n";
    let project = Sandbox::empty()
        .file(".air.toml", config)
        .file(".gitignore", "*.local.go\n")
        .file("docs/a.go", "")
        .file("src/a.go", "");
    let paths = [
        "src/a.go",
        "docs/a.go",
        "a_test.go",
        "README",
        "page.templ",
        ".env",
        ".air.toml",
        "tmp/x.go",
        "tmp/main",
        "x.local.go",
        "docs",
        "src",
        "a.go~",
        "/etc/hosts",
    ];
    let args: Vec<&str> = ["explain"].iter().chain(&paths).copied().collect();
    let (code, stdout, _) = project.run(&args);
    assert_eq!(code, 0);
    let expected = "\
src/a.go: rebuild and restart: extension listed in build.include_ext (default)
docs/a.go: ignored: docs is excluded by build.exclude_dir (.air.toml:4)
a_test.go: ignored: excluded by build.exclude_regex (default)
README: ignored: extension not listed in build.include_ext (default)
page.templ: run \"templ generate\": rule gen
.env: restart without a build, if a variable changes: env_files (.air.toml:1)
.air.toml: reload the configuration
tmp/x.go: ignored: tmp is excluded by tmp_dir (default)
tmp/main: ignored: the program is started from it
x.local.go: ignored: excluded by .gitignore; watch.gitignore (.air.toml:6)
docs: a directory, not watched: docs is excluded by build.exclude_dir (.air.toml:4)
src: a directory, watched
a.go~: ignored: a temporary file of an editor or a bundler
/etc/hosts: ignored: outside of all watched directories
";
    assert_eq!(stdout, expected);
}

#[test]
fn check_names_programs_that_do_not_exist() {
    let config = "[build]\npre_cmd = [\"X=1 no-such-tool a\", \"cd . && no-such-tool\"]\n\
                  cmd = \"sh -c true\"\nentrypoint = \"./app\"\npost_cmd = [\"./plain\"]\n\
                  [[build.rules]]\nname = \"gen\"\ninclude_ext = [\"x\"]\ncmd = \"no-generator {}\"\n";
    let project = Sandbox::empty().file("hotrun.toml", config).file("plain", "");
    let (code, stdout, stderr) = project.run(&["check"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for line in [
        " programs  found: sh; not built yet: ./app",
        "  warning  build: no-such-tool: command not found",
        "  warning  rule gen: no-generator: command not found",
        "  warning  post_cmd: ./plain: is not executable",
    ] {
        assert!(stdout.lines().any(|one| one == line), "{line}\n{stdout}");
    }
    assert_eq!(stdout.matches("warning").count(), 3, "{stdout}");
    let (code, _, stderr) = project.run(&["check", "--strict"]);
    assert_eq!((code, stderr.as_str()), (2, "hotrun: check --strict: 3 warnings\n"));
}

#[test]
fn check_is_strict_about_unknown_keys_on_request() {
    let config = "[build]\ncmd = \"sh -c true\"\nfull_bin = \"exec sleep 1000\"\ndelay = 0\n";
    let good = Sandbox::empty().file("hotrun.toml", config);
    assert_eq!(good.run(&["check", "--strict"]).0, 0, "{}", good.run(&["check"]).1);
    let project = Sandbox::empty().file("hotrun.toml", &format!("{config}dleay = 5\n"));
    assert_eq!(project.run(&["check"]).0, 0);
    let (code, stdout, stderr) = project.run(&["check", "--strict"]);
    assert_eq!((code, stderr.as_str()), (2, "hotrun: check --strict: 1 warning\n"));
    assert!(stdout.contains("unknown key build.dleay; did you mean build.delay?"), "{stdout}");
    // Written or not, a default is shown on request.
    assert!(stdout.contains("full_bin = ") && !stdout.contains("\ndelay = "), "{stdout}");
    let (_, all, _) = project.run(&["check", "--all"]);
    assert!(all.contains("\ndelay = 0 ") && all.contains("\nrerun = false "), "{all}");
    assert!(stdout.contains(" keys have their defaults; to show them: --all\n"), "{stdout}");
    assert!(!all.contains("to show them"), "{all}");
}
