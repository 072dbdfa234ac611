//! The lines about sockets, readiness and going back.

use std::time::SystemTime;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Part, Report, Tone, duration, short};
use crate::event::{Notice, Proc, Repair, WentBack, name_paths};

impl Report {
    /// Where an app serves, if that is known.
    pub fn url(&self, app: Proc) -> Option<String> {
        self.facts.get(&app)?.address.map(|address| format!("http://{address}"))
    }

    pub(super) fn about_serving(&self, notice: &Notice) {
        match notice {
            Notice::Ready(app) => {
                let what = self.url(*app).unwrap_or_else(|| self.name(*app));
                let text = format!("{what} in {}", self.took(*app));
                self.line(Part::Runner, Tone::Good, "ready", &text);
            }
            Notice::Running(app) => {
                let text = format!("{} for {}", self.name(*app), self.took(*app));
                self.line(Part::Runner, Tone::Plain, "running", &text);
            }
            Notice::Unready { new, app, goes_back } => {
                let follows = match app {
                    Some(_) => self.serving(*app),
                    None if *goes_back => "the last good one is started".to_owned(),
                    None => "it is given more time".to_owned(),
                };
                let why = self.facts.get(new).and_then(|facts| facts.unready.clone());
                let why = why.filter(|why| !why.is_empty()).map(|why| format!(": {why}"));
                let (why, name) = (why.unwrap_or_default(), self.name(*new));
                let text = format!("{name} after {}{why}; {follows}", self.took(*new));
                self.line(Part::Runner, Tone::Warn, "not ready", &text);
            }
            Notice::Assumed(app) => {
                let text = format!(
                    "{} replaces the older program after 1 s without any sign that it serves: it \
                     has not sent READY=1 and listens on no port; set [ready] to wait for more",
                    self.name(*app)
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::Status(app, status) => {
                let text = format!("{}: {}", self.name(*app), short(status));
                self.line(Part::Runner, Tone::Plain, "status", &text);
            }
            Notice::AppStopping(app) => {
                let text = format!("{} says that it ends", self.name(*app));
                self.line(Part::Runner, Tone::Plain, "ending", &text);
            }
            Notice::Succeeded(app, before) => {
                let before = before.map(|pid| format!(", in place of pid {pid}"));
                let text = format!("{}{}", self.name(*app), before.unwrap_or_default());
                self.line(Part::Runner, Tone::Plain, "continues", &text);
            }
            Notice::Extended { app, more, to_end } => {
                let what = if *to_end { "to end" } else { "to become ready" };
                let name = self.name(*app);
                let text = format!("for {name}, which asks for {} {what}", duration(*more));
                self.line(Part::Runner, Tone::Warn, "waiting", &text);
            }
            Notice::TooManyLeave(app) => {
                let text = format!("{}: three newer ones are leaving, too", self.name(*app));
                self.line(Part::Runner, Tone::Warn, "killing", &text);
            }
            Notice::RollbackPossible => {
                let text = "the key b, or hotrun rollback, starts the last good one before it; \
                            run.on_failed_start = \"rollback\" does so by itself";
                self.line(Part::Main, Tone::Warn, "note", text);
            }
            Notice::NewestAgain => {
                self.line(Part::Main, Tone::Warn, "note", "what was last built is tried again");
            }
            Notice::NothingBuilt => {
                self.line(Part::Main, Tone::Warn, "note", "there is nothing built to start again");
            }
            Notice::Reading(what) => self.line(Part::Watcher, Tone::Plain, "reading", what),
            Notice::Guessed(what) => self.line(Part::Main, Tone::Plain, "guess", what),
            Notice::TakenOver(pid) => {
                let text = format!("the hotrun with pid {pid} runs in place of this one");
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::Kept(app) => self.line(Part::Runner, Tone::Good, "kept", &self.name(*app)),
            Notice::RolledBack(to) => self.rolled_back(to),
            _ => self.about_listeners(notice),
        }
    }

    fn about_listeners(&self, notice: &Notice) {
        match notice {
            Notice::Listening { address, descriptor, name } => {
                let name = name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
                let text = format!("{address} for the program, as descriptor {descriptor}{name}");
                self.line(Part::Main, Tone::Good, "listening", &text);
            }
            Notice::ListenerShut(address, repair) => {
                let shut = format!("a program has shut {address} down for everybody");
                let text = match repair {
                    Repair::Again => format!(
                        "{shut}; hotrun listens again (it should close it, and not shut it down)"
                    ),
                    Repair::Anew => {
                        format!("{shut}; hotrun has made it anew, for the next program that starts")
                    }
                    Repair::FileBack => {
                        format!(
                            "a program has deleted the file of {address}; hotrun has put it back"
                        )
                    }
                    Repair::Failed(why) => format!(
                        "nobody can connect to {address} any more ({why}); hotrun tries again when \
                         a program ends"
                    ),
                };
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::PassedOnByNobody(tool) => {
                let text = format!(
                    "{tool} does not pass descriptors on, so the program cannot take hotrun's \
                     sockets; run it without {tool}"
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::MayHaveBound { addresses, by_shell } => {
                let shell = if *by_shell {
                    "; behind a shell LISTEN_PID is not set: full_bin = \"hotrun exec -- PROGRAM\" \
                     sets it"
                } else {
                    ""
                };
                let text = format!(
                    "if it says that the address is in use: your program bound {} itself, and \
                     hotrun holds that for it; take descriptor 3 (LISTEN_FDS){shell}, or remove \
                     [[listen]]",
                    addresses.join(" or ")
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::BoundBeside(app, address) => {
                let text = format!(
                    "{} listens on the same port by a socket of its own, beside hotrun's \
                     {address}, where connections may wait for nobody; does it take descriptor 3 \
                     (LISTEN_FDS)?",
                    self.name(*app)
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::NobodyAccepts(waiting, address) => {
                let text = format!(
                    "{waiting} wait on {address}, and the program accepts nobody; does it take \
                     descriptor 3 (LISTEN_FDS)?"
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::PortNeedsHandover(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                let text = format!(
                    "the old program still listens on {}, so one beside it cannot, unless hotrun \
                     opens it for both: [[listen]] address = {}; or run.mode = \"restart\"",
                    ports.join(" and "),
                    ports[0]
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            _ => {}
        }
    }

    fn rolled_back(&self, to: &WentBack) {
        let built = time_of_day(to.built);
        let without = match &to.saved_since[..] {
            [] => String::new(),
            saved => format!(", without what was saved since: {}", name_paths(saved, &self.base)),
        };
        let text = format!("to what generation {} ran, built at {built}{without}", to.generation);
        self.line(Part::Main, Tone::Warn, "rollback", &text);
    }

    /// Says that nothing older is started, and why.
    pub fn no_rollback(&self, why: &str) {
        self.line(Part::Main, Tone::Warn, "note", &format!("rollback is not possible: {why}"));
    }
}

/// A time of today, where the user is.
pub fn time_of_day(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_else(|_| Timestamp::now());
    Zoned::new(time, TimeZone::system()).strftime("%H:%M:%S").to_string()
}
