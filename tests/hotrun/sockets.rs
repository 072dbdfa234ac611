//! Sockets that outlive the program.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::sandbox::{PATIENCE, Sandbox, free_port, get, has, is_alive, pid_in, stat, wait_until};

/// Takes descriptor 3 and serves the text in `built`, one connection after the other. It says
/// what it was given, and whether it was told that it is meant.
const SERVER: &str = "
import fcntl, os, socket, sys, time
version = open('built').read().strip()
names = os.environ.get('LISTEN_FDNAMES')
meant = os.environ.get('LISTEN_PID') == str(os.getpid())
flags = fcntl.fcntl(3, fcntl.F_GETFL)
how = 'nonblocking' if flags & os.O_NONBLOCK else 'blocking'
print('given', os.environ.get('LISTEN_FDS'), names, 'meant' if meant else 'not meant', how, flush=True)
print('serving', version, 'as', os.getpid(), flush=True)
listener = socket.socket(fileno=3)
while True:
    stream, _ = listener.accept()
    stream.recv(1000)
    stream.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + version.encode())
    stream.close()
";

const CONFIG: &str = "[build]\ncmd = \"cp source.txt built\"\ninclude_ext = [\"txt\"]\n\
                      kill_delay = \"20s\"\nentrypoint = [\"python3\", \"server.py\"]\n";

fn project(server: &str, more: &str) -> Sandbox {
    Sandbox::empty()
        .file("source.txt", "one\n")
        .file("server.py", server)
        .file("hotrun.toml", &format!("{CONFIG}{more}"))
}

fn listen(address: &str) -> String {
    format!("[[listen]]\naddress = \"{address}\"\n")
}

#[test]
fn who_connects_before_the_first_build_and_between_two_programs_waits_and_is_answered() {
    let test = "who_connects_before_the_first_build_and_between_two_programs_waits";
    if !has(test, &["python3"]) {
        return;
    }
    let port = free_port();
    let config = listen(&port.to_string()).replace('"', "");
    let project = project(SERVER, &config);
    project.sh("sed -i 's/^cmd = .*/cmd = \"until test -e go; do sleep 0.02; done; cp source.txt built\"/' hotrun.toml");
    let mut hotrun = project.start(&[]);
    hotrun.wait_for(&format!("listening  127.0.0.1:{port} for the program, as descriptor 3"));
    hotrun.wait_for("building");
    let early = connect(port);
    project.save("go", "");
    hotrun.wait_for("given 1 unknown meant blocking");
    assert_eq!(answer(early), "one");

    // The old one is gone before the new one is there, and a client in between waits.
    project
        .save("server.py", &SERVER.replacen("import", "import time; time.sleep(0.3)\nimport", 1));
    project.save("source.txt", "two\n");
    hotrun.wait_for("stopped");
    let between = connect(port);
    assert_eq!(answer(between), "two");
    hotrun.end();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it is closed with hotrun");
}

fn connect(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream
}

/// What is answered on a Unix socket.
fn ask_file(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    answer(stream)
}

fn answer(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.rsplit("\r\n").next().unwrap().to_owned()
}

#[test]
fn sockets_come_in_their_order_and_with_their_names_and_in_no_more_descriptors() {
    let test = "sockets_come_in_their_order_and_with_their_names";
    if !has(test, &["python3"]) {
        return;
    }
    let server = "
import os, socket
all = [socket.socket(fileno=number) for number in range(3, 7)]
print('names', os.environ['LISTEN_FDNAMES'], flush=True)
for number, one in enumerate(all, 3):
    kind = 'datagrams' if one.type == socket.SOCK_DGRAM else 'stream'
    print(number, kind, one.getsockname(), flush=True)
left = ['/proc/self/fd/' + fd for fd in os.listdir('/proc/self/fd') if int(fd) > 6]
left = [os.readlink(fd) for fd in left if os.path.exists(fd)]
print('more', [one for one in left if one.startswith('socket')], flush=True)
while True: print('datagram', all[2].recv(100).decode(), flush=True)
";
    let (web, admin, udp) = (free_port(), free_port(), free_port());
    let config = format!(
        "[[listen]]\naddress = {web}\nname = \"web\"\n{}[[listen]]\naddress = \"udp:{udp}\"\n\
         name = \"log\"\n[[listen]]\naddress = \"unix:app.sock\"\nname = \"admin\"\n",
        listen(&format!("127.0.0.1:{admin}"))
    );
    let project = project(server, &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("as descriptor 6 (admin)");
    hotrun.wait_for("names web:unknown:log:admin");
    hotrun.wait_for(&format!("3 stream ('127.0.0.1', {web})"));
    hotrun.wait_for(&format!("4 stream ('127.0.0.1', {admin})"));
    hotrun.wait_for(&format!("5 datagrams ('127.0.0.1', {udp})"));
    hotrun.wait_for(&format!("6 stream {}/app.sock", project.root().display()));
    hotrun.wait_for_line("more []");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"hello", ("127.0.0.1", udp)).unwrap();
    hotrun.wait_for("datagram hello");
    hotrun.end();
}

