//! A terminal session on a real pseudoterminal, with input as typed by a user.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::sandbox::{
    PATIENCE, PIDS, SOON_READY, Sandbox, has, is_alive, marked, stat, wait_until,
};

/// The output so far.
#[derive(Default)]
struct Screen {
    text: Mutex<String>,
    changed: Condvar,
}

/// A process on its own terminal.
pub(crate) struct Session {
    child: Child,
    keyboard: File,
    /// The terminal's side, for reading its modes.
    terminal: File,
    screen: Arc<Screen>,
    seen: usize,
    root: std::path::PathBuf,
}

impl Session {
    /// Starts hotrun alone on a terminal.
    pub(crate) fn of_hotrun(project: &Sandbox) -> Self {
        Self::start(project, &[env!("CARGO_BIN_EXE_hotrun"), SOON_READY, PIDS])
    }

    /// Starts a shell with job control, in which `hotrun` is a command.
    pub(crate) fn of_shell(project: &Sandbox, shell: &[&str]) -> Self {
        let mut session = Self::start(project, shell);
        let hotrun = env!("CARGO_BIN_EXE_hotrun");
        session.send(&format!(
            "PS1='$ '; alias hotrun='{hotrun} {SOON_READY} {PIDS}'; echo re''ady\n"
        ));
        session.wait_for("ready\r\n");
        session
    }

    /// Makes the shell bring hotrun to the foreground. Input typed before the shell confirms this
    /// may reach the shell itself, since zsh reads ahead.
    #[track_caller]
    pub(crate) fn foreground(&mut self) {
        self.send("fg\n");
        self.wait_for(SOON_READY);
    }

    pub(crate) fn start(project: &Sandbox, words: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let mut command = project.program("setsid", &["--ctty", "--wait"]);
        command.args(words).env("TERM", "xterm-256color");
        let side = || pty.slave.try_clone().unwrap();
        // It becomes the leader of its own session, so it must not lead a process group.
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let screen = Arc::new(Screen::default());
        let (shown, mut master) = (Arc::clone(&screen), File::from(pty.master));
        let keyboard = master.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                shown.text.lock().unwrap().push_str(&text);
                shown.changed.notify_all();
            }
        });
        let terminal = File::from(pty.slave);
        let root = project.root();
        Self { child, keyboard, terminal, screen, seen: 0, root }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for this text, after the last text waited for. Returns the output up to its end.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut shown = self.screen.text.lock().unwrap();
        loop {
            if let Some(at) = shown[self.seen..].find(text) {
                let begin = self.seen;
                self.seen += at + text.len();
                return shown[begin..self.seen].to_owned();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} in:\n{shown}");
            shown = self.screen.changed.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// Returns the number between this text and the end of the line.
    #[track_caller]
    pub(crate) fn pid_after(&mut self, text: &str) -> Pid {
        self.wait_for(text);
        let line = self.wait_for("\r\n");
        Pid::from_raw(line.trim().parse().unwrap())
    }

    /// Waits until an app that wanted the terminal has it, and reads.
    #[track_caller]
    pub(crate) fn wait_until_an_app_has_it(&mut self) {
        self.wait_for("given to pid ");
        let pid = self.wait_for(";").trim_end_matches(';').parse().unwrap();
        wait_for_state(Pid::from_raw(pid), 'S');
    }

    /// Exits the shell, once the program that runs in it has exited.
    #[track_caller]
    pub(crate) fn leave_shell(&mut self) {
        self.wait_for("$ ");
        self.send("exit 0\n");
        self.ends_with(0);
    }

    /// Returns the pid of hotrun, in a shell.
    pub(crate) fn hotrun(&self) -> Pid {
        let hotrun = env!("CARGO_BIN_EXE_hotrun");
        marked(&self.root).iter().find(|(_, words)| words.starts_with(hotrun)).unwrap().0
    }

    pub(crate) fn shown(&self) -> String {
        self.screen.text.lock().unwrap().clone()
    }

    /// Waits until the process exits with this code, and checks that nothing is left behind.
    #[track_caller]
    pub(crate) fn ends_with(&mut self, code: i32) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.shown());
            thread::park_timeout(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(code), "{}", self.shown());
        self.is_as_it_was();
        let left = marked(&self.root);
        assert!(left.is_empty(), "{left:?}\n{}", self.shown());
    }

    /// Checks that the terminal has the modes that a shell sets for a program.
    #[track_caller]
    pub(crate) fn is_as_it_was(&self) {
        let modes = tcgetattr(&self.terminal).unwrap().local_flags;
        let usual = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        assert!(modes.contains(usual), "{modes:?}\n{}", self.shown());
    }

    /// Waits until the terminal is in canonical mode, or no longer is.
    #[track_caller]
    pub(crate) fn wait_for_modes(&self, is_canonical: bool) {
        let until = Instant::now() + PATIENCE;
        let canonical =
            || tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ICANON);
        while canonical() != is_canonical {
            assert!(Instant::now() < until, "the modes do not change:\n{}", self.shown());
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let mut stty = Command::new("stty");
        stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()]);
        let terminal = self.terminal.as_fd().try_clone_to_owned().unwrap();
        assert!(stty.stdin(terminal).status().unwrap().success());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (pid, _) in marked(&self.root) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Returns true if the programs of a session are installed; otherwise reports what is skipped.
