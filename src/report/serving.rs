//! The lines about sockets, readiness and rollback.

use std::time::SystemTime;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::{Part, Report, Tone, duration, short};
use crate::event::{Notice, Proc, Repair, WentBack, name_paths};

impl Report {
    /// Returns the URL of an app, if its address is known.
    pub(crate) fn url(&self, app: Proc) -> Option<String> {
        self.facts.get(&app)?.address.map(|address| format!("http://{address}"))
    }

    pub(super) fn about_serving(&self, notice: &Notice) {
        match notice {
            Notice::Ready(app) => {
                let name = || if self.talk.pids { self.name(*app) } else { String::new() };
                let what = self.url(*app).unwrap_or_else(name);
                let text = format!("{what} in {}", self.took(*app));
                self.line(Part::Runner, Tone::Good, "ready", text.trim_start());
            }
            Notice::Running(app) => {
                let name = if self.talk.pids { self.name(*app) } else { String::new() };
                let text = format!("{name} for {}", self.took(*app));
                self.line(Part::Runner, Tone::Plain, "running", text.trim_start());
            }
            Notice::Unready { new, app, goes_back } => {
                let follows = match app {
                    Some(_) => self.serving(*app),
                    None if *goes_back => "starting the last good build".to_owned(),
                    None => "still waiting for it".to_owned(),
                };
                let why = self.facts.get(new).and_then(|facts| facts.unready.clone());
                let why = why.filter(|why| !why.is_empty()).map(|why| format!(": {why}"));
                let (why, name) = (why.unwrap_or_default(), self.name(*new));
                let text = format!("{name} after {}{why}; {follows}", self.took(*new));
                self.line(Part::Runner, Tone::Warn, "not ready", &text);
            }
            Notice::Assumed(app) => {
                let text = format!(
                    "{} replaces the previous program after 1 s without any sign that it serves: it \
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
                let text = format!("{} reports that it is stopping", self.name(*app));
                self.line(Part::Runner, Tone::Plain, "stopping", &text);
            }
            Notice::Succeeded(app, before) => {
                let before = before.map(|pid| format!(", in place of pid {pid}"));
                let text = format!("{}{}", self.name(*app), before.unwrap_or_default());
                self.line(Part::Runner, Tone::Plain, "continues", &text);
            }
            Notice::Extended { app, more, to_end } => {
                let what = if *to_end { "to exit" } else { "to become ready" };
                let name = self.name(*app);
                let text = format!("for {name}, which asks for {} {what}", duration(*more));
                self.line(Part::Runner, Tone::Warn, "waiting", &text);
            }
            Notice::TooManyLeave(app) => {
                let text = format!("{}: three newer ones are stopping, too", self.name(*app));
                self.line(Part::Runner, Tone::Warn, "killing", &text);
            }
            Notice::RollbackPossible => {
                let text = "press b or run `hotrun rollback` to start the last good build; set \
                            run.on_failed_start = \"rollback\" to do this automatically";
                self.line(Part::Main, Tone::Warn, "note", text);
            }
            Notice::NewestAgain => {
                self.line(Part::Main, Tone::Warn, "note", "starting the newest build again");
            }
            Notice::NothingBuilt => {
                self.line(
                    Part::Main,
                    Tone::Warn,
                    "note",
                    "nothing has been built that could be restarted",
                );
            }
            Notice::Reading(what) => self.line(Part::Watcher, Tone::Plain, "reading", what),
            Notice::Guessed(what) => self.line(Part::Main, Tone::Plain, "guess", what),
            Notice::TakenOver(pid) => {
                let text = format!("the hotrun with pid {pid} takes over from this one");
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
                let shut = format!("a program has shut down {address} for all processes");
                let text = match repair {
                    Repair::Again => format!(
                        "{shut}; hotrun listens again (the program should close it instead)"
                    ),
                    Repair::Anew => {
                        format!(
                            "{shut}; hotrun has opened it again for the next program that starts"
                        )
                    }
                    Repair::FileBack => {
                        format!(
                            "a program has deleted the file of {address}; hotrun has put it back"
                        )
                    }
                    Repair::Failed(why) => format!(
                        "connections to {address} are refused ({why}); hotrun tries again when a \
                         program exits"
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
                    "if it reports that the address is in use: your program binds {} itself, but \
                     hotrun holds it for the program; use descriptor 3 (LISTEN_FDS){shell}, or \
                     remove [[listen]]",
                    addresses.join(" or ")
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::BoundBeside(app, address) => {
                let text = format!(
                    "{} listens on the same port with its own socket, beside hotrun's {address}, \
                     on which connections may never be accepted; does it use descriptor 3 \
                     (LISTEN_FDS)?",
                    self.name(*app)
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::NobodyAccepts(waiting, address) => {
                let text = format!(
                    "connections are queued on {address} ({waiting}), but the program is not \
                     accepting any; does it use descriptor 3 (LISTEN_FDS)?"
                );
                self.line(Part::Main, Tone::Warn, "note", &text);
            }
            Notice::PortNeedsHandover(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                let text = format!(
                    "the previous program still listens on {}, so the new one cannot. Let hotrun \
                     open the port for both: [[listen]] address = {}; or set run.mode = \
                     \"restart\"",
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
            saved => format!("; not included: {}", name_paths(saved, &self.base)),
        };
        let text = format!("to the build of generation {} ({built}){without}", to.generation);
        self.line(Part::Main, Tone::Warn, "rollback", &text);
    }

    /// Reports why no rollback is possible.
    pub(crate) fn no_rollback(&self, why: &str) {
        self.line(Part::Main, Tone::Warn, "note", &format!("cannot roll back: {why}"));
    }
}

/// Formats a time of today in the user's time zone.
pub(crate) fn time_of_day(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_else(|_| Timestamp::now());
    ZonedDateTime::new(time, TimeZone::system()).strftime("%H:%M:%S").to_string()
}
