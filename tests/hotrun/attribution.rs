//! Who wrote a file: the build, the program, git, or a person. One save is one start, and what is
//! nobody's save starts nothing.

use std::fs;
use std::os::unix::fs::symlink;

use crate::rust::MANIFEST;
use crate::sandbox::{CONFIG, Hotrun, Sandbox, has, wait_until};

/// Builds and verifications that have begun.
fn builds(hotrun: &Hotrun) -> usize {
    hotrun.count("  building  ") + hotrun.count(" verifying  ")
}

/// Maximum number of saves after which a directory that builds make is not yet proven an output.
const MAX_UNPROVEN: usize = 20;

fn starts(hotrun: &Hotrun) -> usize {
    hotrun.count("  started  ")
}

/// Saves, and waits until that serves and nothing more is to come of it.
fn save_and_rest(project: &Sandbox, hotrun: &mut Hotrun, version: &str) {
    project.save("source.txt", &format!("{version}\n"));
    hotrun.wait_serving(version);
    hotrun.wait_for("ready");
}

/// Waits until no build or verification runs, or is due.
fn wait_until_nothing_is_made(project: &Sandbox) {
    wait_until("nothing is made", || project.status()["services"][0]["making"] == "nothing");
}

#[test]
fn a_first_build_that_makes_a_directory_is_one_build_and_one_start() {
    // Beside scratch files with random names; and again with nothing that names the program.
    let build = "#!/bin/sh\nmkdir -p out/scratch\n\
                 f=$(mktemp out/scratch/try-XXXXXX); echo x > $f; rm $f\n\
                 date +%s%N > out/build.log\ncp source.txt out/app.txt\nsleep 0.2\n";
    let app = "echo serving $(cat $1) as $$\nexec sleep 1000\n";
    let config = "[build]\ncmd = \"sh build.sh\"\nentrypoint = \"./app out/app.txt\"\n";
    let project = Sandbox::empty()
        .file("hotrun.toml", config)
        .file("build.sh", build)
        .script("app", app)
        .file("source.txt", "one\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("unchanged  the program is the same");
    wait_until_nothing_is_made(&project);
    let begun = (hotrun.count("  building  "), starts(&hotrun));
    assert_eq!(begun, (1, 1), "{}", hotrun.output());
    // On a busy machine, the verification may write later than the build did. That is no proof, and
    // the builds of the next saves are verified, too.
    let is_proven = |hotrun: &Hotrun| hotrun.count("output  out: written by the build") > 0;
    for number in 0..MAX_UNPROVEN {
        if is_proven(&hotrun) {
            break;
        }
        save_and_rest(&project, &mut hotrun, &format!("more{number}"));
        wait_until_nothing_is_made(&project);
    }
    assert!(is_proven(&hotrun), "{}", hotrun.output());
    let before = (builds(&hotrun), starts(&hotrun));
    for version in ["two", "three", "four"] {
        save_and_rest(&project, &mut hotrun, version);
    }
    let more = (builds(&hotrun) - before.0, starts(&hotrun) - before.1);
    assert_eq!(more, (3, 3), "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_build_that_fails_after_it_has_written_runs_once_for_a_save() {
    let build = "mkdir -p gen; date +%s%N > gen/a.s; ! grep -q broken source.txt";
    let config = format!("[build]\ncmd = {build:?}\ninclude_ext = [\"txt\", \"s\"]\n");
    let project = Sandbox::empty().file("hotrun.toml", &config).file("source.txt", "one\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("output  gen");
    let before = builds(&hotrun);
    project.save("source.txt", "broken\n");
    hotrun.wait_for("failed  exit code 1");
    project.save("source.txt", "two\n");
    hotrun.wait_for("built");
    assert_eq!(builds(&hotrun) - before, 2, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_generator_beside_hotrun_is_never_taken_for_the_build() {
    // It writes what the build has read already, and once more after an undo.
    let build = "cp gen.txt built; touch reads; sleep 0.4";
    let config = CONFIG.replace("cp source.txt built", build);
    let project = Sandbox::new().file("hotrun.toml", &config).file("gen.txt", "one\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    for version in ["two", "three", "four", "five"] {
        project.sh("rm -f reads");
        project.save("source.txt", version);
        wait_until("the build reads", || project.root().join("reads").exists());
        project.save("gen.txt", &format!("{version}\n"));
        hotrun.wait_serving(version);
        hotrun.wait_for("ready");
    }
    project.sh("rm -f reads");
    project.save("source.txt", "six");
    wait_until("the build reads", || project.root().join("reads").exists());
    project.save("gen.txt", "six\n");
    project.save("gen.txt", "five\n");
    project.save("source.txt", "five");
    hotrun.wait_for("ready");
    let last =
        hotrun.output().lines().rfind(|line| line.starts_with("serving ")).unwrap().to_owned();
    assert!(last.starts_with("serving five "), "{}", hotrun.output());
    assert_eq!(hotrun.count("output"), 0, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_generator_that_reacts_to_the_same_save_before_the_build_reads_is_not_taken_for_it() {
    // At first it is so fast that the build reads what it writes, and then no longer.
    let config = "[build]\ncmd = \"sh build.sh\"\nentrypoint = \"tmp/app\"\n\
                  include_ext = [\"txt\"]\n";
    let build = "touch begun; sleep 0.2; text=$(cat gen.txt); touch read; mkdir -p tmp\n\
                 { echo '#!/bin/sh'; echo \"echo serving $text as \\$\\$; exec sleep 1000\"; } > tmp/new\n\
                 chmod +x tmp/new; mv tmp/new tmp/app; sleep 0.2\n";
    let project = Sandbox::empty()
        .file("hotrun.toml", config)
        .file("build.sh", build)
        .file("gen.txt", "one\n")
        .file("source.txt", "one\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let mut save = |version: &str, mark: &str, last: &str| {
        project.sh("rm -f begun read");
        project.save("source.txt", version);
        let root = project.root();
        let waits = || hotrun.count("to see whether the build writes gen.txt");
        let before = waits();
        wait_until("the build", || root.join(mark).exists() || waits() > before);
        project.save("gen.txt", &format!("{version}\n"));
        hotrun.wait_serving(version);
        hotrun.wait_for(last);
    };
    save("two", "begun", "ready");
    save("three", "begun", "ready");
    save("four", "begun", "unchanged");
    save("five", "begun", "unchanged");
    save("six", "begun", "ready");
    for version in ["seven", "eight"] {
        save(version, "read", "ready");
    }
    assert_eq!(hotrun.count("  output  "), 0, "{}", hotrun.output());
    assert_eq!(hotrun.count("to see whether"), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn under_steady_saving_something_newer_starts_again_and_again() {
    // Each save comes when the build is half done: none would ever end.
    let build = "v=$(cat source.txt); sleep 0.3; echo half $v; sleep 0.3; echo $v > built";
    let config = CONFIG.replace("cp source.txt built", build);
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    for number in 0..9 {
        project.save("source.txt", &format!("{number}\n"));
        hotrun.wait_for_line(&format!("half {number}"));
    }
    hotrun.wait_serving("8");
    let newer = hotrun.output().lines().filter(|line| line.starts_with("serving ")).count();
    assert!(newer >= 5, "{newer} programs\n{}", hotrun.output());
    assert!(hotrun.count("finishing the running build first") > 0, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_program_that_writes_a_watched_file_is_found_out_and_an_edit_by_hand_still_counts() {
    if !cfg!(target_os = "linux") {
        return;
    }
    // At its start; and again and again.
    let once = "echo serving $(cat state.json) as $$\ndate +%N > state.json\nexec sleep 1000\n";
    let always = "echo serving $(cat state.json) as $$\n\
                  while :; do sleep 0.3; date +%N > state.json; done\n";
    let rule = "[[build.rules]]\ninclude_file = [\"state.json\"]\naction = \"restart\"\n";
    for (app, config) in [
        (once, "[build]\nentrypoint = \"./app\"\n".to_owned()),
        (once, format!("[build]\ncmd = \"true\"\nentrypoint = \"./app\"\n{rule}")),
        (always, "[build]\nentrypoint = \"./app\"\n".to_owned()),
    ] {
        let project = Sandbox::empty()
            .file("hotrun.toml", &config)
            .script("app", app)
            .file("state.json", "0\n");
        let mut hotrun = project.start(&[]);
        let line = hotrun.wait_for("the program itself writes state.json");
        assert!(line.contains("exclude = [\"state.json\"]"), "{line}");
        let before = starts(&hotrun);
        // Five, but for a machine on which ages vary.
        assert!(before <= 40, "{before} starts\n{}", hotrun.output());
        if app == once {
            project.save("state.json", "by hand\n");
            hotrun.wait_serving("by hand");
        } else {
            project.save("other.json", "by hand\n");
            hotrun.wait_for("changed  other.json");
            hotrun.wait_for("started");
        }
        hotrun.end();
    }
}

#[test]
fn what_hotrun_prints_into_a_file_of_the_project_is_no_save() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let project = Sandbox::new().file("hotrun.toml", &CONFIG.replace("\"txt\"", "\"*\""));
    let root = project.root();
    let printed = || fs::read_to_string(root.join("printed")).unwrap_or_default();
    let mut hotrun = project.start_by("exec \"$@\" >printed 2>&1");
    wait_until("it serves", || printed().contains("ready"));
    for version in ["two", "three"] {
        project.save("source.txt", version);
        wait_until("it serves", || printed().contains(&format!("serving {version} ")));
    }
    hotrun.signal(nix::sys::signal::Signal::SIGINT);
    hotrun.wait();
    // (What so short a build has written may be reported after its end, and be taken for a save.)
    assert_eq!(printed().matches("  changed  printed").count(), 0, "{}", printed());
    assert_eq!(printed().matches("  changed  source.txt").count(), 2, "{}", printed());
}

#[test]
fn half_a_tree_is_not_built_while_git_has_its_lock() {
    let project = Sandbox::new();
    project.sh("git init -q .");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let lock = project.root().join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    project.save("source.txt", "half\n");
    // Longer than a burst would last: it is waited for by what is written, not by a clock.
    project.sh("for i in 1 2 3 4 5; do echo $i > other.txt; sleep 0.1; done");
    project.save("source.txt", "whole\n");
    fs::remove_file(&lock).unwrap();
    hotrun.wait_serving("whole");
    assert_eq!((builds(&hotrun), hotrun.count("serving half")), (2, 0), "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn the_same_rust_program_keeps_running_unless_it_is_to_be_restarted() {
    let test = "the_same_rust_program_keeps_running";
    if !has(test, &["cargo"]) {
        return;
    }
    let main = |version: &str, comment: &str| {
        format!(
            "fn main() {{\n    println!(\"serving {version} as {{}}\", std::process::id());\n    \
             std::thread::sleep(std::time::Duration::from_secs(1000));\n}}\n// {comment}\n"
        )
    };
    for (config, is_kept) in [("", true), ("[run]\nrestart_unchanged = true\n", false)] {
        let project = Sandbox::empty()
            .file("hotrun.toml", config)
            .file("Cargo.toml", MANIFEST)
            .file("src/main.rs", &main("one", ""));
        let mut hotrun = project.start(&[]);
        hotrun.wait_serving("one");
        hotrun.wait_for("ready");
        for number in 1..=3 {
            project.save("src/main.rs", &main("one", &format!("comment {number}")));
            if is_kept {
                hotrun.wait_for("unchanged  the program is the same");
            } else {
                hotrun.wait_serving("one");
                hotrun.wait_for("ready");
            }
        }
        assert_eq!(starts(&hotrun), if is_kept { 1 } else { 4 }, "{}", hotrun.output());
        project.save("src/main.rs", &main("two", ""));
        hotrun.wait_serving("two");
        hotrun.end();
    }
}

#[test]
fn the_same_go_program_keeps_running_and_a_template_restarts_it() {
    let test = "the_same_go_program_keeps_running";
    if !has(test, &["go"]) {
        return;
    }
    let main = |comment: &str| {
        format!(
            "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"time\"\n)\n\nfunc main() {{\n\
             \ttext, _ := os.ReadFile(\"page.html\")\n\
             \tfmt.Println(\"serving\", string(text), \"as\", os.Getpid())\n\
             \ttime.Sleep(time.Hour)\n}}\n// {comment}\n"
        )
    };
    let project = Sandbox::empty()
        .env("GOFLAGS", "-buildvcs=false")
        .file("go.mod", "module example.com/app\n\ngo 1.20\n")
        .file("main.go", &main("0"))
        .file("page.html", "one");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    for number in 1..=3 {
        project.save("main.go", &main(&number.to_string()));
        hotrun.wait_for("unchanged  the program is the same");
    }
    assert_eq!(starts(&hotrun), 1, "{}", hotrun.output());
    project.save("page.html", "two");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn a_file_behind_a_directory_link_is_seen_when_that_is_re_pointed() {
    // As Kubernetes mounts a ConfigMap; and as releases are switched.
    let layouts =
        [("config.json", "..data", "..1", "..2"), ("conf/config.json", "conf", "c1", "c2")];
    let keys = |file: &str| {
        [
            format!("include_file = [{file:?}]\n"),
            format!("[[build.rules]]\ninclude_file = [{file:?}]\naction = \"restart\"\n"),
        ]
    };
    for (file, link, old, new) in layouts {
        for key in keys(file) {
            for poll in [false, true] {
                let app = format!("echo serving $(cat {file}) as $$\nexec sleep 1000\n");
                let config = format!(
                    "[build]\ncmd = \"true\"\nentrypoint = \"./app\"\ninclude_ext = [\"none\"]\n\
                     poll = {poll}\n{key}"
                );
                let project = Sandbox::empty()
                    .file("hotrun.toml", &config)
                    .script("app", &app)
                    .file(&format!("{old}/config.json"), "one\n")
                    .file(&format!("{new}/config.json"), "two\n");
                let root = project.root();
                symlink(old, root.join(link)).unwrap();
                if !root.join(file).exists() {
                    symlink(format!("{link}/config.json"), root.join(file)).unwrap();
                }
                let mut hotrun = project.start(&[]);
                hotrun.wait_serving("one");
                hotrun.wait_for("ready");
                symlink(new, root.join("next")).unwrap();
                fs::rename(root.join("next"), root.join(link)).unwrap();
                hotrun.wait_serving("two");
                hotrun.wait_for("ready");
                // And what it leads to now is seen.
                project.save(&format!("{new}/config.json"), "three\n");
                hotrun.wait_serving("three");
                hotrun.end();
            }
        }
    }
}
