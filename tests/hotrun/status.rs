//! What `hotrun status` says, and the number that goes from a save to the program.

use crate::sandbox::{CONFIG, Hotrun, Sandbox, wait_until};

fn wait_ready(hotrun: &mut Hotrun, version: &str) {
    hotrun.wait_serving(version);
    hotrun.wait_for_any(&["ready", "running"]);
}

#[test]
fn status_says_what_serves_whether_it_is_the_newest_and_how_the_last_build_ended() {
    let project = Sandbox::new();
    let (code, _, told) = project.run(&["status"]);
    assert_eq!(code, 1);
    assert!(told.starts_with("hotrun: hotrun status: no hotrun runs in ROOT"), "{told}");
    let mut hotrun = project.start(&[]);
    wait_ready(&mut hotrun, "one");
    let first = project.status();
    let service = &first["services"][0];
    assert_eq!(service["making"], "nothing", "{first}");
    assert_eq!(service["serving"], "ready", "{first}");
    assert_eq!(service["is_newest"], true, "{first}");
    assert_eq!(service["build"]["succeeded"], true, "{first}");
    assert_eq!(service["program"]["generation"], 1, "{first}");
    assert_eq!(first["pid"], i64::from(hotrun.pid().as_raw()), "{first}");

    project.sh("rm source.txt");
    hotrun.wait_for("failed");
    let failed = project.status();
    let service = &failed["services"][0];
    assert_eq!(service["serving"], "ready", "{failed}");
    assert_eq!(service["is_newest"], false, "the program lacks the last save: {failed}");
    assert_eq!(service["build"]["succeeded"], false, "{failed}");
    assert_eq!(service["program"], first["services"][0]["program"], "{failed}");
    let (_, text, _) = project.run(&["status"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("program  running · pid "), "{text}");
    assert!(lines[1].starts_with("build    failed after "), "{text}");
    assert_eq!(lines[2], "newest   no", "{text}");

    project.save("source.txt", "two\n");
    wait_ready(&mut hotrun, "two");
    let fixed = project.status();
    let service = &fixed["services"][0];
    assert_eq!(service["is_newest"], true, "{fixed}");
    assert_eq!(service["program"]["generation"], 2, "{fixed}");
    assert_eq!(service["program"]["update"], fixed["update"], "{fixed}");
    assert!(fixed["update"].as_u64() > failed["update"].as_u64(), "{fixed}");
    hotrun.end();
    assert_eq!(project.run(&["status"]).0, 1);
}

#[test]
fn one_number_goes_from_a_save_over_its_build_to_the_program() {
    let config = CONFIG.replace("cp source.txt built", "echo $HOTRUN_UPDATE > built");
    let app = "echo serving $(cat built) as $$, update $HOTRUN_UPDATE\nexec sleep 1000\n";
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("update 1");
    for count in 2..5 {
        project.save("source.txt", &format!("{count}\n"));
        let line = hotrun.wait_for("serving");
        let built: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(line.ends_with(&format!("update {built}")), "{line}");
        assert!(built >= count, "{line}");
    }
    hotrun.end();
}

#[test]
fn what_is_not_built_has_the_number_of_the_save_or_request_too() {
    let app = "echo update $HOTRUN_UPDATE of $(cat data.txt)\nexec sleep 1000\n";
    let config = "[build]\nentrypoint = [\"./app\"]\ninclude_ext = [\"txt\"]\n";
    let project =
        Sandbox::empty().file("hotrun.toml", config).script("app", app).file("data.txt", "one\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("update 1 of one");
    hotrun.wait_for_any(&["ready", "running"]);
    project.save("data.txt", "two\n");
    hotrun.wait_for(" of two");
    hotrun.wait_for_any(&["ready", "running"]);
    let status = project.status();
    let program = &status["services"][0]["program"];
    assert_eq!(program["update"], status["update"], "{status}");
    assert_eq!(status["services"][0]["is_newest"], true, "{status}");
    assert!(status["update"].as_u64() >= Some(2), "{status}");
    hotrun.end();
}

#[test]
fn a_program_that_a_rule_restarts_has_the_number_of_the_save() {
    let rule = "[[build.rules]]\ninclude_ext = [\"conf\"]\naction = \"restart\"\n";
    let app = "echo update $HOTRUN_UPDATE of $(cat a.conf)\nexec sleep 1000\n";
    let project = Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{rule}"));
    let project = project.script("app", app).file("a.conf", "one\n");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("update 1 of one");
    hotrun.wait_for("ready");
    project.save("a.conf", "two\n");
    hotrun.wait_for("update 2 of two");
    hotrun.wait_for("ready");
    let status = project.status();
    assert_eq!(status["services"][0]["program"]["update"], status["update"], "{status}");
    hotrun.end();
}

#[test]
fn a_failed_rule_is_not_the_newest() {
    let rule = "[[build.rules]]\nname = \"gen\"\ninclude_ext = [\"in\"]\ncmd = \"false\"\n";
    let project = Sandbox::new().file("hotrun.toml", &format!("{CONFIG}{rule}"));
    let mut hotrun = project.start(&[]);
    wait_ready(&mut hotrun, "one");
    project.save("page.in", "x\n");
    hotrun.wait_for("failed");
    let status = project.status();
    assert_eq!(status["services"][0]["is_newest"], false, "{status}");
    // Without the rule, its failure no longer matters.
    project.save("hotrun.toml", CONFIG);
    wait_until("it is the newest", || project.status()["services"][0]["is_newest"] == true);
    hotrun.end();
}
