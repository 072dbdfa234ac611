//! A Cargo project is built and run as `cargo run` does it.

use std::fs;

use crate::rust::MANIFEST;
use crate::sandbox::{Sandbox, has, is_alive};

const SLEEP: &str = "std::thread::sleep(std::time::Duration::from_secs(1000));";

/// A program that prints these variables, or where it has none `-`, and keeps running.
fn prints(names: &[&str]) -> String {
    let print = |name: &&str| {
        format!("print!(\"{name}={{}} \", std::env::var({name:?}).unwrap_or(\"-\".into()));")
    };
    let prints: Vec<String> = names.iter().map(print).collect();
    format!("fn main() {{ {} println!(\"up\"); {SLEEP} }}\n", prints.join(" "))
}

/// A program that prints this line and keeps running.
fn says(line: &str) -> String {
    format!("fn main() {{ println!(\"{line}\"); {SLEEP} }}\n")
}

fn package(name: &str) -> String {
    MANIFEST.replace("app", name)
}

/// A workspace of packages, each of which prints `NAME is up`.
fn workspace(root: &str, names: &[&str]) -> Sandbox {
    let mut project = Sandbox::empty().file("Cargo.toml", root);
    for name in names {
        project = project
            .file(&format!("{name}/Cargo.toml"), &package(name))
            .file(&format!("{name}/src/main.rs"), &says(&format!("{name} is up")));
    }
    project
}

