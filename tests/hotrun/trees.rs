//! Trees of every shape: what is watched in them, and what is not.

use std::fs;
use std::path::Path;

use crate::sandbox::{CONFIG, Hotrun, Sandbox, has};

const ALL: &str = "cat $(find -L . -name '*.txt' | sort) | tr '\\n' '-' > built";

fn project(more: &str) -> Sandbox {
    let config = CONFIG.replace("cp source.txt built", ALL) + more;
    Sandbox::new().file("hotrun.toml", &config)
}

#[track_caller]
fn step(project: &Sandbox, hotrun: &mut Hotrun, script: &str, expected: &str) {
    project.sh(script);
    hotrun.wait_serving(expected);
    hotrun.wait_for("ready");
}

/// How many inotify watches hotrun has.
fn watches(hotrun: &Hotrun) -> usize {
    let infos = fs::read_dir(format!("/proc/{}/fdinfo", hotrun.pid())).unwrap();
    let texts = infos.flatten().map(|info| fs::read_to_string(info.path()).unwrap_or_default());
    texts.map(|text| text.matches("inotify wd:").count()).sum()
}

#[test]
fn links_to_directories_and_files_are_followed_where_they_lead_and_when_they_turn() {
    let project = project("follow_symlink = true\n");
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    let out = outside.path().display().to_string();
    project.sh(&format!(
        "mkdir -p {out}/a/deep {out}/b; echo a1 > {out}/a/deep/x.txt; echo b1 > {out}/b/x.txt; \
         echo f1 > {out}/f.txt; ln -s {out}/a here; ln -s {out}/f.txt file.txt; ln -s . loop"
    ));
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("serving");
    hotrun.wait_for("ready");
    let mut step = |script: &str, expected: &str| {
        project.sh(script);
        hotrun.wait_for(&format!("serving {expected}"));
        hotrun.wait_for("ready");
    };
    step(&format!("echo f2 > {out}/f.txt"), "f2-a1-one-");
    step(&format!("echo a2 > {out}/a/deep/x.txt"), "f2-a2-one-");
    step(&format!("echo f3 > {out}/f.tmp; mv {out}/f.tmp {out}/f.txt"), "f3-a2-one-");
    step(&format!("ln -sfn {out}/b here"), "f3-b1-one-");
    step(&format!("echo b2 > {out}/b/x.txt"), "f3-b2-one-");
    step(&format!("echo g1 > {out}/g.txt; ln -sf {out}/g.txt file.txt"), "g1-b2-one-");
    step(&format!("echo g2 > {out}/g.txt"), "g2-b2-one-");
    // As vim does it, with a pause in which there is nothing.
    step(&format!("mv {out}/g.txt {out}/g.txt~; sleep 0.1; echo g3 > {out}/g.txt"), "g3-b2-one-");
    step(&format!("echo g2 > {out}/g.txt"), "g2-b2-one-");
    step("rm here", "g2-one-");
    hotrun.end();
}

