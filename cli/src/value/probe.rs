//! Probes in one word: `http:8080/health,body-not=Exception,interval=5s`.

use std::time::Duration;

use model::probe::{Check, Diagnosis, DiagnosisBy, GrpcCheck, HttpCheck, Probe};

use super::{Wrong, duration, port_number, words};

/// A probe, and the deadline that a start-up probe may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The probe.
    pub probe: Probe,
    /// `deadline=`.
    pub deadline: Option<Duration>,
}

/// Reads `http:PORT/PATH`, `tcp:PORT`, `grpc:PORT[/SERVICE]` or `exec:COMMAND`, and options after commas; a comma that belongs to a
/// value is written `\\,`. `none` is no probe.
///
/// # Errors
/// What is not known, or not a value of its kind.
pub fn probe(text: &str) -> Result<Option<Declared>, Wrong> {
    if text == "none" {
        return Ok(None);
    }
    let mut parts = split(text).into_iter();
    let check = check(&parts.next().unwrap_or_default())?;
    let mut declared = Declared { probe: Probe::of(check), deadline: None };
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((&part, ""));
        option(&mut declared, key, value)?;
    }
    Ok(Some(declared))
}

/// Reads `signal:NAME` or `exec:COMMAND`, and `within=` after a comma. `none` is no diagnosis.
///
/// # Errors
/// What is not known, or not a value of its kind.
pub fn diagnosis(text: &str) -> Result<Option<Diagnosis>, Wrong> {
    if text == "none" {
        return Ok(None);
    }
    let mut parts = split(text).into_iter();
    let question = parts.next().unwrap_or_default();
    let by = match question.split_once(':').unwrap_or((&question, "")) {
        ("signal", name) if !name.is_empty() => DiagnosisBy::Signal(name.to_owned()),
        ("exec", command) if !command.trim().is_empty() => DiagnosisBy::Exec(words(command)?),
        _ => {
            return Err(format!(
                "\"{question}\" is no diagnosis; write signal:NAME such as signal:SIGQUIT, exec:COMMAND, or none for none"
            ));
        }
    };
    let mut diagnosis = Diagnosis { by, within: Duration::ZERO };
    for part in parts {
        match part.split_once('=') {
            Some(("within", value)) => diagnosis.within = duration(value)?,
            _ => return Err(format!("unknown part \"{part}\"; known is within=")),
        }
    }
    Ok(Some(diagnosis))
}

fn check(text: &str) -> Result<Check, Wrong> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let port_and = |rest: &str| -> Result<(u16, String), Wrong> {
        let end = rest.find('/').unwrap_or(rest.len());
        Ok((port_number(&rest[..end])?, rest[end..].to_owned()))
    };
    match kind {
        "http" => {
            let (port, path) = port_and(rest)?;
            Ok(Check::Http(HttpCheck { port, path, ..HttpCheck::default() }))
        }
        "tcp" => Ok(Check::Tcp(port_number(rest)?)),
        "grpc" => {
            let (port, service) = port_and(rest)?;
            Ok(Check::Grpc(GrpcCheck { port, service: service.trim_start_matches('/').to_owned() }))
        }
        "exec" if !rest.trim().is_empty() => Ok(Check::Exec(words(rest)?)),
        _ => Err(format!(
            "\"{text}\" is no probe; write http:PORT/PATH, tcp:PORT, grpc:PORT, exec:COMMAND, or none for none"
        )),
    }
}

fn option(declared: &mut Declared, key: &str, value: &str) -> Result<(), Wrong> {
    let probe = &mut declared.probe;
    match (key, &mut probe.check) {
        ("interval", _) => probe.interval = duration(value)?,
        ("timeout", _) => probe.timeout = duration(value)?,
        ("failures", _) => probe.failures = count(value)?,
        ("successes", _) => probe.successes = count(value)?,
        ("deadline", _) => declared.deadline = Some(duration(value)?),
        ("method", Check::Http(http)) => value.clone_into(&mut http.method),
        ("body", Check::Http(http)) => value.clone_into(&mut http.body),
        ("body-not", Check::Http(http)) => value.clone_into(&mut http.body_not),
        ("status", Check::Http(http)) => {
            let comma = if http.status.is_empty() { "" } else { "," };
            http.status += &format!("{comma}{value}");
        }
        ("header", Check::Http(http)) => {
            let (name, value) = pair(value, "header=NAME:VALUE")?;
            http.headers.insert(name, value);
        }
        ("json", Check::Http(http)) => {
            let (pointer, value) = pair(value, "json=/POINTER:VALUE")?;
            http.json.insert(pointer, value);
        }
        _ => {
            return Err(format!(
                "unknown part \"{key}\"; known are interval=, timeout=, failures=, successes= and deadline=, and for http \
                 method=, header=, status=, body=, body-not= and json="
            ));
        }
    }
    Ok(())
}

fn count(text: &str) -> Result<u32, Wrong> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("\"{text}\" is no count from 1"))
}

fn pair(text: &str, form: &str) -> Result<(String, String), Wrong> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("\"{text}\" is not {form}"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// At commas that no backslash stands before.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = parts.last_mut().expect("there is always one");
        match letter {
            '\\' if letters.next_if_eq(&',').is_some() => last.push(','),
            ',' => parts.push(String::new()),
            _ => last.push(letter),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnosis_is_read_from_one_word() {
        let signal = DiagnosisBy::Signal("SIGQUIT".to_owned());
        assert_eq!(diagnosis("signal:SIGQUIT").unwrap().unwrap().by, signal);
        let program = diagnosis("exec:jstack -l 1,within=20s").unwrap().unwrap();
        assert_eq!(program.within, Duration::from_secs(20));
        assert_eq!(program.by, DiagnosisBy::Exec(["jstack", "-l", "1"].map(str::to_owned).to_vec()));
        assert_eq!(diagnosis("none"), Ok(None));
        for wrong in ["", "signal", "signal:", "exec: ", "jstack 1", "exec:x,timeout=3s", "exec:x,within"] {
            assert!(diagnosis(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_probe_is_read_from_one_word() {
        let text = r"http:8080/ws/ping?full=1,body-not=Exception\,|Error,status=200,status=401,header=Host:ispyb,interval=2s,failures=2";
        let declared = probe(text).unwrap().unwrap();
        let http = HttpCheck {
            port: 8080,
            path: "/ws/ping?full=1".into(),
            body_not: "Exception,|Error".into(),
            status: "200,401".into(),
            headers: [("Host".to_owned(), "ispyb".to_owned())].into(),
            ..HttpCheck::default()
        };
        let expected =
            Probe { interval: Duration::from_secs(2), failures: 2, ..Probe::of(Check::Http(http)) };
        assert_eq!(declared.probe, expected);
        assert_eq!(probe("tcp:5432").unwrap().unwrap().probe.check, Check::Tcp(5432));
        let deadline = probe("exec:test -f /up,deadline=3m").unwrap().unwrap();
        assert_eq!(deadline.deadline, Some(Duration::from_secs(180)));
        let program = ["test", "-f", "/up"].map(str::to_owned).to_vec();
        assert_eq!(deadline.probe.check, Check::Exec(program));
        let grpc = GrpcCheck { port: 9, service: "a.B".into() };
        assert_eq!(probe("grpc:9/a.B").unwrap().unwrap().probe.check, Check::Grpc(grpc));
        assert_eq!(probe("none"), Ok(None));
        for wrong in
            ["", "http", "http:0/", "https:80/", "tcp:80,body=x", "exec: ", "tcp:1,failures=0", "tcp:1,x"]
        {
            assert!(probe(wrong).is_err(), "{wrong}");
        }
    }
}
