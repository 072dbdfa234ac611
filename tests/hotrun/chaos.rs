//! Everything at once: saves, other configurations, git, signals and kills, limits, a full disk and
//! readers that do not read. After each rest the newest source serves, no other process is left, and
//! hotrun uses no more resources than at first.
//!
//! `HOTRUN_TEST_SECONDS` says how long, `HOTRUN_TEST_FIRST_SEED` with which seed.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::random::{Run, serving};
use crate::sandbox::{GUARDIAN, Hotrun, PATIENCE, can, has, marked, number_in, wait_until};
use crate::stopping::{MOST_PROCESSES, at_rest};

/// The number of rests after which hotrun has reached its size, and the maximum growth of its memory
/// after that, in kilobytes: what an allocator keeps, and what is known of files that came and went.
const RESTS_TO_GROW: u32 = 10;
const MORE_MEMORY: usize = 4096;
/// More files and directories are not left in the sources by edits.
const MOST_MADE: usize = 60;
/// hotrun is ended once in this many disturbances, so that it has the time to grow.
const REPLACED_ONCE_IN: u64 = 100;
/// Set where the test runs a second time, on a disk of its own.
const ON_SMALL_DISK: &str = "HOTRUN_TEST_ON_SMALL_DISK";

fn is_on_small_disk() -> bool {
    std::env::var_os(ON_SMALL_DISK).is_some()
}

/// What one hotrun has had at its rests: the most of descriptors, threads, kilobytes and processes.
struct Figures {
    pid: Pid,
    rests: u32,
    /// While it grew, and since.
    most: [[usize; 4]; 2],
}

impl Figures {
    fn of(pid: Pid) -> Self {
        Self { pid, rests: 0, most: [[0; 4]; 2] }
    }

    /// Whether it has no more than before.
    fn add(&mut self, now: [usize; 4]) -> bool {
        self.rests += 1;
        let most = &mut self.most[usize::from(self.rests > RESTS_TO_GROW)];
        for (most, now) in most.iter_mut().zip(now) {
            *most = now.max(*most);
        }
        let [[descriptors, threads, memory, _], later] = self.most;
        let limits = [descriptors, threads, memory + MORE_MEMORY, MOST_PROCESSES];
        now[3] <= MOST_PROCESSES && later.iter().zip(limits).all(|(later, limit)| *later <= limit)
    }
}

/// What is done to hotrun, to its guardians and to the program.
fn disturb(run: &mut Run, hotrun: &mut Hotrun) -> &'static str {
    if run.random.below(REPLACED_ONCE_IN) == 0 {
        return replace(run, hotrun);
    }
    let everybody = hotrun.everybody();
    let own = hotrun.pid();
    let guardians: Vec<Pid> = everybody
        .iter()
        .filter(|(_, words)| words.starts_with(GUARDIAN))
        .map(|(pid, _)| *pid)
        .collect();
    let others: Vec<Pid> = everybody
        .iter()
        .map(|(pid, _)| *pid)
        .filter(|pid| *pid != own && !guardians.contains(pid))
        .collect();
    // A build that is stopped waits for SIGCONT: a save of a new file does not end it, as the build
    // itself may have written that file.
    let is_program = |pid: &&Pid| {
        everybody.iter().any(|(one, words)| one == *pid && words.ends_with("sleep 1000 "))
    };
    let program: Vec<Pid> = others.iter().filter(is_program).copied().collect();
    let mut one_of = |of: &[Pid]| {
        let place = run.random.below(of.len().max(1) as u64);
        of.get(usize::try_from(place).unwrap()).copied()
    };
    let (guardian, other) = (one_of(&guardians), one_of(&others));
    let program = one_of(&program);
    // It may have ended by now.
    let send = |to: Option<Pid>, signal| {
        let _ = to.map(|pid| kill(pid, signal));
    };
    match run.random.below(37) {
        0..3 => {
            send(guardian, Signal::SIGSTOP);
            "a guardian is stopped"
        }
        3..6 => {
            send(guardian, Signal::SIGKILL);
            "a guardian is killed"
        }
        6..9 => {
            send(other, Signal::SIGKILL);
            "the program or a build is killed"
        }
        9..12 => {
            send(program, Signal::SIGSTOP);
            "the program is stopped"
        }
        12..15 => {
            send(other, Signal::SIGSEGV);
            "the program or a build crashes"
        }
        15..18 => {
            hotrun.signal(Signal::SIGSTOP);
            run.random.pause();
            run.edit();
            hotrun.signal(Signal::SIGCONT);
            "hotrun is stopped for a while"
        }
        18..24 => {
            let path = run.project.root().join("hotrun.toml");
            let before = fs::read_to_string(&path).unwrap();
            fs::write(&path, before.clone() + "[broken\n").unwrap();
            run.random.pause();
            fs::write(&path, before).unwrap();
            "the configuration is broken for a while"
        }
        24..27 => {
            let path = run.project.root().join("hotrun.toml");
            let before = fs::read_to_string(&path).unwrap();
            let delay = format!("delay = \"{}ms\"", run.random.below(80));
            let mut lines: Vec<&str> =
                before.lines().filter(|line| !line.starts_with("delay = ")).collect();
            lines.push(&delay);
            fs::write(&path, lines.join("\n")).unwrap();
            "another delay is configured"
        }
        27..30 => {
            print_unread(run, hotrun);
            "nothing was read of what hotrun printed"
        }
        30..34 => {
            take_descriptors(run, hotrun);
            "hotrun could open hardly any file"
        }
        34..37 if is_on_small_disk() => {
            fill_the_disk(run);
            "the disk was full"
        }
        _ => {
            run.edit();
            "nothing but an edit"
        }
    }
}

