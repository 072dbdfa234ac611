//! A project in a directory of its own, and hotrun at work on it.

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

/// Nothing that a test waits for takes this long, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// Everything that a sandbox starts has this variable, with the sandbox's own value.
const MARK: &str = "HOTRUN_TEST_SANDBOX";

/// What hotrun's guardians are called.
pub(crate) const GUARDIAN: &str = "hotguard ";

/// The app of most tests: it says which version it is, and lives until it is told to go.
pub(crate) const APP: &str = "echo serving $(cat built) as $$\nexec sleep 1000\n";
/// Builds [`APP`]'s version from `source.txt`.
pub(crate) const CONFIG: &str = "[build]\ncmd = \"cp source.txt built\"\nentrypoint = [\"./app\"]\n\
                          include_ext = [\"txt\"]\nkill_delay = \"20s\"\n";
/// [`CONFIG`] with another program.
pub(crate) fn config_to_run(words: &[&str]) -> String {
    CONFIG.replace("[\"./app\"]", &format!("{words:?}"))
}

/// Most apps of tests listen on no port, and are to be ready all the same.
pub(crate) const SOON_READY: &str = "--ready.after=100ms";
/// Lines name the program by its pid.
pub(crate) const PIDS: &str = "--log.pids=true";
/// Builds what all sources say, in the order of their names.
pub(crate) const ALL: &str = "cat $(find . -name '*.txt' | sort) | tr '\\n' '-' > built";

/// A project.
pub(crate) struct Sandbox {
    dir: TempDir,
    env: Vec<(OsString, OsString)>,
}

impl Sandbox {
    /// An empty directory.
    pub(crate) fn empty() -> Self {
        let dir = TempDir::with_prefix("hotrun-test-").unwrap();
        Self { dir, env: Vec::new() }
    }

    /// A project with [`CONFIG`] and [`APP`], whose source says `one`.
    pub(crate) fn new() -> Self {
        Self::empty().file("hotrun.toml", CONFIG).script("app", APP).file("source.txt", "one\n")
    }

    /// Its directory, as hotrun will call it.
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

    /// Holds an example of this project, as it is in a fresh clone.
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

    /// Writes a file, as an editor that truncates does.
    pub(crate) fn save(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A command that runs hotrun here.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_hotrun"), args)
    }

    fn command_of(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.program(program, args);
        // A Ctrl-C in the terminal of the tests is for the tests.
        command.process_group(0);
        command
    }

    /// A program that runs here, and may run hotrun.
    pub(crate) fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.root()).args(args).stdin(Stdio::null());
        for name in ["CARGO", "HOTRUN_LOG", "MAKEFLAGS", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
            command.env_remove(name);
        }
        // With it Python writes each word of a line by itself, and hotrun's lines get between.
        command.env_remove("PYTHONUNBUFFERED");
        command.env(MARK, self.root()).envs(self.env.iter().cloned());
        command
    }

    /// Starts hotrun, to which an app is ready after a moment.
    #[track_caller]
    pub(crate) fn start(&self, args: &[&str]) -> Hotrun {
        self.start_plain(&[&[SOON_READY], args].concat())
    }

    /// Starts hotrun, which decides itself when an app is ready.
    #[track_caller]
    pub(crate) fn start_plain(&self, args: &[&str]) -> Hotrun {
        self.start_bare(&[&[PIDS], args].concat())
    }

    /// Starts hotrun with these arguments alone.
    #[track_caller]
    pub(crate) fn start_bare(&self, args: &[&str]) -> Hotrun {
        self.start_with(self.command(args))
    }

    /// Starts hotrun behind a script that has it executed: `exec "$@"`.
    #[track_caller]
    pub(crate) fn start_by(&self, script: &str) -> Hotrun {
        let mut command = self.command_of("sh", &["-c", script, "sh"]);
        command.args([env!("CARGO_BIN_EXE_hotrun"), SOON_READY, PIDS]);
        self.start_with(command)
    }

    /// Starts hotrun by such a command.
    pub(crate) fn start_with(&self, mut command: Command) -> Hotrun {
        // One pipe for both, so that the order of lines is that of what happened.
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        drop(command);
        let lines = Arc::new(Lines::default());
        lines.read(reader);
        Hotrun { child, lines, seen: 0, root: self.root() }
    }

    /// Runs hotrun to its end: its exit code, its stdout and its stderr.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.replace(&self.root().display().to_string(), "ROOT")
        };
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Runs a program here, which must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) {
        let status = Command::new("sh").arg("-c").arg(script).current_dir(self.root()).status();
        assert!(status.unwrap().success(), "{script}");
    }
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

