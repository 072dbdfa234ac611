//! A hostile project, program or user: what is not hotrun's stays, what is not meant is not run,
//! and what is without end costs a bounded amount.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::sandbox::{
    CONFIG, Hotrun, PATIENCE, Sandbox, can, config_to_run, free_port, has, marked, wait_until,
};

/// A program that is ready only when it says so.
const SILENT: &str = "echo serving $(cat built) as $$\nexec sleep 1000\n";

// What may be deleted

#[test]
fn what_hotrun_has_not_made_is_never_deleted() {
    let project = Sandbox::new().script("app", SILENT);
    let precious = |path: &str| {
        project.save(path, "precious\n");
        project.root().join(path)
    };
    let config = CONFIG.replace("cp source.txt built", "cp source.txt built; : tmp/main");
    let config = format!("tmp_dir = \"tmp\"\n{config}[misc]\nclean_on_exit = true\n");
    let listen = "[[listen]]\naddress = \"unix:app.sock\"\n";
    // A file named after air has a tmp_dir made.
    project.sh("rm hotrun.toml");
    project.save(".air.toml", &format!("{config}{listen}"));
    // A link to elsewhere, whose directories are named as those of dead hotruns are.
    let mut all = vec![precious("elsewhere/1.2/photo"), precious("elsewhere/x/photo")];
    fs::create_dir(project.root().join("tmp")).unwrap();
    symlink(project.root().join("elsewhere"), project.root().join("tmp/.hotrun")).unwrap();
    // A file with the name of the second one of the socket.
    all.push(precious(".app.sock.hotrun"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.end();
    assert!(all.iter().all(|path| path.exists()));

    // A directory of the user's own, with the text by which hotrun knows those that it has made.
    fs::remove_file(project.root().join("tmp/.hotrun")).unwrap();
    fs::remove_dir(project.root().join("tmp")).unwrap();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let made = fs::read_to_string(project.root().join("tmp/.gitignore")).unwrap();
    hotrun.end();
    assert!(!project.root().join("tmp").exists(), "its own is deleted (clean_on_exit)");
    project.save("tmp/.gitignore", &made);
    project.save("tmp/.hotrun/1.2/.gitignore", &made);
    all.push(precious("tmp/.hotrun/1.2/deploy.sh"));
    all.push(precious("tmp/notes"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    hotrun.end();
    assert!(all.iter().all(|path| path.exists()));
}

#[test]
fn what_a_killed_hotrun_has_kept_is_deleted_by_the_next() {
    let config = CONFIG.replace("cp source.txt built", "cp source.txt built; : tmp/main");
    let config = format!("tmp_dir = \"tmp\"\n{config}");
    let project = Sandbox::new().file(".air.toml", &config);
    project.sh("rm hotrun.toml");
    let kept = || {
        let entries = fs::read_dir(project.root().join("tmp/.hotrun")).into_iter().flatten();
        entries.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>()
    };
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    let first = kept();
    assert_eq!(first.len(), 1);
    hotrun.signal(Signal::SIGKILL);
    hotrun.wait();
    let mut next = project.start(&[]);
    next.wait_serving("one");
    assert!(kept().len() == 1 && kept() != first, "{first:?} {:?}", kept());
    next.end();
}

// What may be run

#[test]
fn a_file_name_is_one_word_for_a_rule_and_never_a_command_or_an_option() {
    let rule = "[[build.rules]]\ninclude_ext = [\"ts\"]\n\
                cmd = \"\"\"printf 'got:%s:' \"{}\" {} >> got; cat {} >> got\"\"\"\n";
    let project = Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{rule}"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let names: [(&[u8], &[u8]); 6] = [
        (b"$(touch pwned).ts", b"$(touch pwned).ts"),
        (b"`touch pwned`;touch pwned.ts", b"`touch pwned`;touch pwned.ts"),
        (b"two  'words\".ts", b"two  'words\".ts"),
        (b"-n.ts", b"./-n.ts"),
        (b"l\nf.ts", b"l\nf.ts"),
        (b"\xff\xfe.ts", b"\xff\xfe.ts"),
    ];
    for (name, word) in names {
        fs::write(project.root().join("got.new"), "").unwrap();
        fs::rename(project.root().join("got.new"), project.root().join("got")).unwrap();
        fs::write(project.root().join(OsStr::from_bytes(name)), "content").unwrap();
        hotrun.wait_for("done  in ");
        let got = fs::read(project.root().join("got")).unwrap();
        let expected = [b"got:", word, b":got:", word, b":content"].concat();
        assert_eq!(got, expected, "{:?}", OsStr::from_bytes(name));
    }
    assert!(!project.root().join("pwned").exists());
    hotrun.end();
}

#[test]
fn where_a_name_could_not_be_one_word_the_rule_is_refused() {
    for cmd in ["sh -c 'cat {}'", "eval \\\"cat {}\\\"", "echo `cat {}`"] {
        let rule = format!("[[build.rules]]\ninclude_ext = [\"ts\"]\ncmd = \"{cmd}\"\n");
        let project = Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{rule}"));
        let (code, _, told) = project.run(&[]);
        assert_eq!(code, 2, "{told}");
        let is_told = told.contains("{} is inside") || told.contains("another shell reads");
        assert!(is_told && told.contains("hotrun.toml:8:7: cmd = "), "{told}");
        assert!(told.contains("\n  help: "), "{told}");
    }
}

#[test]
fn changed_paths_are_told_apart_whatever_their_names() {
    let app = "printf 'changed <%s>\\n' \"$HOTRUN_CHANGED\"\necho serving as $$\nexec sleep 1000\n";
    let project = Sandbox::new().script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("changed <>");
    hotrun.wait_for("ready");
    for (name, told) in [("a\nb.txt", r#"<"a\nb.txt">"#), ("\"q\\.txt", r#"<"\"q\\.txt">"#)] {
        project.save(name, "1\n");
        hotrun.wait_for(&format!("changed {told}"));
        hotrun.wait_for("ready");
    }
    hotrun.end();
}

// What may be shown

#[test]
fn control_characters_are_shown_and_secrets_are_not() {
    let config = "[build]\ncmd = \"true #\\u001b[2K\\rgo build\\n    true  go build\"\n\
                  entrypoint = [\"./app\", \"\\u202efdp\"]\ninclude_ext = [\"txt\"]\n\
                  [[build.rules]]\nname = \"\\u0007r\"\ncmd = \"DB_PASSWORD=hunter2 x\"\n\
                  include_ext = [\"in\"]\n[env]\nAPI_TOKEN = \"hunter2\"\n\
                  DB = \"postgres://me:hunter2@db/x\"\n";
    let project =
        Sandbox::new().file("hotrun.toml", config).file(".env", "SECRET hunter2\x1b[0m\n");
    let (_, checked, told) = project.run(&["check"]);
    let mut hotrun = project.start(&["--env_files", ".env"]);
    hotrun.wait_for("ready");
    project.save("\u{1b}]0;owned\u{7}.txt", "1\n");
    hotrun.wait_for("changed");
    hotrun.wait_for("ready");
    let said = hotrun.end();
    for shown in [&checked, &told, &said] {
        assert!(!shown.contains("hunter2"), "{shown}");
        let is_obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!shown.contains(is_obeyed), "{shown:?}");
    }
    assert!(checked.contains("true #\\u{1b}[2K\\rgo build"), "{checked}");
    assert!(!checked.contains("\n    true  go build"), "no line is forged: {checked}");
    assert!(said.contains("\\u{1b}]0;owned\\u{7}.txt") && said.contains(".env:1: "), "{said}");
}

#[test]
fn secrets_are_masked_in_diagnostics_in_check_and_in_errors() {
    let config = "root = \".\"\n[build]\ncmd = \"PASSWORD=hunter2 ./build --api-key hunter2\"\n\
                  entrypoint = [\"./app\", \"--token\", \"hunter2\", \"--db-password=hunter2\"]\n\
                  include_ext = [\"txt\"]\nkill_delay = \"1500ms\"\n\
                  post_cmd = [\"curl -H 'Authorization: Bearer hunter2' localhost:1; true\"]\n\
                  [[build.rules]]\ncmd = \"MY_SECRET='hunter2' true\"\ninclude_ext = [\"in\"]\n\
                  [env]\nAPI_TOKEN = \"hunter2\"\n";
    let app = "trap '' TERM; echo up; while :; do sleep 0.05; done\n";
    let project = Sandbox::new()
        .file("hotrun.toml", config)
        .file("secrets.env", "DB_PASSWORD=hunter2\n")
        .file("broken.env", "DB_PASSWORD=\"hunter2\n")
        .script("build", "[ ! -e broken ]\n")
        .script("app", app)
        .env("HOTRUN_LOG", "trace");
    let files = ["--env_files", "secrets.env", "--env_files", "broken.env"];
    let (_, checked, told) = project.run(&[&["check", "--verbose"], &files[..]].concat());
    let mut hotrun = project.start(&["--verbose", "--env_files", "secrets.env"]);
    hotrun.wait_for("ready");
    project.save("a.in", "1\n");
    hotrun.wait_for("MY_SECRET");
    project.save("broken", "");
    project.save("source.txt", "two\n");
    hotrun.wait_for("failed");
    project.sh("rm broken");
    project.save("source.txt", "three\n");
    hotrun.wait_for("killing");
    hotrun.wait_for("ready");
    // It names the program that did not end.
    hotrun.signal(Signal::SIGINT);
    hotrun.wait();
    let said = hotrun.output();
    let (_, _, wrong) = project.run(&["--build.cmd", "TOKEN=hunter2 x", "--build.delay", "x"]);
    assert!(said.contains("DEBUG") && checked.contains("--token"), "{checked}\n{said}");
    for shown in [&checked, &told, &said, &wrong] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

// Who may give orders

/// The socket by which this hotrun takes orders.
fn control_socket(runtime: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(runtime.join("hotrun")).unwrap().flatten();
    let mut sockets = files.filter(|file| file.file_name().as_bytes().starts_with(b"control."));
    sockets.next().unwrap().path()
}

#[test]
fn the_directory_of_sockets_is_closed_to_others_whatever_was_there_before() {
    let runtime = tempfile::tempdir().unwrap();
    let directory = runtime.path().join("hotrun");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let project = Sandbox::new().env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap()).script(
        "app",
        "echo notify $(stat -c %a $NOTIFY_SOCKET)\necho serving as $$\nexec sleep 1000\n",
    );
    let mut hotrun = project.start_by("umask 0; exec \"$@\"");
    hotrun.wait_for("notify 600");
    hotrun.wait_for("ready");
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    hotrun.end();
}

#[test]
fn a_hotrun_in_a_container_leaves_the_sockets_of_those_outside_alone() {
    let name = "a_hotrun_in_a_container_leaves_the_sockets_of_those_outside_alone";
    if !has(name, &["unshare"]) || !can(name, "unshare -pf --mount-proc true") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let runtime = place.path().to_str().unwrap();
    let app = "echo notify $NOTIFY_SOCKET\nexec sleep 1000\n";
    let project = || Sandbox::new().env("XDG_RUNTIME_DIR", runtime).script("app", app);
    let (outside, inside) = (project(), project());
    let mut first = outside.start(&[]);
    let line = first.wait_for("notify ");
    first.wait_for("ready");
    // Beside its control socket: that of its program, and its record.
    let all =
        || fs::read_dir(place.path().join("hotrun")).unwrap().flatten().map(|file| file.path());
    let of_first: Vec<_> = all().collect();
    assert!(of_first.contains(&line.split(' ').nth(1).unwrap().into()), "{line} {of_first:?}");
    // Its own pids mean nothing there, and those from there mean nothing here.
    let mut second = inside.start_by("exec unshare -pf --mount-proc \"$@\"");
    second.wait_for("ready");
    let (_, _, told) = outside.run(&["rollback"]);
    assert!(told.contains("not possible"), "{told}");
    assert!(of_first.iter().all(|file| file.exists()), "{of_first:?}");
    let beside = project();
    let mut third = beside.start(&[]);
    third.wait_for("ready");
    let (_, _, told) = inside.run(&["rollback"]);
    assert!(told.contains("not possible"), "{told}");
    third.end();
    // (`unshare` is its parent, and passes no signal on.)
    let all = marked(&inside.root());
    let name = |line: &str| line.split(' ').next().is_some_and(|word| word.ends_with("/hotrun"));
    let hotrun = all.iter().find(|(_, line)| name(line)).expect("it runs").0;
    kill(hotrun, Signal::SIGTERM).unwrap();
    second.wait();
    first.end();
}

#[test]
fn a_directory_that_came_when_no_file_could_be_opened_is_watched_as_soon_as_one_can() {
    let name = "a_directory_that_came_when_no_file_could_be_opened_is_watched_as_soon_as_one_can";
    if !has(name, &["prlimit"]) {
        return;
    }
    let config = CONFIG.replace("cp source.txt built", "cat *.txt */*/*.txt > built; true");
    let config = config.replace("cmd", "exclude_dir = [\"tmp\"]\ncmd");
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    let pid = hotrun.pid();
    let limit = |limit: usize| project.sh(&format!("prlimit --pid {pid} --nofile={limit}:"));
    limit(3);
    project.sh("mkdir -p tmp/new/deep; mv tmp/new .");
    hotrun.wait_for("new cannot be listed");
    project.save("new/deep/a.txt", "two\n");
    limit(1000);
    hotrun.wait_for("serving one two as");
    hotrun.wait_for("ready");
    project.save("new/deep/a.txt", "three\n");
    hotrun.wait_for("serving one three as");
    hotrun.end();
}

/// In a PID namespace of its own.
const CONTAINER: &str = "exec unshare -pf --mount-proc \"$@\"";

/// The hotrun of this sandbox that runs in a container; its parent `unshare` passes no signal on.
#[track_caller]
fn contained(project: &Sandbox) -> Pid {
    let is_hotrun =
        |line: &str| line.split(' ').next().is_some_and(|word| word.ends_with("/hotrun"));
    let all = marked(&project.root());
    all.iter().find(|(_, line)| is_hotrun(line)).expect("it runs").0
}

#[test]
fn the_record_of_a_hotrun_in_a_container_that_has_no_socket_yet_is_left_alone() {
    let name = "the_record_of_a_hotrun_in_a_container_that_has_no_socket_yet_is_left_alone";
    if !has(name, &["unshare"]) || !can(name, "unshare -pf --mount-proc true") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let runtime = place.path().to_str().unwrap();
    let sandbox = |project: Sandbox| project.env("XDG_RUNTIME_DIR", runtime);
    // A hotrun that waits for a manifest has not opened its socket.
    let waits = || sandbox(Sandbox::empty().file("Cargo.toml", "[package\n"));
    let (waits_outside, waits_inside) = (waits(), waits());
    let (outside, inside) = (sandbox(Sandbox::new()), sandbox(Sandbox::new()));
    let records = || {
        let all = fs::read_dir(place.path().join("hotrun")).unwrap().flatten();
        let names = all.map(|file| file.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).count()
    };
    let mut first = waits_outside.start(&[]);
    first.wait_for("waiting until this is fixed");
    let mut second = inside.start_by(CONTAINER);
    second.wait_for("ready");
    assert_eq!(records(), 2);
    let mut third = waits_inside.start_by(CONTAINER);
    third.wait_for("waiting until this is fixed");
    let mut fourth = outside.start(&[]);
    fourth.wait_for("ready");
    assert_eq!(records(), 4);
    fourth.end();
    // One that was killed is dead, though its record is still there.
    for (project, hotrun) in [(&inside, &mut second), (&waits_inside, &mut third)] {
        kill(contained(project), Signal::SIGKILL).unwrap();
        hotrun.wait();
    }
    assert_eq!(records(), 3);
    let mut fourth = outside.start(&[]);
    fourth.wait_for("ready");
    assert_eq!(records(), 2);
    fourth.end();
    first.end();
}

#[test]
fn what_a_hotrun_in_a_container_keeps_in_a_shared_project_is_left_alone() {
    let name = "what_a_hotrun_in_a_container_keeps_in_a_shared_project_is_left_alone";
    if !has(name, &["unshare"]) || !can(name, "unshare -pf --mount-proc true") {
        return;
    }
    // Their runtime directories are not shared.
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let of = |place: &tempfile::TempDir| place.path().to_str().unwrap().to_owned();
    let config = CONFIG.replace("cp source", "touch tmp/x; cp source");
    let project = Sandbox::empty().script("app", "exec sleep 1000\n").file("source.txt", "one\n");
    let project = project.file(".air.toml", &config).file("other.air.toml", &config);
    let project = project.env("XDG_RUNTIME_DIR", &of(&one));
    let mut inside = project.start_by(CONTAINER);
    inside.wait_for("ready");
    let kept = project.root().join("tmp/.hotrun");
    let all = || fs::read_dir(&kept).into_iter().flatten().flatten().count();
    assert_eq!(all(), 1);
    let project = project.env("XDG_RUNTIME_DIR", &of(&two));
    let mut outside = project.start(&["-c", "other.air.toml"]);
    outside.wait_for("ready");
    assert_eq!(all(), 2);
    let hotrun = contained(&project);
    outside.signal(Signal::SIGINT);
    outside.wait();
    assert_eq!(all(), 1);
    kill(hotrun, Signal::SIGTERM).unwrap();
    inside.wait();
    assert_eq!(all(), 0);
}

#[test]
fn a_hotrun_in_a_container_is_found_and_taken_over() {
    let name = "a_hotrun_in_a_container_is_found_and_taken_over";
    if !has(name, &["unshare"]) || !can(name, "unshare -pf --mount-proc true") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let project = Sandbox::new().env("XDG_RUNTIME_DIR", place.path().to_str().unwrap());
    let mut inside = project.start_by(CONTAINER);
    inside.wait_for("ready");
    let (code, _, told) = project.run(&[]);
    assert!(code == 7 && told.contains("already running: pid "), "{told}");
    let mut outside = project.start(&["--takeover"]);
    outside.wait_for("ready");
    inside.wait();
    outside.end();
}

#[test]
fn where_the_runtime_directory_is_not_usable_another_private_one_is() {
    let place = tempfile::tempdir().unwrap();
    let long = place.path().join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    let open = place.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let all = [place.path().join("missing"), place.path().join("file"), long, open, "rel".into()];
    for runtime in all {
        let project = Sandbox::new()
            .env("XDG_RUNTIME_DIR", runtime.to_str().unwrap())
            .script("app", "echo notify $NOTIFY_SOCKET\necho serving as $$\nexec sleep 1000\n");
        let mut hotrun = project.start(&[]);
        let socket = hotrun.wait_for("notify ");
        assert!(socket.contains("notify /"), "{socket}");
        assert!(!socket.contains(runtime.to_str().unwrap()), "{socket}");
        hotrun.wait_for("ready");
        // It is found there.
        let (_, _, told) = project.run(&["rollback"]);
        assert!(told.contains("not possible"), "{told}");
        hotrun.end();
    }
}

#[test]
fn clients_that_say_nothing_or_too_much_keep_nobody_else_from_being_answered() {
    let runtime = tempfile::tempdir().unwrap();
    let project = Sandbox::new().env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap());
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("ready");
    let socket = control_socket(runtime.path());
    let silent: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let mut talker = UnixStream::connect(&socket).unwrap();
    talker.set_write_timeout(Some(PATIENCE)).unwrap();
    // It is refused, or the connection is closed: in any case it ends.
    let _ = talker.write_all(&vec![b'x'; 10 << 20]);
    let _ = talker.read_to_end(&mut Vec::new());
    drop(silent);
    let (_, _, told) = project.run(&["rollback"]);
    assert!(told.contains("not possible"), "{told}");
    hotrun.end();
}

#[test]
fn another_user_gives_no_orders_and_speaks_for_no_program() {
    let name = "another_user_gives_no_orders_and_speaks_for_no_program";
    if !can(name, "test $(id -u) = 0 && setpriv --reuid 65531 --clear-groups true") {
        return;
    }
    let runtime = tempfile::tempdir().unwrap();
    let project = Sandbox::new()
        .env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap())
        .file("hotrun.toml", &format!("{CONFIG}[ready]\nnotify = true\n"))
        .script("app", "echo $NOTIFY_SOCKET > socket\necho serving as $$\nexec sleep 1000\n");
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("serving");
    // Even where the directory is opened to all: the sender is looked at.
    for path in [runtime.path().to_owned(), runtime.path().join("hotrun")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    for entry in fs::read_dir(runtime.path().join("hotrun")).unwrap().flatten() {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let control = control_socket(runtime.path());
    let order = format!(
        "import socket, sys\n\
         notify = open({:?}).read().strip()\n\
         socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1\\nMAINPID=1', notify)\n\
         control = socket.socket(socket.AF_UNIX)\ncontrol.connect({:?})\n\
         control.sendall(b'{{}}\\n')\nprint('answer', control.recv(99))\n",
        project.root().join("socket"),
        control
    );
    fs::set_permissions(project.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut stranger = project.program("setpriv", &["--reuid", "65531", "--clear-groups"]);
    let python =
        if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let output = stranger.args([python, "-c", &order]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.is_empty() || said.contains("answer b''"), "{said}");
    // The user's own message counts, and comes after the stranger's.
    let notify = fs::read_to_string(project.root().join("socket")).unwrap();
    let own = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert_eq!(hotrun.count("  ready  "), 0, "{}", hotrun.output());
    own.send_to(b"READY=1", notify.trim()).unwrap();
    hotrun.wait_for("ready");
    hotrun.end();
}

// Bounded

/// Kilobytes of memory.
fn memory(hotrun: &Hotrun) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", hotrun.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_program_that_floods_the_notify_socket_waits_and_hotrun_does_not_grow() {
    let name = "a_program_that_floods_the_notify_socket_waits_and_hotrun_does_not_grow";
    if !has(name, &["python3"]) {
        return;
    }
    let app = "import os, socket, sys, time\n\
               to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
               to.connect(os.environ['NOTIFY_SOCKET'])\n\
               sent, until = 0, time.time() + 2\n\
               print('serving as', os.getpid(), flush=True)\n\
               while time.time() < until:\n\
               \x20   to.send(b'EXTEND_TIMEOUT_USEC=%d\\nMAINPID=%d\\nSTATUS=%d' % (sent, sent, sent))\n\
               \x20   sent += 1\n\
               print('has sent', sent, flush=True)\n\
               to.send(b'READY=1')\ntime.sleep(1000)\n";
    let config = config_to_run(&["python3", "app.py"]).replace("20s", "1s");
    let project = Sandbox::new().file("hotrun.toml", &config).file("app.py", app);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("serving");
    let before = memory(&hotrun);
    hotrun.wait_for_all(&["has sent", "ready"]);
    let after = memory(&hotrun);
    assert!(after < before + 20_000, "{before} kB, then {after} kB");
    hotrun.end();
}

#[test]
fn a_file_of_variables_that_is_a_pipe_is_read_or_named_and_holds_up_nothing() {
    let project = Sandbox::new()
        .file("hotrun.toml", &format!("env_files = [\".env\"]\n{CONFIG}"))
        .script("app", "echo serving $(cat built) as $$ with $FROM_PIPE\nexec sleep 1000\n");
    let pipe = project.root().join(".env");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let mut hotrun = project.start(&[]);
    hotrun.wait_for(".env: a pipe");
    hotrun.wait_for("serving one");
    hotrun.end();
    // As a password manager does: each reader finds the variables.
    let writer =
        project.program("sh", &["-c", "while echo FROM_PIPE=yes > .env; do :; done"]).spawn();
    let mut writer = writer.unwrap();
    let mut hotrun = project.start(&[]);
    let line = hotrun.wait_for("serving one");
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(line.ends_with("with yes"), "{line}");
    hotrun.end();
}

#[test]
fn without_a_thread_hotrun_says_what_it_needs_and_with_few_it_goes_on() {
    let name = "without_a_thread_hotrun_says_what_it_needs_and_with_few_it_goes_on";
    if !can(name, "test $(id -u) = 0 && setpriv --reuid 65532 --clear-groups bash -c true") {
        return;
    }
    let project = Sandbox::new();
    project.sh("chmod 755 .; chown -R 65532 .");
    let runtime = tempfile::tempdir().unwrap();
    let limited = |processes: u32| {
        let script = format!("ulimit -u {processes}; exec \"$@\"");
        let mut command = project.program("setpriv", &["--reuid", "65532", "--clear-groups"]);
        command.env("XDG_RUNTIME_DIR", runtime.path()).args(["bash", "-c", &script, "bash"]);
        command.arg(env!("CARGO_BIN_EXE_hotrun"));
        command
    };
    let hotrun = fs::metadata(env!("CARGO_BIN_EXE_hotrun")).unwrap();
    if hotrun.mode() & 0o005 != 0o005 || limited(100).arg("version").output().is_err() {
        return crate::sandbox::skip(name, "another user cannot run what cargo has built");
    }
    let output = limited(1).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("hotrun: no thread can be started: "), "{told}");
    assert!(told.contains("help: allow more processes (ulimit -u"), "{told}");
}

#[test]
fn input_that_is_huge_and_wrong_is_told_in_a_few_lines() {
    let many = |line: &dyn Fn(usize) -> String, count| (0..count).map(line).collect::<String>();
    let unknown = many(&|number| format!("k{number} = 1\n"), 100_000);
    let project = Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{unknown}"));
    let (code, checked, told) = project.run(&["check"]);
    assert_eq!(code, 0, "{told}");
    let named = checked.matches("unknown key").count();
    assert!(named <= 21 && checked.contains("99980 more unknown keys"), "{named}");

    let variables = many(&|number| format!("V{number}=1\n"), 20_000) + "wrong\n";
    let project = Sandbox::new().file(".env", &variables);
    let (code, checked, told) = project.run(&["--env_files", ".env", "check"]);
    assert_eq!(code, 0, "{told}");
    assert!(checked.contains(".env:20001: expected NAME=value"), "{checked}");

    let environment = "E".repeat(100_000);
    let mut command = project.command(&["check"]);
    for number in 0..20 {
        command.env(format!("HUGE_{number}"), &environment);
    }
    assert!(command.output().unwrap().status.success());
}

// Numbers

#[test]
fn times_that_no_clock_reaches_are_refused_with_their_keys() {
    for (key, value) in [
        ("build.kill_delay", "9223372036854775807s"),
        ("build.kill_delay", "1e300h"),
        ("build.cancel_grace", "99999999h"),
        ("ready.timeout", "100000h"),
        ("ready.after", "18446744073709551615ns"),
    ] {
        let project = Sandbox::new();
        let (code, _, told) = project.run(&[&format!("--{key}={value}"), "check"]);
        assert_eq!(code, 2, "{key} = {value}: {told}");
        assert!(told.contains(key), "{told}");
    }
}

// Told rightly

#[test]
fn a_configuration_that_appears_beside_the_one_in_use_is_taken_up_and_so_is_its_end() {
    let of = |word: &str| CONFIG.replace("[\"./app\"]", &format!("[\"./app\", \"{word}\"]"));
    let project = Sandbox::empty()
        .file(".air.toml", &of("air"))
        .script("app", "echo serving $(cat built) as $$ by $1\nexec sleep 1000\n")
        .file("source.txt", "one\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("by air");
    hotrun.wait_for("ready");
    project.save("hotrun.toml", &of("hotrun"));
    hotrun.wait_for("reading  hotrun.toml");
    hotrun.wait_for("by hotrun");
    hotrun.wait_for("ready");
    // One of lower rank changes nothing.
    project.save("air.toml", &of("another"));
    project.sh("rm hotrun.toml");
    hotrun.wait_for("reading  .air.toml");
    hotrun.wait_for("by air");
    hotrun.wait_for("ready");
    let said = hotrun.end();
    assert!(!said.contains("by another"), "{said}");
}

#[test]
fn who_has_sent_the_signal_of_which_a_program_has_died_is_told() {
    let rule = "[[build.rules]]\naction = \"signal\"\nsignal = \"USR1\"\ninclude_ext = [\"cfg\"]\n";
    let project =
        Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{rule}")).script("app", SILENT);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("x.cfg", "1\n");
    hotrun.wait_for("SIGUSR1, which a rule has sent");
    project.save("source.txt", "two\n");
    let second = hotrun.wait_serving("two");
    hotrun.wait_for("ready");
    kill(second, Signal::SIGUSR1).unwrap();
    let line = hotrun.wait_for("crashed");
    assert!(!line.contains("a rule"), "{line}");
    hotrun.end();
}

#[test]
fn directories_that_are_no_project_are_refused_wherever_they_are_named() {
    let rule = "[[build.rules]]\ncmd = \"true\"\ninclude_dir = [\"/\"]\n";
    for config in [
        format!("root = \"/\"\n{CONFIG}"),
        format!("{CONFIG}include_dir = [\"/\"]\n"),
        format!("{CONFIG}{rule}"),
    ] {
        let project = Sandbox::new().file("hotrun.toml", &config);
        let (code, _, told) = project.run(&["check"]);
        assert!(code == 2 && told.contains("is too much to watch"), "{config}{told}");
    }
}

#[test]
fn the_reason_why_a_program_is_not_ready_is_the_last_one() {
    let name = "the_reason_why_a_program_is_not_ready_is_the_last_one";
    if !has(name, &["python3"]) {
        return;
    }
    // It refuses connections at first, and then accepts them without an answer.
    let app = "import os, socket, time\ntime.sleep(0.3)\ns = socket.socket()\n\
               s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
               s.bind(('127.0.0.1', int(os.environ['PORT'])))\ns.listen()\n\
               print('serving as', os.getpid(), flush=True)\ntime.sleep(1000)\n";
    let port = free_port();
    let ready = format!("[ready]\nhttp = \"http://127.0.0.1:{port}/\"\ntimeout = \"2s\"\n");
    let config = config_to_run(&["python3", "app.py"]) + &ready;
    let project = Sandbox::new()
        .file("hotrun.toml", &config)
        .file("app.py", app)
        .env("PORT", &port.to_string());
    let mut hotrun = project.start_plain(&[]);
    let line = hotrun.wait_for("not ready");
    assert!(line.contains("no answer yet") && !line.contains("refused"), "{line}");
    hotrun.end();
}

#[test]
fn a_message_that_brings_descriptors_counts_and_they_are_closed() {
    let name = "a_message_that_brings_descriptors_counts_and_they_are_closed";
    if !has(name, &["python3"]) {
        return;
    }
    let app = "import array, os, socket, time\n\
               to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
               to.connect(os.environ['NOTIFY_SOCKET'])\n\
               fds = array.array('i', [0] * 200)\n\
               to.sendmsg([b'READY=1'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])\n\
               print('serving as', os.getpid(), flush=True)\ntime.sleep(1000)\n";
    let config = config_to_run(&["python3", "app.py"]);
    let project = Sandbox::new()
        .file("hotrun.toml", &format!("{config}[ready]\nnotify = true\n"))
        .file("app.py", app);
    let mut hotrun = project.start_plain(&[]);
    hotrun.wait_for("ready");
    let open = fs::read_dir(format!("/proc/{}/fd", hotrun.pid())).unwrap().count();
    assert!(open < 100, "{open}");
    hotrun.end();
}

#[test]
fn the_shell_in_which_hotrun_is_started_is_not_ended_though_it_bears_the_mark() {
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    let app = hotrun.wait_serving("one");
    // While it executes another program it has no environment.
    let mark_of_app = || {
        let environ = fs::read_to_string(format!("/proc/{app}/environ")).unwrap();
        environ.split('\0').find_map(|one| one.strip_prefix("HOTRUN_TREE=")).map(str::to_owned)
    };
    wait_until("it bears the mark", || mark_of_app().is_some());
    let mark = mark_of_app().unwrap();
    hotrun.kill_with_guardians();
    // As in a terminal that a program of the dead one has opened.
    let shell = Sandbox::env(project, "HOTRUN_TREE", &mark);
    let mut next = shell.start_by("\"$@\" & wait $!");
    next.wait_serving("one");
    next.wait_for("ready");
    assert!(next.is_running());
    drop(next);
}

#[test]
fn a_pipe_in_the_place_of_a_cache_tag_is_not_waited_for() {
    let project = Sandbox::new().file("src/x.txt", "");
    nix::unistd::mkfifo(&project.root().join("src/CACHEDIR.TAG"), Mode::S_IRWXU).unwrap();
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn a_limit_of_file_sizes_ends_neither_hotrun_nor_the_program() {
    let name = "a_limit_of_file_sizes_ends_neither_hotrun_nor_the_program";
    if !can(name, "bash -c true") {
        return;
    }
    let build = "cp source.txt built; ! grep -q broken source.txt || { seq 20000; exit 1; }";
    let config = CONFIG.replace("cp source.txt built", build);
    let config = config.replace("[\"./app\"]", "[\"./nap\", \"1000\"]");
    let project = Sandbox::new().file("hotrun.toml", &format!("{config}log = \"build.log\"\n"));
    project.sh("cp $(command -v sleep) nap; chmod +x nap");
    let mut hotrun = project.start_by("exec bash -c 'ulimit -f 16; exec \"$0\" \"$@\"' \"$@\"");
    hotrun.wait_for("ready");
    // The program, which is larger, cannot be copied; and neither can what the build says.
    hotrun.wait_for("the last good build cannot be kept");
    project.save("source.txt", "broken\n");
    hotrun.wait_for_all(&["so the output of the build is not logged", "  failed  "]);
    project.save("source.txt", "two\n");
    hotrun.wait_for("built");
    assert!(hotrun.is_running());
    hotrun.end();
}

#[test]
fn the_proxy_may_open_more_files_than_what_hotrun_runs() {
    let port = free_port();
    let config = format!(
        "[build]\ncmd = \"echo built with $(ulimit -n)\"\n\
         full_bin = \"echo run with $(ulimit -n); exec sleep 1000\"\n\
         [proxy]\nproxy_port = {port}\napp_port = {}\n",
        free_port()
    );
    let project = Sandbox::empty().file("hotrun.toml", &config);
    let mut hotrun = project.start_by("ulimit -S -n 200; exec \"$@\"");
    hotrun.wait_for("built with 200");
    hotrun.wait_for("run with 200");
    // Each of them keeps its connection.
    let requests: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").unwrap();
            stream
        })
        .collect();
    for mut request in requests {
        let mut status = [0; 12];
        request.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 403");
    }
    hotrun.end();
}
