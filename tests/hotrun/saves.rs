//! Each way of saving is one save: one build, one start, of what was saved.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::sandbox::{CONFIG, Hotrun, Sandbox, has, number_in, skip};

/// A project at work, in which every save so far was counted.
struct Saved {
    project: Sandbox,
    hotrun: Hotrun,
    saves: usize,
}

impl Saved {
    fn new() -> Self {
        let project = Sandbox::new().env("GIT_CONFIG_GLOBAL", "/dev/null");
        let mut hotrun = project.start(&[]);
        hotrun.wait_serving("one");
        hotrun.wait_for("ready");
        Self { project, hotrun, saves: 0 }
    }

    /// This script saves a text that no save before it did, `$V`.
    #[track_caller]
    fn by(&mut self, script: &str) {
        self.by_hand(script, |project, version| project.sh(&script.replace("$V", version)));
    }

    /// This saves the text that it is given, in one process, as an editor does.
    #[track_caller]
    fn by_hand(&mut self, what: &str, save: impl Fn(&Sandbox, &str)) {
        self.saves += 1;
        let version = format!("v{}", self.saves);
        save(&self.project, &version);
        self.hotrun.wait_serving(&version);
        self.hotrun.wait_for("ready");
        let starts = self.hotrun.count("serving");
        assert_eq!(starts, self.saves + 1, "{what}:\n{}", self.hotrun.output());
    }

    #[track_caller]
    fn end(self) {
        // On a busy machine a file may be seen to be missing, which cancels a build.
        assert_eq!(self.hotrun.count("  built  "), self.saves + 1, "{}", self.hotrun.output());
        self.hotrun.end();
    }
}

#[test]
fn programs_that_write_in_place_or_rename_over() {
    let mut saved = Saved::new();
    saved.by("echo $V > source.txt");
    saved.by("echo $V > x.tmp; mv x.tmp source.txt");
    saved.by("echo $V > ../$V.$$; mv ../$V.$$ source.txt");
    saved.by("sed -i s/.*/$V/ source.txt");
    saved.by("echo $V > x.tmp; install -m 644 x.tmp source.txt; rm x.tmp");
    saved.by("echo $V > x.tmp; cp x.tmp source.txt; rm x.tmp");
    saved.by("echo $V > x.tmp; ln -f x.tmp source.txt; rm x.tmp");
    saved.by("echo $V > $V.new; ln -sf $V.new source.txt");
    saved.end();
}

#[test]
fn a_file_that_is_emptied_and_then_appended_to_is_saved_once() {
    let mut saved = Saved::new();
    for _ in 0..10 {
        saved.by(": > source.txt; echo $V >> source.txt");
    }
    saved.hotrun.end();
}

#[test]
fn a_write_through_a_mapping_is_a_save() {
    if !has("a_write_through_a_mapping_is_a_save", &["python3"]) {
        return;
    }
    let mut saved = Saved::new();
    saved.by("echo $V > source.txt");
    for _ in 0..3 {
        saved.by("python3 -c 'import mmap\nwith open(\"source.txt\", \"r+b\") as f:\n \
             m = mmap.mmap(f.fileno(), 0); m[:] = b\"$V\\n\"; m.close()'");
    }
    saved.end();
}

#[test]
fn vim_with_and_without_backup_and_swap() {
    if !has("vim_with_and_without_backup_and_swap", &["vim"]) {
        return;
    }
    let mut saved = Saved::new();
    for set in [
        "nobackup writebackup noswapfile",
        "backup",
        "nobackup nowritebackup",
        "backupcopy=yes swapfile",
        "backupcopy=no swapfile directory=.",
        "undofile backup",
    ] {
        saved.by(&format!("vim -u NONE -N -es -c 'set {set}' -c '%s/.*/$V/' -c wq source.txt"));
    }
    // vim's probe file exists, so that it takes the next number.
    saved.project.sh("echo > 4913");
    saved.by("vim -u NONE -N -es -c 'set backup' -c '%s/.*/$V/' -c wq source.txt");
    saved.end();
}

