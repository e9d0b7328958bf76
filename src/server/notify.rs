//! systemd is told what the gateway does: `Type=notify-reload` and `WatchdogSec` in a unit. Without `NOTIFY_SOCKET` in the
//! environment nothing happens here.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{runtime::Handle, task::JoinHandle, time};

/// The gateway accepts clients. Also the end of a reload, whatever came of it.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is read again. [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // systemd compares the time with that of its own request: without it, an old message could count as an answer.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("systemd cannot be told of the reload: {error}"),
    }
}

/// The gateway drains and ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Tells the watchdog that all is well, twice in the time after which it would restart us, for as long as that is true: `edge`,
/// where requests run, must have done something in between. `None` without a watchdog.
pub(super) fn watchdog(edge: Handle) -> Option<JoinHandle<()>> {
    let limit = sd_notify::watchdog_enabled()?;
    let pings = async move {
        let mut ticks = time::interval((limit / 2).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if edge.spawn(async {}).await.is_err() {
                return;
            }
            tell(&[NotifyState::Watchdog]);
        }
    };
    Some(tokio::spawn(pings))
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("systemd cannot be told: {error}");
    }
}