#[test]
fn a_build_a_rule_and_a_hook_inherit_none() {
    let look = "for fd in /proc/self/fd/*; do readlink $fd; done | grep -c '^socket:' || true; \
                echo \\\"$LISTEN_FDS$NOTIFY_SOCKET.\\\"";
    let config = format!(
        "[build]\npre_cmd = [\"{look}\"]\ncmd = \"cp source.txt built; {look}\"\n\
         post_cmd = [\"{look}\"]\nentrypoint = [\"./app\"]\ninclude_ext = [\"txt\"]\n\
         [[build.rules]]\ninclude_ext = [\"rule\"]\ncmd = \"{look}\"\n{}",
        listen(&free_port().to_string())
    );
    let project = Sandbox::new().file("hotrun.toml", &config);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("ready");
    project.save("a.rule", "");
    hotrun.wait_for("  done  in");
    let output = hotrun.end();
    assert_eq!(output.lines().filter(|line| *line == "0").count(), 4, "{output}");
    assert_eq!(output.lines().filter(|line| *line == ".").count(), 4, "{output}");
}

#[test]
fn behind_a_shell_nobody_is_told_that_the_sockets_are_meant_for_it_but_who_runs_by_hotrun_exec() {
    let test = "behind_a_shell_nobody_is_told_that_the_sockets_are_meant_for_it";
    if !has(test, &["python3"]) {
        return;
    }
    let exec = format!("{} exec -- python3 server.py", env!("CARGO_BIN_EXE_hotrun"));
    let port = free_port();
    for (full_bin, meant) in [
        ("true && python3 server.py".to_owned(), "not meant"),
        (format!("true && {exec}; true"), "meant"),
    ] {
        let project = project(SERVER, &listen(&port.to_string()));
        let config = CONFIG.replace("entrypoint = [\"python3\", \"server.py\"]", "");
        let config = format!("{config}full_bin = '{full_bin}'\n{}", listen(&port.to_string()));
        project.save("hotrun.toml", &config);
        let mut hotrun = project.start(&[]);
        hotrun.wait_for(&format!("given 1 unknown {meant} "));
        hotrun.wait_serving("one");
        assert!(get(port, "/").ends_with("one"));
        hotrun.end();
    }
    // Without hotrun it is just the program.
    let project = Sandbox::empty();
    let (code, stdout, _) =
        project.run(&["exec", "--", "sh", "-c", "echo \"<$LISTEN_PID>\"; exit 3"]);
    assert_eq!((code, stdout.as_str()), (3, "<>\n"));
    let (code, _, stderr) = project.run(&["exec", "nowhere"]);
    assert_eq!((code, stderr.as_str()), (127, "hotrun: nowhere: command not found\n"));
    let (code, _, stderr) = project.run(&["exec"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("no program given"), "{stderr}");
}

#[test]
fn a_listener_that_a_program_shuts_down_is_opened_again_at_once() {
    let test = "a_listener_that_a_program_shuts_down_is_opened_again_at_once";
    if !has(test, &["python3"]) {
        return;
    }
    let server = "
import os, select, signal, socket, time
version = open('built').read().strip()
listener = socket.socket(fileno=3)
listener.setblocking(False)
print('serving', version, 'as', os.getpid(), flush=True)
signal.signal(signal.SIGUSR1, lambda *_: listener.shutdown(socket.SHUT_RDWR))
poll = select.epoll()
poll.register(3, select.EPOLLIN)
while True:
    poll.poll()
    try: stream, _ = listener.accept()
    except OSError: continue
    stream.recv(1000)
    stream.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + version.encode())
    stream.close()
";
    for address in ["127.0.0.1:0", "unix:app.sock"] {
        let project = project(server, &listen(address));
        let mut hotrun = project.start(&[]);
        let line = hotrun.wait_for("listening  ");
        let bound = line.split("listening  ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let serves = |version: &str| {
            if let Some(path) = bound.strip_prefix("unix:") {
                assert_eq!(ask_file(path.as_ref()), version);
            } else {
                let port = bound.rsplit(':').next().unwrap().parse().unwrap();
                assert_eq!(answer(connect(port)), version);
            }
        };
        hotrun.wait_serving("one");
        serves("one");
        hotrun.signal(Signal::SIGUSR1);
        hotrun.wait_for(&format!("has shut down {bound} for all processes; hotrun"));
        // A TCP socket serves on; a Unix one is another, and for the next program.
        if !bound.starts_with("unix:") {
            serves("one");
        }
        project.save("source.txt", "two\n");
        hotrun.wait_serving("two");
        serves("two");
        hotrun.signal(Signal::SIGUSR1);
        wait_until("it is listened to again", || match bound.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).is_ok(),
            None => TcpStream::connect(&bound).is_ok(),
        });
        let output = hotrun.end();
        assert_eq!(output.matches("for all processes").count(), 1, "told once:\n{output}");
    }
}

