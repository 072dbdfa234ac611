//! Nobody is left behind: every kind of process tree, and every way in which it ends.
//!
//! Whatever a sandbox starts has its mark in the environment, by which survivors are found.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::random::Random;
use crate::sandbox::{
    CONFIG, GUARDIAN, Hotrun, PATIENCE, Sandbox, is_alive, marked, number_in, stat, wait_until,
    zombies_of,
};

/// An app that has a tree of some kind.
struct Kind {
    name: &'static str,
    /// A program for Python, which says `up` when its tree is complete, and `seen TERM` when
    /// it is asked to end.
    script: &'static str,
    /// What is then left of it, is asked to end at once.
    ends_by_itself: bool,
}

/// What every script begins with.
const PRELUDE: &str = "
import ctypes, os, signal, subprocess, sys, threading, time
def say(text):
    os.write(1, (text + '\\n').encode())
ME = os.getpid()
def leave(*_):
    # Not those who are forked, and inherit this.
    if os.getpid() == ME:
        say('seen TERM')
    os._exit(0)
def stay(*_):
    say('seen TERM')
signal.signal(signal.SIGTERM, leave)
def rest():
    say('up ' + open('built').read().strip() + ' as ' + str(os.getpid()))
    while True:
        time.sleep(60)
def detach():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                time.sleep(60)
        os._exit(0)
";

const KINDS: [Kind; 11] = [
    Kind {
        name: "a grandchild in the group",
        script: "subprocess.Popen(['sh', '-c', 'sleep 1000 & wait'])\nrest()",
        ends_by_itself: false,
    },
    Kind {
        name: "a grandchild in a session of its own",
        script: "subprocess.Popen(['sleep', '1000'], start_new_session=True)\nrest()",
        ends_by_itself: false,
    },
    Kind { name: "a daemon that forked twice", script: "detach()\nrest()", ends_by_itself: false },
    Kind {
        name: "a daemon forked by another thread",
        script: "thread = threading.Thread(target=detach)\nthread.start()\nthread.join()\nrest()",
        ends_by_itself: false,
    },
    Kind {
        name: "a child of an app that has already ended",
        script: "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n\
                 subprocess.Popen(['sh', '-c', 'trap \"echo seen TERM; exit\" TERM; \
                 echo up $(cat built) as $$; > is_up; while :; do sleep 0.02; done'])\n\
                 while not os.path.exists('is_up'):\n    time.sleep(0.01)\nos._exit(0)",
        ends_by_itself: true,
    },
    Kind {
        name: "one that ignores SIGTERM",
        script: "signal.signal(signal.SIGTERM, stay)\nrest()",
        ends_by_itself: false,
    },
    Kind {
        name: "one that takes its time",
        script: "def slowly(*_):\n    say('seen TERM')\n    time.sleep(0.15)\n    os._exit(0)\n\
                 signal.signal(signal.SIGTERM, slowly)\nrest()",
        ends_by_itself: false,
    },
    Kind {
        name: "one that is stopped",
        script: "say('up ' + open('built').read().strip() + ' as ' + str(os.getpid()))\n\
                 os.kill(os.getpid(), signal.SIGSTOP)\nrest()",
        ends_by_itself: false,
    },
    Kind {
        name: "one that forks 200 times a second",
        script: "threading.Thread(target=rest).start()\nwhile True:\n\
                 \x20   if os.fork() == 0:\n        os.setsid()\n        time.sleep(0.05)\n        os._exit(0)\n\
                 \x20   time.sleep(0.005)\n    try:\n        while os.waitpid(-1, os.WNOHANG)[0]:\n            pass\n\
                 \x20   except ChildProcessError:\n        pass",
        ends_by_itself: false,
    },
    Kind {
        name: "one whose main thread has ended",
        script: "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n\
                 def rest_by_thread():\n\
                 \x20   say('up ' + open('built').read().strip() + ' as ' + str(os.getpid()))\n\
                 \x20   signal.sigwait([signal.SIGTERM])\n    leave()\n\
                 threading.Thread(target=rest_by_thread).start()\n\
                 ctypes.CDLL(None).pthread_exit(None)",
        ends_by_itself: false,
    },
    Kind {
        name: "a descendant in a session of its own whose main thread has ended",
        script: "if os.fork() == 0:\n    os.setsid()\n\
                 \x20   threading.Thread(target=time.sleep, args=(1000,)).start()\n\
                 \x20   ctypes.CDLL(None).pthread_exit(None)\n\
                 rest()",
        ends_by_itself: false,
    },
];

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Restart,
    BuildOvertaken,
    Signal(Signal),
    KillHotrun,
    KillGuardian,
    /// All guardians are stopped, before a restart.
    StopGuardians,
    /// hotrun and all guardians are killed, and another hotrun is started.
    KillBoth,
}

