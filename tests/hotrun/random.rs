//! Whatever is saved, however and whenever: in the end the newest source serves.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::sandbox::{Hotrun, Sandbox, number_in};

/// So many seeds are tried; `HOTRUN_TEST_SEEDS` says how many others.
const SEEDS: u64 = 24;
/// Seeds with which something was wrong once.
const PAST: [u64; 0] = [];
/// So many projects are at work at once.
const AT_ONCE: usize = 6;

/// What the sources are, in one word. It fails if one of them is broken.
const DIGEST: &str = "! grep -rqs BROKEN src || exit 1\n\
                      find src -name '*.txt' | LC_ALL=C sort | xargs -r cat -- | cksum | tr ' ' -\n";
/// It looks at the sources first, and takes its time then.
const BUILD: &str = "sh digest > snapshot.$$; code=$?; sleep 0.$(cat pause); \
                     [ $code = 0 ] && grep -q . snapshot.$$ && mv snapshot.$$ built";

/// It prints a lot where it is to.
const APP: &str = "[ -e noise ] && head -c 3000 /dev/zero | tr '\\0' x\n\
                   echo; echo serving $(cat built) as $$\nexec sleep 1000\n";

/// Random numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Mostly short, sometimes long.
    pub(crate) fn pause(&mut self) {
        let most = [0, 2, 10, 50, 150, 400][usize::try_from(self.below(6)).unwrap()];
        thread::sleep(Duration::from_millis(self.below(most + 1)));
    }
}

/// A project, and what is done to it.
pub(crate) struct Run {
    pub(crate) project: Sandbox,
    pub(crate) random: Random,
    number: u64,
    has_git: bool,
    /// Another program that writes sources some time after it was made to.
    generators: Vec<thread::JoinHandle<()>>,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let delay = ["0ms", "0ms", "60ms"][usize::try_from(random.below(3)).unwrap()];
        let config = format!(
            "[build]\ncmd = {BUILD:?}\nentrypoint = [\"./app\"]\ninclude_ext = [\"txt\"]\n\
             include_dir = [\"src\"]\ndelay = \"{delay}\"\n"
        );
        let project = Sandbox::empty()
            .file("hotrun.toml", &config)
            .file("digest", DIGEST)
            .file("pause", "000")
            .script("app", APP);
        for name in ["a", "b", "one/c", "one/two/d"] {
            project.save(&format!("src/{name}.txt"), &format!("{name}\n"));
        }
        let has_git = Command::new("git").arg("--version").output().is_ok();
        let run = Self { project, random, number: 0, has_git, generators: Vec::new() };
        run.git("git init -q . && git add src && git commit -qm first");
        run
    }

    /// What git says and whether it succeeds is not what this is about.
    pub(crate) fn git(&self, script: &str) {
        if self.has_git {
            let config = "-c user.name=x -c user.email=x@x -c core.fsync=none";
            let script = script.replace("git ", &format!("git {config} "));
            self.project.sh(&format!("{{ {script}; }} >/dev/null 2>&1 || true"));
        }
    }

    pub(crate) fn text(&mut self) -> String {
        self.number += 1;
        format!("text {}\n", self.number)
    }

    /// One of the sources.
    pub(crate) fn some_file(&mut self) -> PathBuf {
        let output = Command::new("find")
            .args(["src", "-name", "*.txt"])
            .current_dir(self.project.root())
            .output()
            .unwrap();
        let mut files: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        files.sort();
        if files.is_empty() {
            files.push("src/a.txt".to_owned());
        }
        let place = usize::try_from(self.random.next() % files.len() as u64).unwrap();
        self.project.root().join(&files[place])
    }

    pub(crate) fn edit(&mut self) {
        let (file, text) = (self.some_file(), self.text());
        let root = self.project.root();
        match self.random.below(22) {
            0..=3 => fs::write(&file, text).unwrap(),
            4 | 5 => {
                let beside = root.join(format!("src/{}.tmp", self.number));
                fs::write(&beside, text).unwrap();
                fs::rename(beside, file).unwrap();
            }
            6 => {
                fs::write(&file, "").unwrap();
                self.random.pause();
                fs::write(&file, text).unwrap();
            }
            7 => {
                let mut open = fs::File::create(&file).unwrap();
                open.write_all(b"half\n").unwrap();
                self.random.pause();
                open.write_all(text.as_bytes()).unwrap();
            }
            8 => drop(fs::remove_file(&file)),
            9 => {
                let place = root.join(format!("src/new{}/deep/er", self.number));
                fs::create_dir_all(&place).unwrap();
                fs::write(place.join("e.txt"), text).unwrap();
            }
            10 => {
                let outside = root.join(format!(".out{}/x", self.number));
                fs::create_dir_all(&outside).unwrap();
                fs::write(outside.join("f.txt"), text).unwrap();
                fs::rename(outside.parent().unwrap(), root.join(format!("src/in{}", self.number)))
                    .unwrap();
            }
            11 => {
                let directory = file.parent().unwrap();
                if !directory.ends_with("src") {
                    fs::rename(directory, root.join(format!("src/moved{}", self.number))).unwrap();
                }
            }
            12 => {
                let same = fs::read(&file).unwrap_or_default();
                fs::write(&file, same).unwrap();
            }
            13 => {
                fs::write(&file, "BROKEN\n").unwrap();
                self.random.pause();
                fs::write(&file, text).unwrap();
            }
            14 => {
                let name = file.strip_prefix(&root).unwrap().display().to_string();
                self.project.sh(&format!("sed -i s/text/word/ {name} 2>/dev/null || true"));
            }
            15 => {
                // There and back, while a build may run.
                let before = fs::read(&file).unwrap_or_default();
                fs::write(&file, text).unwrap();
                self.random.pause();
                fs::write(&file, before).unwrap();
            }
            16 | 17 => fs::write(root.join(format!("src/made{}.txt", self.number)), text).unwrap(),
            18 => {
                let (target, random) = (root.join("src/generated.txt"), self.random.next());
                self.generators.push(thread::spawn(move || {
                    thread::sleep(Duration::from_millis(random % 300));
                    fs::write(target, text).unwrap();
                }));
            }
            19 => self.git("git add src; git commit -qm more"),
            20 => {
                let scripts = [
                    "git stash -q && git stash pop -q",
                    "git checkout -q HEAD -- src",
                    "git reset -q --hard",
                ];
                let which = usize::try_from(self.random.below(3)).unwrap();
                self.git(scripts[which]);
            }
            _ => {
                let length = format!("{:03}", self.random.below(300));
                fs::write(root.join("pause"), length).unwrap();
            }
        }
    }

    pub(crate) fn join_generators(&mut self) {
        for generator in self.generators.drain(..) {
            generator.join().unwrap();
        }
    }

    pub(crate) fn newest(&self) -> String {
        let output = Command::new("sh").arg("digest").current_dir(self.project.root()).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    }
}