#[test]
fn flags_that_a_program_has_changed_are_put_right_for_the_next() {
    let test = "flags_that_a_program_has_changed_are_put_right_for_the_next";
    if !has(test, &["python3", "node"]) {
        return;
    }
    let port = free_port();
    let node = "require('http').createServer((_, answer) => answer.end('node'))\
                .listen({ fd: 3 }, () => console.log('node serves as', process.pid))\n";
    let quiet = SERVER.replacen(
        "while True:",
        "while os.path.exists('wait'): time.sleep(0.01)\nwhile True:",
        1,
    );
    let project = project(&quiet, &listen(&port.to_string()))
        .file("node.js", node)
        .script(
            "app",
            "case $(cat built) in node) exec node node.js;; *) exec python3 server.py;; esac\n",
        )
        .file("source.txt", "node\n");
    project.sh("sed -i 's/^entrypoint = .*/entrypoint = \"\\.\\/app\"/' hotrun.toml");
    let mut hotrun = project.start(&[]);
    let pid = pid_in(&hotrun.wait_for("node serves as"));
    assert!(is_nonblocking(pid), "or it has nothing to put right");
    project.save("wait", "");
    project.save("source.txt", "python\n");
    hotrun.wait_for("given 1 unknown meant blocking");
    hotrun.wait_serving("python");
    // node has set the backlog to 511, and nobody accepts now.
    let waiting: Vec<TcpStream> = (0..560)
        .map(|_| {
            let address = format!("127.0.0.1:{port}").parse().unwrap();
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap()
        })
        .collect();
    drop(waiting);
    project.sh("rm wait");
    assert!(get(port, "/").ends_with("python"));
    hotrun.end();
}

fn is_nonblocking(pid: Pid) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/3")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    u32::from_str_radix(flags.trim(), 8).unwrap() & 0o4000 != 0
}

#[test]
fn the_flags_are_left_alone_while_a_program_serves() {
    let test = "the_flags_are_left_alone_while_a_program_serves";
    if !has(test, &["python3"]) {
        return;
    }
    let server = "
import asyncio, os, signal, socket, time
version = open('built').read().strip()
while os.path.exists('wait') and version == 'two': time.sleep(0.01)
async def serve(reader, writer):
    await reader.readline()
    writer.write(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + version.encode())
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, sock=socket.socket(fileno=3))
    print('serving', version, 'as', os.getpid(), flush=True)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await asked.wait()
    print('asked to end', flush=True)
asyncio.run(main())
";
    let port = free_port();
    let more = format!(
        "[run]\nmode = \"handover\"\n[ready]\nnotify = true\n{}",
        listen(&port.to_string())
    );
    let project = project(server, &more).file("wait", "");
    let mut hotrun = project.start(&[]);
    let old = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    hotrun.wait_for("started");
    // Beside the new one, which has inherited the socket by now.
    assert!(is_nonblocking(old));
    for _ in 0..20 {
        assert!(get(port, "/").ends_with("one"));
    }
    project.sh("rm wait");
    hotrun.wait_serving("two");
    hotrun.wait_for_line("asked to end");
    hotrun.wait_for("stopped");
    assert!(stat(old).is_empty());
    assert!(get(port, "/").ends_with("two"));
    hotrun.end();
}

