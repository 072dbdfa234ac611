//! A program that crashes while requests are under way.

use std::thread;

use nix::sys::signal::{Signal, kill};

use super::ask;
use crate::sandbox::{Sandbox, free_port, has, number_in, pid_in};

const GETS: usize = 20;

/// The first generation never answers. It prints what it has received.
const SERVER: &str = r"
const http = require('node:http'), fs = require('node:fs');
const generation = process.env.HOTRUN_GENERATION;
let gets = 0;
const server = http.createServer((request, response) => {
  let body = '';
  request.on('data', (part) => body += part);
  request.on('end', () => {
    if (body) fs.appendFileSync('posts', body + '\n');
    if (request.url == '/slow' && generation == '1') {
      if (body || ++gets == GETS) console.log('received all', request.method);
    } else {
      response.end('generation ' + generation);
    }
  });
});
server.listen(process.env.PORT, '127.0.0.1');
";

#[test]
fn after_a_crash_what_is_idempotent_is_answered_and_a_post_is_not_sent_again() {
    let test = "after_a_crash_what_is_idempotent_is_answered_and_a_post_is_not_sent_again";
    if !has(test, &["node"]) {
        return;
    }
    for round in 0..number_in("HOTRUN_TEST_ROUNDS", 1) {
        let port = free_port();
        let config = format!(
            "[build]\nentrypoint = \"node server.js\"\ninclude_ext = [\"js\"]\n\
             [run]\non_exit = \"restart\"\n[proxy]\nproxy_port = {port}\napp_port = 0\n"
        );
        let project = Sandbox::empty()
            .file("hotrun.toml", &config)
            .file("server.js", &SERVER.replace("GETS", &GETS.to_string()))
            .file("posts", "");
        let mut hotrun = project.start_plain(&[]);
        let app = pid_in(&hotrun.wait_for("started  pid"));
        hotrun.wait_for("ready");
        // Connections that the proxy keeps end with the program, too.
        assert_eq!(ask(port, "GET", "/", "").text(), "generation 1");
        let gets: Vec<_> =
            (0..GETS).map(|_| thread::spawn(move || ask(port, "GET", "/slow", ""))).collect();
        let post = thread::spawn(move || ask(port, "POST", "/slow", "only once"));
        let put = thread::spawn(move || ask(port, "PUT", "/slow", "a body is not kept"));
        hotrun.wait_for_all(&["received all GET", "received all POST", "received all PUT"]);
        kill(app, Signal::SIGABRT).unwrap();
        for get in gets {
            let answer = get.join().unwrap();
            assert_eq!((answer.status, answer.text()), (200, "generation 2".to_owned()), "{round}");
        }
        for once in [post, put] {
            let answer = once.join().unwrap();
            assert_eq!(answer.status, 502);
            assert!(answer.text().contains("closed the connection"), "{}", answer.text());
        }
        let answer = ask(port, "POST", "/", "another");
        assert_eq!(answer.text(), "generation 2");
        let posts = std::fs::read_to_string(project.root().join("posts")).unwrap();
        let mut posts: Vec<&str> = posts.lines().collect();
        posts.sort_unstable();
        assert_eq!(posts, ["a body is not kept", "another", "only once"]);
        hotrun.end();
    }
}