#[test]
fn emacs_with_and_without_backup() {
    if !has("emacs_with_and_without_backup", &["emacs"]) {
        return;
    }
    let mut saved = Saved::new();
    for set in ["t", "nil"] {
        saved.by(&format!(
            "emacs -Q --batch --eval '(setq make-backup-files {set})' source.txt \
             --eval '(progn (erase-buffer) (insert \"$V\\n\") (save-buffer))' 2>/dev/null"
        ));
    }
    saved.end();
}

#[test]
fn the_ways_of_vs_code_and_of_jetbrains_editors() {
    let mut saved = Saved::new();
    // VS Code opens, truncates and writes; "atomic saves" rename.
    saved.by("echo $V > source.txt");
    saved.by("echo $V > source.txt.vsctmp; mv source.txt.vsctmp source.txt");
    saved.by_hand("safe write", |project, version| {
        project.save("source.txt___jb_tmp___", &format!("{version}\n"));
        let file = |end: &str| project.root().join(format!("source.txt{end}"));
        fs::rename(file(""), file("___jb_old___")).unwrap();
        fs::rename(file("___jb_tmp___"), file("")).unwrap();
        fs::remove_file(file("___jb_old___")).unwrap();
    });
    // kate, and gedit.
    saved.by("echo x > .source.txt.kate-swp; echo $V > source.txt; rm .source.txt.kate-swp");
    saved.by("echo $V > .goutputstream-ABC123; mv .goutputstream-ABC123 source.txt");
    saved.end();
}

#[test]
fn git_checkout_stash_and_rebase_and_rsync_and_unzip() {
    let test = "git_checkout_stash_and_rebase_and_rsync_and_unzip";
    if !has(test, &["git", "rsync", "zip", "unzip"]) {
        return;
    }
    let mut saved = Saved::new();
    let git = "git -c user.name=t -c user.email=t@t -c gc.auto=0";
    saved.project.sh(&format!("git init -qb main; git add source.txt; {git} commit -qm one"));
    saved.by(&format!("git checkout -qb other; echo $V > source.txt; {git} commit -qam other"));
    saved.project.sh("git checkout -q main");
    saved.hotrun.wait_serving("one");
    saved.hotrun.wait_for("ready");
    saved.saves += 1;
    saved.by("echo $V > source.txt");
    saved.project.sh(&format!("{git} stash -q"));
    saved.hotrun.wait_serving("one");
    saved.hotrun.wait_for("ready");
    saved.saves += 1;
    saved.project.sh(&format!(
        "echo x > other.md; git add other.md; {git} commit -qm more; {git} rebase -q other"
    ));
    saved.hotrun.wait_serving("v1");
    saved.hotrun.wait_for("ready");
    saved.saves += 1;
    saved.by("mkdir -p .from; echo $V > .from/source.txt; rsync -aI .from/ .");
    saved.by(
        "cd .from; echo $V > source.txt; zip -q x.zip source.txt; cd ..; unzip -qo .from/x.zip",
    );
    saved.by(
        "cp -r .from/source.txt .from/$V; echo $V > .from/source.txt; cp -r .from/source.txt .",
    );
    saved.hotrun.end();
}

#[test]
fn fifty_appends_are_fifty_starts() {
    let mut saved = Saved::new();
    for _ in 0..50 {
        saved.by("echo $V | tee -a log.md > source.txt");
    }
    saved.end();
}

