//! Go modules, without and with a configuration.

use crate::sandbox::{Sandbox, free_port, get, has, may_fetch};

pub(crate) const MAIN: &str = "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"time\"\n)\n\nfunc main() {\n\t\
                        fmt.Printf(\"serving VERSION as %d\\n\", os.Getpid())\n\ttime.Sleep(time.Hour)\n}\n";

#[test]
fn a_module_needs_no_configuration() {
    if !has("a_module_needs_no_configuration", &["go"]) {
        return;
    }
    let project = Sandbox::empty()
        .file("go.mod", "module example.com/app\n\ngo 1.21\n")
        .file("cmd/server/main.go", &MAIN.replace("VERSION", "one"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("building  go build ./cmd/server");
    hotrun.wait_serving("one");
    project.save("cmd/server/main.go", &MAIN.replace("VERSION", "two").replace("Sleep", "Slepp"));
    hotrun.wait_for("undefined: time.Slepp");
    hotrun.wait_for("keeps running");
    project.save("cmd/server/main_test.go", "package main\n");
    project.save("cmd/server/main.go", &MAIN.replace("VERSION", "two"));
    hotrun.wait_serving("two");
    assert_eq!(hotrun.count("building"), 3, "{}", hotrun.output());
    hotrun.end();
    project.sh("git init -q . && test -z \"$(git status --porcelain tmp)\"");
}

#[test]
fn a_module_that_is_the_home_directory_is_refused_from_below_too() {
    if !has("a_module_that_is_the_home_directory", &["go"]) {
        return;
    }
    let project = Sandbox::empty()
        .file("go.mod", "module example.com/home\n\ngo 1.21\n")
        .file("below/main.go", MAIN);
    let home = project.root().display().to_string();
    let project = project.env("HOME", &home).env("GOCACHE", &format!("{home}/.cache"));
    let (code, _, stderr) = project.run(&["-C", "below"]);
    assert_eq!(code, 2);
    assert!(stderr.starts_with("hotrun: ROOT: is too much to watch"), "{stderr}");
}

#[test]
fn several_main_packages_are_listed() {
    if !has("several_main_packages_are_listed", &["go"]) {
        return;
    }
    let project = Sandbox::empty()
        .file("go.mod", "module example.com/app\n\ngo 1.21\n")
        .file("cmd/a/main.go", MAIN)
        .file("cmd/b/main.go", MAIN);
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2);
    assert_eq!(
        stderr,
        "hotrun: ROOT: several main packages to choose from: ./cmd/a, ./cmd/b\n  \
         help: hotrun -p ./cmd/a\n"
    );
    let mut hotrun = project.start(&["-p", "./cmd/b"]);
    hotrun.wait_serving("VERSION");
    hotrun.end();
}

#[test]
fn the_gin_example_is_served_through_an_error_and_its_mending() {
    let test = "the_gin_example_is_served_through_an_error_and_its_mending";
    if !has(test, &["go"]) || !may_fetch(test) {
        return;
    }
    let port = free_port();
    let project = Sandbox::empty().env("PORT", &port.to_string()).env("GIN_MODE", "release");
    let project = project.of_example("gin");
    let source = std::fs::read_to_string(project.root().join("main.go")).unwrap();
    for config in ["", ".air.toml"] {
        if !config.is_empty() {
            let text = "root = \".\"\ntmp_dir = \"tmp\"\n[build]\ncmd = \"go build -o ./tmp/main .\"\n\
                        bin = \"./tmp/main\"\ndelay = 1000\n";
            project.save(config, text);
        }
        project.save("main.go", &source);
        let mut hotrun = project.start(&[]);
        hotrun.wait_for("ready");
        assert!(get(port, "/ping").contains("pong"));
        project.save("main.go", &source.replace("func main() {", "func main() { undefined()"));
        hotrun.wait_for("undefined: undefined");
        hotrun.wait_for("keeps running");
        assert!(get(port, "/ping").contains("pong"));
        project.save("main.go", &source.replace("pong", "pang"));
        hotrun.wait_for("ready");
        assert!(get(port, "/ping").contains("pang"));
        project.sh("sed -i 's/<h1>/<h1>New: /' templates/index.html");
        hotrun.wait_for("changed  templates/index.html");
        hotrun.wait_for("ready");
        assert!(get(port, "/").contains("<h1>New: "));
        project.sh("sed -i 's/<h1>New: /<h1>/' templates/index.html");
        hotrun.end();
    }
}
