//! Where no events arrive, files are looked at.

use std::fs;

use crate::sandbox::{ALL, APP, CONFIG, Hotrun, Sandbox, can, has};

/// Every change in a tree that is polled.
fn every_change_is_found(project: &Sandbox, hotrun: &mut Hotrun, base: &str) {
    let mut step = |script: &str, expected: &str| {
        project.sh(&format!("cd ./{base} && {script}"));
        hotrun.wait_serving(expected);
        hotrun.wait_for("ready");
    };
    step("echo two > source.txt", "two-");
    step("echo three > x.tmp && mv x.tmp source.txt", "three-");
    step("sed -i s/three/four1/ source.txt", "four1-");
    step("mkdir -p new/deep && echo n1 > new/deep/n.txt", "n1-four1-");
    step("echo n2 > new/deep/n.txt", "n2-four1-");
    step("mv new moved && echo n3 > moved/deep/n.txt", "n3-four1-");
    step("rm -r moved", "four1-");
    step("cp source.txt more.txt", "four1-four1-");
    step("rm more.txt", "four1-");
}

#[test]
fn a_tree_that_is_polled_is_seen_as_any_other() {
    let config = CONFIG.replace("cp source.txt built", ALL);
    for (args, more) in [(&["--poll"][..], ""), (&[], "poll = true\npoll_interval = \"1ms\"\n")] {
        let project = Sandbox::new().file("hotrun.toml", &format!("{config}{more}"));
        let mut hotrun = project.start(args);
        hotrun.wait_serving("one-");
        hotrun.wait_for("ready");
        every_change_is_found(&project, &mut hotrun, "");
        let before = hotrun.count("serving");
        project.sh("chmod 600 source.txt; touch source.txt; cat source.txt > /dev/null");
        project.save("source.txt", "last\n");
        hotrun.wait_serving("last-");
        assert_eq!(hotrun.count("serving"), before + 1, "{}", hotrun.output());
        hotrun.end();
    }
}

#[test]
fn what_is_ignored_is_not_polled_and_gitignore_is_read_again() {
    let config = "[build]\ncmd = \"cat source.txt > built\"\nentrypoint = \"./app\"\n";
    let project = Sandbox::new().file("hotrun.toml", config).file(".gitignore", "gen/\nbuilt\n");
    let mut hotrun = project.start(&["--poll"]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("gen/a", "x");
    project.save(".gitignore", "built\n");
    hotrun.wait_for("changed  .gitignore");
    hotrun.wait_for("ready");
    // One that was there is polled from now on, too.
    for (path, text) in [("gen/b", "x"), ("gen/a", "y"), ("gen/a", "z")] {
        project.save(path, text);
        hotrun.wait_for(&format!("changed  {path}"));
        hotrun.wait_for("ready");
    }
    hotrun.end();
}

#[test]
fn where_a_link_to_a_file_leads_is_polled() {
    let config = CONFIG.replace("cp source.txt built", ALL) + "follow_symlink = true\n";
    let project = Sandbox::new().file("hotrun.toml", &config);
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    let out = outside.path().display().to_string();
    project.sh(&format!("echo x1 > {out}/x.txt; ln -s {out}/x.txt a.txt"));
    let mut hotrun = project.start(&["--poll"]);
    hotrun.wait_serving("x1-one-");
    hotrun.wait_for("ready");
    for version in ["x2", "x3"] {
        project.sh(&format!("echo {version} > {out}/x.txt"));
        hotrun.wait_serving(&format!("{version}-one-"));
        hotrun.wait_for("ready");
    }
    hotrun.end();
}

/// Unmounts `front` when the test ends, also if it fails.
struct Unmount<'a>(&'a Sandbox);
impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        self.0.sh("umount -l front");
    }
}

#[test]
fn a_file_system_that_does_not_tell_of_every_change_is_polled() {
    let test = "a_file_system_that_does_not_tell_of_every_change_is_polled";
    let mounts = "d=$(mktemp -d) && mkdir $d/a $d/b && bindfs $d/a $d/b && umount $d/b";
    if !has(test, &["bindfs"]) || !can(test, mounts) {
        return;
    }
    let project = Sandbox::empty();
    let config = CONFIG.replace("cp source.txt built", ALL);
    project.save("back/root/hotrun.toml", &config);
    project.save("back/root/source.txt", "one\n");
    project.save("back/root/app", &format!("#!/bin/sh\n{APP}"));
    fs::create_dir(project.root().join("front")).unwrap();
    project.sh("chmod +x back/root/app; bindfs --no-allow-other back front");
    let _unmount = Unmount(&project);
    let mut hotrun = project.start(&["-C", "front/root"]);
    hotrun.wait_for("lies in a file system (fuse) that does not tell of every change");
    hotrun.wait_serving("one-");
    hotrun.wait_for("ready");
    // No event tells of what happens behind it.
    every_change_is_found(&project, &mut hotrun, "back/root");
    // What happens on this side is found once, not by the event and by the scanner.
    let before = hotrun.count("serving");
    project.save("front/root/source.txt", "front\n");
    hotrun.wait_serving("front-");
    hotrun.wait_for("ready");
    project.save("back/root/source.txt", "back\n");
    hotrun.wait_serving("back-");
    assert_eq!(hotrun.count("serving"), before + 2, "{}", hotrun.output());
    assert_eq!(hotrun.count("does not tell of every change"), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_save_of_the_same_content_restarts_as_it_does_with_events() {
    for backend in ["poll", "native"] {
        let project = Sandbox::new();
        let mut hotrun = project.start(&["--watch.backend", backend]);
        let mut last = hotrun.wait_serving("one");
        hotrun.wait_for("ready");
        for _ in 0..3 {
            project.save("source.txt", "one\n");
            let next = hotrun.wait_serving("one");
            assert_ne!(last, next, "{backend}");
            // (A save in the clock tick in which the build ended may be the build's own.)
            hotrun.wait_for("ready");
            last = next;
        }
        hotrun.end();
    }
}
