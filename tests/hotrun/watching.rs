//! What is a save and what is none, and where saves are seen.

use std::fs;
use std::io::Write;

use crate::sandbox::{CONFIG, Hotrun, Sandbox, has};

/// Nothing so far has led to a build: the next build is that of this save.
#[track_caller]
fn nothing_happened(project: &Sandbox, hotrun: &mut Hotrun, starts: usize) {
    project.save("source.txt", "afterwards\n");
    hotrun.wait_serving("afterwards");
    assert_eq!(hotrun.count("serving"), starts + 1, "{}", hotrun.output());
}

#[test]
fn touch_and_chmod_are_no_saves_but_a_touch_of_a_file_that_is_named_is() {
    let config = format!("{CONFIG}include_file = [\"restart\"]\n");
    let project = Sandbox::new().file("hotrun.toml", &config).file("restart", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.sh("touch source.txt; chmod 600 source.txt; cat source.txt > /dev/null");
    project.sh("touch restart");
    hotrun.wait_for("changed  restart");
    hotrun.wait_serving("one");
    nothing_happened(&project, &mut hotrun, 2);
    hotrun.end();
}

#[test]
fn every_way_of_saving_is_seen() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let ways = [
        "printf '%s\\n' $V > source.txt",
        "printf '%s\\n' $V > other.tmp; mv other.tmp source.txt",
        "printf '%s\\n' $V > ../$V.elsewhere; mv ../$V.elsewhere source.txt",
        "sed -i s/.*/$V/ source.txt",
        "printf '%s\\n' $V > x.tmp; install -m 644 x.tmp source.txt; rm x.tmp",
        "mv source.txt source.txt~; printf '%s\\n' $V > source.txt; rm source.txt~",
        "printf '%s\\n' $V > $V.new; ln -sf $V.new source.txt",
    ];
    for (number, way) in ways.iter().enumerate() {
        let version = format!("v{number}");
        project.sh(&way.replace("$V", &version));
        hotrun.wait_serving(&version);
    }
    hotrun.end();
}

#[test]
fn real_vim_and_rsync_and_git_are_seen() {
    let test = "real_vim_and_rsync_and_git_are_seen";
    let project = Sandbox::new().env("GIT_CONFIG_GLOBAL", "/dev/null");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    if has(test, &["vim"]) {
        project.sh("vim -u NONE -es -c 's/.*/vim/' -c wq source.txt");
        hotrun.wait_serving("vim");
    }
    if has(test, &["rsync"]) {
        project.sh("mkdir -p .from; echo rsync > .from/source.txt; rsync -a .from/ .");
        hotrun.wait_serving("rsync");
    }
    if has(test, &["git"]) {
        let commit = "git -c user.name=t -c user.email=t@t commit -qm";
        project.sh(&format!(
            "git init -q -b main; git add source.txt; {commit} a; git checkout -q -b other; \
             echo other > source.txt; {commit} b source.txt"
        ));
        hotrun.wait_serving("other");
        project.sh("git checkout -q main");
        hotrun.wait_for("changed  source.txt");
    }
    hotrun.end();
}

#[test]
fn files_in_new_moved_and_renamed_directories_are_seen() {
    let config = CONFIG.replace("cp source.txt built", "find . -name '*.txt' | wc -l > built");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    fs::write(outside.path().join("ready.txt"), "").unwrap();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("1");
    project.sh("mkdir -p n/p/q && touch n/p/q/a.txt && echo x > n/p/q/a.txt");
    hotrun.wait_serving("2");
    project.sh(&format!("mv {} moved", outside.path().display()));
    hotrun.wait_serving("3");
    project.sh("cp -r n m");
    hotrun.wait_serving("4");
    project.sh("echo y > moved/b.txt");
    hotrun.wait_serving("5");
    project.sh("rm -r n");
    hotrun.wait_serving("4");
    project.sh("mv moved elsewhere");
    hotrun.wait_for("changed");
    project.sh("echo z > elsewhere/c.txt");
    hotrun.wait_serving("5");
    project.sh(&format!("mv elsewhere {}", outside.path().display()));
    hotrun.wait_serving("2");
    hotrun.end();
}

#[test]
fn a_deleted_file_is_a_save() {
    let config = CONFIG.replace("cp source.txt built", "ls *.txt | wc -l > built");
    let project = Sandbox::new().file("hotrun.toml", &config).file("more.txt", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("2");
    project.sh("rm more.txt");
    hotrun.wait_serving("1");
    hotrun.end();
}

#[test]
fn a_file_that_is_written_and_never_closed_counts() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let mut open = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(project.root().join("source.txt"))
        .unwrap();
    open.write_all(b"open\n").unwrap();
    hotrun.wait_serving("open");
    drop(open);
    hotrun.end();
}

