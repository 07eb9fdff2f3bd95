//! What each URL answers. Decides only: the reply says how long to wait and what to do after it, the server does it.

use std::time::Duration;

use crate::app::App;
use crate::request::Request;

/// What a worker does once the reply is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Serve the next request.
    Continue,
    /// End the process with this code.
    Exit(i32),
    /// End the process by SIGABRT, as a native crash does.
    Abort,
}

/// One answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// Session id to set as a cookie.
    pub session: Option<String>,
    /// Written to the database before anything is sent; what cannot be written is answered as the real one does.
    pub row: Option<String>,
    /// Waited for before anything is sent.
    pub delay: Duration,
    pub after: After,
}

impl Reply {
    fn text(status: u16, body: impl Into<String>) -> Reply {
        Reply {
            status,
            content_type: "text/plain",
            body: body.into(),
            session: None,
            row: None,
            delay: Duration::ZERO,
            after: After::Continue,
        }
    }

    fn json(body: String) -> Reply {
        Reply { content_type: "application/json", ..Reply::text(200, body) }
    }
}

/// Answers `request`. Faults that it switches on hold from the next request.
pub fn answer(app: &App, request: &Request) -> Reply {
    if !app.ready() {
        return Reply::text(404, "<html><head><title>Error</title></head><body>Not Found</body></html>");
    }
    match request.path.as_str() {
        "/version" | "/row" | "/" if app.fails_now() => Reply::text(500, "java.lang.NullPointerException\n"),
        "/" => index(app),
        "/version" => version(app),
        "/ispyb/ispyb-ws/rest/schema/status" => schema_status(app),
        "/break" => {
            app.set_broken(true);
            Reply::text(200, "broken\n")
        }
        "/mend" => {
            app.set_broken(false);
            Reply::text(200, "mended\n")
        }
        "/row" => Reply { row: request.param("n").map(str::to_owned), ..Reply::text(200, "stored\n") },
        "/login" => log_in(app, request),
        "/me" => me(app, request),
        "/slow" => Reply {
            delay: Duration::from_millis(request.number("ms", 1000)),
            ..Reply::text(200, "slow but here\n")
        },
        "/hang" => {
            app.hang();
            Reply::text(200, "all workers hang from now on\n")
        }
        "/leak" => {
            let mb = usize::try_from(request.number("mb", 1)).unwrap_or(usize::MAX);
            Reply::text(200, format!("{} MiB held\n", app.leak(mb)))
        }
        "/crash" => crash(request),
        "/log" => log_lines(app, request),
        "/env" => env_value(request),
        _ => Reply::text(404, "Not Found\n"),
    }
}

fn index(app: &App) -> Reply {
    Reply {
        content_type: "text/html",
        ..Reply::text(
            200,
            format!(
                "<html><head><title>ISPyB</title></head><body>ISPyB mimic {} on {}</body></html>\n",
                app.config.version, app.hostname
            ),
        )
    }
}

fn version(app: &App) -> Reply {
    Reply::json(format!(
        "{{\"version\":\"{}\",\"hostname\":\"{}\",\"pid\":{},\"uptime_ms\":{}}}\n",
        app.config.version,
        app.hostname,
        std::process::id(),
        app.started.elapsed().as_millis()
    ))
}

/// The page that a health check reads. When broken it is still a 200, with the exception in its body, as the real
/// application answers when its database is gone: a check that looks at the code alone calls it healthy.
fn schema_status(app: &App) -> Reply {
    if app.broken() {
        return Reply::text(
            200,
            "javax.persistence.PersistenceException: org.hibernate.exception.GenericJDBCException: \
             Could not open connection\n\tat org.hibernate.ejb.AbstractEntityManagerImpl.wrap(Unknown Source)\n",
        );
    }
    Reply::json(format!(
        "[{{\"schemaStatusId\":1,\"scriptName\":\"mimic_{}.sql\",\"schemaStatus\":\"DONE\"}}]\n",
        app.config.version
    ))
}

fn log_in(app: &App, request: &Request) -> Reply {
    let user = request.param("user").unwrap_or("opid30");
    Reply { session: Some(app.log_in(user)), ..Reply::text(200, format!("welcome {user}\n")) }
}

fn me(app: &App, request: &Request) -> Reply {
    match request.session.as_deref().and_then(|id| app.user_of(id)) {
        Some(user) => Reply::text(200, format!("{user}\n")),
        None => Reply::text(401, "no session here\n"),
    }
}

fn crash(request: &Request) -> Reply {
    let after = match request.param("code") {
        Some("abort") => After::Abort,
        _ => After::Exit(i32::try_from(request.number("code", 1)).unwrap_or(1)),
    };
    Reply { after, ..Reply::text(200, "crashing\n") }
}

fn log_lines(app: &App, request: &Request) -> Reply {
    let lines = request.number("lines", 1);
    let text = request.param("text").unwrap_or("log line");
    for number in 1..=lines {
        app.log(&format!("{text} {number}"));
    }
    Reply::text(200, format!("{lines} lines written\n"))
}

fn env_value(request: &Request) -> Reply {
    match request.param("name").map(std::env::var) {
        Some(Ok(value)) => Reply::text(200, value),
        _ => Reply::text(404, "not set\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn app(start_ms: u64) -> App {
        App::new(Config {
            port: 0,
            version: "7".to_owned(),
            start: Duration::from_millis(start_ms),
            fail_init: None,
            broken: false,
            break_after: None,
            fail_every: None,
            database: None,
            ignore_term: false,
            drain: Duration::ZERO,
        })
    }

    fn get(app: &App, target: &str, session: Option<&str>) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            path: path.to_owned(),
            query: query.to_owned(),
            session: session.map(str::to_owned),
            ..Request::default()
        };
        answer(app, &request)
    }

    #[test]
    fn broken_application_still_answers_200_but_with_an_exception() {
        let app = app(0);
        get(&app, "/break", None);
        let reply = get(&app, "/ispyb/ispyb-ws/rest/schema/status", None);
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains("Exception") && !reply.body.contains("schemaStatus"), "{}", reply.body);
        get(&app, "/mend", None);
        assert!(get(&app, "/ispyb/ispyb-ws/rest/schema/status", None).body.contains("\"schemaStatus\""));
    }

    #[test]
    fn session_lives_in_the_memory_of_one_instance() {
        let (here, elsewhere) = (app(0), app(0));
        let id = get(&here, "/login?user=ana", None).session.unwrap();
        assert_eq!(get(&here, "/me", Some(&id)).body, "ana\n");
        assert_eq!(get(&elsewhere, "/me", Some(&id)).status, 401);
    }

    #[test]
    fn port_is_open_before_the_application_is_deployed() {
        assert_eq!(get(&app(3_600_000), "/ispyb/ispyb-ws/rest/schema/status", None).status, 404);
    }

    #[test]
    fn crash_replies_first_and_exits_with_the_code() {
        assert_eq!(get(&app(0), "/crash?code=42", None).after, After::Exit(42));
        assert_eq!(get(&app(0), "/crash?code=abort", None).after, After::Abort);
    }
}
