//! Lines about programs: their start, readiness, exit, rollback.

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::{Context, Line, Next, duration};
use crate::event::{Ended, Proc};
use crate::notice::WentBack;
use crate::report::{Part, Tone};

/// With pids, it is said when the pid is known.
pub(super) fn started(cx: &Context<'_>, app: Proc) -> Line {
    let text = if cx.pids {
        cx.name(app)
    } else {
        cx.record.process(app).map_or_else(String::new, |process| process.label.clone())
    };
    Line::new(Part::Runner, Tone::Work, "started", text)
}

pub(super) fn ready(cx: &Context<'_>, app: Proc) -> Line {
    let of_app = || cx.record.process(app).and_then(|process| process.url.clone());
    let url = cx.record.proxy.clone().or_else(of_app);
    let what = url.unwrap_or_else(|| cx.name_by_pid(app));
    let text = format!("{what} in {}", cx.took(app));
    Line::new(Part::Runner, Tone::Good, "ready", text.trim_start())
}

pub(super) fn running(cx: &Context<'_>, app: Proc) -> Line {
    let text = format!("{} for {}", cx.name_by_pid(app), cx.took(app));
    Line::new(Part::Runner, Tone::Plain, "running", text.trim_start())
}

pub(super) fn unready(cx: &Context<'_>, new: Proc, app: Option<Proc>, goes_back: bool) -> Line {
    let follows = match app {
        Some(_) => cx.serving(app),
        None if goes_back => "starting the last good build".to_owned(),
        None => "still waiting for it".to_owned(),
    };
    let why = cx.record.process(new).and_then(|process| process.unready.clone());
    let why = why.filter(|why| !why.is_empty()).map(|why| format!(": {why}"));
    let (why, name) = (why.unwrap_or_default(), cx.name(new));
    let text = format!("{name} after {}{why}; {follows}", cx.took(new));
    Line::new(Part::Runner, Tone::Warn, "not ready", text)
}

pub(super) fn assumed(cx: &Context<'_>, app: Proc) -> Line {
    Line::note(format!(
        "{} replaces the previous program after 1 s without any sign that it serves: it has not \
         sent READY=1 and listens on no port; set [ready] to wait for more",
        cx.name(app)
    ))
}

pub(super) fn extended(cx: &Context<'_>, app: Proc, more: Duration, to_end: bool) -> Line {
    let what = if to_end { "to exit" } else { "to become ready" };
    let text = format!("for {}, which asks for {} {what}", cx.name(app), duration(more));
    Line::new(Part::Runner, Tone::Warn, "waiting", text)
}

pub(super) fn stopped(cx: &Context<'_>, app: Proc) -> Option<Line> {
    // The exit of a program that exited by itself was reported then; only its leftovers were
    // stopped.
    let leave = cx.record.process(app)?.leave.as_ref().filter(|leave| leave.exited_after)?;
    let text = format!("{} ({})", cx.name(app), duration(leave.since));
    Some(Line::new(Part::Runner, Tone::Plain, "stopped", text))
}

pub(super) fn killing(cx: &Context<'_>, proc: Proc) -> Line {
    let name = cx.name(proc);
    let process = cx.record.process(proc);
    let leave = process.and_then(|process| process.leave.as_ref());
    let text = match process.and_then(|process| process.limit.as_ref()) {
        Some(_) if leave.is_some_and(|leave| leave.is_extended) => {
            format!("{name}: it did not exit within the time that it had asked for")
        }
        Some(limit) => {
            // A newer save may have made it shorter.
            let since = leave.map(|leave| leave.since);
            let took = since.filter(|took| *took < limit.time).unwrap_or(limit.time);
            format!("{name}: it did not exit within {} of {}", duration(took), limit.from)
        }
        None => format!("{name}: it took too long"),
    };
    Line::new(Part::Runner, Tone::Warn, "killing", text)
}

pub(super) fn ended(
    cx: &Context<'_>,
    app: Proc,
    ended: &Ended,
    serving: Option<Proc>,
    next: Next,
) -> Line {
    let follows = match (serving, next) {
        (Some(_), _) => cx.serving(serving),
        (None, Next::Wait) => "waiting for a save".to_owned(),
        (None, Next::Build) => "waiting for the running build".to_owned(),
        (None, Next::Restart) => "restarting".to_owned(),
        (None, Next::Rollback) => "starting the last good build".to_owned(),
        (None, Next::Quit) => "exiting".to_owned(),
    };
    let (tone, word) = match ended {
        Ended::Code(0) => (Tone::Plain, "exited"),
        Ended::NotStarted(_) => (Tone::Bad, "failed"),
        Ended::Code(_) | Ended::Signal { .. } => (Tone::Bad, "crashed"),
    };
    let name = match ended {
        Ended::NotStarted(_) => "to start: ".to_owned(),
        Ended::Code(_) | Ended::Signal { .. } if cx.pids => format!("{}: ", cx.name(app)),
        Ended::Code(_) | Ended::Signal { .. } => String::new(),
    };
    let signalled = cx.record.process(app).and_then(|process| process.signalled);
    let sender = match (ended, signalled) {
        (Ended::Signal { number, .. }, Some(signal)) if *number == signal as i32 => {
            ", which a rule has sent (action = \"signal\"), and which it does not handle"
        }
        (Ended::Code(_) | Ended::Signal { .. } | Ended::NotStarted(_), _) => "",
    };
    Line::new(Part::Runner, tone, word, format!("{name}{ended}{sender}; {follows}"))
}

pub(super) fn rolled_back(cx: &Context<'_>, to: &WentBack) -> Line {
    let built = time_of_day(to.built);
    let without = match &to.saved_since[..] {
        [] => String::new(),
        saved => format!("; not included: {}", cx.names(saved)),
    };
    let text = format!("to the build of generation {} ({built}){without}", to.generation);
    Line::new(Part::Main, Tone::Warn, "rollback", text)
}

/// Formats a time of today in the user's time zone.
pub(crate) fn time_of_day(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_else(|_| Timestamp::now());
    ZonedDateTime::new(time, TimeZone::system()).strftime("%H:%M:%S").to_string()
}
