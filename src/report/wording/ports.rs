//! Lines about ports that other processes hold.

use super::{Context, Line, duration, name_processes};
use crate::event::Proc;
use crate::notice::{Holder, Remedy, Whose};
use crate::report::{Part, Tone};

pub(super) fn held(holder: &Holder) -> Line {
    let (who, then) = who_holds(holder);
    let text = format!("{} is held by {who}; {then}", holder.port);
    Line::new(Part::Main, Tone::Warn, "port", text)
}

pub(super) fn needs_handover(ports: &[u16]) -> Option<Line> {
    let [first, ..] = ports else { return None };
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    Some(Line::note(format!(
        "the previous program still listens on {}, so the new one cannot. Let hotrun open the port \
         for both: [[listen]] address = {first}; or set run.mode = \"restart\"",
        ports.join(" and ")
    )))
}

pub(super) fn endless_build(cx: &Context<'_>, build: Proc, port: u16, remedy: &str) -> Line {
    Line::note(format!(
        "the build is still running{}: it listens on port {port}, so hotrun treats it as the \
         program. To build first, while the previous program keeps serving, write\n{remedy}",
        cx.pid(build)
    ))
}

/// Returns a description of the process that holds a port, and what was, or can be, done about it.
pub(crate) fn who_holds(holder: &Holder) -> (String, &'static str) {
    let since = holder.age.map(|age| format!(", for {}", duration(age))).unwrap_or_default();
    let whose = match holder.whose {
        Whose::DeadHotruns => ", left behind by a hotrun that was killed",
        Whose::AnotherHotruns => ", started by another running hotrun",
        Whose::Strangers => "",
    };
    let then = match holder.remedy {
        Remedy::Ended => "it was stopped (--free-port)",
        Remedy::Possible => "stop it, or have hotrun stop it: hotrun --free-port",
        Remedy::NotOurs => {
            "--free-port leaves it alone: it belongs to another project or to another user"
        }
        Remedy::Spared => {
            "it may keep running (spare), and has inherited the socket: close it, or use another \
             port"
        }
        Remedy::NotPossible => "it could not be stopped",
        Remedy::None => "stop it, or use another port",
    };
    let who = name_processes(&[(holder.pid, holder.command.clone())]);
    (format!("{who}{since}{whose}"), then)
}
