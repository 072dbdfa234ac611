//! The texts of problems that the user can fix.

use std::path::Path;

use super::duration;
use crate::event::{name_paths, printable};
use crate::notice::{Problem, Watching};

pub(super) fn text(problem: &Problem, base: &Path) -> String {
    match problem {
        Problem::Failed(error) => error.to_string(),
        Problem::Configuration(text) => text.clone(),
        Problem::ConfigurationKept(error) => {
            format!("{error}\n  the previous configuration stays in effect until this is fixed")
        }
        Problem::EnvFile { error, has_values } => {
            let stays = if *has_values {
                "the previous values stay in effect"
            } else {
                "no env file is used"
            };
            format!("{error}\n  {stays} until this is fixed")
        }
        Problem::NothingToWatch { roots } => format!(
            "there is nothing to watch: no file in {roots} matches include_ext and the other \
             filters, so no save is noticed (`hotrun check` shows the filters)"
        ),
        Problem::Watching(problem) => watching(problem, base),
        Problem::UnknownHost { check, host } => format!(
            "[ready] {check}: the host name {host} cannot be resolved, so the program may never be \
             ready"
        ),
        Problem::GuardianSilent { pid, is_killed: true } => {
            format!("the guardian (pid {pid}) does not answer, and is killed")
        }
        Problem::GuardianSilent { pid, is_killed: false } => format!(
            "the guardian (pid {pid}) does not answer: is it stopped, or traced by a debugger? It \
             is killed as soon as what it runs has to be"
        ),
        Problem::GuardianKilled { pid } => format!(
            "a guardian (pid {pid}) was killed; hotrun kills the processes that it supervised"
        ),
        Problem::NoPrivateDirectory { tried } => format!(
            "no private directory can be made for sockets (tried: {}), so programs cannot send \
             READY=1, and `hotrun rollback` and a second hotrun do not find this one; set \
             XDG_RUNTIME_DIR to a directory of your own",
            tried.join(", ")
        ),
        Problem::NoNotifySocket(why) => {
            format!("programs cannot send READY=1, as there is no NOTIFY_SOCKET for them: {why}")
        }
        Problem::Certificate(why) => {
            format!(
                "the certificate {why} (proxy.tls), so browsers will refuse it; make another one"
            )
        }
        Problem::OtherPort { expected, found, is_given } => {
            other_port(*expected, *found, *is_given)
        }
        Problem::RuleCausesItself(paths) => format!(
            "{} changes each time that its rule runs, which makes the rule run again; if the rule \
             writes it, exclude it with exclude_regex in the rule",
            name_paths(paths, base)
        ),
        Problem::CheckDropped(paths) => format!(
            "{} did not pass the syntax check, and may not be part of the program: ignored until \
             it is saved again",
            name_paths(paths, base)
        ),
        Problem::CheckStopped { files, limit } => format!(
            "the syntax check of {} was stopped after {limit:?} and counts as passed; to turn \
             checks off: [build] check = false",
            name_paths(files, base)
        ),
        Problem::ChecksOff { label, times, took, files } => format!(
            "syntax checks ({label}) took more than 0.1 s {times} times in a row (the last one \
             {took}, for {names}), and are off now; to keep them off: [build] check = false",
            took = duration(*took),
            names = name_paths(files, base)
        ),
        Problem::AddressInUse => {
            "an address is in use; set `run.port` and hotrun names the process that holds it"
                .to_owned()
        }
        Problem::NotKept(why) => {
            format!("the last good build cannot be kept for a rollback: {why}")
        }
        Problem::NotCleaned { directory, why } => {
            format!("clean_on_exit leaves {directory} alone: {why}")
        }
        Problem::NotLogged { path, why } => {
            format!("{path}: {why}, so the output of the build is not logged (build.log)")
        }
        Problem::BuildStopped { pid } => {
            let pid = pid.map_or_else(String::new, |pid| pid.to_string());
            format!(
                "the build (pid {pid}) was stopped by SIGSTOP; continue it with `kill -CONT {pid}`"
            )
        }
        Problem::NotGiven(why) => {
            format!("the program lacks the variables that cargo run sets: {why}")
        }
        Problem::CargoWaits { file, holder, command } => {
            format!("cargo waits for {file}, which is locked by pid {holder}: {command}")
        }
    }
}

fn other_port(expected: u16, found: u16, is_given: bool) -> String {
    if is_given {
        return format!(
            "the program listens on port {found}, not on the one that it was given in PORT \
             ({expected}): make it read PORT, or pass the port as an argument, which hotrun puts \
             in the place of {{port}}: args_bin = [\"--port={{port}}\"]"
        );
    }
    format!(
        "the program listens on port {found}, not on proxy.app_port ({expected}): set app_port = \
         {found}"
    )
}

fn watching(problem: &Watching, base: &Path) -> String {
    match problem {
        Watching::Overflow { found } => format!(
            "the event queue overflowed; changed files found by their timestamps: {found} paths"
        ),
        Watching::NoEvents(why) => format!(
            "the system has no file events for hotrun ({why}), so files are polled, which is \
             slower; if other programs have used them up: \
             sudo sysctl fs.inotify.max_user_instances=1024"
        ),
        Watching::Limit(limit) => {
            let limit = limit.as_ref().map_or_else(String::new, |limit| {
                let more = (limit.value * 4).max(1 << 20);
                format!(
                    " ({name} = {value}); to have more: sudo sysctl {name}={more}",
                    name = limit.name,
                    value = limit.value
                )
            });
            format!(
                "inotify watch limit reached; polling the remaining directories, which is \
                 slower{limit}"
            )
        }
        Watching::AllAgain => "all directories are watched again".to_owned(),
        Watching::Polled { directory, file_system } => format!(
            "{} lies in a file system ({file_system}) that does not tell of every change, so it is \
             polled (watch.backend = \"native\": do not)",
            printable(directory)
        ),
        Watching::TooManyFiles { directory } => format!(
            "{} cannot be listed, as hotrun may open no more files (ulimit -n); what changes in it \
             is found as soon as it can",
            printable(directory)
        ),
        Watching::MountChanged(places) => format!(
            "the mount changed at {}; all in it counts as changed",
            name_paths(places, base)
        ),
        Watching::Replaced { root } => {
            format!("{} was replaced; all that is in it counts as changed", printable(root))
        }
        Watching::Missing { path } => {
            format!("{} is gone; hotrun waits until it is there again", printable(path))
        }
        Watching::There { path } => {
            format!("{} is there now; all that is in it counts as changed", printable(path))
        }
    }
}
