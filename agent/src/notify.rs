//! What the service manager is told, where there is one.

use sd_notify::NotifyState;

/// The agent works.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The agent ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
