//! Builds that write what they read: they come to rest, and never go round in silence.

use crate::rust::MANIFEST;
use crate::sandbox::{CONFIG, Hotrun, Sandbox, has};

/// The project whose `cmd`, `pre_cmd` or rule writes `gen.txt` by this script.
fn project(place: &str, script: &str) -> Sandbox {
    let build = "cat source.txt gen.txt | tr '\\\\n' ' ' > built";
    let config = match place {
        "cmd" => CONFIG.replace("cp source.txt built", &format!("{script}; {build}")),
        "pre_cmd" => {
            CONFIG.replace("cp source.txt built", build) + &format!("pre_cmd = [\"{script}\"]\n")
        }
        _ => {
            let rule = format!("[[build.rules]]\ninclude_ext = [\"in\"]\ncmd = \"{script}\"\n");
            CONFIG.replace("cp source.txt built", build) + &rule
        }
    };
    Sandbox::new().file("hotrun.toml", &config).file("gen.txt", "0\n").file("page.in", "one\n")
}

const PLACES: [&str; 3] = ["pre_cmd", "cmd", "rule"];

/// How many builds have begun before this version served for the first time; all, if it
/// never did.
fn builds(output: &str, version: &str) -> usize {
    let until = output.find(&format!("\nserving {version} ")).map(|serving| {
        let line = output[serving + 1..].lines().next().unwrap();
        // Usually hotrun's own line comes first.
        let pid = line.rsplit(' ').next().unwrap();
        let started = output.find(&format!("  started  pid {pid}\n"));
        started.map_or(serving, |started| started.min(serving))
    });
    let until = until.unwrap_or(output.len());
    let is_build = |line: &&str| {
        let begins = line.contains("  building  ") || line.contains(" verifying  ");
        begins && line.contains("cat source.txt")
    };
    output[..until].lines().filter(is_build).count()
}

/// Saves, and says how many builds it took until what was saved serves.
#[track_caller]
fn save(project: &Sandbox, hotrun: &mut Hotrun, place: &str, version: &str) -> usize {
    let before = builds(&hotrun.output(), version);
    let name = if place == "rule" { "page.in" } else { "source.txt" };
    if place == "rule" {
        project.save("source.txt", &format!("{version}\n"));
    }
    project.save(name, &format!("{version}\n"));
    hotrun.wait_for(&format!("serving {version} "));
    builds(&hotrun.output(), version) - before
}

#[test]
fn a_generator_that_writes_the_same_costs_a_few_builds_once_and_then_nothing() {
    for place in PLACES {
        let project = project(place, "echo generated > gen.txt");
        let mut hotrun = project.start(&[]);
        hotrun.wait_for("serving one ");
        for version in ["a", "b", "c", "d"] {
            hotrun.wait_for("ready");
            let builds = save(&project, &mut hotrun, place, version);
            assert!(builds <= 3, "{place} {version}: {builds}\n{}", hotrun.output());
        }
        hotrun.wait_for("ready");
        let output = hotrun.end();
        // The first build, one for each save, and three more at most until the file is known.
        let builds = builds(&output, "none");
        assert!(builds <= 8, "{place}: {builds} builds\n{output}");
        assert!(!output.contains("warning"), "{place}:\n{output}");
    }
}

#[test]
fn a_generator_that_writes_once_costs_nothing_afterwards() {
    for place in PLACES {
        let script = "grep -q [a-z] gen.txt || echo generated > gen.txt";
        let project = project(place, script);
        let mut hotrun = project.start(&[]);
        hotrun.wait_for("serving one ");
        for version in ["a", "b", "c"] {
            hotrun.wait_for("ready");
            save(&project, &mut hotrun, place, version);
        }
        hotrun.wait_for("ready");
        let output = hotrun.end();
        let builds = builds(&output, "none");
        assert!(builds <= 6, "{place}: {builds} builds\n{output}");
    }
}