/// hotrun itself is ended, and started again.
fn replace(run: &mut Run, hotrun: &mut Hotrun) -> &'static str {
    let what = match run.random.below(3) {
        0 => {
            hotrun.signal(Signal::SIGKILL);
            hotrun.wait();
            "hotrun is killed, and started again"
        }
        1 => {
            hotrun.kill_with_guardians();
            "hotrun and its guardians are killed, and it is started again"
        }
        _ => {
            hotrun.signal(Signal::SIGINT);
            hotrun.wait();
            hotrun.leaves_nobody();
            "hotrun is ended, and started again"
        }
    };
    start_another(run, hotrun);
    what
}

/// How another one is started: with these limits, which hold for the program and builds too.
/// (`ulimit -f` counts blocks of 512 bytes.)
const LIMITS: [&str; 4] = ["", "ulimit -n 64; ", "ulimit -f 400; ", "ulimit -c 0; ulimit -n 200; "];

/// Dropped, the one that has ended would end all that is in the sandbox. (A configuration that is
/// broken when hotrun begins is an error, with which it ends.)
fn start_another(run: &mut Run, hotrun: &mut Hotrun) {
    let limits = LIMITS[usize::try_from(run.random.below(4)).unwrap()];
    let next = run.project.start_by(&format!("{limits}exec \"$@\""));
    std::mem::forget(std::mem::replace(hotrun, next));
    hotrun.wait_for("building");
}

/// Makes sources, and builds them, while nothing is read of what is printed.
fn print_unread(run: &mut Run, hotrun: &Hotrun) {
    run.project.save("noise", "");
    hotrun.unread(|| {
        for _ in 0..run.random.below(30) {
            run.edit();
            run.random.pause();
        }
    });
    fs::remove_file(run.project.root().join("noise")).unwrap();
}

/// Saves while hotrun can open hardly any file.
fn take_descriptors(run: &mut Run, hotrun: &Hotrun) {
    let pid = hotrun.pid();
    let set = |limit: &str| {
        let script = format!("prlimit --pid {pid} --nofile={limit}: 2>/dev/null || true");
        Command::new("sh").args(["-c", &script]).status().unwrap();
    };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let before = before.lines().find_map(|line| line.strip_prefix("Max open files"));
    let before = before.unwrap().split_whitespace().next().unwrap().to_owned();
    set(&(open + usize::try_from(run.random.below(4)).unwrap()).to_string());
    for _ in 0..=run.random.below(4) {
        run.edit();
        run.random.pause();
    }
    set(&before);
}

/// Fills the disk for a while, if it is a small one.
fn fill_the_disk(run: &mut Run) {
    let root = run.project.root();
    let fill = root.join("fill");
    // They could not write either.
    run.join_generators();
    let zeros = vec![0; 1 << 16];
    let mut file = fs::File::create(&fill).unwrap();
    while file.write_all(&zeros).is_ok() {}
    // The last page, too.
    while file.write_all(&[0]).is_ok() {}
    drop(file);
    for _ in 0..=run.random.below(4) {
        let (file, text) = (run.some_file(), run.text());
        // It may be empty then, or half of a text.
        let _ = fs::write(file, text);
        run.random.pause();
    }
    fs::remove_file(fill).unwrap();
}

