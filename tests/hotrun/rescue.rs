//! hotrun is never blind: what happened unseen is found.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::sandbox::{ALL, APP, CONFIG, Hotrun, Sandbox, can, has, skip, wait_until};

fn project(build: &str) -> Sandbox {
    let config = CONFIG.replace("cp source.txt built", build);
    Sandbox::new().file("hotrun.toml", &config)
}

#[test]
fn a_save_before_the_tree_is_watched_is_found() {
    let project = project("cp $(ls deep/*/source.txt | tail -n 1) built");
    for number in 0..2000 {
        fs::create_dir_all(project.root().join(format!("deep/{number:04}"))).unwrap();
    }
    project.save("deep/1999/source.txt", "one\n");
    let mut hotrun = project.start(&[]);
    // The first app is started at once, and saves come while the tree is being watched.
    hotrun.wait_for("building");
    for version in ["two", "three", "four"] {
        project.save("deep/1999/source.txt", &format!("{version}\n"));
    }
    hotrun.wait_serving("four");
    hotrun.end();
}

#[test]
fn a_start_beside_fresh_sources_builds_once() {
    for _ in 0..10 {
        let project = Sandbox::new();
        let mut hotrun = project.start(&[]);
        hotrun.wait_serving("one");
        project.save("source.txt", "two\n");
        hotrun.wait_serving("two");
        assert_eq!(hotrun.count("building"), 2, "{}", hotrun.output());
        hotrun.end();
    }
}

