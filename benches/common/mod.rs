//! A project, hotrun and its peers running on it, and measurements of them. The floor is a minimal
//! baseline: one inotify watch, no filter, no debouncing.
//!
//! The app of each project is the benchmark's own executable. It reports its start time and its
//! version over a socket, by the monotonic clock, which all processes share.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// The variable with the path of the socket on which an app reports its start.
const SOCKET: &str = "HOTRUN_BENCH_SOCKET";
/// The variable that marks all processes of a benchmark.
const MARK: &str = "HOTRUN_BENCH_MARK";
/// Timeout for every wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nanoseconds of the monotonic clock.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

/// Runs as the app or as the floor if the arguments say so. Must be called first, since all of them
/// are the same executable.
pub(crate) fn run_as_helper() {
    let began = now();
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|word| word.to_str()) {
        Some("--app") => {
            let version = fs::read_to_string(&args[2]).unwrap_or_default();
            let text = format!("{began} {}", version.trim());
            let socket = UnixDatagram::unbound().unwrap();
            let _ = socket.send_to(text.as_bytes(), std::env::var_os(SOCKET).unwrap());
            std::thread::sleep(Duration::from_secs(600));
            std::process::exit(0);
        }
        Some("--floor") => floor(&args[2..]),
        _ => {}
    }
}

/// Builds and runs once, and again whenever a file in the directory was written or renamed.
#[cfg(target_os = "linux")]
fn floor(args: &[OsString]) {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    let wanted = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(Path::new(&args[0]), wanted).unwrap();
    let mut app: Option<Child> = None;
    loop {
        let built = Command::new("/bin/sh").arg("-c").arg(&args[1]).status().unwrap();
        if built.success() {
            if let Some(mut app) = app.take() {
                kill(Pid::from_raw(app.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
                app.wait().unwrap();
            }
            app = Some(Command::new(&args[2]).args(&args[3..]).spawn().unwrap());
        }
        inotify.read_events().unwrap();
    }
}

#[cfg(not(target_os = "linux"))]
fn floor(_: &[OsString]) {}

/// A directory with sources in `src`, and the socket on which its app reports.
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) build: String,
    socket: UnixDatagram,
}

#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) at: u64,
    pub(crate) version: String,
}

impl Project {
    /// Created in memory if possible, since disks add delays of their own.
    pub(crate) fn new(name: &str) -> Self {
        let base = Some(PathBuf::from("/dev/shm")).filter(|place| place.is_dir());
        let base = base.unwrap_or_else(std::env::temp_dir);
        let root = base.join(format!("hotrun-bench-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join("out")).unwrap();
        let socket = UnixDatagram::bind(root.join("out/socket")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let build = "cp src/version.txt out/version".to_owned();
        let project = Self { root, build, socket };
        project.save("v0");
        project
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.root.join("src/version.txt")
    }

    /// Overwrites the version file; returns the time.
    pub(crate) fn save(&self, version: &str) -> u64 {
        let mut file = fs::File::create(self.source()).unwrap();
        std::io::Write::write_all(&mut file, format!("{version}\n").as_bytes()).unwrap();
        let at = now();
        drop(file);
        at
    }

    /// Returns the next start of an app within this time.
    pub(crate) fn next_start(&self, within: Duration) -> Option<Start> {
        let until = Instant::now() + within;
        let mut buffer = [0; 256];
        while Instant::now() < until {
            if let Ok(length) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let (at, version) = text.split_once(' ').unwrap();
                return Some(Start { at: at.parse().unwrap(), version: version.to_owned() });
            }
        }
        None
    }

    /// Waits for the start of an app of this version.
    pub(crate) fn wait_for(&self, version: &str) -> Option<Start> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let start = self.next_start(Duration::from_secs(1));
            if let Some(start) = start.filter(|start| start.version == version) {
                return Some(start);
            }
        }
        None
    }

