//! Cargo projects, without and with a configuration.

use crate::sandbox::{Sandbox, free_port, get, has, may_fetch};

pub(crate) const MANIFEST: &str =
    "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
const MAIN: &str = "fn main() {\n    let args: Vec<_> = std::env::args().skip(1).collect();\n    \
                    println!(\"serving VERSION as {}\", std::process::id());\n    \
                    println!(\"args {args:?}\");\n    \
                    std::thread::sleep(std::time::Duration::from_secs(1000));\n}\n";

fn main_rs(version: &str) -> String {
    MAIN.replace("VERSION", version)
}

#[test]
fn a_package_needs_no_configuration() {
    if !has("a_package_needs_no_configuration", &["cargo"]) {
        return;
    }
    let project =
        Sandbox::empty().file("Cargo.toml", MANIFEST).file("src/main.rs", &main_rs("one"));
    let mut hotrun = project.start(&["--", "--port", "1"]);
    hotrun.wait_for("building  cargo build --bin app");
    hotrun.wait_for("Compiling app");
    hotrun.wait_serving("one");
    hotrun.wait_for("args [\"--port\", \"1\"]");
    project.save("src/main.rs", &main_rs("two").replace("args {args", "args {argz"));
    hotrun.wait_for("error[E0425]");
    hotrun.wait_for("keeps running");
    project.save("src/main.rs", &main_rs("two"));
    hotrun.wait_serving("two");
    // Tests and what is not source do not matter to the program.
    project.save("tests/a.rs", "");
    project.save("README.md", "");
    project.save("src/main.rs", &main_rs("three"));
    hotrun.wait_serving("three");
    assert_eq!(hotrun.count("building"), 4, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_workspace_member_is_rebuilt_when_its_path_dependency_is_saved() {
    if !has("a_workspace_member_is_rebuilt", &["cargo"]) {
        return;
    }
    let lib = "pub const VERSION: &str = \"one\";\n";
    let main = "fn main() {\n    println!(\"serving {} as {}\", lib::VERSION, std::process::id());\n    \
                std::thread::sleep(std::time::Duration::from_secs(1000));\n}\n";
    let app = format!("{MANIFEST}[dependencies]\nlib = {{ path = \"../lib\" }}\n");
    let project = Sandbox::empty()
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = [\"app\", \"lib\", \"other\"]\nresolver = \"2\"\n",
        )
        .file("app/Cargo.toml", &app)
        .file("app/src/main.rs", main)
        .file("lib/Cargo.toml", &MANIFEST.replace("app", "lib"))
        .file("lib/src/lib.rs", lib)
        .file("other/Cargo.toml", &MANIFEST.replace("app", "other"))
        .file("other/src/lib.rs", "");
    let mut hotrun = project.start(&["-p", "app"]);
    hotrun.wait_serving("one");
    project.save("other/src/lib.rs", "// not used by app\n");
    project.save("lib/src/lib.rs", &lib.replace("one", "two"));
    hotrun.wait_serving("two");
    assert_eq!(hotrun.count("building"), 2, "{}", hotrun.output());
    // The workspace's own manifest lies in none of the packages.
    project.sh("echo '[profile.dev]\nopt-level = 1' >> Cargo.toml");
    hotrun.wait_for("changed  Cargo.toml");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn several_programs_ask_for_a_choice_and_flags_make_it() {
    if !has("several_programs_ask_for_a_choice", &["cargo"]) {
        return;
    }
    let project = Sandbox::empty()
        .file("Cargo.toml", &format!("{MANIFEST}[features]\nextra = []\n"))
        .file("src/bin/a.rs", "fn main() { println!(\"a\"); }\n")
        .file("src/bin/b.rs", "fn main() { println!(\"b {}\", cfg!(feature = \"extra\")); }\n")
        .file("examples/e.rs", "fn main() { println!(\"e {}\", cfg!(debug_assertions)); }\n");
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 2);
    assert_eq!(
        stderr,
        "hotrun: ROOT/Cargo.toml: several programs to choose from: a, b\n  \
         help: hotrun --bin a\n        hotrun --bin b\n        or set default-run in Cargo.toml\n"
    );
    let run = |args: &[&str]| {
        let args: Vec<&str> = ["--once", "-q"].iter().chain(args).copied().collect();
        let (code, stdout, stderr) = project.run(&args);
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    assert_eq!(run(&["--bin", "b", "--features", "extra"]), "b true\n");
    assert_eq!(run(&["--example", "e", "--release"]), "e false\n");
}

#[test]
fn an_axum_program_is_served_through_an_error_and_its_mending() {
    let test = "an_axum_program_is_served_through_an_error_and_its_mending";
    if !has(test, &["cargo"]) || !may_fetch(test) {
        return;
    }
    let port = free_port();
    let manifest = format!(
        "{MANIFEST}[dependencies]\naxum = {{ version = \"0.8\", default-features = false, \
         features = [\"http1\", \"tokio\"] }}\ntokio = {{ version = \"1\", \
         features = [\"rt\", \"net\", \"macros\"] }}\n"
    );
    let main = format!(
        "use axum::{{Router, routing::get}};\n\n#[tokio::main(flavor = \"current_thread\")]\n\
         async fn main() {{\n    let app = Router::new().route(\"/\", get(|| async {{ \"GREETING\" }}));\n    \
         let listener = tokio::net::TcpListener::bind((\"127.0.0.1\", {port})).await.unwrap();\n    \
         axum::serve(listener, app).await.unwrap();\n}}\n"
    );
    let project = Sandbox::empty()
        .file("Cargo.toml", &manifest)
        .file("src/main.rs", &main.replace("GREETING", "hello"));
    let mut hotrun = project.start(&[]);
    assert!(get(port, "/").ends_with("hello"));
    hotrun.wait_for("ready");
    project.save("src/main.rs", &main.replace("\"GREETING\"", "1 + \"\""));
    hotrun.wait_for("keeps running");
    assert!(get(port, "/").ends_with("hello"));
    project.save("src/main.rs", &main.replace("GREETING", "goodbye"));
    hotrun.wait_for("ready");
    assert!(get(port, "/").ends_with("goodbye"));

    // The same, as a file would have it.
    hotrun.end();
    let config = "[build]\ncmd = \"cargo build\"\nentrypoint = \"target/debug/app\"\n";
    let project = project.file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("ready");
    assert!(get(port, "/").ends_with("goodbye"));
    project.save("src/main.rs", &main.replace("GREETING", "hello again"));
    hotrun.wait_for("started");
    hotrun.wait_for("ready");
    assert!(get(port, "/").ends_with("hello again"));
    hotrun.end();
}