#[test]
fn what_git_ignores_is_neither_watched_nor_seen_until_gitignore_says_otherwise() {
    let config = "[build]\ncmd = \"cat source.txt > built\"\nentrypoint = \"./app\"\n";
    let project = Sandbox::new()
        .file("hotrun.toml", config)
        .file(".gitignore", "gen/\n*.out\nbuilt\n!keep.out\n")
        .file("gen/a", "")
        .file("node_modules/x/.gitignore", "*\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("gen/a", "x");
    project.save("debug.out", "x");
    project.save("node_modules/x/y.js", "x");
    project.save("keep.out", "x");
    hotrun.wait_for("changed  keep.out");
    hotrun.wait_serving("one");
    nothing_happened(&project, &mut hotrun, 2);
    project.save(".gitignore", "*.out\nbuilt\n");
    hotrun.wait_for("changed  .gitignore");
    hotrun.wait_serving("afterwards");
    project.save("gen/a", "generated");
    hotrun.wait_for("changed  gen/a");
    hotrun.wait_serving("afterwards");
    hotrun.end();
}

#[test]
fn the_artifact_tmp_dir_and_editor_droppings_never_trigger() {
    let config = "[build]\ncmd = \"cat source.txt > built; cp app.in app; chmod +x app; \
                  mkdir -p tmp; date > tmp/log\"\nentrypoint = \"./app\"\n\
                  exclude_file = [\"built\"]\n";
    let app = "echo serving $(cat built) as $$\nexec sleep 1000\n";
    let project = Sandbox::new().file("hotrun.toml", config).script("app.in", app);
    project.sh("rm app");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.sh("echo x > .source.txt.swp; echo x > 4913; rm 4913; echo x > source.txt~");
    project.sh("echo x > .#source.txt; echo x > '#source.txt#'; echo x > tmp/more");
    nothing_happened(&project, &mut hotrun, 1);
    hotrun.end();
}

#[test]
fn names_that_are_no_utf8_are_seen_and_printed_harmlessly() {
    use std::os::unix::ffi::OsStrExt;
    let config = CONFIG.replace("cp source.txt built", "ls *.txt | wc -l > built");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("1");
    hotrun.wait_for("ready");
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe\x1b[31m.txt");
    fs::write(project.root().join(name), "x").unwrap();
    let line = hotrun.wait_for("changed");
    assert!(line.contains("\u{fffd}\u{fffd}\\u{1b}[31m.txt"), "{line:?}");
    hotrun.wait_serving("2");
    hotrun.end();
}

#[test]
fn a_changed_configuration_is_taken_up_and_a_broken_one_leaves_everything_as_it_was() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("hotrun.toml", "[build\n");
    hotrun.wait_for("hotrun.toml:1:");
    hotrun.wait_for("the previous configuration stays in effect until this is fixed");
    assert!(crate::sandbox::is_alive(first));
    let other = CONFIG.replace("cp source.txt built", "sed s/^/new-/ source.txt > built");
    project.save("hotrun.toml", &other.replace("\"txt\"", "\"md\""));
    hotrun.wait_for("changed  the configuration");
    hotrun.wait_serving("new-one");
    project.save("source.txt", "two\n");
    project.save("a.md", "two\n");
    hotrun.wait_for("changed  a.md");
    hotrun.wait_serving("new-two");
    hotrun.end();
}

#[test]
fn a_root_that_is_a_link_or_has_a_dot_name_is_watched() {
    let project = Sandbox::empty()
        .file(".hidden/hotrun.toml", CONFIG)
        .script(".hidden/app", crate::sandbox::APP)
        .file(".hidden/source.txt", "one\n");
    project.sh("ln -s .hidden link");
    let mut hotrun = project.start(&["-C", "link"]);
    hotrun.wait_serving("one");
    project.save(".hidden/source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn a_configuration_that_stops_building_and_one_that_is_taken_back_are_taken_up() {
    let project = Sandbox::new().script("other", "echo serving other as $$\nexec sleep 1000\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let only_runs = "[build]\nentrypoint = \"./other\"\ninclude_ext = [\"txt\"]\n";
    project.save("hotrun.toml", only_runs);
    hotrun.wait_serving("other");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("other");
    project.save("hotrun.toml", CONFIG);
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn a_file_named_in_an_ignored_directory_opens_it_for_nothing_else() {
    let config = "[build]\ncmd = \"cp source.txt built\"\nentrypoint = \"./app\"\n\
                  [watch]\ninclude = [\"dist/manifest.json\"]\n";
    let project = Sandbox::new()
        .file("hotrun.toml", config)
        .file(".gitignore", "dist/\nbuilt\n")
        .file("dist/manifest.json", "")
        .file(".git/HEAD", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("dist/app.js", "x");
    project.save("dist/manifest.json", "x");
    hotrun.wait_for("changed  dist/manifest.json");
    hotrun.wait_serving("one");
    nothing_happened(&project, &mut hotrun, 2);
    hotrun.end();
}

#[test]
fn what_a_program_writes_while_it_runs_does_not_restart_it() {
    let config = "[build]\nentrypoint = \"./app\"\n";
    let app = "echo started >> app.log; echo $$ > app.pid; rm -f pipe; mkfifo pipe\n\
               trap 'rm -f pipe; exit 0' TERM\necho serving as $$\n\
               while :; do sleep 0.02; done\n";
    let project = Sandbox::empty().file("hotrun.toml", config).script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("ready");
    for round in 0..3 {
        project.save("source", &round.to_string());
        hotrun.wait_for("changed  source");
        hotrun.wait_for("ready");
    }
    for written in ["app.log", "app.pid", "pipe"] {
        assert_eq!(hotrun.count(written), 0, "{}", hotrun.output());
    }
    assert_eq!(hotrun.count("serving"), 4, "{}", hotrun.output());
    hotrun.end();
}