    /// Waits until no app has started for this long. Returns the number of starts until then.
    pub(crate) fn settle(&self, quiet: Duration) -> usize {
        std::iter::from_fn(|| self.next_start(quiet)).count()
    }
}

/// The benchmark's own executable, as an app.
fn app() -> Vec<OsString> {
    vec![std::env::current_exe().unwrap().into(), "--app".into(), "out/version".into()]
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Floor,
    Hotrun,
    /// With a file as written by `air init`: `delay = 1000`.
    HotrunGenerated,
    Air,
    AirGenerated,
    Watchexec,
    Wgo,
    Entr,
    Nodemon,
}

/// Returns those of these tools that are installed.
pub(crate) fn tools(wanted: &[Tool]) -> Vec<Tool> {
    wanted.iter().copied().filter(|tool| tool.program().is_some()).collect()
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Floor => "floor",
            Tool::Hotrun => "hotrun",
            Tool::HotrunGenerated => "hotrun, delay = 1000",
            Tool::Air => "air, delay = 1",
            Tool::AirGenerated => "air, delay = 1000",
            Tool::Watchexec => "watchexec",
            Tool::Wgo => "wgo",
            Tool::Entr => "entr",
            Tool::Nodemon => "nodemon",
        }
    }

    fn program(self) -> Option<PathBuf> {
        let name = match self {
            Tool::Floor if !cfg!(target_os = "linux") => return None,
            Tool::Floor => return std::env::current_exe().ok(),
            Tool::Hotrun | Tool::HotrunGenerated => {
                return Some(env!("CARGO_BIN_EXE_hotrun").into());
            }
            Tool::Air | Tool::AirGenerated => "air",
            Tool::Watchexec => "watchexec",
            Tool::Wgo => "wgo",
            Tool::Entr => "entr",
            Tool::Nodemon => "nodemon",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file())
    }

    /// How long the tool may be silent and still react later.
    pub(crate) fn settles_in(self) -> Duration {
        Duration::from_millis(match self {
            Tool::AirGenerated | Tool::HotrunGenerated => 1500,
            Tool::Nodemon => 400,
            _ => 250,
        })
    }

    pub(crate) fn start(self, project: &Project) -> Session {
        let program = self.program().unwrap();
        let app = app();
        let words: Vec<String> = app
            .iter()
            .map(|word| shlex::try_quote(word.to_str().unwrap()).unwrap().into())
            .collect();
        let line = words.join(" ");
        let chain = format!("{} && exec {line}", project.build);
        let ignored = ["out", "node_modules", "target", ".git"];
        let each = |flag: &str| ignored.map(|name| flag.replace("{}", name));
        let mut command = Command::new(&program);
        match self {
            Tool::Floor => {
                let directory = project.source().parent().unwrap().to_owned();
                command.arg("--floor").arg(directory).arg(&project.build).args(&app);
            }
            Tool::Hotrun | Tool::HotrunGenerated | Tool::Air | Tool::AirGenerated => {
                let delay = if matches!(self, Tool::Hotrun | Tool::Air) { 1 } else { 1000 };
                let text = format!(
                    "[build]\ncmd = {:?}\nentrypoint = {app:?}\ninclude_ext = [\"txt\"]\n\
                     exclude_dir = {ignored:?}\ndelay = {delay}\nsend_interrupt = false\n\
                     [misc]\nstartup_banner = \"\"\n",
                    project.build
                );
                fs::write(project.root.join(".air.toml"), text).unwrap();
                command.args(["-c", ".air.toml"]);
            }
            Tool::Watchexec => {
                command.args([
                    "--restart",
                    "--debounce=5ms",
                    "--stop-signal=SIGTERM",
                    "--shell=sh",
                ]);
                command.args([
                    "--project-origin=.",
                    "--no-discover-ignore",
                    "--exts=txt",
                    "--watch=.",
                ]);
                command.args(each("--ignore={}/**")).arg("--").arg(chain);
            }
            Tool::Wgo => {
                command.args(["-debounce", "10ms", "-file", r"\.txt$"]);
                command.args(each("-xdir=^{}$|^{}/"));
                command.args(["sh", "-c", &project.build, "::"]).args(&app);
            }
            Tool::Entr => {
                let prune = ignored.map(|name| format!("-name {name}")).join(" -o ");
                let find = format!(
                    "find . -type d \\( {prune} \\) -prune -o -type f -name '*.txt' -print"
                );
                let quoted = shlex::try_quote(&chain).unwrap().into_owned();
                // As its manual recommends: `entr -d` exits when a file is added, and is started
                // again.
                let entr = format!("{find} | {} -n -d -r sh -c {quoted}", program.display());
                let ends = "case $? in 0|1[2-9]?) exit;; esac";
                command = Command::new("sh");
                command.arg("-c").arg(format!("while :; do {entr}; {ends}; sleep 0.05; done"));
            }
            Tool::Nodemon => {
                command.args(["--delay", "10ms", "--signal", "SIGTERM", "--watch", "."]);
                command.args(["--ext", "txt"]).args(each("--ignore={}/")).arg("--exec").arg(chain);
            }
        }
        let mark = project.root.display().to_string();
        command.current_dir(&project.root).env(SOCKET, project.root.join("out/socket"));
        command.env(MARK, &mark).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0);
        let began = now();
        let child = command.spawn().unwrap();
        Session { tool: self, child, mark, began }
    }
}

