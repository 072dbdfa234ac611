//! Variables for everything that is run.

use crate::sandbox::{CONFIG, Sandbox, is_alive};

const APP: &str = "echo \"app <$A><$B><$C>\" as $$\nexec sleep 1000\n";

fn project() -> Sandbox {
    let config = CONFIG.replace("cp source.txt", "echo \\\"build <$A><$B><$C>\\\"; cp source.txt");
    Sandbox::new()
        .file("hotrun.toml", &format!("env_files = [\".env\", \"more.env\"]\n{config}"))
        .file(".env", "A=a\nB=a\nC=a\n")
        .file("more.env", "export B=\"more b\" # comment\n")
        .script("app", APP)
        .env("C", "real")
}

#[test]
fn later_files_win_the_real_environment_beats_them_and_builds_see_them_too() {
    let project = project();
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_line("build <a><more b><real>");
    hotrun.wait_for("app <a><more b><real>");
    hotrun.end();
}

#[test]
fn a_change_starts_the_app_again_without_a_build_and_what_was_removed_vanishes() {
    let project = project();
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("app <a><more b><real>");
    project.save("more.env", "");
    hotrun.wait_for("changed  more.env");
    hotrun.wait_for("app <a><a><real>");
    project.save(".env", "B=only\n");
    hotrun.wait_for("app <><only><real>");
    assert_eq!(hotrun.count("building"), 1, "{}", hotrun.output());
    // The next build reads them again as well.
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("build <><only><real>");
    hotrun.end();
}

#[test]
fn a_file_that_appears_later_is_read() {
    let project = project();
    project.sh("rm .env more.env");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("app <><><real>");
    project.save(".env", "A=new\n");
    hotrun.wait_for("app <new><><real>");
    hotrun.end();
}

#[test]
fn a_mistake_is_told_with_its_line_and_changes_nothing() {
    let project = project();
    let mut hotrun = project.start(&[]);
    let line = hotrun.wait_for("app <a>");
    let pid = line.rsplit(' ').next().unwrap().parse().unwrap();
    let pid = nix::unistd::Pid::from_raw(pid);
    project.save(".env", "A=x\nB two words\n");
    hotrun.wait_for(".env:2: expected NAME=value");
    hotrun.wait_for("until this is fixed");
    project.save("source.txt", "two\n");
    hotrun.wait_for_line("build <a><more b><real>");
    hotrun.wait_for("app <a><more b><real>");
    assert!(!is_alive(pid), "it was replaced by the build, not by the mistake");
    assert_eq!(hotrun.count("expected NAME=value"), 1, "once is enough");
    project.save(".env", "A=mended\n");
    hotrun.wait_for("app <mended>");
    hotrun.end();
}

#[test]
fn a_save_by_which_no_variable_changes_starts_nothing() {
    let project = project();
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_all(&["app <a>", "started"]);
    project.save(".env", "# a comment\nA=a\nB=a\nC=a\n");
    hotrun.wait_for("unchanged  .env");
    assert_eq!(hotrun.count("started"), 1);
    hotrun.end();
}

#[test]
fn the_env_table_beats_the_files() {
    let project = project();
    let config = std::fs::read_to_string(project.root().join("hotrun.toml")).unwrap();
    let project = project.file("hotrun.toml", &format!("{config}[env]\nB = \"table\"\nA = 7\n"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("app <7><table><real>");
    hotrun.end();
    let bad = Sandbox::new().file("hotrun.toml", &format!("{CONFIG}[env]\nB = [1]\n"));
    let (code, _, stderr) = bad.run(&[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("hotrun.toml:7:5: env.B: expected a string"), "{stderr}");
}

#[test]
fn a_change_during_a_build_that_fails_reaches_the_app() {
    let config = "env_files = [\".env\"]\n[build]\ncmd = \"echo begun; grep -q one source.txt || \
                  { until test -e go; do sleep 0.01; done; exit 1; }\"\nentrypoint = \"./app\"\n\
                  include_ext = [\"txt\"]\n";
    let project = project().file("hotrun.toml", config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("app <a>");
    project.save("source.txt", "broken\n");
    hotrun.wait_for_line("begun");
    project.save(".env", "A=meanwhile\n");
    hotrun.wait_for("changed  .env");
    project.save("go", "");
    hotrun.wait_for("failed");
    hotrun.wait_for("app <meanwhile>");
    hotrun.end();
}

#[test]
fn a_build_that_failed_for_want_of_a_variable_is_made_when_it_comes() {
    let config = CONFIG.replace("cp source.txt", "test \\\"$A\\\" = good && cp source.txt");
    let project = project().file("hotrun.toml", &format!("env_files = [\".env\"]\n{config}"));
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("failed");
    project.save(".env", "A=good\n");
    hotrun.wait_for("app <good>");
    hotrun.end();
}

#[test]
fn a_file_that_is_named_to_be_built_from_is() {
    let project = project();
    let config = std::fs::read_to_string(project.root().join("hotrun.toml")).unwrap();
    let config = format!("{config}include_file = [\".env\"]\n");
    let project = project.file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("app <a>");
    project.save(".env", "A=b\n");
    hotrun.wait_for_line("build <b><more b><real>");
    hotrun.wait_for("app <b>");
    hotrun.end();
}
