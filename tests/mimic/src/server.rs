//! Sockets and threads: one thread a connection, a bound on their number, and the start that may fail.
//!
//! The listener opens before the application is ready and keeps accepting when every worker hangs, since that is
//! what makes a bare TCP check useless against the real one.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::App;
use crate::request::Request;
use crate::site::{self, After, Reply};

/// How long an idle connection is kept; JBoss's keep-alive is of this order.
const IDLE: Duration = Duration::from_secs(60);

/// How long the database may take for a row.
const DATABASE: Duration = Duration::from_secs(2);

/// Listens and serves until a signal or a fault ends the process; returns only when the initialisation fails.
///
/// # Errors
/// The port cannot be listened on.
pub fn run(app: &Arc<App>) -> std::io::Result<ExitCode> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, app.config.port))?;
    app.log(&format!("listening on {}", listener.local_addr()?));
    let accepting = Arc::clone(app);
    let acceptor =
        std::thread::Builder::new().name("accept".to_owned()).spawn(move || accept(&accepting, &listener))?;
    std::thread::sleep(app.config.start);
    if let Some(code) = app.config.fail_init {
        app.log(&format!("ERROR initialisation failed: no database, exit {code}"));
        return Ok(ExitCode::from(code));
    }
    app.log("ready");
    if let Some(after) = app.config.break_after {
        std::thread::sleep(after);
        app.set_broken(true);
        app.log("WARN the connection to the database is gone");
    }
    drop(acceptor.join());
    Ok(ExitCode::FAILURE)
}

fn accept(app: &Arc<App>, listener: &TcpListener) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let app_of_worker = Arc::clone(app);
                let worker = std::thread::Builder::new()
                    .name("worker".to_owned())
                    .spawn(move || serve(&app_of_worker, &stream));
                if let Err(error) = worker {
                    app.log(&format!("WARN connection dropped, no thread: {error}"));
                }
            }
            Err(error) => app.log(&format!("WARN accept: {error}")),
        }
    }
}

fn serve(app: &App, stream: &TcpStream) {
    if stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(IDLE))).is_err() {
        return;
    }
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader) {
        let _in_flight = app.enter();
        let begun = Instant::now();
        if app.hung() {
            app.log(&format!("{} {} hangs", request.method, request.path));
            hang();
        }
        let mut reply = site::answer(app, &request);
        if let Some(row) = reply.row.take()
            && let Err(error) = store(app, &row)
        {
            reply.status = 500;
            reply.body = format!("javax.persistence.PersistenceException: {error}\n");
        }
        std::thread::sleep(reply.delay);
        let sent = send(stream, &reply, request.close);
        app.log(&format!(
            "{} {} {} {} ms",
            request.method,
            request.path,
            reply.status,
            begun.elapsed().as_millis()
        ));
        finish(app, reply.after);
        if sent.is_err() || request.close {
            return;
        }
    }
}

fn send(mut stream: &TcpStream, reply: &Reply, close: bool) -> std::io::Result<()> {
    let reason = match reply.status {
        200 => "OK",
        401 => "Unauthorized",
        500 => "Internal Server Error",
        _ => "Not Found",
    };
    let cookie = reply
        .session
        .as_ref()
        .map_or_else(String::new, |id| format!("Set-Cookie: JSESSIONID={id}; Path=/\r\n"));
    let connection = if close { "Connection: close\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nServer: Apache-Coyote/1.1\r\nContent-Type: {}\r\nContent-Length: {}\r\n{cookie}{connection}\r\n",
        reply.status,
        reply.content_type,
        reply.body.len()
    );
    stream.write_all(format!("{head}{}", reply.body).as_bytes())
}

/// A row is one line; the database answers each with `ok`.
fn store(app: &App, row: &str) -> std::io::Result<()> {
    let none = || std::io::Error::other("no database is set");
    let mut stream = TcpStream::connect(app.config.database.as_ref().ok_or_else(none)?)?;
    stream.set_read_timeout(Some(DATABASE))?;
    stream.write_all(format!("{row}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.trim() == "ok" { Ok(()) } else { Err(std::io::Error::other("the row was refused")) }
}

fn finish(app: &App, after: After) {
    match after {
        After::Continue => {}
        After::Exit(code) => {
            app.log(&format!("ERROR crash on request, exit {code}"));
            std::process::exit(code);
        }
        After::Abort => {
            app.log("ERROR crash on request, abort");
            std::process::abort();
        }
    }
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}