#[test]
fn a_unix_socket_keeps_its_mode_and_is_removed_only_if_it_is_still_hotruns() {
    let project = Sandbox::new();
    let config = format!("{}{}", crate::sandbox::CONFIG, listen("unix:run/app.sock"));
    let project = project.file("hotrun.toml", &config).file("run/x", "");
    let path = project.root().join("run/app.sock");
    let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    assert_eq!(mode(), 0o660);
    // Killed, it leaves the file behind; the next takes its place.
    hotrun.signal(Signal::SIGKILL);
    hotrun.wait();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("two");
    assert_eq!(mode(), 0o660);

    // A second hotrun leaves the first alone.
    let (code, _, stderr) = project.run(&["--", "other"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("app.sock: cannot listen on it: the address is in use"), "{stderr}");
    UnixStream::connect(&path).unwrap();
    hotrun.end();
    assert!(!path.exists());

    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("two");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "somebody else's").unwrap();
    hotrun.end();
    assert!(path.exists());
    let (code, _, stderr) = project.run(&[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("already exists and is not a socket"), "{stderr}");
}

#[test]
fn who_holds_the_port_is_named_and_nothing_is_built() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let project = Sandbox::new();
    let (code, stdout, stderr) = project.run(&["--listen", &port.to_string()]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    let me = std::process::id();
    assert!(
        stderr.starts_with(&format!("hotrun: 127.0.0.1:{port}: cannot listen on it: ")),
        "{stderr}"
    );
    assert!(
        stderr.contains(&format!("(pid {me})")) && stderr.contains("help: stop it"),
        "{stderr}"
    );
    assert!(!project.root().join("built").exists());
    let (code, _, stderr) = project.run(&["--listen", "203.0.113.7:80"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("this machine does not have this address"), "{stderr}");
    for wrong in ["x", "example.com:80", "1.2.3.4", "a=", "70000"] {
        let (code, _, stderr) = project.run(&["--listen", wrong]);
        assert_eq!(code, 2, "{wrong}");
        assert!(stderr.contains(&format!("--listen {wrong}: expected a port")), "{stderr}");
    }
}

#[test]
fn a_program_that_opens_the_port_itself_is_told_what_to_do() {
    let test = "a_program_that_opens_the_port_itself_is_told_what_to_do";
    if !has(test, &["python3"]) {
        return;
    }
    let port = free_port();
    let server = format!("import socket\nsocket.create_server(('127.0.0.1', {port}))\n");
    let project = project(&server, &listen(&port.to_string()));
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("Address already in use");
    let line = hotrun.wait_for("if it reports that the address is in use");
    let expected = format!("your program binds 127.0.0.1:{port} itself");
    assert!(line.contains(&expected) && line.contains("use descriptor 3"), "{line}");
    hotrun.end();
}

#[test]
fn who_waits_for_a_program_that_accepts_nobody_is_told_of() {
    let test = "who_waits_for_a_program_that_accepts_nobody_is_told_of";
    if !has(test, &["python3"]) {
        return;
    }
    let port = free_port();
    let deaf = "import time\nprint('deaf', flush=True)\ntime.sleep(1000)\n";
    let beside = format!(
        "import socket, time\nown = socket.create_server(('::1', {port}), family=socket.AF_INET6)\n\
         print('deaf', flush=True)\ntime.sleep(1000)\n"
    );
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let both = [
        (deaf, format!("connections are queued on 127.0.0.1:{port} (1), but")),
        (&*beside, "listens on the same port with its own socket".to_owned()),
    ];
    for (server, told) in both.into_iter().take(if has_ipv6 { 2 } else { 1 }) {
        let project = project(server, &listen(&port.to_string()));
        let mut hotrun = project.start(&[]);
        hotrun.wait_for("listening");
        let client = connect(port);
        hotrun.wait_for(&told);
        drop(client);
        hotrun.end();
    }
}

#[test]
fn listeners_that_the_configuration_gets_later_are_opened_with_the_next_program() {
    let test = "listeners_that_the_configuration_gets_later_are_opened_with_the_next_program";
    if !has(test, &["python3"]) {
        return;
    }
    let (first, second) = (free_port(), free_port());
    let config = |ports: &[u16]| {
        let listens: String = ports.iter().map(|port| listen(&port.to_string())).collect();
        format!("{CONFIG}{listens}")
    };
    let project = project(SERVER, "").file("hotrun.toml", &config(&[first]));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("hotrun.toml", &config(&[second, first]));
    hotrun.wait_for("given 2 unknown:unknown");
    hotrun.wait_serving("one");
    assert!(get(second, "/").ends_with("one"));
    // The system may choose the port, also of several.
    project.save("hotrun.toml", &config(&[second, 0]));
    hotrun.wait_for("given 2 unknown");
    hotrun.wait_serving("one");
    project.save("hotrun.toml", &config(&[second, 0, 0]));
    hotrun.wait_for("given 3 unknown");
    hotrun.wait_serving("one");
    project.save("hotrun.toml", &config(&[second]));
    hotrun.wait_for("given 1 unknown");
    hotrun.wait_serving("one");
    assert!(get(second, "/").ends_with("one"));
    assert!(TcpStream::connect(("127.0.0.1", first)).is_err());
    hotrun.end();
}

#[test]
fn a_listener_that_cannot_be_opened_takes_down_no_program() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let project = Sandbox::new();
    let mut hotrun = project.start(&[]);
    let app = hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project
        .save("hotrun.toml", &format!("{}{}", crate::sandbox::CONFIG, listen(&port.to_string())));
    hotrun.wait_for(&format!("127.0.0.1:{port}: cannot listen on it"));
    hotrun.wait_for("the previous configuration stays in effect until this is fixed");
    assert!(is_alive(app));
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.end();
}

#[test]
fn a_port_that_hotrun_holds_can_be_moved_to_another_address() {
    let port = free_port();
    let config = |address: &str| format!("{}{}", crate::sandbox::CONFIG, listen(address));
    let project = Sandbox::new();
    project.save("hotrun.toml", &config(&port.to_string()));
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    project.save("hotrun.toml", &config(&format!("0.0.0.0:{port}")));
    hotrun.wait_for(&format!("listening  0.0.0.0:{port} for the program"));
    hotrun.wait_serving("one");
    hotrun.end();
}

#[test]
fn in_a_handover_a_listener_that_comes_back_is_the_one_that_the_old_program_has() {
    let test = "in_a_handover_a_listener_that_comes_back_is_the_one";
    if !has(test, &["python3"]) {
        return;
    }
    let port = free_port();
    let more = "[run]\nmode = \"handover\"\n[ready]\nlog = \"serving\"\n";
    let listens = format!("{more}{}", listen(&port.to_string()));
    let project = project(SERVER, &listens);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    hotrun.wait_for("ready");
    project.save("hotrun.toml", &format!("{CONFIG}{more}"));
    // Without descriptor 3 the new one cannot live, and the old one stays.
    hotrun.wait_for("keeps running");
    project.save("hotrun.toml", &format!("{CONFIG}{listens}"));
    hotrun.wait_for("given 1 unknown meant");
    hotrun.wait_for("ready");
    hotrun.wait_for("stopped");
    assert!(get(port, "/").ends_with("one"));
    hotrun.end();
}

#[test]
fn a_listener_may_take_the_port_that_the_program_itself_had() {
    let test = "a_listener_may_take_the_port_that_the_program_itself_had";
    if !has(test, &["python3"]) {
        return;
    }
    let port = free_port();
    let own = format!(
        "import os, socket, time\nown = socket.create_server(('127.0.0.1', {port}))\n\
         print('serving own as', os.getpid(), flush=True)\ntime.sleep(1000)\n"
    );
    let project = project(&own, "");
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("own");
    project.save("server.py", SERVER);
    project.save("hotrun.toml", &format!("{CONFIG}{}", listen(&port.to_string())));
    hotrun.wait_serving("one");
    assert!(get(port, "/").ends_with("one"));
    hotrun.end();
}

#[test]
fn a_listener_that_a_program_closes_is_there_for_the_next() {
    let test = "a_listener_that_a_program_closes_is_there_for_the_next";
    if !has(test, &["python3"]) {
        return;
    }
    let port = free_port();
    let closes = "import os, time\nos.close(3)\nprint('closed', flush=True)\ntime.sleep(1000)\n";
    let project = project(closes, &listen(&port.to_string()));
    let mut hotrun = project.start(&[]);
    hotrun.wait_for("closed");
    let early = connect(port);
    project.save("server.py", SERVER);
    project.save("source.txt", "two\n");
    assert_eq!(answer(early), "two");
    hotrun.end();
}

#[test]
fn the_file_of_a_unix_socket_that_a_program_deletes_is_put_back() {
    let test = "the_file_of_a_unix_socket_that_a_program_deletes_is_put_back";
    if !has(test, &["python3"]) {
        return;
    }
    let server = SERVER.replacen("while True:", "import signal\n\
        signal.signal(signal.SIGTERM, lambda *_: (os.remove('app.sock'), os._exit(0)))\nwhile True:", 1);
    let more = format!(
        "[run]\nmode = \"handover\"\n[ready]\nlog = \"serving\"\n{}",
        listen("unix:app.sock")
    );
    let project = project(&server, &more);
    let path = project.root().join("app.sock");
    let asks = || ask_file(&path);
    let mut hotrun = project.start(&[]);
    hotrun.wait_serving("one");
    assert_eq!(asks(), "one");
    hotrun.wait_for("ready");
    project.save("source.txt", "two\n");
    hotrun.wait_serving("two");
    hotrun.wait_for("hotrun has put it back");
    // The one that serves hears of it.
    assert_eq!(asks(), "two");
    hotrun.end();
    assert!(!path.exists());
    assert_eq!(fs::read_dir(project.root()).unwrap().count(), 4, "no second name is left");
}

#[test]
fn what_is_forbidden_is_told_with_a_remedy() {
    let test = "what_is_forbidden_is_told_with_a_remedy";
    let without = "setpriv --bounding-set -net_bind_service --inh-caps -net_bind_service";
    if !crate::sandbox::can(test, &format!("{without} true")) {
        return;
    }
    let project = Sandbox::new();
    for address in ["80", "udp:53"] {
        let mut words = without.split(' ').skip(1).collect::<Vec<_>>();
        words.extend([env!("CARGO_BIN_EXE_hotrun"), "--listen", address]);
        let output = project.program("setpriv", &words).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("need root") && stderr.contains("from 1024 on"), "{stderr}");
    }
}