#[test]
fn fifty_times_saved_while_it_builds_the_newest_serves_and_no_two_builds_run_at_once() {
    let build = "mkdir lock || exit 9; cp source.txt new; sleep 0.03; rmdir lock; mv new built";
    let config = CONFIG.replace("cp source.txt built", build) + "cancel_grace = \"20s\"\n";
    let trap = "trap 'rmdir lock; exit 1' TERM; ";
    let config = config.replace("mkdir lock", &format!("{trap}mkdir lock"));
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    for round in 0..50 {
        project.save("source.txt", &format!("{round}-first\n"));
        // A file that was only ever saved during builds may be what they write.
        hotrun.wait_for_any(&["building", "verifying"]);
        project.save("source.txt", &format!("{round}-second\n"));
        project.sh("sleep 0.01");
        project.save("source.txt", &format!("{round}-last\n"));
        hotrun.wait_serving(&format!("{round}-last"));
    }
    assert_eq!(hotrun.count("exit code 9"), 0, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn fifty_new_trees_copied_made_and_moved_in_are_seen_whole() {
    let config = CONFIG.replace("cp source.txt built", "find . -name '*.txt' | wc -l > built");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    let outside = outside.path().display().to_string();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("1");
    let mut files = 1;
    for round in 0..50 {
        project.sh(&format!("mkdir -p n{round}/p/q; echo x > n{round}/p/q/a.txt"));
        project.sh(&format!("cp -r n{round} c{round}"));
        project.sh(&format!(
            "mkdir -p {outside}/m{round}/a/b; echo > {outside}/m{round}/a/b/c.txt; \
             mv {outside}/m{round} m{round}"
        ));
        files += 3;
        hotrun.wait_serving(&files.to_string());
        // What was found in them is watched, too.
        project.save(&format!("m{round}/a/b/d.txt"), "");
        project.save(&format!("n{round}/p/q/b.txt"), "");
        files += 2;
        hotrun.wait_serving(&files.to_string());
    }
    hotrun.end();
}

#[test]
fn many_files_written_by_one_program_are_one_build() {
    let config = CONFIG.replace("cp source.txt built", "cat d*/*.txt | sort -u > built");
    let project = Sandbox::new().file("hotrun.toml", &config);
    // The longest pause between two files.
    let write = |version: &str| {
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        for number in 0..2000 {
            let path = project.root().join(format!("d{}/{number}.txt", number % 20));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{version}\n")).unwrap();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest
    };
    write("0");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("0");
    hotrun.wait_for("ready");
    for version in 1..=20 {
        let before = hotrun.count("serving");
        let longest = write(&version.to_string());
        hotrun.wait_serving(&version.to_string());
        hotrun.wait_for("ready");
        // On a loaded machine it pauses for longer than it takes to be quiet (10 ms).
        if longest < Duration::from_millis(5) {
            assert_eq!(hotrun.count("serving"), before + 1, "{}", hotrun.output());
            hotrun.end();
            return;
        }
    }
    hotrun.end();
    skip("many_files_written_by_one_program_are_one_build", "this machine is too busy");
}

#[test]
fn a_file_that_somebody_keeps_writing_holds_nobody_up() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let mut log = fs::File::create(project.root().join("log.txt")).unwrap();
    hotrun.wait_for("ready");
    for round in 0..20 {
        writeln!(log, "{round}").unwrap();
        project.save("source.txt", &format!("{round}\n"));
        writeln!(log, "{round}").unwrap();
        hotrun.wait_serving(&round.to_string());
    }
    hotrun.end();
}

/// `HOTRUN_TEST_ROUNDS` says how often.
#[test]
fn a_save_while_a_large_tree_is_watched_anew_is_built() {
    // Enough directories to take a while, and to renew all watches when some are excluded.
    let config = |excluded: &str| {
        CONFIG
            .replace("cmd = ", "include_dir = [\"src\"]\ncmd = ")
            .replace("source.txt", "src/a.txt")
            + &format!("exclude_dir = [{excluded}]\n")
    };
    let project = Sandbox::new().file("hotrun.toml", &config("")).file("src/a.txt", "one\n");
    for number in 0..3000 {
        let place = if number < 150 { "generated" } else { "other" };
        fs::create_dir_all(project.root().join(format!("src/{place}/{number}"))).unwrap();
    }
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let mut random = Random(1);
    for round in 0..number_in("HOTRUN_TEST_ROUNDS", 10) {
        let excluded = ["\"src/generated\"", ""][usize::try_from(round % 2).unwrap()];
        project.save("hotrun.toml", &config(excluded));
        thread::sleep(Duration::from_millis(random.below(200)));
        project.save("src/a.txt", &format!("{round}\n"));
        hotrun.wait_serving(&round.to_string());
    }
    hotrun.end();
}
