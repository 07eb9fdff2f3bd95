//! What a person types: a line, and a password that the terminal does not show.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::exit::Failure;

/// A line from the terminal.
///
/// # Errors
/// There is no terminal.
pub fn line(prompt: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::invalid("there is no terminal to ask: --user NAME --password-stdin"));
    }
    ask(prompt)?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(unreadable)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A password: from the terminal, which does not show it, or, where that is wanted, the first line of standard input.
///
/// # Errors
/// There is none, or no terminal to ask.
pub fn password(prompt: &str, from_stdin: bool) -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    let mut text = Zeroizing::new(String::with_capacity(256));
    if from_stdin {
        stdin.lock().read_line(&mut text).map_err(unreadable)?;
    } else if stdin.is_terminal() {
        let shown = tcgetattr(&stdin).map_err(|error| unreadable(error.into()))?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        ask(prompt)?;
        tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(|error| unreadable(error.into()))?;
        let read = stdin.lock().read_line(&mut text);
        let restored = tcsetattr(&stdin, OptionalActions::Flush, &shown);
        eprintln!();
        read.and(restored.map(|()| 0).map_err(Into::into)).map_err(unreadable)?;
    } else {
        return Err(Failure::invalid("there is no terminal to ask for the password: --password-stdin"));
    }
    while text.ends_with(['\r', '\n']) {
        text.pop();
    }
    if text.is_empty() {
        return Err(Failure::invalid("there is no password"));
    }
    Ok(text)
}

fn ask(prompt: &str) -> Result<(), Failure> {
    eprint!("{prompt}");
    io::stderr().flush().map_err(unreadable)
}

fn unreadable(error: io::Error) -> Failure {
    Failure::error(format!("cannot ask: {error}"))
}
