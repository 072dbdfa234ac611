//! Clients that never retry, while the program is replaced again and again: none of their requests
//! fails, and no POST arrives twice.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Answer, Connection, ask, free_ports};
use crate::sandbox::{Sandbox, has, measured, number_in, wait_until};

const CLIENTS: usize = 50;

/// Boots for 300 ms, answers after 20 ms, and exits at SIGTERM at once, whatever is under way. It
/// writes down each POST as soon as it has it.
const SERVER: &str = r"
const http = require('node:http'), fs = require('node:fs');
const version = 'version 0 of the program';
const server = http.createServer((request, response) => {
  let body = '';
  request.on('data', (part) => body += part);
  request.on('end', () => {
    if (body) fs.appendFileSync('posts', body + '\n');
    setTimeout(() => response.end(version), 20);
  });
});
process.on('SIGTERM', () => process.exit(0));
setTimeout(() => server.listen(process.env.PORT, '127.0.0.1'), 300);
";

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    answers: usize,
    posts: Vec<String>,
    /// Everything that went wrong, in words, and how often.
    failures: BTreeMap<String, usize>,
    worst: Duration,
}

impl Seen {
    fn fail(&mut self, what: String) {
        *self.failures.entry(what).or_default() += 1;
    }
}

/// Clients at work: half of them use a new connection for each request, half of them one for all.
struct Load {
    is_over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    fn on(port: u16) -> Self {
        let (is_over, answers) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let clients = (0..CLIENTS).map(|number| {
            let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
            thread::spawn(move || {
                let mut client = Client { number, port, kept: None, newest: 0 };
                let mut seen = Seen::default();
                for round in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    client.ask(round, &mut seen);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                seen
            })
        });
        Self { clients: clients.collect(), is_over, answers }
    }

    /// Waits until more was answered.
    fn go_on(&self) {
        let enough = self.answers.load(Ordering::Relaxed) + 2 * CLIENTS;
        wait_until("more is answered", || self.answers.load(Ordering::Relaxed) >= enough);
    }

    fn end(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = client.join().unwrap();
            all.answers += seen.answers;
            all.posts.extend(seen.posts);
            all.worst = all.worst.max(seen.worst);
            for (what, count) in seen.failures {
                *all.failures.entry(what).or_default() += count;
            }
        }
        all
    }
}

struct Client {
    number: usize,
    port: u16,
    kept: Option<Connection>,
    /// The newest version that has answered.
    newest: u32,
}

impl Client {
    fn ask(&mut self, round: usize, seen: &mut Seen) {
        let post = round.is_multiple_of(3).then(|| format!("post {round} of {}", self.number));
        let began = Instant::now();
        let asked = self.answer(post.as_deref());
        seen.worst = seen.worst.max(began.elapsed());
        seen.posts.extend(post);
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => return seen.fail(format!("{:?}: {error}", error.kind())),
        };
        let text = answer.text();
        let version = text.strip_prefix("version ").and_then(|rest| rest.split(' ').next());
        let version = version.and_then(|version| version.parse().ok());
        let Some(version) = version.filter(|_| answer.status == 200) else {
            return seen.fail(format!("{}: {text}", answer.status));
        };
        if version < self.newest {
            seen.fail("an answer of an older version after one of a newer one".to_owned());
        }
        self.newest = version;
        seen.answers += 1;
    }

    /// Never asks twice.
    fn answer(&mut self, post: Option<&str>) -> io::Result<Answer> {
        let mut connection = match self.kept.take() {
            Some(connection) => connection,
            None => Connection::open(self.port)?,
        };
        let method = if post.is_some() { "POST" } else { "GET" };
        let answer = connection.ask(method, "/", post.unwrap_or_default())?;
        if self.number.is_multiple_of(2) && !answer.closes() {
            self.kept = Some(connection);
        }
        Ok(answer)
    }
}

/// Replaces the program under load. `HOTRUN_TEST_REPLACEMENTS`: how many times.
fn loses_nothing(test: &str, mode: &str, proxy: &str) {
    if !has(test, &["node"]) {
        return;
    }
    let [port, app_port] = free_ports();
    let config = format!(
        "[build]\nentrypoint = \"node server.js\"\ninclude_ext = [\"js\"]\n\
         [run]\nmode = \"{mode}\"\n[proxy]\nproxy_port = {port}\n{proxy}\n"
    );
    let config = config.replace("APP_PORT", &app_port.to_string());
    let project = Sandbox::empty()
        .file("hotrun.toml", &config)
        .file("server.js", SERVER)
        .file("posts", "")
        .env("PORT", &app_port.to_string());
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("ready");
    let load = Load::on(port);
    load.go_on();
    let replacements = number_in("HOTRUN_TEST_REPLACEMENTS", 8);
    for version in 1..=replacements {
        let server = SERVER.replace("version 0", &format!("version {version}"));
        project.save("server.js", &server);
        let steps = if mode == "restart" { ["stopped", "ready"] } else { ["ready", "stopped"] };
        for step in steps {
            hotrun.wait_for(step);
        }
        load.go_on();
    }
    let last = ask(port, "GET", "/", "").text();
    let mut seen = load.end();
    let output = hotrun.end();
    assert_eq!(seen.failures, BTreeMap::new(), "{output}");
    assert_eq!(last, format!("version {replacements} of the program"));
    let posts = std::fs::read_to_string(project.root().join("posts")).unwrap();
    let mut posts: Vec<&str> = posts.lines().collect();
    posts.sort_unstable();
    seen.posts.sort_unstable();
    assert_eq!(posts, seen.posts, "each arrived once");
    if std::env::var_os("HOTRUN_TEST_REPLACEMENTS").is_some() {
        let Seen { answers, worst, .. } = seen;
        let count = posts.len();
        let what = format!("{replacements} replacements, {answers} answers, {count} POSTs");
        measured(test, &format!("{what}, worst latency {worst:?}"));
    }
}

#[test]
fn no_request_fails_while_an_abrupt_program_is_restarted_behind_the_proxy() {
    let test = "no_request_fails_while_an_abrupt_program_is_restarted_behind_the_proxy";
    loses_nothing(test, "restart", "app_port = APP_PORT");
}

#[test]
fn no_request_fails_while_an_abrupt_program_is_handed_over_behind_the_proxy() {
    let test = "no_request_fails_while_an_abrupt_program_is_handed_over_behind_the_proxy";
    loses_nothing(test, "handover", "app_port = 0");
}
