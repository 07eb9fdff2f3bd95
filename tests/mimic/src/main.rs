//! A small web application of our own that behaves, and misbehaves, like ISPyB on JBoss.
//!
//! The orchestrator is for programs that start slowly, answer 200 while broken, keep their sessions in memory, hang
//! with an open port and ignore SIGTERM. This one does all of that on request, so that a test can ask for a failure
//! by URL instead of waiting for one. It is a static binary without a runtime: an image of it is one file.
//!
//! Read in this order: [`config`] (what the environment asks for), [`app`] (the state), [`site`] (what each URL
//! answers), [`server`] (sockets and threads), [`signals`] (life as PID 1), [`check`] and [`resolve`] (the health check's client).

mod app;
mod check;
mod config;
mod request;
mod resolve;
mod server;
mod signals;
mod site;

use std::process::ExitCode;
use std::sync::Arc;

use app::App;
use config::Config;

const USAGE: &str = "usage: mimic [serve]
       mimic check [PATH]      exit 0 when PATH answers 200 (default: the schema status, which must not be broken)
       mimic get HOST:PORT PATH  print the answer's body, exit 0 when it is 200
       mimic resolve NAME      print the name's addresses, one a line
       mimic work MS CODE [WORD…]  print the words, work for so long, complain if the code is not 0, end with it

serve reads: MIMIC_PORT (8080), MIMIC_VERSION (1), MIMIC_START_MS (0), MIMIC_FAIL_INIT (exit code),
             MIMIC_BROKEN (1), MIMIC_BREAK_AFTER_MS, MIMIC_FAIL_EVERY (requests), MIMIC_DATABASE (HOST:PORT), MIMIC_IGNORE_TERM (1), MIMIC_DRAIN_MS (2000)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["serve"] => serve(),
        ["check"] => check::healthy(check::STATUS_PATH),
        ["check", path] => check::healthy(path),
        ["get", address, path] => check::print(address, path),
        ["resolve", name] => check::resolve(name),
        ["work", time, code, said @ ..] => work(time, code, said),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What a job does.
fn work(time: &str, code: &str, said: &[&str]) -> ExitCode {
    let (Ok(time), Ok(code)) = (time.parse(), code.parse::<u8>()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!("{}", said.join(" "));
    std::thread::sleep(std::time::Duration::from_millis(time));
    if code != 0 {
        eprintln!("mimic: the work failed with {code}");
    }
    ExitCode::from(code)
}

fn serve() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(problem) => {
            eprintln!("mimic: {problem}");
            return ExitCode::from(2);
        }
    };
    let app = Arc::new(App::new(config));
    app.log(&format!(
        "mimic {} on {} starting, pid {}, port {}",
        app.config.version,
        app.hostname,
        std::process::id(),
        app.config.port
    ));
    if let Err(error) = signals::watch(Arc::clone(&app)) {
        eprintln!("mimic: cannot watch signals: {error}");
        return ExitCode::FAILURE;
    }
    match server::run(&app) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mimic: cannot listen on port {}: {error}", app.config.port);
            ExitCode::FAILURE
        }
    }
}
