//! Lines about the sockets that hotrun holds for the program.

use super::{Context, Line};
use crate::event::Proc;
use crate::notice::{Behind, Repair};
use crate::report::{Part, Tone};

pub(super) fn listening(address: &str, descriptor: usize, name: Option<&str>) -> Line {
    let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
    let text = format!("{address} for the program, as descriptor {descriptor}{name}");
    Line::new(Part::Main, Tone::Good, "listening", text)
}

pub(super) fn proxy(url: &str, to: &Behind, is_open: bool) -> Line {
    let to = match to {
        Behind::Found => "the program".to_owned(),
        Behind::Port(port) => format!(":{port}"),
        Behind::Free => "the program, on a free port that it gets in PORT".to_owned(),
        Behind::Unix(path) => format!("unix:{path}"),
    };
    let open = if is_open { " (other machines can connect: proxy.bind)" } else { "" };
    Line::new(Part::Main, Tone::Good, "proxy", format!("{url} → {to}{open}"))
}

pub(super) fn shut(address: &str, repair: &Repair) -> Line {
    let shut = format!("a program has shut down {address} for all processes");
    Line::note(match repair {
        Repair::Again => {
            format!("{shut}; hotrun listens again (the program should close it instead)")
        }
        Repair::Anew => {
            format!("{shut}; hotrun has opened it again for the next program that starts")
        }
        Repair::FileBack => {
            format!("a program has deleted the file of {address}; hotrun has put it back")
        }
        Repair::Failed(why) => format!(
            "connections to {address} are refused ({why}); hotrun tries again when a program exits"
        ),
    })
}

pub(super) fn passed_on_by_nobody(tool: &str) -> Line {
    Line::note(format!(
        "{tool} does not pass descriptors on, so the program cannot take hotrun's sockets; run it \
         without {tool}"
    ))
}

pub(super) fn may_have_bound(addresses: &[String], by_shell: bool) -> Line {
    let shell = if by_shell {
        "; behind a shell LISTEN_PID is not set: full_bin = \"hotrun exec -- PROGRAM\" sets it"
    } else {
        ""
    };
    Line::note(format!(
        "if it reports that the address is in use: your program binds {} itself, but hotrun holds \
         it for the program; use descriptor 3 (LISTEN_FDS){shell}, or remove [[listen]]",
        addresses.join(" or ")
    ))
}

pub(super) fn proxy_has_port(port: u16, is_certain: bool) -> Line {
    let remedy = format!(
        "let the program use another port and name it, as in --proxy {port}:3000, or let it read \
         PORT, which --proxy {port}:0 sets to a free one"
    );
    Line::note(if is_certain {
        format!("the proxy listens on port {port}, so the program cannot: {remedy}")
    } else {
        format!(
            "if it reports that the address is in use: the proxy listens on port {port}; {remedy}"
        )
    })
}

pub(super) fn bound_beside(cx: &Context<'_>, app: Proc, address: &str) -> Line {
    Line::note(format!(
        "{} listens on the same port with its own socket, beside hotrun's {address}, on which \
         connections may never be accepted; does it use descriptor 3 (LISTEN_FDS)?",
        cx.name(app)
    ))
}

pub(super) fn nobody_accepts(waiting: usize, address: &str) -> Line {
    Line::note(format!(
        "connections are queued on {address} ({waiting}), but the program is not accepting any; \
         does it use descriptor 3 (LISTEN_FDS)?"
    ))
}
