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
    project.sh("echo '*.yours' > .git/info/exclude");
    // That is no save itself: it is seen when the next one is.
    project.save("b.mine", "x");
    let project_sees = || project.save("b.mine", "y");
    while hotrun.count("changed  b.mine") == 0 {
        project_sees();
        std::thread::yield_now();
    }
    hotrun.wait_for("changed  b.mine");
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
