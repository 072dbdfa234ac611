//! A project in its own directory, and a hotrun that runs there.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Timeout of every wait in tests; enough for the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// Marks everything that a sandbox starts: the name of a variable with the sandbox's own value.
const MARK: &str = "HOTRUN_TEST_SANDBOX";

/// Start of the command lines of hotrun's guardians.
pub(crate) const GUARDIAN: &str = "hotguard ";

/// The app of most tests: prints its version, and runs until it is stopped.
pub(crate) const APP: &str = "echo serving $(cat built) as $$\nexec sleep 1000\n";
/// Builds [`APP`]'s version from `source.txt`.
pub(crate) const CONFIG: &str = "[build]\ncmd = \"cp source.txt built\"\nentrypoint = [\"./app\"]\n\
                          include_ext = [\"txt\"]\nkill_delay = \"20s\"\n";
/// [`CONFIG`] with another program.
pub(crate) fn config_to_run(words: &[&str]) -> String {
    CONFIG.replace("[\"./app\"]", &format!("{words:?}"))
}

/// Most test apps listen on no port, so they count as ready after this time.
pub(crate) const SOON_READY: &str = "--ready.after=100ms";
/// Makes lines name the program by its pid.
pub(crate) const PIDS: &str = "--log.pids=true";
/// Concatenates all sources, in the order of their names.
pub(crate) const ALL: &str = "cat $(find . -name '*.txt' | sort) | tr '\\n' '-' > built";

pub(crate) struct Sandbox {
    dir: TempDir,
    env: Vec<(OsString, OsString)>,
}

impl Sandbox {
    /// Creates an empty directory.
    pub(crate) fn empty() -> Self {
        let dir = TempDir::with_prefix("hotrun-test-").unwrap();
        Self { dir, env: Vec::new() }
    }

    /// Creates a project with [`CONFIG`] and [`APP`], whose source is `one`.
    pub(crate) fn new() -> Self {
        Self::empty().file("hotrun.toml", CONFIG).script("app", APP).file("source.txt", "one\n")
    }

    /// Returns its directory, as hotrun resolves it.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// Adds a file.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        self.save(name, text);
        self
    }

    /// Adds an executable shell script.
    pub(crate) fn script(self, name: &str, text: &str) -> Self {
        self.save(name, &format!("#!/bin/sh\n{text}"));
        let path = self.root().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Adds an example of this repository, as in a fresh clone.
    pub(crate) fn of_example(self, name: &str) -> Self {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        self.sh(&format!("cp -r {}/. . && rm -rf target tmp", example.display()));
        self
    }

    /// Sets a variable for hotrun.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Writes a file, like an editor that truncates it.
    pub(crate) fn save(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Returns what the only hotrun that runs here says of itself.
    pub(crate) fn status(&self) -> serde_json::Value {
        let (code, text, errors) = self.run(&["status", "--json"]);
        assert_eq!((code, errors.as_str()), (0, ""), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Returns the number of the newest burst of saves, or request, that hotrun has seen.
    pub(crate) fn update(&self) -> u64 {
        self.status()["update"].as_u64().unwrap()
    }

    /// Returns a command that runs hotrun here.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_hotrun"), args)
    }

    fn command_of(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.program(program, args);
        // A Ctrl-C in the terminal of the tests must not reach hotrun.
        command.process_group(0);
        command
    }

    /// Returns a command for a program that runs here, and may run hotrun.
    pub(crate) fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.root()).args(args).stdin(Stdio::null());
        remove_variables_of_the_tests(&mut command);
        command.env(MARK, self.root()).envs(self.env.iter().cloned());
        command
    }

    /// Starts hotrun so that an app counts as ready after a moment.
    #[track_caller]
    pub(crate) fn start(&self, args: &[&str]) -> Hotrun {
        self.start_plain(&[&[SOON_READY], args].concat())
    }

    /// Starts hotrun with its default readiness checks.
    #[track_caller]
    pub(crate) fn start_plain(&self, args: &[&str]) -> Hotrun {
        self.start_bare(&[&[PIDS], args].concat())
    }

    /// Starts hotrun with only these arguments.
    #[track_caller]
    pub(crate) fn start_bare(&self, args: &[&str]) -> Hotrun {
        self.start_with(self.command(args))
    }

    /// Starts hotrun through a script that executes it: `exec "$@"`.
    #[track_caller]
    pub(crate) fn start_by(&self, script: &str) -> Hotrun {
        let mut command = self.command_of("sh", &["-c", script, "sh"]);
        command.args([env!("CARGO_BIN_EXE_hotrun"), SOON_READY, PIDS]);
        self.start_with(command)
    }

    /// Starts hotrun with a command.
    pub(crate) fn start_with(&self, mut command: Command) -> Hotrun {
        // One pipe for both streams keeps their lines in order.
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        drop(command);
        let lines = Arc::new(Lines::default());
        lines.read(reader);
        Hotrun { child, lines, seen: 0, root: self.root() }
    }

    /// Runs hotrun until it exits, and returns its exit code, stdout and stderr.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.replace(&self.root().display().to_string(), "ROOT")
        };
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Runs a shell script here, which must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(self.root());
        // What a script builds lies where hotrun's own build would put it.
        remove_variables_of_the_tests(&mut command);
        assert!(command.status().unwrap().success(), "{script}");
    }
}