pub(crate) fn serving(hotrun: &Hotrun) -> Option<String> {
    let last = hotrun.last_line("serving ")?;
    last.split(' ').nth(1).map(str::to_owned)
}

/// What is wrong with this seed.
fn try_seed(seed: u64) -> Result<(), String> {
    let mut run = Run::new(seed);
    let mut hotrun = run.project.start(&[]);
    // Sometimes at once, while the tree is not even watched.
    run.random.pause();
    for _ in 0..6 + run.random.below(12) {
        run.edit();
        run.random.pause();
    }
    run.join_generators();
    let newest = run.newest();
    // It serves, and goes on serving.
    let mut calm = 0;
    for _ in 0..1500 {
        thread::sleep(Duration::from_millis(10));
        calm = if serving(&hotrun).as_ref() == Some(&newest) { calm + 1 } else { 0 };
        if calm == 60 {
            hotrun.signal(nix::sys::signal::Signal::SIGINT);
            hotrun.wait();
            return Ok(());
        }
    }
    Err(format!("seed {seed}: {newest} is the newest:\n{}", hotrun.output()))
}

#[test]
fn whatever_is_saved_and_whenever_the_newest_source_serves_in_the_end() {
    let seeds = number_in("HOTRUN_TEST_SEEDS", SEEDS);
    let first = number_in("HOTRUN_TEST_FIRST_SEED", 0);
    let next = AtomicU64::new(0);
    let all: Vec<u64> = PAST.into_iter().chain(first..first + seeds).collect();
    let wrong: Vec<String> = thread::scope(|scope| {
        let tries = || -> Vec<String> {
            let place = || usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
            std::iter::from_fn(|| all.get(place()))
                .filter_map(|seed| try_seed(*seed).err())
                .collect()
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(tries)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(
        wrong.is_empty(),
        "{} of {} are stale:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n\n")
    );
}