/// The toolchain that rustup has chosen here; without rustup it has no meaning.
fn toolchain() -> String {
    let script = "rustup show active-toolchain 2>/dev/null | cut -d ' ' -f 1";
    let output = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn host() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// A `cargo` before the real one on the PATH, by a script that may call `$real`.
fn with_cargo(project: Sandbox, script: &str) -> Sandbox {
    let real = String::from_utf8(
        std::process::Command::new("sh").args(["-c", "command -v cargo"]).output().unwrap().stdout,
    );
    let text = format!("real={}\n{script}\nexec \"$real\" \"$@\"\n", real.unwrap().trim());
    let project = project.script("bin/cargo", &text);
    let path = format!("{}/bin:{}", project.root().display(), std::env::var("PATH").unwrap());
    project.env("PATH", &path)
}

// What the program is given

#[test]
fn the_program_has_the_variables_that_cargo_run_sets() {
    if !has("the_program_has_the_variables", &["cargo"]) {
        return;
    }
    let names =
        ["CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR", "PLAIN", "FORCED", "PLACE", "MINE", "TWICE"];
    let project = Sandbox::empty()
        .file("Cargo.toml", MANIFEST)
        .file("src/main.rs", &prints(&names))
        .file(
            ".cargo/config.toml",
            "[env]\nPLAIN = \"config\"\nFORCED = { value = \"config\", force = true }\n\
             PLACE = { value = \"data\", relative = true }\nTWICE = \"config\"\n",
        )
        .file("hotrun.toml", "[env]\nMINE = \"hotrun\"\nTWICE = \"hotrun\"\n")
        .env("PLAIN", "shell")
        .env("FORCED", "shell");
    let root = project.root().display().to_string();
    let mut hotrun = project.start(&[]);
    hotrun.wait_for(&format!(
        "CARGO_PKG_VERSION=0.1.0 CARGO_MANIFEST_DIR={root} PLAIN=shell FORCED=config \
         PLACE={root}/data MINE=hotrun TWICE=hotrun up"
    ));
    project.save("Cargo.toml", &MANIFEST.replace("0.1.0", "0.2.0"));
    hotrun.wait_for("CARGO_PKG_VERSION=0.2.0");
    project.save(".cargo/config.toml", "[env]\nPLACE = \"here\"\n");
    hotrun.wait_for("FORCED=shell PLACE=here");
    hotrun.end();
}

#[test]
fn what_a_build_script_sets_anew_reaches_the_program_without_a_change_of_the_script() {
    if !has("what_a_build_script_sets_anew", &["cargo"]) {
        return;
    }
    let script = "fn main() {\n    println!(\"cargo:rerun-if-changed=data/version.txt\");\n    \
                  let version = std::fs::read_to_string(\"data/version.txt\").unwrap();\n    \
                  println!(\"cargo:rustc-env=DATA={}\", version.trim());\n    \
                  let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
                  println!(\"cargo:rustc-link-search=native={out}/native\");\n}\n";
    let project = Sandbox::empty()
        .file("Cargo.toml", MANIFEST)
        .file("build.rs", script)
        .file("data/version.txt", "one")
        .file("src/main.rs", &prints(&["DATA", "LD_LIBRARY_PATH"]))
        .file("hotrun.toml", "[env]\nLD_LIBRARY_PATH = \"/of/mine\"\n");
    let mut hotrun = project.start_by("unset LD_LIBRARY_PATH; exec \"$@\"");
    let line = hotrun.wait_for("DATA=one");
    assert!(line.contains("/out/native:") && line.contains(":/of/mine "), "{line}");
    project.save("data/version.txt", "two");
    hotrun.wait_for("DATA=two");
    hotrun.end();
}

#[test]
fn the_runner_of_the_configuration_runs_the_program_and_another_one_takes_over() {
    if !has("the_runner_of_the_configuration", &["cargo"]) {
        return;
    }
    let runner = "echo \"$(basename $0) $1\"; shift; exec \"$@\"\n";
    let project = Sandbox::empty()
        .file("app/Cargo.toml", MANIFEST)
        .file("app/src/main.rs", &says("app is up"))
        .file(
            ".cargo/config.toml",
            "[target.'cfg(unix)']\nrunner = [\"tools/first\", \"two words\"]\n",
        )
        .script("tools/first", runner)
        .script("tools/second", runner);
    let mut hotrun = project.start(&["-C", "app"]);
    hotrun.wait_for_line("first two words");
    hotrun.wait_for_line("app is up");
    let (code, stdout, _) = project.run(&["check", "-C", "app"]);
    assert_eq!(code, 0);
    let expected =
        "runner  ROOT/tools/first 'two words' (target.'cfg(unix)'.runner, ROOT/.cargo/config.toml)";
    assert!(stdout.contains(expected), "{stdout}");
    assert!(stdout.contains("env  what cargo run --bin app sets"), "{stdout}");
    let by_target = format!("[target.{}]\nrunner = \"tools/second -v\"\n", host());
    project.save(".cargo/config.toml", &by_target);
    hotrun.wait_for_line("second -v");
    hotrun.wait_for_line("app is up");
    project.save(".cargo/config.toml", "");
    hotrun.wait_for("changed");
    hotrun.wait_for_line("app is up");
    assert_eq!(hotrun.count("second -v"), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_runner_is_found_in_a_variable_and_sees_the_arguments() {
    if !has("a_runner_is_found_in_a_variable", &["cargo"]) {
        return;
    }
    let variable = host().to_uppercase().replace('-', "_");
    let project = Sandbox::empty()
        .file("Cargo.toml", MANIFEST)
        .file("src/main.rs", &says("app is up"))
        .script("run me", "false\n")
        .script("run", "echo \"$1 $3 $4\"; exec \"$2\"\n")
        .file(
            ".cargo/config.toml",
            "[build]\ntarget = \"host-tuple\"\n[target.'cfg(all())']\nrunner = \"none\"\n",
        )
        .env(&format!("CARGO_TARGET_{variable}_RUNNER"), "./run option");
    let mut hotrun = project.start(&["--", "a", "b c"]);
    hotrun.wait_for_line("option a b c");
    hotrun.wait_for_line("app is up");
    hotrun.end();
}

#[test]
fn two_runners_that_match_are_refused_as_by_cargo() {
    if !has("two_runners_that_match", &["cargo"]) {
        return;
    }
    let project =
        Sandbox::empty().file("Cargo.toml", MANIFEST).file("src/main.rs", &says("app is up")).file(
            ".cargo/config.toml",
            "[target.'cfg(unix)']\nrunner = \"a\"\n[target.'cfg(all())']\nrunner = \"b\"\n",
        );
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("two runners match"), "{stderr}");
}

#[test]
fn a_kept_program_is_started_with_the_variables_and_the_runner_of_its_time() {
    if !has("a_kept_program_is_started_with", &["cargo"]) {
        return;
    }
    let runner = "echo \"runner $1\"; exec \"$2\"\n";
    let config = |word: &str| {
        format!("[env]\nWORD = \"{word}\"\n[target.'cfg(all())']\nrunner = \"./run {word}\"\n")
    };
    let project = Sandbox::empty()
        .file("Cargo.toml", MANIFEST)
        .file("src/main.rs", &prints(&["WORD"]))
        .file(".cargo/config.toml", &config("good"))
        .script("run", runner);
    let mut hotrun = project.start(&["--run.on_failed_start", "rollback"]);
    hotrun.wait_for_line("runner good");
    hotrun.wait_for_line("WORD=good up");
    crate::sandbox::wait_until("the program is kept", || {
        let kept = project.root().join("tmp/.hotrun");
        let copies = fs::read_dir(kept).into_iter().flatten().flatten();
        copies.flat_map(|one| fs::read_dir(one.path())).flatten().count() > 0
    });
    project.save("src/main.rs", "fn main() { std::process::exit(3) }\n");
    project.save(".cargo/config.toml", &config("bad"));
    hotrun.wait_for_line("runner bad");
    hotrun.wait_for_line("runner good");
    hotrun.wait_for_line("WORD=good up");
    hotrun.end();
}

// Which program

#[test]
fn default_members_and_default_run_choose_as_in_cargo_run() {
    if !has("default_members_and_default_run", &["cargo"]) {
        return;
    }
    let root = "[workspace]\nmembers = [\"cli\", \"server\", \"worker\"]\n\
                default-members = [\"server\", \"worker\"]\nresolver = \"2\"\n";
    let project = workspace(root, &["cli", "server", "worker"]);
    let (code, _, stderr) = project.run(&["--once"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("several programs to choose from: server, worker"), "{stderr}");
    let (_, _, stderr) = project.run(&["--once", "--bin", "cli"]);
    assert!(
        stderr.contains("no program of that name here\n  help: hotrun -p cli --bin cli"),
        "{stderr}"
    );
    // A member's own directory selects the member.
    let mut hotrun = project.start(&["-C", "cli"]);
    hotrun.wait_for_line("cli is up");
    hotrun.end();
    project.save(
        "worker/Cargo.toml",
        &package("worker").replace("edition", "default-run = \"worker\"\nedition"),
    );
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("building  cargo build --bin worker");
    hotrun.wait_for_line("worker is up");
    hotrun.end();
    for spec in ["cli", "cli@0.1.0", "cli:0.1", &format!("file://{}/cli", project.root().display())]
    {
        let mut hotrun = project.start(&["-p", spec]);
        hotrun.wait_for("building  cargo build -p cli --bin cli");
        hotrun.wait_for_line("cli is up");
        hotrun.end();
    }
}

#[test]
fn a_package_with_a_namesake_is_shown_as_it_can_be_typed() {
    if !has("a_package_with_a_namesake", &["cargo"]) {
        return;
    }
    let tool = "[package]\nname = \"tool\"\nversion = \"0.2.0\"\nedition = \"2021\"\n\
                [dependencies]\nhelper = { path = \"helper\" }\n";
    let helper = format!("{}[dependencies]\ntool = {{ path = \"../old\" }}\n", package("helper"));
    let project = Sandbox::empty()
        .file("Cargo.toml", tool)
        .file("src/main.rs", &says("tool is up"))
        .file("helper/Cargo.toml", &helper)
        .file("helper/src/lib.rs", "")
        .file("old/Cargo.toml", &package("tool"))
        .file("old/src/lib.rs", "");
    let mut hotrun = project.start(&["-p", "tool@0.2"]);
    hotrun.wait_for("building  cargo build -p tool@0.2.0 --bin tool");
    hotrun.wait_for_line("tool is up");
    hotrun.end();
    project.sh("cargo build -q -p tool@0.2.0 --bin tool");
}

// What matters

#[test]
fn files_that_cargo_and_rustup_read_start_a_build_also_when_they_are_new() {
    if !has("files_that_cargo_and_rustup_read", &["cargo"]) {
        return;
    }
    let project = Sandbox::empty()
        .file("w/Cargo.toml", "[workspace]\nmembers = [\"app\"]\nresolver = \"2\"\n")
        .file("w/app/Cargo.toml", MANIFEST)
        .file("w/app/src/main.rs", &prints(&["A", "B", "C"]))
        .file(".cargo/config.toml", "[env]\nC = \"above\"\n")
        // So that no toolchain is installed on account of the file.
        .env("RUSTUP_TOOLCHAIN", &toolchain());
    let mut hotrun = project.start(&["-C", "w/app"]);
    hotrun.wait_for_line("A=- B=- C=above up");
    project.save("w/.cargo/config.toml", "[env]\nA = \"1\"\n");
    hotrun.wait_for_line("A=1 B=- C=above up");
    project.save("w/app/.cargo/config", "[env]\nB = \"2\"\n");
    hotrun.wait_for_line("A=1 B=2 C=above up");
    project.save(".cargo/config.toml", "[env]\nC = \"changed\"\n");
    hotrun.wait_for_line("A=1 B=2 C=changed up");
    project.sh("rm w/.cargo/config.toml");
    hotrun.wait_for_line("A=- B=2 C=changed up");
    project.save("w/rust-toolchain.toml", "[toolchain]\nchannel = \"stable\"\n");
    hotrun.wait_for("changed");
    hotrun.wait_for("started");
    project.sh("echo '# somebody else' >> w/Cargo.lock");
    hotrun.wait_for("changed");
    hotrun.wait_for("started");
    hotrun.end();
}

#[test]
fn what_only_tests_need_does_not_matter_to_the_program_but_to_an_example() {
    if !has("what_only_tests_need", &["cargo"]) {
        return;
    }
    let manifest = format!(
        "{MANIFEST}[dev-dependencies]\ntesting = {{ path = \"../testing\" }}\n\
         [build-dependencies]\nbuilding = {{ path = \"../building\" }}\n"
    );
    let main = "fn main() { println!(\"serving one as {}\", std::process::id()); \
                std::thread::sleep(std::time::Duration::from_secs(1000)); }\n";
    let project = Sandbox::empty()
        .file("app/Cargo.toml", &manifest)
        .file("app/build.rs", "fn main() { building::build() }\n")
        .file("app/src/main.rs", main)
        .file("app/examples/e.rs", main)
        .file("testing/Cargo.toml", &package("testing"))
        .file("testing/src/lib.rs", "")
        .file("building/Cargo.toml", &package("building"))
        .file("building/src/lib.rs", "pub fn build() {}\n");
    let mut hotrun = project.start(&["-C", "app"]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("testing/src/lib.rs", "// changed\n");
    project.save("building/src/lib.rs", "pub fn build() {}\n// changed\n");
    hotrun.wait_for("changed  ");
    // The program may be the same.
    let line = hotrun.wait_for("built in");
    assert_eq!(hotrun.count("testing/src"), 0, "{line}");
    hotrun.end();
    let mut hotrun = project.start(&["-C", "app", "--example", "e"]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("testing/src/lib.rs", "// changed again\n");
    hotrun.wait_for("testing/src/lib.rs");
    hotrun.wait_for("built in");
    hotrun.end();
}

// What cargo says, and does not

#[test]
fn where_cargo_cannot_resolve_the_manifests_say_what_is_watched() {
    if !has("where_cargo_cannot_resolve", &["cargo"]) {
        return;
    }
    let app = format!("{MANIFEST}[dependencies]\nlib = {{ path = \"../lib\" }}\n");
    let project = Sandbox::empty()
        .file("app/Cargo.toml", &app)
        .file("app/src/main.rs", &says("app is up"))
        .file("lib/Cargo.toml", &package("lib"))
        .file("lib/src/lib.rs", "");
    let script =
        "case \"$*\" in *--no-deps*) ;; metadata*) echo 'error: no network' >&2; exit 101;; esac";
    let project = with_cargo(project, script);
    let mut hotrun = project.start(&["-C", "app"]);
    hotrun.wait_for("error: no network");
    hotrun.wait_for_line("app is up");
    // Until then a verification may begin, for cargo's new Cargo.lock, and read it unreported.
    hotrun.wait_for("ready");
    project.save("lib/src/lib.rs", "// changed\n");
    hotrun.wait_for("lib/src/lib.rs");
    // (`built  in 1 s`, or `unchanged  …, built in 1 s`.)
    hotrun.wait_for("built");
    hotrun.end();
}

#[test]
fn where_only_the_network_is_missing_cargo_is_asked_offline() {
    if !has("where_only_the_network_is_missing", &["cargo"]) {
        return;
    }
    let project =
        Sandbox::empty().file("Cargo.toml", MANIFEST).file("src/main.rs", &says("app is up"));
    let script =
        "case \"$*\" in *--offline*) ;; metadata*) echo 'error: no network' >&2; exit 101;; esac";
    let project = with_cargo(project, script);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("app is up");
    assert!(!hotrun.end().contains("no network"));
}

#[test]
fn an_older_cargo_is_asked_by_the_name_of_the_host() {
    if !has("an_older_cargo_is_asked", &["cargo"]) {
        return;
    }
    let project =
        Sandbox::empty().file("Cargo.toml", MANIFEST).file("src/main.rs", &says("app is up"));
    let script = "case \"$*\" in metadata*host-tuple*) echo 'error: host-tuple?' >&2; exit 101;; esac\n\
                  [ \"$1\" = metadata ] && echo \"$*\" >> $(dirname $0)/asked";
    let project = with_cargo(project, script);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("app is up");
    hotrun.end();
    let asked = fs::read_to_string(project.root().join("bin/asked")).unwrap();
    assert!(asked.contains(&format!("--filter-platform {}", host())), "{asked}");
}

#[test]
fn a_slow_cargo_metadata_is_never_silent() {
    if !has("a_slow_cargo_metadata", &["cargo"]) {
        return;
    }
    let project =
        Sandbox::empty().file("Cargo.toml", MANIFEST).file("src/main.rs", &says("app is up"));
    // It goes on only when hotrun has said something.
    let script = "if [ \"$1\" = metadata ]; then mkfifo $(dirname $0)/go; cat $(dirname $0)/go; \
                  echo '    Updating crates.io index' >&2; cat $(dirname $0)/go; fi";
    let project = with_cargo(project, script);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("hotrun: waiting for cargo metadata");
    project.sh(": > bin/go");
    hotrun.wait_for_line("    Updating crates.io index");
    project.sh(": > bin/go");
    hotrun.wait_for_line("app is up");
    hotrun.end();
}

#[test]
fn a_manifest_that_is_broken_at_the_start_is_reported_once_and_waited_for() {
    if !has("a_manifest_that_is_broken", &["cargo"]) {
        return;
    }
    let root = "[workspace]\nmembers = [\"app\"]\nresolver = \"2\"\n";
    let project = Sandbox::empty()
        .file("Cargo.toml", root)
        .file("app/Cargo.toml", "[package\nname = \"app\"\n")
        .file("app/src/main.rs", &says("app is up"));
    let (code, _, stderr) = project.run(&["--once"]);
    assert_eq!(code, 1, "{stderr}");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("app/Cargo.toml");
    hotrun.wait_for("waiting until this is fixed");
    project.save("app/Cargo.toml", MANIFEST);
    hotrun.wait_for_line("app is up");
    assert_eq!(hotrun.count("waiting until this is fixed"), 1, "{}", hotrun.output());
    hotrun.end();
    project.save(".cargo/config.toml", "[env\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("waiting until this is fixed");
    project.sh("rm .cargo/config.toml");
    hotrun.wait_for_line("app is up");
    hotrun.end();
    project.save("Cargo.toml", "[workspace\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("waiting until this is fixed");
    hotrun.end();
}

#[test]
fn a_build_that_waits_for_another_cargo_names_it() {
    if !has("a_build_that_waits", &["cargo", "flock"]) {
        return;
    }
    let project =
        Sandbox::empty().file("Cargo.toml", MANIFEST).file("src/main.rs", &says("app is up"));
    project.sh("cargo build -q");
    // Without a child, which would hold the lock, too, when this one is killed.
    let words = ["--no-fork", "target/debug/.cargo-lock", "sleep", "1000"];
    let mut holder = project.program("flock", &words).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(holder.id().try_into().unwrap());
    // A lock belongs to who has opened the file, whatever it executes then.
    crate::sandbox::wait_until("the lock is held", || {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with("sleep")
    });
    let mut hotrun = project.start(&[]);
    hotrun.wait_for(&format!("target/debug/.cargo-lock, which is locked by pid {pid}: sleep 1000"));
    assert!(is_alive(pid));
    holder.kill().unwrap();
    holder.wait().unwrap();
    hotrun.wait_for_line("app is up");
    hotrun.end();
}