/// Removes the variables by which the environment of the tests would change what programs do.
fn remove_variables_of_the_tests(command: &mut Command) {
    for name in ["CARGO", "HOTRUN_LOG", "MAKEFLAGS", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    for name in ["CARGO_TERM_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "NO_COLOR"] {
        command.env_remove(name);
    }
    // With it, Python writes each word of a line separately, and hotrun's lines get between.
    command.env_remove("PYTHONUNBUFFERED");
}

/// What is read at a time of what hotrun prints, in bytes: little is taken from a pipe of whose
/// lines none is wanted for a while.
const READ_AT_ONCE: usize = 512;

#[derive(Default)]
struct Lines {
    all: Mutex<Vec<String>>,
    changed: Condvar,
    /// Held while nothing is to be read.
    reading: Mutex<()>,
}

impl Lines {
    fn read(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let lines = Arc::clone(self);
        thread::spawn(move || {
            let stream = BufReader::with_capacity(READ_AT_ONCE, stream);
            for line in stream.split(b'\n').map_while(Result::ok) {
                drop(lines.reading.lock().unwrap());
                lines.all.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                lines.changed.notify_all();
            }
        });
    }
}

/// A running hotrun.
pub(crate) struct Hotrun {
    child: Child,
    lines: Arc<Lines>,
    seen: usize,
    root: PathBuf,
}

impl Hotrun {
    /// Waits for a line that contains this text, after the last line waited for.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_until(text, |line| line.contains(text))
    }

    /// Waits for lines that contain these texts, in any order, after the last line waited for.
    #[track_caller]
    pub(crate) fn wait_for_all(&mut self, texts: &[&str]) {
        let (first, mut last) = (self.seen, self.seen);
        for text in texts {
            self.seen = first;
            self.wait_for(text);
            last = last.max(self.seen);
        }
        self.seen = last;
    }

    /// Waits for a line that holds one of these texts, after the one that was waited for last.
    #[track_caller]
    pub(crate) fn wait_for_any(&mut self, texts: &[&str]) -> String {
        self.wait_until(&texts.join(", or "), |line| texts.iter().any(|text| line.contains(text)))
    }

    /// Waits for a line that equals this text.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, text: &str) {
        self.wait_until(text, |line| line == text);
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, found: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        let mut all = self.lines.all.lock().unwrap();
        loop {
            if let Some(at) = all.iter().skip(self.seen).position(|line| found(line)) {
                self.seen += at + 1;
                return all[self.seen - 1].clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line with {what:?} in:\n{}", all.join("\n"));
            all = self.lines.changed.wait_timeout(all, left).unwrap().0;
        }
    }

    /// Waits until this version serves, and returns the app's pid.
    #[track_caller]
    pub(crate) fn wait_serving(&mut self, version: &str) -> Pid {
        let line = self.wait_for(&format!("serving {version} as "));
        pid_in(&line)
    }

    /// Returns all lines so far.
    pub(crate) fn output(&self) -> String {
        self.lines.all.lock().unwrap().join("\n")
    }

    /// Returns how many lines so far contain this text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.lines.all.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    /// The last line so far that begins with this text.
    pub(crate) fn last_line(&self, begin: &str) -> Option<String> {
        let all = self.lines.all.lock().unwrap();
        all.iter().rfind(|line| line.starts_with(begin)).cloned()
    }

    /// What hotrun and its programs print is not read while this does its work.
    pub(crate) fn unread<T>(&self, work: impl FnOnce() -> T) -> T {
        let reading = self.lines.reading.lock().unwrap();
        let done = work();
        drop(reading);
        done
    }

    /// Sends hotrun a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Returns its stdin, if that is a pipe.
    pub(crate) fn stdin(&mut self) -> &mut impl Write {
        self.child.stdin.as_mut().unwrap()
    }

    /// Returns hotrun's own pid.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Waits until hotrun exits.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "hotrun does not end:\n{}", self.output());
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Returns true until hotrun has exited.
    pub(crate) fn is_running(&self) -> bool {
        is_alive(self.pid())
    }

    /// Waits until one of several hotruns in this sandbox exits, while the others continue. Returns
    /// its exit code (-1 after a signal) and its lines.
    #[track_caller]
    pub(crate) fn ended(mut self) -> (i32, String) {
        let status = self.wait();
        let output = self.output();
        // Dropping it would kill everything that this sandbox has started.
        std::mem::forget(self);
        (status.code().unwrap_or(-1), output)
    }

    /// Stops hotrun, and checks that it exits with code 0 and leaves no process behind.
    #[track_caller]
    pub(crate) fn end(mut self) -> String {
        self.signal(Signal::SIGINT);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.output());
        self.leaves_nobody();
        self.output()
    }

    /// Checks that no process of this sandbox is running.
    #[track_caller]
    pub(crate) fn leaves_nobody(&self) {
        let left = marked(&self.root);
        assert!(left.is_empty(), "left behind: {left:?}\n{}", self.output());
    }

    /// Sends a signal to all guardians.
    pub(crate) fn signal_guardians(&self, signal: Signal) {
        for (pid, words) in self.everybody() {
            if words.starts_with(GUARDIAN) {
                let sent = kill(pid, signal);
                // It may have exited by itself.
                assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "{pid}: {sent:?}");
            }
        }
    }

    /// Kills hotrun and its guardians at once, so that none of them can react.
    pub(crate) fn kill_with_guardians(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.signal_guardians(Signal::SIGKILL);
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Returns all running processes of this sandbox, with their command lines.
    pub(crate) fn everybody(&self) -> Vec<(Pid, String)> {
        marked(&self.root)
    }

    /// Returns the running processes of this sandbox, except hotrun itself and its guardians.
    pub(crate) fn children(&self) -> Vec<Pid> {
        let own = self.pid();
        let all = marked(&self.root).into_iter();
        let guarded = all.filter(|(pid, words)| *pid != own && !words.starts_with(GUARDIAN));
        guarded.map(|(pid, _)| pid).collect()
    }
}