/// hotrun at work.
pub(crate) struct Hotrun {
    child: Child,
    lines: Arc<Lines>,
    seen: usize,
    root: PathBuf,
}

impl Hotrun {
    /// Waits for a line that holds this text, after the one that was waited for last.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_until(text, |line| line.contains(text))
    }

    /// Waits for lines that hold these texts, in any order, after the one that was waited for
    /// last.
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

    /// Waits for a line that is this text.
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

    /// All lines so far.
    pub(crate) fn output(&self) -> String {
        self.lines.all.lock().unwrap().join("\n")
    }

    /// How many lines so far hold this text.
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

    /// Its stdin, where that is a pipe.
    pub(crate) fn stdin(&mut self) -> &mut impl Write {
        self.child.stdin.as_mut().unwrap()
    }

    /// hotrun's own pid.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Waits for hotrun's end.
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

    /// True as long as hotrun has not ended.
    pub(crate) fn is_running(&self) -> bool {
        is_alive(self.pid())
    }

    /// Waits for the end of one of several hotruns in this sandbox; the others go on. Its exit
    /// code (-1 after a signal), and its lines.
    #[track_caller]
    pub(crate) fn ended(mut self) -> (i32, String) {
        let status = self.wait();
        let output = self.output();
        // To drop it would end all that this sandbox has started.
        std::mem::forget(self);
        (status.code().unwrap_or(-1), output)
    }

    /// Asks hotrun to end, and sees that it ends well and leaves nothing behind.
    #[track_caller]
    pub(crate) fn end(mut self) -> String {
        self.signal(Signal::SIGINT);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.output());
        self.leaves_nobody();
        self.output()
    }

    /// Nothing that this sandbox started is alive.
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
                // It may have ended by itself.
                assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "{pid}: {sent:?}");
            }
        }
    }

    /// Kills hotrun and its guardians in the same instant: none of them sees another's end.
    pub(crate) fn kill_with_guardians(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.signal_guardians(Signal::SIGKILL);
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// All that this sandbox has started and that is alive, with the command lines.
    pub(crate) fn everybody(&self) -> Vec<(Pid, String)> {
        marked(&self.root)
    }

    /// Those alive that this sandbox started, hotrun itself and its guardians left out.
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

/// The living processes with a sandbox's mark in their environment, and their command lines.
pub(crate) fn marked(root: &Path) -> Vec<(Pid, String)> {
    let mark = format!("{MARK}={}", root.display());
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        // Where the main thread has ended, another knows.
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

/// True while the process runs (a zombie does not, unless it has threads beside the main one).
pub(crate) fn is_alive(pid: Pid) -> bool {
    let fields = stat(pid);
    let threads = fields.get(17).and_then(|threads| threads.parse().ok()).unwrap_or(0_u32);
    fields.first().is_some_and(|state| !matches!(state.as_str(), "Z" | "X") || threads > 1)
}

/// What the system tells of a process behind its name: its state, its parent and so on;
/// nothing when it is gone.
pub(crate) fn stat(pid: Pid) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().map(String::from).collect()
}

/// Those that have ended and that this process has not waited for.
pub(crate) fn zombies_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one =
        |pid: &Pid| matches!(&stat(*pid)[..], [state, of, ..] if state == "Z" && *of == parent);
    pids.map(Pid::from_raw).filter(is_one).collect()
}

/// Waits until this is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "it never comes that {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The pid at the end of a line.
#[track_caller]
pub(crate) fn pid_in(line: &str) -> Pid {
    Pid::from_raw(line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// True when these programs are here; else says by name what is skipped.
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

/// True when this script succeeds; else says by name what is skipped.
pub(crate) fn can(test: &str, script: &str) -> bool {
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    if !output.status.success() {
        skip(test, &format!("not possible here: {script}"));
    }
    output.status.success()
}

/// The number in this variable, by which a test is made longer or repeated, or this one.
#[track_caller]
pub(crate) fn number_in(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

/// True when a test may fetch packages; else says by name what is skipped.
pub(crate) fn may_fetch(test: &str) -> bool {
    let may = std::env::var_os("HOTRUN_TEST_ONLINE").is_some();
    if !may {
        skip(test, "it fetches packages; set HOTRUN_TEST_ONLINE=1 to run it");
    }
    may
}

/// Says aloud, past the test runner's capture, that a test is skipped.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes());
}

/// What the files say that hotruns keep, where `XDG_RUNTIME_DIR` is this.
pub(crate) fn runtime_files(runtime: &Path) -> Vec<String> {
    let files = fs::read_dir(runtime.join("hotrun")).unwrap().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What a server on this port answers to `GET path`, as soon as there is one.
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