#[test]
fn a_process_that_may_stay_does_not_keep_the_port_when_hotrun_has_ended_or_was_killed() {
    let test = "a_process_that_may_stay_does_not_keep_the_port_when_hotrun_has_ended_or_was_killed";
    if !has(test, &["python3"]) {
        return;
    }
    let port = free_port();
    let opens = "import subprocess\nsubprocess.Popen(['./chrome', '1000'], pass_fds=(3,))\n";
    let project = project(&format!("{opens}{SERVER}"), &listen(&port.to_string()));
    project.sh("cp $(command -v sleep) chrome");
    let mut browsers = Vec::new();
    for end in [Signal::SIGINT, Signal::SIGKILL, Signal::SIGINT] {
        let mut hotrun = project.start(&[]);
        hotrun.wait_for("serving one");
        assert!(get(port, "/").ends_with("one"));
        hotrun.signal(end);
        hotrun.wait();
        let is_browser = |words: &str| words.starts_with("./chrome");
        wait_until("only browsers are left", || {
            hotrun.everybody().iter().all(|(_, words)| is_browser(words))
        });
        browsers.extend(hotrun.everybody().iter().map(|(pid, _)| *pid));
        // Whatever the next one does, it does not have to name, or end, a browser.
        assert!(!hotrun.output().contains("chrome"), "{}", hotrun.output());
        std::mem::forget(hotrun);
    }
    browsers.sort();
    browsers.dedup();
    assert_eq!(browsers.len(), 3);
    for browser in browsers {
        nix::sys::signal::kill(browser, Signal::SIGKILL).unwrap();
    }
}

#[test]
fn the_program_that_keeps_running_keeps_its_listener_though_another_address_is_configured() {
    let test = "the_program_that_keeps_running_keeps_its_listener_though_another_address";
    if !has(test, &["python3"]) {
        return;
    }
    let port = free_port();
    let handover = "[run]\nmode = \"handover\"\n";
    let first = format!("{handover}{}", listen(&format!("127.0.0.1:{port}")));
    let fails = format!("import sys\nif 'two' in open('built').read(): sys.exit(3)\n{SERVER}");
    let project = project(&fails, &first);
    let mut hotrun = project.start(&[]);
    hotrun.wait_for_all(&["serving one", "ready"]);
    let second = format!("{handover}{}", listen(&format!("0.0.0.0:{port}")));
    project.save("hotrun.toml", &format!("{CONFIG}{second}"));
    project.save("source.txt", "two\n");
    hotrun.wait_for("keeps running");
    assert!(get(port, "/").ends_with("one"));
    hotrun.end();
}
