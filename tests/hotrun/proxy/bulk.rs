//! Large bodies, and HTTP/2, with curl.

use std::process::Command;

use super::ask;
use crate::sandbox::{Hotrun, Sandbox, free_port, has, measured, number_in};

/// Counts what it receives, and sends as many bytes as the path says.
const SERVER: &str = r"
const http = require('node:http');
const block = Buffer.alloc(1 << 20, 'hotrun');
http.createServer(async (request, response) => {
  let received = 0;
  for await (const part of request) received += part.length;
  const size = Number(request.url.split('/')[2] ?? 0);
  if (!size) return response.end(`received ${received} over ${request.httpVersion}`);
  response.setHeader('Content-Length', size);
  for (let left = size; left > 0; left -= block.length) {
    const part = block.subarray(0, Math.min(left, block.length));
    if (!response.write(part)) await new Promise((done) => response.once('drain', done));
  }
  response.end();
}).listen(process.env.PORT, '127.0.0.1');
";

/// Limit for what large bodies add to the memory, in KiB.
const MAX_ADDED: u64 = 20 << 10;

/// The most memory that hotrun has used, in KiB.
fn peak(hotrun: &Hotrun) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hotrun.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What curl prints.
#[track_caller]
fn curl(project: &Sandbox, args: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail-with-body"]).args(args);
    let output = command.current_dir(project.root()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}{text}");
    text
}

fn project(port: u16) -> Sandbox {
    let config = format!(
        "[build]\nentrypoint = \"node server.js\"\ninclude_ext = [\"js\"]\n\
         [proxy]\nproxy_port = {port}\napp_port = 0\n"
    );
    Sandbox::empty().file("hotrun.toml", &config).file("server.js", SERVER)
}

/// `HOTRUN_TEST_MEGABYTES`: the size of the bodies.
#[test]
fn large_bodies_pass_both_ways_in_little_memory() {
    if !has("large_bodies_pass_both_ways_in_little_memory", &["node", "curl"]) {
        return;
    }
    let port = free_port();
    let project = project(port);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("proxy  ");
    assert_eq!(ask(port, "GET", "/", "").text(), "received 0 over 1.1");
    let size = number_in("HOTRUN_TEST_MEGABYTES", 128) << 20;
    project.sh(&format!("truncate --size {size} large"));
    let url = format!("http://localhost:{port}/up");
    let before = peak(&hotrun);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let up = curl(&project, &[version, "-T", "large", &url]);
        assert_eq!(up, format!("received {size} over 1.1"), "{version}");
        let down = format!("http://localhost:{port}/down/{size}");
        let write = ["-o", "/dev/null", "-w", "%{http_version} %{size_download}"];
        let down = curl(&project, &[&[version, &down][..], &write].concat());
        let expected = if version == "--http1.1" { "1.1" } else { "2" };
        assert_eq!(down, format!("{expected} {size}"));
    }
    let added = peak(&hotrun) - before;
    assert!(added < MAX_ADDED, "{added} KiB on top of {before} KiB");
    if std::env::var_os("HOTRUN_TEST_MEGABYTES").is_some() {
        let what = format!("{size} bytes up and down, twice: {added} KiB on top of {before} KiB");
        measured("large_bodies_pass_both_ways_in_little_memory", &what);
    }
    hotrun.end();
}

#[test]
fn http_2_without_tls_is_answered() {
    if !has("http_2_without_tls_is_answered", &["node", "curl"]) {
        return;
    }
    let port = free_port();
    let project = project(port);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("proxy  ");
    let url = format!("http://localhost:{port}/");
    let version = ["-w", " %{http_version} %{http_code}", "--http2-prior-knowledge"];
    let of = |args: &[&str]| curl(&project, &[&version, args].concat());
    assert_eq!(of(&[&url]), "received 0 over 1.1 2 200");
    assert_eq!(of(&["-d", "a=b&c=d", &url]), "received 7 over 1.1 2 200");
    assert_eq!(of(&["-X", "DELETE", "-d", "x", &url]), "received 1 over 1.1 2 200");
    // A client that may talk HTTP/2 and asks for it by an upgrade gets HTTP/1.1.
    let upgrade = curl(&project, &["--http2", "-w", " %{http_version}", &url]);
    assert_eq!(upgrade, "received 0 over 1.1 1.1");
    hotrun.end();
}
