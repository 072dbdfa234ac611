//! Whole sessions, as they are shown: what happens, in which order, in which words.

use regex::Regex;

use crate::sandbox::{CONFIG, Hotrun, Sandbox};

/// What was printed, with figures that differ from run to run as `N`: times, pids, the version.
fn normalised(hotrun: Hotrun, project: &Sandbox) -> String {
    let root = project.root().display().to_string();
    let mut text = hotrun.end().replace(&root, "ROOT");
    for (pattern, name) in [
        (r"\d+(\.\d+)? (ms|s)\b", "N s"),
        (r"\bas \d+", "as N"),
        // On a slow machine the greeting does not wait until they are counted.
        (r" · \d+ files?", ""),
        (r"hotrun +\d+\.\d+\.\d+ ", "hotrun     N.N.N "),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
    }
    text
}

#[track_caller]
fn is(session: &str, expected: &str) {
    let lines: Vec<&str> =
        expected.lines().map(str::trim_start).filter(|l| !l.is_empty()).collect();
    let session: Vec<&str> = session.lines().map(str::trim_start).collect();
    assert_eq!(session, lines, "\n{}", session.join("\n"));
}

#[test]
fn a_save_a_compile_error_its_fix_and_a_crash() {
    let config = CONFIG.replace(
        "cp source.txt built",
        "if grep -q broken source.txt; then echo \\\"main.c:3:5: error: expected ;\\\"; exit 1; fi; \
         cp source.txt built",
    );
    // It is ready when it has printed that, on the slowest machine.
    let config = format!("{config}[ready]\nlog = \"^serving (one|two|three)\"\n");
    let app =
        "v=$(cat built); echo serving $v as $$\n[ \"$v\" != bad ] || exit 3\nexec sleep 1000\n";
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start_bare(&[]);
    hotrun.wait_for("ready");
    for (source, until) in
        [("two\n", "ready"), ("broken\n", "failed"), ("three\n", "ready"), ("bad\n", "crashed")]
    {
        project.save("source.txt", source);
        hotrun.wait_for(until);
    }
    let build = "if grep -q broken source.txt; then echo \"main.c:3:5: error: expected ;\"; exit 1; \
                 fi; cp source.txt built";
    is(
        &normalised(hotrun, &project),
        &format!(
            "hotrun     N.N.N  {build} · hotrun.toml
             hotrun  building  {build}
             hotrun     built  in N s
             hotrun   started  app
             serving one as N
             hotrun     ready  in N s
             hotrun   changed  source.txt
             hotrun  building  {build}
             hotrun     built  in N s
             hotrun   stopped  the program (N s)
             hotrun   started  app
             serving two as N
             hotrun     ready  in N s
             hotrun   changed  source.txt
             hotrun  building  {build}
             main.c:3:5: error: expected ;
             hotrun    failed  1 error · main.c:3:5 · after N s; the program keeps running
             hotrun   changed  source.txt
             hotrun  building  {build}
             hotrun     built  in N s
             hotrun   stopped  the program (N s)
             hotrun   started  app
             serving three as N
             hotrun     ready  in N s
             hotrun   changed  source.txt
             hotrun  building  {build}
             hotrun     built  in N s
             hotrun   stopped  the program (N s)
             hotrun   started  app
             serving bad as N
             hotrun   crashed  exit code 3; waiting for a save
             hotrun  stopping  press Ctrl-C again to kill"
        ),
    );
}

#[test]
fn a_handover_to_a_program_that_is_never_ready_and_back_to_one_that_is() {
    let app =
        "v=$(cat built); echo serving $v as $$\n[ \"$v\" = two ] || echo up\nexec sleep 1000\n";
    let config = CONFIG.to_owned()
        + "[run]\nmode = \"handover\"\n[ready]\nlog = \"^up\"\ntimeout = \"1s\"\n";
    let project = Sandbox::new().file("hotrun.toml", &config).script("app", app);
    let mut hotrun = project.start_bare(&[]);
    hotrun.wait_for(" ready ");
    project.save("source.txt", "two\n");
    hotrun.wait_for("stopped");
    project.save("source.txt", "three\n");
    hotrun.wait_for("stopped");
    is(
        &normalised(hotrun, &project),
        "hotrun     N.N.N  cp source.txt built · hotrun.toml
         hotrun  building  cp source.txt built
         hotrun     built  in N s
         hotrun   started  app
         serving one as N
         up
         hotrun     ready  in N s
         hotrun   changed  source.txt
         hotrun  building  cp source.txt built
         hotrun     built  in N s
         hotrun   started  app
         serving two as N
         hotrun not ready  the new program after N s: no line matching /^up/ was printed; the previous program keeps running
         hotrun   stopped  the new program (N s)
         hotrun   changed  source.txt
         hotrun  building  cp source.txt built
         hotrun     built  in N s
         hotrun   started  app
         serving three as N
         up
         hotrun     ready  in N s
         hotrun   stopped  the previous program (N s)
         hotrun  stopping  press Ctrl-C again to kill
         hotrun   stopped  the program (N s)",
    );
}

#[test]
fn rules_and_a_restart_without_a_build() {
    let config = CONFIG.to_owned()
        + "[[build.rules]]\ninclude_ext = [\"css\"]\ncmd = \"echo styles {}\"\n\
           [[build.rules]]\ninclude_ext = [\"conf\"]\naction = \"restart\"\n[ready]\nlog = \"^serving\"\n";
    let project = Sandbox::new().file("hotrun.toml", &config).file("a.css", "").file("a.conf", "");
    let mut hotrun = project.start_bare(&[]);
    hotrun.wait_for(" ready ");
    project.save("a.css", "x");
    hotrun.wait_for("done");
    project.save("a.conf", "x");
    hotrun.wait_for(" ready ");
    is(
        &normalised(hotrun, &project),
        "hotrun     N.N.N  cp source.txt built · hotrun.toml
         hotrun  building  cp source.txt built
         hotrun     built  in N s
         hotrun   started  app
         serving one as N
         hotrun     ready  in N s
         hotrun   changed  a.css
         hotrun      rule  rule-1: echo styles a.css
         styles a.css
         hotrun      done  in N s
         hotrun   changed  a.conf
         hotrun   stopped  the program (N s)
         hotrun   started  app
         serving one as N
         hotrun     ready  in N s
         hotrun  stopping  press Ctrl-C again to kill
         hotrun   stopped  the program (N s)",
    );
}