/// A running tool. It is stopped, with all processes that it started, when this is dropped.
pub(crate) struct Session {
    pub(crate) tool: Tool,
    child: Child,
    mark: String,
    pub(crate) began: u64,
}

impl Session {
    /// The tool's own process; below the shell, if a shell runs it.
    pub(crate) fn pid(&self) -> u32 {
        let pid = self.child.id();
        if self.tool != Tool::Entr {
            return pid;
        }
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let is_entr = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "entr")
        };
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_entr).unwrap_or(pid)
    }

    /// CPU time of the tool itself, without builds and apps.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
        let ticks = |place: usize| fields.get(place).and_then(|one| one.parse::<u64>().ok());
        Duration::from_millis((ticks(12).unwrap_or(0) + ticks(13).unwrap_or(0)) * 10)
    }

    /// Number of context switches of its threads, voluntary or not.
    pub(crate) fn switches(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten();
        tasks
            .flatten()
            .map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default())
            .flat_map(|status| {
                let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
                lines
                    .filter_map(|line| line.rsplit('\t').next()?.parse().ok())
                    .collect::<Vec<u64>>()
            })
            .sum()
    }

    /// Resident memory in MiB.
    pub(crate) fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }

    /// Number of its inotify watches.
    pub(crate) fn watches(&self) -> usize {
        let infos = fs::read_dir(format!("/proc/{}/fdinfo", self.pid())).into_iter().flatten();
        let texts = infos.flatten().map(|info| fs::read_to_string(info.path()).unwrap_or_default());
        texts.map(|text| text.matches("inotify wd:").count()).sum()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mark = format!("{MARK}={}", self.mark);
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

pub(crate) fn milliseconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1000.0
}

/// Returns the value at this quantile.
pub(crate) fn part(values: &[f64], part: f64) -> f64 {
    let mut sorted: Vec<f64> = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    part(values, 0.5)
}

/// Prints a row of a table: a name, then its columns.
pub(crate) fn row(name: &str, columns: &[String]) {
    print!("{name:<22}");
    for column in columns {
        print!("{column:>13}");
    }
    println!();
}

pub(crate) fn head(title: &str, columns: &[&str]) {
    println!("\n{title}");
    row("", &columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>());
}

/// Returns an option of the benchmark: `cargo bench --bench NAME -- --NAME VALUE`.
pub(crate) fn option(name: &str, default: u32) -> u32 {
    let mut words = std::env::args().skip_while(|word| word.trim_start_matches("--") != name);
    words.nth(1).map_or(default, |value| value.parse().expect("a whole number"))
}