/// Deletes what has come together in some hundred rounds, as another edit.
fn tidy(run: &Run) {
    let entries = fs::read_dir(run.project.root().join("src")).unwrap().flatten();
    let mut made: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            ["new", "in", "made", "moved"].iter().any(|begin| name.starts_with(begin))
        })
        .collect();
    if made.len() <= MOST_MADE {
        return;
    }
    made.sort();
    for path in made.iter().skip(MOST_MADE / 2) {
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
    // Builds that were killed have left theirs.
    run.project.sh("rm -f snapshot.*");
    run.git("git add -A src; git commit -qm less; git gc -q --prune=now");
}

/// Waits until the newest source serves, and goes on serving.
fn come_to_rest(run: &mut Run, hotrun: &mut Hotrun, what: &[&str]) {
    run.join_generators();
    // Whatever has become of the program: this is saved after it.
    let text = run.text();
    run.project.save("src/last.txt", &text);
    let newest = run.newest();
    let until = Instant::now() + PATIENCE;
    let mut calm = 0;
    while calm < 30 {
        assert!(hotrun.is_running(), "{what:?}: {}\n{}", hotrun.wait(), hotrun.output());
        assert!(Instant::now() < until, "{what:?}\n{newest} is the newest:\n{}", hotrun.output());
        thread::sleep(Duration::from_millis(10));
        calm = if serving(hotrun).as_ref() == Some(&newest) { calm + 1 } else { 0 };
    }
}

/// Where it is possible, runs this test again in a mount namespace with a small disk, on which all of
/// its files are. Returns true if it has run there.
fn runs_on_small_disk(test: &str) -> bool {
    let unshare = ["unshare -m", "unshare -Urm"];
    let mounts = |unshare: &&&str| {
        let script = format!("{unshare} mount -t tmpfs none /mnt 2>/dev/null");
        Command::new("sh").args(["-c", &script]).status().unwrap().success()
    };
    let Some(unshare) = unshare.iter().find(mounts) else {
        // It says by name what is left out.
        return can(&format!("{test}, with a full disk"), "unshare -m mount -t tmpfs none /mnt");
    };
    let script = format!(
        "exec {unshare} sh -c 'mount -t tmpfs -o size=32m none /mnt && TMPDIR=/mnt exec \"$@\"' sh \"$@\""
    );
    let own = std::env::current_exe().unwrap();
    let status = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(own)
        .args(["--exact", test, "--nocapture"])
        .env(ON_SMALL_DISK, "1")
        .status();
    assert!(status.unwrap().success(), "see above");
    true
}

#[test]
fn after_any_disturbance_the_newest_serves_and_nothing_is_left_over() {
    let name = "chaos::after_any_disturbance_the_newest_serves_and_nothing_is_left_over";
    has(&format!("{name}, without descriptors"), &["prlimit"]);
    if !is_on_small_disk() && runs_on_small_disk(name) {
        return;
    }
    let seconds = number_in("HOTRUN_TEST_SECONDS", 12);
    let seed = number_in("HOTRUN_TEST_FIRST_SEED", 1);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut run = Run::new(seed);
    let mut hotrun = run.project.start(&[]);
    // A configuration that is broken when hotrun begins is an error, with which it ends.
    hotrun.wait_for("building");
    let mut figures = Figures::of(hotrun.pid());
    let (mut rests, mut disturbances) = (0, 0);
    while Instant::now() < until {
        let mut what = Vec::new();
        for _ in 0..=run.random.below(5) {
            for _ in 0..run.random.below(4) {
                run.edit();
                run.random.pause();
            }
            what.push(disturb(&mut run, &mut hotrun));
            run.random.pause();
        }
        disturbances += what.len();
        tidy(&run);
        come_to_rest(&mut run, &mut hotrun, &what);
        if figures.pid != hotrun.pid() {
            figures = Figures::of(hotrun.pid());
        }
        let now = at_rest(&hotrun, |count| count <= MOST_PROCESSES);
        let is_flat = figures.add(now);
        let most = figures.most;
        assert!(is_flat, "seed {seed}, {what:?}: {now:?}, at most {most:?}\n{}", hotrun.output());
        rests += 1;
    }
    println!(
        "seed {seed}: {rests} rests after {disturbances} disturbances; the last hotrun had {} of \
         them, and at most (descriptors, threads, kB, processes) {:?}",
        figures.rests, figures.most
    );
    hotrun.signal(Signal::SIGINT);
    hotrun.wait();
    wait_until("no process is left", || marked(&run.project.root()).is_empty());
}