pub(crate) fn can(test: &str) -> bool {
    has(test, &["setsid", "bash", "stty"])
}

#[track_caller]
pub(crate) fn wait_for_state(pid: Pid, wanted: char) {
    let wanted = wanted.to_string();
    wait_until(&format!("{pid} is in state {wanted}"), || {
        assert!(is_alive(pid), "{pid} has ended");
        stat(pid)[0] == wanted
    });
}

#[test]
fn a_recording_replays_the_session() {
    let project = Sandbox::new();
    let mut command = project.command(&["-d", "--ready.after=100ms"]);
    // In the project, where any file that is written is a save.
    command.env("HOTRUN_RECORD", "recording.txt");
    let mut hotrun = project.start_with(command);
    hotrun.wait_for("ready");
    project.save("source.txt", "two");
    hotrun.wait_serving("two");
    hotrun.signal(Signal::SIGTERM);
    hotrun.wait_for("Exit(0)");
    let output = hotrun.end();
    let (code, replayed, _) = project.run(&["replay", "recording.txt"]);
    assert_eq!(output.matches("building").count(), 2, "{output}");
    assert_eq!(code, 0);
    // The session logs each event and each effect.
    let logged = |word: &str| output.matches(&format!(" {word}=")).count();
    let (tty, of_core): (Vec<&str>, Vec<&str>) =
        replayed.lines().partition(|line| line.contains("  tty "));
    let effects = of_core.iter().filter(|line| line.starts_with("             ")).count();
    let events = of_core.len() - effects;
    let tty_events = tty.iter().filter(|line| line.contains(" ms  tty ")).count();
    assert_eq!(tty_events, logged("tty_event"), "{replayed}\n{output}");
    assert_eq!((events, effects), (logged("event"), logged("effect")), "{replayed}\n{output}");
    assert!(effects > 10, "{replayed}");
    assert_eq!(of_core.last().map(|line| line.trim()), Some("Exit(0)"), "{replayed}");

    let (code, _, stderr) = project.run(&["replay", "source.txt"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("source.txt:1"), "{stderr}");
}

#[test]
fn a_recording_replays_what_became_of_the_terminal() {
    if !can("a_recording_replays_what_became_of_the_terminal") {
        return;
    }
    let app = "read name; echo hello $name; exec sleep 1000\n";
    let project = Sandbox::new().script("app", app).env("HOTRUN_RECORD", "recording.txt");
    let mut session = Session::of_hotrun(&project);
    session.wait_for("hotrun's keys are off");
    session.send("world\n");
    session.wait_for("hello world");
    session.send("\x03");
    session.ends_with(0);
    let (code, replayed, _) = project.run(&["replay", "recording.txt"]);
    assert_eq!(code, 0);
    let mut rest = replayed.as_str();
    for step in [
        "  tty Begun\n",
        " tty ReadKeys\n",
        "  tty Stopped { ",
        " tty HandOver(Proc(2))\n",
        "  tty Left\n",
    ] {
        rest = rest.split_once(step).unwrap_or_else(|| panic!("no {step:?} in:\n{replayed}")).1;
    }
}

#[test]
fn a_recording_that_cannot_be_written_is_an_error_at_the_start() {
    let project = Sandbox::new().env("HOTRUN_RECORD", "/missing/recording");
    let (code, _, stderr) = project.run(&["--once"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("cannot record to /missing/recording (HOTRUN_RECORD)"), "{stderr}");
}

#[test]
fn a_recording_is_not_passed_on_to_programs() {
    let project = Sandbox::empty().env("HOTRUN_RECORD", "recording");
    let (code, stdout, _) =
        project.run(&["--once", "-q", "-x", "echo \"<${HOTRUN_RECORD-none}>\""]);
    assert_eq!((code, stdout.as_str()), (0, "<none>\n"));
}