#[test]
fn a_generator_in_cmd_that_writes_something_new_each_time_serves_and_is_told() {
    let script = "head -c 8 /dev/urandom | od -An -tx1 > gen.txt";
    let project = project("cmd", script);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("serving one ");
    // Two are cancelled; what the third has made starts while a verification begins.
    assert!(builds(&hotrun.output(), "one") <= 4, "{}", hotrun.output());
    hotrun.wait_for_all(&["output  gen.txt: written by the build", "ready"]);
    // From then on each save is served after one build, whatever follows.
    for version in ["a", "b"] {
        let builds = save(&project, &mut hotrun, "cmd", version);
        assert_eq!(builds, 1, "{}", hotrun.output());
        hotrun.wait_for("ready");
    }
    assert_eq!(hotrun.count("output  gen.txt"), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_generator_before_cmd_that_writes_something_new_each_time_comes_to_rest() {
    let script = "head -c 8 /dev/urandom | od -An -tx1 > gen.txt";
    for place in ["pre_cmd", "rule"] {
        let project = project(place, script);
        let mut hotrun = project.start(&[]);
        hotrun.wait_for("serving one ");
        for version in ["a", "b", "c", "d", "e"] {
            hotrun.wait_for("ready");
            let builds = save(&project, &mut hotrun, place, version);
            assert!(builds <= 3, "{place} {version}: {builds}\n{}", hotrun.output());
        }
        hotrun.wait_for("ready");
        let output = hotrun.end();
        let builds = builds(&output, "none");
        // Three until the file is known; then one for each save, and one more where the file
        // was written in the very tick in which `cmd` began.
        assert!(builds <= 3 + 5 * 2, "{place}: {builds} builds\n{output}");
        assert!(!output.contains("warning"), "{place}:\n{output}");
    }
}

#[test]
fn a_formatter_in_pre_cmd_converges() {
    let test = "a_formatter_in_pre_cmd_converges";
    if !has(test, &["go", "gofmt"]) {
        return;
    }
    let config = "[build]\npre_cmd = [\"gofmt -w main.go\"]\ncmd = \"cp main.go built\"\n\
                  entrypoint = [\"./app\"]\ninclude_ext = [\"go\"]\n";
    let app = "echo serving $(grep -o 'v[0-9]*' built) as $$\nexec sleep 1000\n";
    let source =
        |version: u32| format!("package main\nfunc main()   {{\nprintln(  \"v{version}\" )\n }}\n");
    let project =
        Sandbox::empty().file("hotrun.toml", config).script("app", app).file("main.go", &source(1));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("v1");
    hotrun.wait_for("ready");
    for version in 2..6 {
        project.save("main.go", &source(version));
        hotrun.wait_serving(&format!("v{version}"));
        hotrun.wait_for("ready");
    }
    let output = hotrun.end();
    let builds = output.matches("building  cp").count();
    assert!(builds <= 10, "{builds} builds\n{output}");
}

#[test]
fn a_formatter_that_writes_the_file_each_time_converges() {
    let formatters = [
        "sed -i s/bad/good/ source.txt",
        "sed -i s/bad/good/ source.txt; sleep 0.05",
        "x=$(sed s/bad/good/ source.txt); echo $x > source.txt; sleep 0.05",
    ];
    for formatter in formatters {
        let config = format!("{CONFIG}pre_cmd = [{formatter:?}]\n");
        let project = Sandbox::new().file("hotrun.toml", &config);
        let mut hotrun = project.start(&[]);
        hotrun.wait_serving("one");
        for version in 0..4 {
            hotrun.wait_for("ready");
            project.save("source.txt", &format!("bad {version}\n"));
            hotrun.wait_serving(&format!("good {version}"));
        }
        hotrun.wait_for("ready");
        let output = hotrun.end();
        // One for each save, and one for what the formatter made of it.
        let builds = output.matches("building  cp").count();
        assert!(builds <= 2 * 5, "{formatter}: {builds} builds\n{output}");
        assert!(!output.contains("warning"), "{formatter}:\n{output}");
    }
}

#[test]
fn a_build_that_replaces_a_file_by_one_of_a_new_name_does_not_spin() {
    let build = "cat source.txt > built; rm -f gen-*.txt; date > gen-$(date +%N).txt";
    let project = Sandbox::new().file("hotrun.toml", &CONFIG.replace("cp source.txt built", build));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.wait_for("ready");
    // What follows is proven to be of one family, or comes ever later.
    let builds = hotrun.count("building") + hotrun.count("verifying");
    assert!(builds <= 30, "{builds} builds\n{}", hotrun.output());
    hotrun.end();
}

#[test]
fn what_a_cargo_build_has_read_matters_whatever_it_is_called() {
    let test = "what_a_cargo_build_has_read_matters";
    if !has(test, &["cargo"]) {
        return;
    }
    let main = "fn main() {\n    println!(\"serving {} {} as {}\", include_str!(\"page.html\").trim(), \
                env!(\"FROM_BUILD\"), std::process::id());\n    \
                std::thread::sleep(std::time::Duration::from_secs(1000));\n}\n";
    let build = "fn main() {\n    println!(\"cargo::rerun-if-changed=tests/data\");\n    \
                 println!(\"cargo::rerun-if-changed=build.rs\");\n    \
                 let text = std::fs::read_to_string(\"tests/data/x.json\").unwrap();\n    \
                 println!(\"cargo::rustc-env=FROM_BUILD={}\", text.trim());\n}\n";
    let project = Sandbox::empty()
        .file("Cargo.toml", MANIFEST)
        .file("src/main.rs", main)
        .file("src/page.html", "one\n")
        .file("src/other.html", "x\n")
        .file("build.rs", build)
        .file("tests/data/x.json", "json1\n")
        .file("tests/a.rs", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one json1");
    hotrun.wait_for("ready");
    project.save("src/page.html", "two\n");
    hotrun.wait_serving("two json1");
    hotrun.wait_for("ready");
    project.save("tests/data/x.json", "json2\n");
    hotrun.wait_serving("two json2");
    hotrun.wait_for("ready");
    // What nobody reads does not matter, wherever it is.
    project.save("src/other.html", "y\n");
    project.save("tests/a.rs", "// y\n");
    // An error outside of the sources is mended there.
    project.save("tests/data/new.json", "new\n");
    hotrun.wait_for("changed  tests/data/new.json");
    hotrun.wait_for("built");
    hotrun.wait_serving("two json2");
    project.sh("rm tests/data/x.json");
    hotrun.wait_for("keeps running");
    project.save("tests/data/x.json", "json3\n");
    hotrun.wait_serving("two json3");
    let output = hotrun.end();
    assert!(!output.contains("other.html") && !output.contains("tests/a.rs"), "{output}");
}

#[test]
fn what_the_first_build_reads_is_seen_though_it_was_saved_while_that_ran() {
    let test = "what_the_first_build_reads_is_seen";
    if !has(test, &["cargo"]) {
        return;
    }
    let main = "fn main() {\n    println!(\"serving {} as {}\", include_str!(\"page.html\").trim(), \
                std::process::id());\n    \
                std::thread::sleep(std::time::Duration::from_secs(1000));\n}\n";
    // The build is held up when it has read everything, and before it ends.
    let linker = "#!/bin/sh\ncc \"$@\"; code=$?\ntouch linked; while [ ! -e end ]; do sleep 0.01; done; exit $code\n";
    let project = Sandbox::empty()
        .file("Cargo.toml", MANIFEST)
        .file("src/main.rs", main)
        .file("src/page.html", "one\n")
        .file("linker", linker)
        .file(".cargo/config.toml", "[build]\nrustflags = [\"-Clinker=./linker\"]\n");
    project.sh("chmod +x linker");
    let mut hotrun = project.start(&[]);
    project.sh("while [ ! -e linked ]; do sleep 0.01; done");
    project.save("src/page.html", "two\n");
    project.sh("touch end");
    hotrun.wait_serving("two");
    hotrun.end();
}