/// More than the kernel keeps, so that its queue runs over while hotrun is stopped.
fn storm(project: &Sandbox) {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let events: u32 = limit.trim().parse().unwrap();
    for number in 0..events {
        let path = project.root().join(format!("storm/{number}.o"));
        fs::write(&path, "").unwrap();
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_was_saved_while_events_were_lost_is_found_by_comparing_times() {
    if !can("what_was_saved_while_events_were_lost", "test -e /proc/sys/fs/inotify") {
        return;
    }
    let project = project(ALL)
        .file("a/one.txt", "a1\n")
        .file("b/old.txt", "b1\n")
        .file("c/gone.txt", "c1\n")
        .file("storm/x.o", "");
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    fs::write(outside.path().join("m.txt"), "m1\n").unwrap();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("a1-b1-c1-one-");
    hotrun.wait_for("ready");
    hotrun.signal(Signal::SIGSTOP);
    storm(&project);
    project.save("a/one.txt", "a2\n");
    project.save("new/deep/n.txt", "n1\n");
    project.sh("rm c/gone.txt; mv b moved");
    project.sh(&format!("mv {} in", outside.path().display()));
    hotrun.signal(Signal::SIGCONT);
    hotrun.wait_for("the event queue overflowed");
    hotrun.wait_serving("a2-m1-b1-n1-one-");
    // And all of it is watched, as before.
    for (file, version) in [("in/m.txt", "m2"), ("moved/old.txt", "b2"), ("new/deep/n.txt", "n2")] {
        project.save(file, &format!("{version}\n"));
        hotrun.wait_for("serving");
    }
    hotrun.wait_for("ready");
    assert!(hotrun.output().contains("serving a2-m2-b2-n2-one-"), "{}", hotrun.output());
    assert_eq!(hotrun.count("the event queue overflowed"), 1, "{}", hotrun.output());
    hotrun.end();
}

/// The directory `root` of this sandbox is the project.
fn project_below(name: &str) -> Sandbox {
    let project = Sandbox::empty();
    fill(&project, name, "one");
    project
}

fn fill(project: &Sandbox, name: &str, version: &str) {
    project.save(&format!("{name}/source.txt"), &format!("{version}\n"));
    project.save(&format!("{name}/hotrun.toml"), CONFIG);
    project.save(&format!("{name}/app"), &format!("#!/bin/sh\n{APP}"));
    project.sh(&format!("chmod +x {name}/app"));
}

#[track_caller]
fn serves(project: &Sandbox, hotrun: &mut Hotrun, version: &str) {
    hotrun.wait_serving(version);
    hotrun.wait_for("ready");
    let newer = format!("{version}-newer");
    project.save("root/source.txt", &format!("{newer}\n"));
    hotrun.wait_serving(&newer);
    hotrun.wait_for("ready");
}

#[test]
fn a_root_that_is_deleted_and_made_again_is_watched_again() {
    let project = project_below("root");
    let mut hotrun = project.start(&["-C", "root"]);
    serves(&project, &mut hotrun, "one");
    project.sh("rm -r root");
    hotrun.wait_for("root is gone; hotrun waits until it is there again");
    project.sh("mkdir other; cp -r other root; rmdir root other");
    fill(&project, "root", "two");
    hotrun.wait_for("root is there now");
    serves(&project, &mut hotrun, "two");
    hotrun.end();
}

#[test]
fn a_root_that_is_replaced_at_once_is_watched_again() {
    let project = project_below("root");
    fill(&project, "next", "two");
    fill(&project, "third", "three");
    let mut hotrun = project.start(&["-C", "root"]);
    serves(&project, &mut hotrun, "one");
    project.sh("mv root old; mv next root");
    serves(&project, &mut hotrun, "two");
    // What is moved away is nobody's business any more.
    project.save("old/source.txt", "no\n");
    project.sh("rm -r root && mv third root");
    serves(&project, &mut hotrun, "three");
    assert!(!hotrun.output().contains("serving no"), "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_root_whose_directory_around_it_is_deleted_is_watched_when_it_is_back() {
    let project = Sandbox::empty();
    fill(&project, "around/root", "one");
    let mut hotrun = project.start(&["-C", "around/root"]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.sh("rm -r around");
    hotrun.wait_for("is gone");
    fill(&project, "around/root", "two");
    hotrun.wait_serving("two");
    project.save("around/root/source.txt", "three\n");
    hotrun.wait_serving("three");
    hotrun.end();
}

/// Whether hotrun watches this directory by inotify.
fn is_watched(hotrun: &Hotrun, directory: &Path) -> bool {
    let Ok(meta) = directory.metadata() else { return false };
    let mark = format!(" ino:{:x} ", meta.ino());
    let infos = fs::read_dir(format!("/proc/{}/fdinfo", hotrun.pid())).unwrap();
    infos.flatten().any(|info| fs::read_to_string(info.path()).unwrap_or_default().contains(&mark))
}

#[test]
fn what_takes_the_place_of_the_directory_around_a_missing_root_is_watched_for_it() {
    if !Path::new("/proc/self/fdinfo").exists() {
        return skip("what_takes_the_place_of_the_directory_around_a_missing_root", "no fdinfo");
    }
    let project = Sandbox::empty();
    fill(&project, "around/root", "one");
    let mut hotrun = project.start(&["-C", "around/root"]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.sh("rm -r around/root");
    hotrun.wait_for("is gone");
    let around = project.root().join("around");
    wait_until("the directory around it is watched", || is_watched(&hotrun, &around));
    // hotrun hears of the end of the one when the other is there.
    hotrun.signal(Signal::SIGSTOP);
    project.sh("mkdir next && rmdir around && mv next around");
    hotrun.signal(Signal::SIGCONT);
    wait_until("the other directory is watched", || is_watched(&hotrun, &around));
    fill(&project, "around/root", "two");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn a_root_is_watched_however_often_it_and_what_is_around_it_are_replaced() {
    let project = Sandbox::empty();
    fill(&project, "around/root", "v0");
    let mut hotrun = project.start(&["-C", "around/root"]);
    hotrun.wait_serving("v0");
    hotrun.wait_for("ready");
    let ways = [
        "rm -r around",
        "rm -r around/root",
        "mv around old1",
        "mv around/root old2",
        "rm -r around/root",
    ];
    for (number, way) in ways.into_iter().enumerate() {
        project.sh(way);
        hotrun.wait_for("is gone; hotrun waits");
        fill(&project, "around/root", &format!("v{number}-new"));
        hotrun.wait_serving(&format!("v{number}-new"));
        hotrun.wait_for("ready");
        project.save("around/root/source.txt", &format!("v{number}-newer\n"));
        hotrun.wait_serving(&format!("v{number}-newer"));
        hotrun.wait_for("ready");
    }
    hotrun.end();
}

#[test]
fn an_included_directory_outside_is_watched_when_it_comes_and_when_it_comes_back() {
    let project = Sandbox::empty();
    fill(&project, "root", "one");
    let build =
        CONFIG.replace("cp source.txt built", "cat source.txt ../p/inc/*.txt | tr '\\n' - > built");
    project.save("root/hotrun.toml", &(build + "include_dir = [\".\", \"../p/inc\"]\n"));
    let mut hotrun = project.start(&["-C", "root"]);
    hotrun.wait_for("no such directory: ../p/inc; it is watched as soon as it exists");
    let mut step = |script: &str, expected: &str| {
        project.sh(script);
        hotrun.wait_serving(expected);
        hotrun.wait_for("ready");
    };
    step("mkdir -p p/inc; echo a1 > p/inc/a.txt", "one-a1-");
    step("echo a2 > p/inc/a.txt", "one-a2-");
    step("mv p away; sleep 0.2; echo a3 > away/inc/a.txt; mv away p", "one-a3-");
    step("echo a4 > p/inc/a.txt", "one-a4-");
    step("echo a5 > p/inc/a.txt", "one-a5-");
    hotrun.end();
}

#[test]
fn a_root_below_a_directory_that_only_its_owner_may_write_is_watched() {
    let project = Sandbox::empty();
    fill(&project, "around/root", "one");
    project.sh("chmod 555 around");
    let mut hotrun = project.start(&["-C", "around/root"]);
    hotrun.wait_serving("one");
    project.save("around/root/source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
    project.sh("chmod 755 around");
}

#[test]
fn beyond_the_limit_of_watches_directories_are_polled_until_there_are_more() {
    let test = "beyond_the_limit_of_watches";
    if !can(test, "unshare -Ur sh -c 'echo 9 > /proc/sys/user/max_inotify_watches'") {
        return;
    }
    let project = project(ALL);
    for number in 10..30 {
        project.save(&format!("d{number}/x.txt"), &format!("{number}\n"));
    }
    let script = "exec unshare -Ur sh -c 'echo 9 > /proc/sys/user/max_inotify_watches; \
                  exec \"$@\"' sh \"$@\"";
    let mut hotrun = project.start_by(script);
    hotrun.wait_for("inotify watch limit reached");
    assert!(
        hotrun.output().contains("sudo sysctl user.max_inotify_watches="),
        "{}",
        hotrun.output()
    );
    hotrun.wait_for("ready");
    let mut expected: Vec<String> = (10..30).map(|number| number.to_string()).collect();
    let mut check = |hotrun: &mut Hotrun, number: usize, version: &str| {
        project.save(&format!("d{}/x.txt", number + 10), &format!("{version}\n"));
        expected[number] = version.to_owned();
        hotrun.wait_serving(&format!("{}-one-", expected.join("-")));
        hotrun.wait_for("ready");
    };
    for number in [0, 19, 7] {
        check(&mut hotrun, number, "new");
    }
    let pid = hotrun.pid();
    project
        .sh(&format!("nsenter -t {pid} -U sh -c 'echo 1000 > /proc/sys/user/max_inotify_watches'"));
    hotrun.wait_for("all directories are watched again");
    for number in [0, 19, 12] {
        check(&mut hotrun, number, "newer");
    }
    hotrun.end();
}

#[test]
fn what_is_mounted_and_unmounted_in_the_tree_is_seen() {
    let test = "what_is_mounted_and_unmounted_in_the_tree_is_seen";
    if !has(test, &["unshare", "nsenter"]) || !can(test, "unshare -m mount -t tmpfs none /mnt") {
        return;
    }
    let project = project(ALL).file("here/a.txt", "below\n").file("there/a.txt", "mounted\n");
    let mut hotrun = project.start_by("exec unshare -m \"$@\"");
    hotrun.wait_serving("below-one-mounted-");
    hotrun.wait_for("ready");
    let root = project.root();
    let inside = |script: &str| {
        let pid = hotrun.pid();
        project.sh(&format!("nsenter -t {pid} -m sh -c 'cd {} && {script}'", root.display()));
    };
    inside("mount --bind there here");
    let seen = |hotrun: &mut Hotrun, line: &str| {
        hotrun.wait_for(line);
        hotrun.wait_for("ready");
    };
    // (`hotrun` is borrowed by the first closure no longer than it is used.)
    let pid = hotrun.pid();
    seen(&mut hotrun, "serving mounted-one-mounted-");
    project.save("there/a.txt", "again\n");
    seen(&mut hotrun, "serving again-one-again-");
    project.sh(&format!("nsenter -t {pid} -m umount {}", root.join("here").display()));
    seen(&mut hotrun, "serving below-one-again-");
    project.save("here/a.txt", "free\n");
    seen(&mut hotrun, "serving free-one-again-");
    hotrun.end();
}

#[test]
fn a_single_file_outside_is_watched_though_its_directory_comes_later() {
    let config = "env_files = [\"../later/app.env\"]\n".to_owned() + CONFIG;
    let project = Sandbox::empty();
    fill(&project, "root", "one");
    project.save("root/hotrun.toml", &config);
    project.save("root/app", "#!/bin/sh\necho serving $(cat built) $A as $$\nexec sleep 1000\n");
    let mut hotrun = project.start(&["-C", "root"]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    assert!(!Path::new(&project.root().join("later")).exists());
    project.save("later/app.env", "A=b\n");
    hotrun.wait_serving("one b");
    hotrun.wait_for("ready");
    project.save("later/app.env", "A=c\n");
    hotrun.wait_serving("one c");
    hotrun.end();
}