const ENDS: [End; 9] = [
    End::Restart,
    End::BuildOvertaken,
    End::Signal(Signal::SIGINT),
    End::Signal(Signal::SIGTERM),
    End::Signal(Signal::SIGHUP),
    End::KillHotrun,
    End::KillGuardian,
    End::StopGuardians,
    End::KillBoth,
];

/// The project whose app, or build, has such a tree.
fn project(kind: &Kind, end: End) -> Sandbox {
    let tree = format!("{PRELUDE}{}\n", kind.script);
    let cmd = if end == End::BuildOvertaken {
        // Only the build of the first version has it.
        "cp source.txt built; ! grep -q one built || exec python3 tree.py"
    } else {
        "cp source.txt built"
    };
    // So short a grace that whoever ignores it does not hold up the test.
    let config = format!(
        "[build]\ncmd = \"{cmd}\"\nentrypoint = [\"./app\"]\ninclude_ext = [\"txt\"]\n\
         kill_delay = \"600ms\"\ncancel_grace = \"600ms\"\n"
    );
    let app = if end == End::BuildOvertaken {
        "echo serving $(cat built) as $$\nexec sleep 1000\n"
    } else {
        // The successor says if it finds any of its predecessor.
        "if grep -q two built; then\n\
         grep -slzx \"HOTRUN_TEST_SANDBOX=$PWD\" /proc/[0-9]*/environ |\n\
         xargs grep -slzx HOTRUN_GENERATION=1 | sed 's/^/overlaps with /'\n\
         echo serving $(cat built) as $$\nexec sleep 1000\nfi\nexec python3 tree.py\n"
    };
    Sandbox::empty()
        .file("hotrun.toml", &config)
        .file("tree.py", &tree)
        .file("source.txt", "one\n")
        .script("app", app)
}

/// Waits until nobody of the sandbox is alive but these.
#[track_caller]
fn until_nobody_is_left(hotrun: &Hotrun, may_stay: impl Fn(Pid, &str) -> bool, what: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut left = hotrun.everybody();
        left.retain(|(pid, words)| is_alive(*pid) && !may_stay(*pid, words));
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{what}: {left:?} survive\n{}", hotrun.output());
        thread::park_timeout(Duration::from_millis(10));
    }
}

#[track_caller]
fn has_no_zombies(hotrun: &Hotrun, what: &str) {
    wait_until(&format!("no zombie is left ({what})"), || zombies_of(hotrun.pid()).is_empty());
}

/// The guardian of this process.
fn guardian_of(pid: Pid) -> Option<Pid> {
    let mut pid = pid;
    loop {
        pid = Pid::from_raw(stat(pid).get(1)?.parse().ok()?);
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        if words.replace('\0', " ").starts_with(GUARDIAN) {
            return Some(pid);
        }
    }
}

