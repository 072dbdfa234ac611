//! Files that trigger something other than a build.

use nix::sys::signal::Signal;

use crate::sandbox::{APP, CONFIG, Sandbox, is_alive};

/// A project whose `*.in` files a rule turns into sources.
fn generated(cmd: &str) -> Sandbox {
    let rule =
        format!("[[build.rules]]\nname = \"gen\"\ninclude_ext = [\"in\"]\ncmd = \"{cmd}\"\n");
    Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{rule}")).file("page.in", "one\n")
}

#[test]
fn a_rule_that_writes_a_source_leads_to_exactly_one_build() {
    let project = generated("cp page.in source.txt");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    assert_eq!(hotrun.count("gen:"), 0, "no rule runs at the start");
    for version in ["two", "three", "four"] {
        project.save("page.in", &format!("{version}\n"));
        hotrun.wait_for("rule  gen: cp page.in source.txt");
        hotrun.wait_for("done  in ");
        hotrun.wait_serving(version);
    }
    assert_eq!(hotrun.count("building"), 4, "{}", hotrun.output());
    assert_eq!(hotrun.count("rule  gen"), 3, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_rule_that_writes_nothing_watched_leads_to_no_build() {
    let project = generated("cp page.in page.css");
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("page.in", "two\n");
    hotrun.wait_for("done  in ");
    project.save("source.txt", "three\n");
    hotrun.wait_serving("three");
    assert_eq!(hotrun.count("building"), 2, "{}", hotrun.output());
    assert!(!is_alive(first));
    hotrun.end();
}

#[test]
fn a_burst_of_a_rules_file_and_a_source_runs_the_rule_and_then_builds_once() {
    let project = generated("cat page.in >> source.txt");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    // A rename of a directory is one burst.
    project.sh("mkdir new && echo x > new/more.txt && echo y > new/page.in");
    hotrun.wait_for("done  in ");
    hotrun.wait_for("serving one");
    hotrun.wait_for("ready");
    // What is created within the tick in which the build ended may be the build's own.
    let builds = hotrun.count("building") + hotrun.count("verifying");
    assert!((2..=3).contains(&builds), "{builds} builds\n{}", hotrun.output());
    hotrun.end();
}

#[test]
fn braces_are_each_changed_file_quoted_and_relative_to_the_root() {
    let project = generated("printf '<%s>' {} >> made.css; echo $HOTRUN_CHANGED");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("sub/it's $HOME.in", "x");
    hotrun.wait_for_line("sub/it's $HOME.in");
    hotrun.wait_for("done");
    project.save("page.in", "x");
    hotrun.wait_for_line("page.in");
    hotrun.wait_for("done");
    project.sh("rm page.in");
    hotrun.wait_for("changed  page.in");
    hotrun.wait_for("done");
    let made = std::fs::read_to_string(project.root().join("made.css")).unwrap();
    assert_eq!(made, "<sub/it's $HOME.in><page.in>", "nothing runs for what is gone");
    hotrun.end();
}

#[test]
fn a_rule_that_fails_is_told_and_keeps_neither_the_app_nor_a_build_nor_other_rules_from_theirs() {
    let more = "[[build.rules]]\nname = \"css\"\ninclude_ext = [\"css\"]\ncmd = \"echo css ran\"\n";
    let project = generated("! grep -q broken page.in && cp page.in source.txt");
    let config = std::fs::read_to_string(project.root().join("hotrun.toml")).unwrap();
    let project = project.file("hotrun.toml", &format!("{config}{more}"));
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("page.in", "broken\n");
    let line = hotrun.wait_for("failed");
    assert!(line.contains("rule: exit code 1, after "), "{line}");
    assert!(line.ends_with(&format!("pid {first} keeps running")), "{line}");
    assert!(is_alive(first));
    project.sh("mkdir new && echo x > new/a.css && echo two > new/source.txt && \
                cp new/source.txt source.txt && touch page.in && echo broken > page.in && mv new now");
    hotrun.wait_for_line("css ran");
    hotrun.wait_serving("two");
    project.save("page.in", "mended\n");
    hotrun.wait_serving("mended");
    hotrun.end();
}

#[test]
fn a_directory_that_goes_is_its_rules_business() {
    let rule = "[[build.rules]]\nname = \"web\"\ninclude_dir = [\"web\"]\ninclude_ext = [\"ts\"]\n\
                cmd = \"echo rule ran\"\n";
    let config = format!("{CONFIG}exclude_dir = [\"web\"]\n{rule}");
    let project = Sandbox::new().file("hotrun.toml", &config).file("web/pages/a.ts", "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.sh("mv web/pages .gone");
    hotrun.wait_for_line("rule ran");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    assert_eq!(hotrun.count("building"), 2, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn what_a_command_left_behind_says_reaches_the_terminal_while_the_next_one_runs() {
    // A pipe that nobody reads is full after 64 KiB, and then its writer waits for ever.
    let config = "[build]\npre_cmd = [\"(head -c 1000000 /dev/zero | tr '\\\\0' '.'; touch said) &\"]\n\
                  cmd = \"until test -e said; do sleep 0.01; done; cp source.txt built\"\n\
                  entrypoint = \"./app\"\nlog = \"build.log\"\ninclude_ext = [\"txt\"]\n";
    let project = Sandbox::new().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.end();
}

#[test]
fn ctrl_c_stops_a_rule_and_all_that_it_started() {
    let project = generated("echo begun; sleep 777 & sleep 777");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("page.in", "x");
    hotrun.wait_for_line("begun");
    hotrun.end();
}

#[test]
fn a_save_while_its_rule_runs_runs_it_once_more_and_one_of_a_source_waits_for_it() {
    let project =
        generated("echo begun; until test -e go; do sleep 0.01; done; cp page.in made.css");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("page.in", "two");
    hotrun.wait_for_line("begun");
    project.save("page.in", "three");
    hotrun.wait_for("changed  page.in");
    project.save("source.txt", "source\n");
    hotrun.wait_for("changed  source.txt");
    assert_eq!(hotrun.count("building"), 1, "a build reads what rules write: it waits");
    project.save("go", "");
    hotrun.wait_for_line("begun");
    hotrun.wait_serving("source");
    assert_eq!(hotrun.count("rule  gen"), 2, "{}", hotrun.output());
    let made = std::fs::read_to_string(project.root().join("made.css")).unwrap();
    assert_eq!(made, "three");
    hotrun.end();
}

#[test]
fn a_formatter_that_rewrites_its_own_input_comes_to_rest() {
    let project = generated("tr a-z A-Z < page.in > page.tmp; cat page.tmp > page.in");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("page.in", "shout\n");
    hotrun.wait_for("done");
    hotrun.wait_for("done");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    assert_eq!(hotrun.count("rule  gen"), 2, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_rule_whose_file_changes_each_time_that_it_runs_is_named() {
    let project = generated("head -c 8 /dev/urandom | od -An -tx1 > page.in");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("page.in", "x");
    let line = hotrun.wait_for("changes each time that its rule runs");
    assert!(line.contains("exclude_regex"), "{line}");
    hotrun.end();
}

/// A project with one rule for `*.conf`.
fn with_action(action: &str, app: &str) -> Sandbox {
    let rule = format!("[[build.rules]]\ninclude_ext = [\"conf\"]\naction = {action}\n");
    Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{rule}")).script("app", app)
}

#[test]
fn restart_starts_the_app_again_without_a_build() {
    let project = with_action("\"restart\"", APP);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("app.conf", "x");
    hotrun.wait_for("changed  app.conf");
    let second = hotrun.wait_serving("one");
    assert_ne!(first, second);
    assert!(!is_alive(first));
    assert_eq!(hotrun.count("building"), 1, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn restart_is_not_for_a_program_that_is_gone() {
    let project = with_action("\"restart\"", APP);
    let config =
        format!("{CONFIG}[[build.rules]]\ninclude_ext = [\"conf\"]\naction = \"restart\"\n");
    let config = config
        .replace("\"./app\"", "\"./made\"")
        .replace("cp source.txt built", "cp source.txt built; cp app made");
    let project = project.file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.sh("rm made");
    project.save("app.conf", "x");
    hotrun.wait_for("nothing has been built that could be restarted");
    assert!(is_alive(first), "the good app lives");
    hotrun.end();
}

#[test]
fn signal_reaches_the_app_which_reloads_without_a_restart() {
    let app = "trap 'echo reloaded $(cat app.conf)' USR1\necho serving $(cat built) as $$\n\
               while :; do sleep 0.02; done\n";
    let project = with_action("\"signal\"\nsignal = \"SIGUSR1\"", app);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("app.conf", "limits");
    hotrun.wait_for("changed  app.conf");
    hotrun.wait_for_line("reloaded limits");
    assert_eq!(hotrun.count(&format!("signalled  pid {first} SIGUSR1")), 1);
    assert!(is_alive(first));
    hotrun.end();
}

#[test]
fn an_app_that_has_only_just_started_gets_its_signal_when_it_is_ready() {
    // Before it has set its trap, the signal would kill it.
    let app = "until test -e app.conf; do :; done\nsleep 0.05\ntrap 'echo reloaded' USR1\n\
               echo serving $(cat built) as $$\nwhile :; do sleep 0.02; done\n";
    let project = with_action("\"signal\"\nsignal = \"usr1\"", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("started");
    project.save("app.conf", "x");
    hotrun.wait_for_line("reloaded");
    assert_eq!(hotrun.count("crashed"), 0, "{}", hotrun.output());
    hotrun.end();
}

#[test]
fn a_signal_is_for_the_program_and_not_for_what_it_has_started() {
    let app = "sleep 1000 &\nworker=$!\ntrap 'kill -0 $worker && echo worker lives' USR1\n\
               echo serving $(cat built) as $$\nwhile :; do sleep 0.02; done\n";
    let project = with_action("\"signal\"\nsignal = \"USR1\"", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("ready");
    project.save("app.conf", "x");
    hotrun.wait_for_line("worker lives");
    hotrun.end();
}

#[test]
fn nobody_to_signal_is_told() {
    let project = with_action("\"signal\"\nsignal = \"HUP\"", "exit 0\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("exited");
    project.save("app.conf", "x");
    hotrun.wait_for("no program is running to send SIGHUP to");
    hotrun.end();
}

#[test]
fn reload_and_css_are_told_as_long_as_hotrun_reloads_no_page() {
    let project = with_action("\"reload\"", APP);
    let mut hotrun = project.start(&[]);
    let first = hotrun.wait_serving("one");
    project.save("page.conf", "x");
    hotrun.wait_for("changed  page.conf; reload the page in the browser");
    assert!(is_alive(first));
    hotrun.signal(Signal::SIGTERM);
    hotrun.wait();
    hotrun.leaves_nobody();
}

#[test]
fn a_rule_that_says_too_little_is_an_error_at_its_place() {
    let refuse = |rule: &str, expected: &str| {
        let text = format!("[build]\ncmd = \"true\"\n[[build.rules]]\n{rule}\n");
        let (code, _, stderr) = Sandbox::empty().file("hotrun.toml", &text).run(&[]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.starts_with(&format!("hotrun: hotrun.toml:{expected}")), "{stderr}");
    };
    refuse(
        "include_ext = [\"x\"]",
        "3:1: rule 1 has no cmd\n  3 | [[build.rules]]\n    | ^^^^^^^^^^^^^^^\n  help: ",
    );
    refuse("cmd = \"x\"", "3:1: rule 1 matches no files\n  3 | ");
    refuse("action = \"signal\"\ninclude_ext = [\"x\"]", "3:1: rule 1 has no signal\n");
    refuse("action = \"jump\"", "4:10: action = \"jump\": expected \"run\", \"restart\"");
    refuse("name = 3", "4:8: name = 3: expected a string in quotes");
    refuse(
        "action = \"restart\"\ncmd = \"x\"\ninclude_ext = [\"x\"]",
        "5:7: cmd = \"x\": only the action \"run\" takes a cmd",
    );
    refuse("cmd = \"x\"\ninclude_ext = [\"x\"]\nexclude_regex = [\"(\"]", "6:17: exclude_regex");
    let typo = "[build]\ncmd = \"true\"\n[[build.rules]]\ncmd = \"x\"\ninclude_ex = [\"y\"]\n\
                include_ext = [\"x\"]\n";
    let (_, _, stderr) = Sandbox::empty().file("hotrun.toml", typo).run(&["--once"]);
    assert!(
        stderr.contains("hotrun.toml:5:1: unknown key include_ex; did you mean include_ext?"),
        "{stderr}"
    );
}