impl Drop for Hotrun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (pid, _) in marked(&self.root) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Returns the running processes with a sandbox's mark in their environment, and their command
/// lines.
pub(crate) fn marked(root: &Path) -> Vec<(Pid, String)> {
    let mark = format!("{MARK}={}", root.display());
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        // If the main thread has exited, another thread's files are readable.
        let read = |name: &str| {
            let threads = fs::read_dir(entry.path().join("task")).into_iter().flatten().flatten();
            let of_threads = threads.map(|thread| thread.path());
            let mut all = std::iter::once(entry.path()).chain(of_threads);
            all.find_map(|one| fs::read(one.join(name)).ok().filter(|text| !text.is_empty()))
        };
        let environ = read("environ").unwrap_or_default();
        if environ.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()) {
            let words = read("cmdline").unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            found.push((Pid::from_raw(pid), words));
        }
    }
    found
}

/// Returns true while the process runs. A zombie counts only if it has threads beside the main one.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let fields = stat(pid);
    let threads = fields.get(17).and_then(|threads| threads.parse().ok()).unwrap_or(0_u32);
    fields.first().is_some_and(|state| !matches!(state.as_str(), "Z" | "X") || threads > 1)
}

/// Returns the fields of `/proc/PID/stat` after the name: state, parent and so on. Empty if the
/// process is gone.
pub(crate) fn stat(pid: Pid) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().map(String::from).collect()
}

/// Returns the children of this process that have exited and were not waited for.
pub(crate) fn zombies_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one =
        |pid: &Pid| matches!(&stat(*pid)[..], [state, of, ..] if state == "Z" && *of == parent);
    pids.map(Pid::from_raw).filter(is_one).collect()
}

/// Waits until this condition is true.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "it never comes that {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Returns the pid at the end of a line.
#[track_caller]
pub(crate) fn pid_in(line: &str) -> Pid {
    Pid::from_raw(line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Returns true if these programs are installed; otherwise reports what is skipped.
pub(crate) fn has(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> = programs
        .iter()
        .filter(|name| !std::env::split_paths(&path).any(|place| place.join(name).is_file()))
        .collect();
    if !missing.is_empty() {
        skip(test, &format!("{missing:?} is not installed"));
    }
    missing.is_empty()
}

/// Returns true if this script succeeds; otherwise reports what is skipped.
pub(crate) fn can(test: &str, script: &str) -> bool {
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    if !output.status.success() {
        skip(test, &format!("not possible here: {script}"));
    }
    output.status.success()
}

/// Returns the number in this variable, which makes a test longer or repeats it, or a default.
#[track_caller]
pub(crate) fn number_in(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

/// Returns true if a test may download packages; otherwise reports what is skipped.
pub(crate) fn may_fetch(test: &str) -> bool {
    let may = std::env::var_os("HOTRUN_TEST_ONLINE").is_some();
    if !may {
        skip(test, "it fetches packages; set HOTRUN_TEST_ONLINE=1 to run it");
    }
    may
}

/// Reports that a test is skipped, on the real stderr, which the test runner does not capture.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes());
}

/// Reports what a test has measured, in the same way.
pub(crate) fn measured(test: &str, what: &str) {
    let _ = std::io::stderr().write_all(format!("MEASURED {test}: {what}\n").as_bytes());
}

/// Returns the contents of the files that running hotruns keep, if this is `XDG_RUNTIME_DIR`.
pub(crate) fn runtime_files(runtime: &Path) -> Vec<String> {
    let files = fs::read_dir(runtime.join("hotrun")).unwrap().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
}

/// Returns a port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Returns the answer of a server on this port to `GET path`, as soon as there is one.
#[track_caller]
pub(crate) fn get(port: u16, path: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        match try_get(port, path) {
            Ok(answer) if !answer.is_empty() => return answer,
            answer => assert!(Instant::now() < until, "no answer on port {port}: {answer:?}"),
        }
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn try_get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