#[track_caller]
fn check(kind: &Kind, end: End) {
    let what = format!("{} / {end:?}", kind.name);
    let project = project(kind, end);
    let mut hotrun = project.start(&[]);
    let line = hotrun.wait_for("up one as ");
    let first = Pid::from_raw(line.rsplit(' ').next().unwrap().parse().unwrap());
    match end {
        End::Restart | End::BuildOvertaken | End::StopGuardians => {
            if end == End::StopGuardians {
                hotrun.signal_guardians(Signal::SIGSTOP);
            }
            project.save("source.txt", "two\n");
            let second = hotrun.wait_serving("two");
            hotrun.wait_for("ready");
            until_nobody_is_left(
                &hotrun,
                |pid, words| pid == second || pid == hotrun.pid() || words.starts_with(GUARDIAN),
                &what,
            );
            has_no_zombies(&hotrun, &what);
            assert!(!hotrun.output().contains("overlaps"), "{what}\n{}", hotrun.output());
        }
        End::Signal(signal) => {
            hotrun.signal(signal);
            assert_eq!(hotrun.wait().code(), Some(0), "{what}");
            // Not even for a moment.
            hotrun.leaves_nobody();
        }
        End::KillHotrun => {
            hotrun.signal(Signal::SIGKILL);
            hotrun.wait();
            until_nobody_is_left(&hotrun, |_, _| false, &what);
        }
        End::KillGuardian => {
            // The rest of an app that has ended by itself is gone soon, and its guardian too.
            let guardian = guardian_of(first);
            if let Some(guardian) = guardian.filter(|_| !kind.ends_by_itself) {
                kill(guardian, Signal::SIGKILL).unwrap();
                hotrun.wait_for("a guardian");
            }
            until_nobody_is_left(
                &hotrun,
                |pid, words| pid == hotrun.pid() || words.starts_with(GUARDIAN),
                &what,
            );
            has_no_zombies(&hotrun, &what);
            // It is a crash like any other: the next save starts the next.
            project.save("source.txt", "two\n");
            hotrun.wait_serving("two");
        }
        End::KillBoth => {
            hotrun.kill_with_guardians();
            project.save("source.txt", "two\n");
            let mut next = project.start(&[]);
            let second = next.wait_serving("two");
            until_nobody_is_left(
                &next,
                |pid, words| pid == second || pid == next.pid() || words.starts_with(GUARDIAN),
                &what,
            );
            next.end();
            // The command itself has died with its guardian.
            return;
        }
    }
    if end == End::KillGuardian && !kind.ends_by_itself {
        assert_eq!(hotrun.count("seen TERM"), 0, "{what}: no grace\n{}", hotrun.output());
    } else {
        // The line may still be on its way from the pipe.
        wait_until("the request to exit is seen", || hotrun.count("seen TERM") > 0);
        let asked = hotrun.count("seen TERM");
        assert_eq!(asked, 1, "{what}: asked once, before it was killed\n{}", hotrun.output());
    }
    if matches!(end, End::Restart | End::BuildOvertaken | End::KillGuardian | End::StopGuardians) {
        hotrun.end();
    }
}

/// Each kind of tree against each way to end, a few at a time: most of it is waiting.
fn check_all(kind: &Kind) {
    if !crate::sandbox::has(kind.name, &["python3"]) {
        return;
    }
    for end in ENDS {
        check(kind, end);
    }
}

#[test]
fn a_program_that_floods_an_output_that_is_not_read_does_not_survive_a_killed_hotrun() {
    let config = CONFIG.replace("20s", "1s");
    let app = "trap '' TERM\necho up > started\nwhile :; do echo flood; done\n";
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut command = project.command(&[]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut hotrun = command.spawn().unwrap();
    wait_until("the program runs", || project.root().join("started").exists());
    hotrun.kill().unwrap();
    hotrun.wait().unwrap();
    wait_until("nobody is left", || marked(&project.root()).is_empty());
}

/// Kills the guardians that run nothing, at an instant in which hotrun can give none of them a
/// command. Returns how many were killed.
fn kill_idle_guardians(hotrun: &Hotrun) -> usize {
    let state = |pid| stat(pid).first().cloned().unwrap_or_default();
    hotrun.signal(Signal::SIGSTOP);
    wait_until("hotrun is stopped", || state(hotrun.pid()) == "T");
    let mut killed = 0;
    for (pid, words) in hotrun.everybody() {
        if !words.starts_with(GUARDIAN) {
            continue;
        }
        // One that sleeps has done all that it was asked to do.
        wait_until("a guardian rests", || !matches!(&*state(pid), "R" | "D"));
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        if state(pid) == "S" && children.is_ok_and(|children| children.trim().is_empty()) {
            kill(pid, Signal::SIGKILL).unwrap();
            killed += 1;
        }
    }
    hotrun.signal(Signal::SIGCONT);
    killed
}

#[test]
fn idle_guardians_that_are_killed_before_a_save_do_not_fail_its_build() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    for version in ["two", "three", "four"] {
        // One guards the program.
        wait_until("two guardians are idle", || {
            hotrun.everybody().iter().filter(|(_, words)| words.starts_with(GUARDIAN)).count() == 3
        });
        assert_eq!(kill_idle_guardians(&hotrun), 2);
        project.save("source.txt", &format!("{version}\n"));
        hotrun.wait_serving(version);
    }
    let output = hotrun.end();
    assert!(!output.contains("failed") && !output.contains("warning"), "{output}");
}