#[test]
fn a_file_in_use_is_followed_where_its_link_leads() {
    let config = "env_files = [\".env\"]\n".to_owned() + CONFIG;
    let project = Sandbox::new()
        .file("hotrun.toml", &config)
        .script("app", "echo serving $(cat built) $A as $$\nexec sleep 1000\n");
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    let out = outside.path().display().to_string();
    project.sh(&format!("echo A=a > {out}/env; ln -s {out}/env .env"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one a");
    hotrun.wait_for("ready");
    step(&project, &mut hotrun, &format!("echo A=b > {out}/env"), "one b");
    step(&project, &mut hotrun, &format!("echo A=c > {out}/e; mv {out}/e {out}/env"), "one c");
    hotrun.end();
}

#[test]
fn directories_that_link_to_each_other_are_entered_once() {
    let project = project("follow_symlink = true\n");
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    let out = outside.path().display().to_string();
    project.sh(&format!(
        "mkdir {out}/a {out}/b; ln -s {out}/b {out}/a/to-b; ln -s {out}/a {out}/b/to-a; \
         ln -s {out}/a a"
    ));
    let config = CONFIG.to_owned() + "follow_symlink = true\n";
    project.save("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn three_hundred_directories_deep() {
    let project = project("");
    let deep = vec!["d"; 300].join("/");
    fs::create_dir_all(project.root().join(&deep)).unwrap();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one-");
    hotrun.wait_for("ready");
    step(&project, &mut hotrun, &format!("echo x > {deep}/a.txt"), "x-one-");
    step(
        &project,
        &mut hotrun,
        &format!("mkdir -p new/{deep}; echo y > new/{deep}/a.txt"),
        "x-y-one-",
    );
    step(&project, &mut hotrun, &format!("echo z > new/{deep}/a.txt"), "x-z-one-");
    step(&project, &mut hotrun, "rm -r new", "x-one-");
    hotrun.end();
}

#[test]
fn a_rename_that_changes_only_the_case() {
    let project = project("");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one-");
    hotrun.wait_for("ready");
    project.save("dir/a.txt", "a\n");
    hotrun.wait_serving("a-one-");
    hotrun.wait_for("ready");
    project.sh("mv dir/a.txt dir/A.txt");
    hotrun.wait_for("changed  dir/a.txt and 1 more");
    hotrun.wait_for("ready");
    project.sh("mv dir Dir");
    hotrun.wait_for("ready");
    step(&project, &mut hotrun, "echo b > Dir/A.txt", "b-one-");
    hotrun.end();
}

#[test]
fn pipes_and_sockets_in_the_tree_are_no_files() {
    let config = "[build]\ncmd = \"cp source.txt built\"\nentrypoint = \"./app\"\n\
                  exclude_file = [\"built\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    project.sh("mkfifo old");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let socket = std::os::unix::net::UnixListener::bind(project.root().join("socket")).unwrap();
    project
        .sh("mkfifo pipe; (cat pipe old > /dev/null &); echo x > pipe; echo x > old; rm pipe old");
    drop(socket);
    project.sh("rm socket");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    assert_eq!(hotrun.count("serving"), 2, "{}", hotrun.output());
    hotrun.end();
}

/// A repository whose parts ignore different things.
fn repository(more: &str) -> Sandbox {
    let config = "[build]\ncmd = \"cat source.txt > built\"\nentrypoint = \"./app\"\n";
    let project = Sandbox::new().file("hotrun.toml", &(config.to_owned() + more));
    project
        .file(".gitignore", "built\n*.out\n/only-here\n!keep.out\n")
        .file("sub/.gitignore", "*.gen\n!a.out\n")
}

#[track_caller]
fn check(project: &Sandbox, hotrun: &mut Hotrun, ignored: &[&str], seen: &[&str]) {
    for path in ignored {
        project.save(path, "x");
    }
    for path in seen {
        project.save(path, &format!("{path}{}", std::process::id()));
        hotrun.wait_for(&format!("changed  {path}"));
        hotrun.wait_for("ready");
    }
    let output = hotrun.output();
    for path in ignored {
        assert!(!output.contains(&format!("changed  {path}")), "{path}:\n{output}");
    }
}

#[test]
fn gitignore_at_every_level_and_ignore_and_info_exclude() {
    if !has("gitignore_at_every_level", &["git"]) {
        return;
    }
    let project = repository("")
        .file("other/.ignore", "!x.out\n*.tmp\n")
        .file("sub/deep/.gitignore", "!b.gen\n");
    project.sh("git init -q; echo '*.mine' >> .git/info/exclude");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let ignored = ["x.out", "only-here", "sub/x.gen", "sub/b.out", "other/y.tmp", "a.mine"];
    let seen =
        ["keep.out", "sub/only-here", "sub/a.out", "sub/deep/b.gen", "other/x.out", "other/z.gen"];
    check(&project, &mut hotrun, &ignored, &seen);
    // Each of them is read again when it changes.
    project.save("sub/.gitignore", "!a.out\n*.gone\n");
    hotrun.wait_for("changed  sub/.gitignore");
    hotrun.wait_for("ready");
    check(&project, &mut hotrun, &["sub/x.gone"], &["sub/y.gen"]);
    // That is no save itself, but what it ignored and is saved in the same breath is one.
    project.sh("echo '*.yours' > .git/info/exclude; echo x > b.mine");
    hotrun.wait_for("changed  b.mine");
    hotrun.wait_for("ready");
    check(&project, &mut hotrun, &["b.yours"], &["c.mine"]);
    hotrun.end();
}

#[test]
fn the_users_own_excludes_hold_in_every_repository() {
    if !has("the_users_own_excludes_hold", &["git"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let excludes = home.path().join("excludes");
    fs::write(&excludes, "*.user\n").unwrap();
    let git_config = home.path().join("gitconfig");
    fs::write(&git_config, format!("[core]\nexcludesFile = {}\n", excludes.display())).unwrap();
    let project = repository("").env("GIT_CONFIG_GLOBAL", git_config.to_str().unwrap());
    project.sh("git init -q");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    check(&project, &mut hotrun, &["a.user", "sub/b.user"], &["a.other"]);
    hotrun.end();
}

#[test]
fn a_worktree_and_a_submodule_have_their_own_tops() {
    if !has("a_worktree_and_a_submodule", &["git"]) {
        return;
    }
    let project = repository("");
    let git = "git -c user.name=t -c user.email=t@t -c protocol.file.allow=always";
    project.sh(&format!(
        "git init -q; git add .gitignore; {git} commit -qm a; echo '*.mine' >> .git/info/exclude; \
         mkdir .lib; cd .lib; git init -q; echo '*.lib' > .gitignore; git add .; {git} commit -qm l; \
         cd ..; {git} submodule --quiet add ./.lib module; \
         echo '*.sub' >> .git/modules/module/info/exclude; \
         git worktree add -q tree; cp source.txt app tree"
    ));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    // The module has its own rules, and none of those around it.
    let ignored = ["module/x.lib", "module/x.sub", "x.mine", "x.out"];
    check(&project, &mut hotrun, &ignored, &["module/x.out", "module/x.mine", "x.lib"]);
    hotrun.end();
    // The worktree shares what its repository excludes.
    project.sh("cp hotrun.toml tree");
    let mut hotrun = project.start(&["-C", "tree"]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("tree/a.mine", "x");
    project.save("tree/a.out", "x");
    project.save("tree/a.sub", "x");
    hotrun.wait_for("changed  a.sub");
    hotrun.wait_for("ready");
    assert_eq!(hotrun.count("changed"), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn what_is_ignored_costs_no_watch_and_comes_and_goes_with_gitignore() {
    if !Path::new("/proc/self/fdinfo").exists() {
        return crate::sandbox::skip("what_is_ignored_costs_no_watch", "there is no /proc");
    }
    let project = repository("").file(".git/HEAD", "");
    for number in 0..200 {
        project.save(&format!("modules/m{number}/x.js"), "");
    }
    project.save(".gitignore", "built\nmodules/\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("sub/x.rs", "x");
    hotrun.wait_for("ready");
    let few = watches(&hotrun);
    assert!(few < 20, "{few}");
    project.save(".gitignore", "built\n");
    hotrun.wait_for("changed  .gitignore");
    hotrun.wait_for("ready");
    project.save("modules/m7/x.js", "x");
    hotrun.wait_for("changed  modules/m7/x.js");
    hotrun.wait_for("ready");
    assert_eq!(watches(&hotrun), few + 201);
    project.save(".gitignore", "built\nmodules\n");
    hotrun.wait_for("changed  .gitignore");
    hotrun.wait_for("ready");
    project.save("modules/m7/x.js", "y");
    project.save("sub/x.rs", "y");
    hotrun.wait_for("changed  sub/x.rs");
    assert_eq!(watches(&hotrun), few);
    hotrun.end();
}

#[test]
fn one_directory_by_two_names_is_seen_by_both() {
    let config = "env_files = [\"../OUT/app.env\"]\n".to_owned()
        + &CONFIG.replace("cp source.txt built", ALL)
        + "follow_symlink = true\n";
    let project =
        Sandbox::new().script("app", "echo serving $(cat built) $A as $$\nexec sleep 1000\n");
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    let out = outside.path().display().to_string();
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    project.save("hotrun.toml", &config.replace("OUT", name));
    project.sh(&format!(
        "echo A=1 > {out}/app.env; echo b1 > {out}/b.txt; ln -s {out}/b.txt a.txt; \
         ln -s {out} link"
    ));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("b1-b1-one- 1");
    hotrun.wait_for("ready");
    step(&project, &mut hotrun, &format!("echo b2 > {out}/b.txt"), "b2-b2-one- 1");
    step(&project, &mut hotrun, &format!("echo A=2 > {out}/app.env"), "b2-b2-one- 2");
    step(&project, &mut hotrun, &format!("echo c > {out}/c.txt"), "b2-b2-c-one- 2");
    hotrun.end();
}

#[test]
fn a_link_to_a_file_is_followed_when_its_way_changes() {
    let project = project("include_file = [\"c.conf\"]\n");
    let config = CONFIG.replace("cp source.txt built", "cat c.conf > built");
    project.save("hotrun.toml", &(config + "include_file = [\"c.conf\"]\n"));
    let outside = tempfile::tempdir_in(project.root().parent().unwrap()).unwrap();
    let out = outside.path().display().to_string();
    // As Kubernetes mounts a configuration.
    project.sh(&format!(
        "(cd {out}; mkdir v1; echo one > v1/c.conf; ln -s v1 data); ln -s {out}/data/c.conf c.conf"
    ));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    for version in 2..5 {
        let before = version - 1;
        let script = format!(
            "cd {out}; mkdir v{version}; echo two{version} > v{version}/c.conf; \
             ln -s v{version} new; mv -T new data; rm -r v{before}"
        );
        step(&project, &mut hotrun, &script, &format!("two{version}"));
        let script = format!("echo more{version} > {out}/v{version}/c.conf");
        step(&project, &mut hotrun, &script, &format!("more{version}"));
    }
    hotrun.end();
}

#[test]
fn a_directory_that_another_takes_the_place_of_is_watched() {
    let project = project("").file("a/keep", "").file("b/b.txt", "b1\n");
    project.sh("rm a/keep");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("b1-one-");
    hotrun.wait_for("ready");
    // Somebody works in the old one, so that it is not quite gone.
    let mut old = std::process::Command::new("sleep")
        .arg("1000")
        .current_dir(project.root().join("a"))
        .spawn()
        .unwrap();
    step(&project, &mut hotrun, "mkdir new; echo a1 > new/a.txt; mv -T new a", "a1-b1-one-");
    step(&project, &mut hotrun, "echo a2 > a/a.txt", "a2-b1-one-");
    old.kill().unwrap();
    old.wait().unwrap();
    step(&project, &mut hotrun, "echo a3 > a/a.txt", "a3-b1-one-");
    step(&project, &mut hotrun, "mv a x; mv b a; mv x b", "b1-a3-one-");
    step(&project, &mut hotrun, "echo a4 > b/a.txt", "b1-a4-one-");
    step(&project, &mut hotrun, "rm -r b; mkdir b; echo b5 > b/b.txt", "b1-b5-one-");
    step(&project, &mut hotrun, "echo b6 > b/b.txt", "b1-b6-one-");
    hotrun.end();
}

#[test]
fn gitignore_above_the_root_and_a_replaced_info_exclude_are_read_again() {
    if !has("gitignore_above_the_root", &["git"]) {
        return;
    }
    let config = "[build]\ncmd = \"cat source.txt > built\"\nentrypoint = \"./app\"\n";
    let project = Sandbox::empty()
        .file(".gitignore", "built\n*.one\n")
        .file("svc/hotrun.toml", config)
        .file("svc/source.txt", "one\n")
        .script("svc/app", crate::sandbox::APP);
    project.sh("git init -q");
    let mut hotrun = project.start(&["-C", "svc"]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let sees = |hotrun: &mut Hotrun, ignored: &str, seen: &str| {
        project.save(&format!("svc/{ignored}"), "x");
        project.save(&format!("svc/{seen}"), "x");
        hotrun.wait_for(&format!("changed  {seen}"));
        hotrun.wait_for("ready");
        assert!(!hotrun.output().contains(ignored), "{}", hotrun.output());
    };
    sees(&mut hotrun, "a.one", "a.two");
    // What was ignored and is saved in the same breath is found.
    project.sh("echo built > .gitignore; echo x > svc/b.one");
    hotrun.wait_for("changed  b.one");
    hotrun.wait_for("ready");
    project.sh("mv .git/info/exclude old; (cat old; echo '*.three') > .git/info/exclude");
    project.save("svc/source.txt", "two\n");
    hotrun.wait_serving("two");
    sees(&mut hotrun, "a.three", "c.one");
    hotrun.end();
}

#[test]
fn what_is_taken_back_in_may_still_be_ignored_by_others() {
    if !has("what_is_taken_back_in", &["git"]) {
        return;
    }
    let project = repository("");
    project.sh("git init -q; echo '*.log' >> .git/info/exclude");
    project.save(".gitignore", "built\n/gen/*\n!/gen/keep/\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    check(&project, &mut hotrun, &["gen/keep/x.log", "gen/x.rs"], &["gen/keep/x.rs"]);
    hotrun.end();
}
