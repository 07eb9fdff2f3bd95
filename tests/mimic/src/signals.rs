//! Life as PID 1: the kernel gives PID 1 no default action, so without this SIGTERM would be ignored always, and
//! "ignored on request" could not be told from it.

use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::app::App;

/// Starts a thread that ends the process on SIGTERM or SIGINT, after the requests in flight, unless SIGTERM is to be
/// ignored.
///
/// # Errors
/// The handlers cannot be installed.
pub fn watch(app: Arc<App>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGTERM && app.config.ignore_term {
                app.log("SIGTERM ignored, as configured");
                continue;
            }
            app.log(&format!("signal {signal}: stopping"));
            let left = app.drain(app.config.drain);
            app.log(&format!("stopped, {left} requests cut off"));
            std::process::exit(0);
        }
    })?;
    Ok(())
}