/// `HOTRUN_TEST_ROUNDS` says for how many saves.
#[test]
fn guardians_that_are_killed_while_they_run_nothing_fail_no_build_and_no_start() {
    // Between two of the commands a guardian runs nothing.
    let stages = ["true"; 30].join(" && ");
    let pre_cmd: Vec<&str> = vec!["true"; 30];
    let config = CONFIG.replace("cmd = ", &format!("pre_cmd = {pre_cmd:?}\ncmd = "));
    let config = config.replace("cp source.txt built", &format!("{stages} && cp source.txt built"));
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let (mut killed, mut random) = (0, Random(1));
    for round in 0..number_in("HOTRUN_TEST_ROUNDS", 5) {
        project.save("source.txt", &format!("{round}\n"));
        let serving = format!("serving {round} as ");
        let mut times = 0;
        // hotrun gives a command up that has lost more guardians than that.
        while times < 4 && hotrun.count(&serving) == 0 && hotrun.count("failed") == 0 {
            let more = kill_idle_guardians(&hotrun);
            killed += more;
            times += usize::from(more > 0);
            thread::sleep(Duration::from_millis(random.below(40)));
        }
        hotrun.wait_serving(&round.to_string());
        hotrun.wait_for("ready");
    }
    let output = hotrun.end();
    assert!(!output.contains("failed") && !output.contains("crashed"), "{output}");
    assert!(killed > 0);
}

/// Traces another process, as a debugger does that has come upon a breakpoint.
const TRACER: &str = "
import ctypes, sys, time
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
for call in PTRACE_SEIZE, PTRACE_INTERRUPT:
    if ptrace(call, int(sys.argv[1]), 0, 0) != 0:
        sys.exit('ptrace: ' + str(ctypes.get_errno()))
print('traced', flush=True)
time.sleep(1000)
";

#[test]
fn a_guardian_that_is_traced_is_named_and_does_not_hold_up_a_restart_or_the_end() {
    let name = "a_guardian_that_is_traced_is_named_and_does_not_hold_up_a_restart_or_the_end";
    if !crate::sandbox::has(name, &["python3"]) {
        return;
    }
    for is_restart in [true, false] {
        let project = Sandbox::new().file("hotrun.toml", &CONFIG.replace("20s", "300ms"));
        let mut hotrun = project.start(&[]);
        let app = hotrun.wait_serving("one");
        let guardian = guardian_of(app).unwrap().to_string();
        let mut tracer = std::process::Command::new("python3");
        tracer.args(["-c", TRACER, &guardian]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut tracer = Killed(tracer.spawn().unwrap());
        let mut says = tracer.0.stdout.take().unwrap();
        if says.read_exact(&mut [0; 6]).is_err() {
            crate::sandbox::skip(name, "nothing may be traced here");
            return;
        }
        let told = format!("the guardian (pid {guardian}) does not answer");
        if is_restart {
            project.save("source.txt", "two\n");
            hotrun.wait_for(&told);
            hotrun.wait_serving("two");
            hotrun.end();
        } else {
            hotrun.signal(Signal::SIGINT);
            assert_eq!(hotrun.wait().code(), Some(0), "{}", hotrun.output());
            assert_eq!(hotrun.count(&told), 1, "{}", hotrun.output());
        }
        wait_until("nobody is left", || marked(&project.root()).is_empty());
    }
}

/// A process that is killed when the test ends, however it does.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

macro_rules! kinds {
    ($($name:ident: $number:expr,)*) => {
        $(#[test]
        fn $name() {
            check_all(&KINDS[$number]);
        })*
    };
}

kinds! {
    a_grandchild_in_the_group_never_survives: 0,
    a_grandchild_in_a_session_of_its_own_never_survives: 1,
    a_daemon_that_forked_twice_never_survives: 2,
    a_daemon_forked_by_another_thread_never_survives: 3,
    a_child_of_an_app_that_has_ended_never_survives: 4,
    one_that_ignores_sigterm_never_survives: 5,
    one_that_takes_its_time_never_survives: 6,
    one_that_is_stopped_never_survives: 7,
    one_that_forks_for_ever_never_survives: 8,
    one_whose_main_thread_has_ended_never_survives: 9,
    a_descendant_whose_main_thread_has_ended_never_survives: 10,
}
