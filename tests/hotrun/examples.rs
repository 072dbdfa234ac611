//! What the README and the examples show. Its example itself is run by `.ci/run`: readers of the README change it,
//! and the tests must pass all the same.

use crate::sandbox::{Sandbox, free_port, get, has};

const MANIFEST: &str = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
/// As in `examples/hello`, but shorter.
const MAIN: &str = r#"use std::io::{BufRead, BufReader, Write};

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap();
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}"))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut lines = BufReader::new(&stream).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}\n", "GREETING")?;
    }
    Ok(())
}
"#;

#[test]
fn a_server_greets_anew_after_a_save() {
    if !has("a_server_greets_anew_after_a_save", &["cargo"]) {
        return;
    }
    let port = free_port();
    let project = Sandbox::empty()
        .file("Cargo.toml", MANIFEST)
        .file("src/main.rs", &MAIN.replace("GREETING", "Good morning"))
        .env("PORT", &port.to_string());
    let mut hotrun = project.start(&[]);
    assert!(get(port, "/").ends_with("Good morning\n"));
    hotrun.wait_for("ready");
    project.save("src/main.rs", &MAIN.replace("GREETING", "Good evening"));
    hotrun.wait_for("ready");
    assert!(get(port, "/").ends_with("Good evening\n"));
    hotrun.end();
}

#[test]
fn a_program_is_replaced_behind_the_proxy_of_the_example() {
    if !has("a_program_is_replaced_behind_the_proxy_of_the_example", &["node"]) {
        return;
    }
    let port = free_port();
    let project = Sandbox::empty().of_example("proxy");
    project.sh(&format!("sed -i 's/= 8080/= {port}/' hotrun.toml"));
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for(&format!("proxy  http://localhost:{port}"));
    // Waits for the program.
    assert!(get(port, "/").ends_with("Hello from behind the proxy\n"));
    hotrun.wait_for("ready");
    project.sh("sed -i 's/Hello/Good evening/' server.js");
    hotrun.wait_for("ready");
    hotrun.wait_for("stopped");
    assert!(get(port, "/").ends_with("Good evening from behind the proxy\n"));
    hotrun.end();
}

/// What its README shows for a program on a port of its own.
#[test]
fn one_option_puts_the_proxy_in_front_of_a_program() {
    if !has("one_option_puts_the_proxy_in_front_of_a_program", &["node"]) {
        return;
    }
    // Two that differ.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, own) = (free_port(), held.local_addr().unwrap().port());
    drop(held);
    let project = Sandbox::empty().of_example("proxy").env("PORT", &own.to_string());
    project.sh("rm hotrun.toml && echo '{\"main\": \"server.js\"}' > package.json");
    let mut hotrun = project.start_plain(&["--proxy", &format!("{port}:{own}")]);
    hotrun.wait_for(&format!("proxy  http://localhost:{port} → :{own}"));
    assert!(get(port, "/").ends_with("Hello from behind the proxy\n"));
    hotrun.end();
}
