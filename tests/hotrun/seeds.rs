//! The configurations of the articles that the project grew from, each as its author meant
//! it.

use std::path::{Path, PathBuf};

use crate::go::MAIN;
use crate::sandbox::{Sandbox, has, skip};

fn seeds() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/seed-configs");
    shared.is_dir().then_some(shared)
}

#[test]
fn every_seed_configuration_runs_and_rebuilds() {
    let test = "every_seed_configuration_runs_and_rebuilds";
    let Some(seeds) = seeds() else {
        return skip(test, "there is no ../shared/seed-configs");
    };
    if !has(test, &["go"]) {
        return;
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(seeds)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".air.toml"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 5);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let project = Sandbox::empty()
            .file(".air.toml", &text)
            .file("go.mod", "module example.com/app\n\ngo 1.21\n")
            .file("vendor/README", "")
            .file("main.go", &MAIN.replace("VERSION", "one"));
        project.sh("rm -r vendor");
        let mut hotrun = project.start(&[]);
        hotrun.wait_serving("one");
        project.save("main_test.go", "package main\n");
        project.save("main.go", &MAIN.replace("VERSION", "two"));
        hotrun.wait_serving("two");
        assert_eq!(hotrun.count("building"), 2, "{}:\n{}", file.display(), hotrun.output());
        let told = text.contains("send_error_to_tty");
        assert_eq!(hotrun.count("warning"), usize::from(told), "{}", hotrun.output());
        hotrun.end();
    }
}
