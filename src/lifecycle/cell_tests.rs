//! Apart from `cell`, because loom compiles that file with atomics of its own.

use std::time::Duration;

use super::cell::{AppCell, NotIdle};
use crate::{app::AppState, clock::Millis};

const IDLE: Duration = Duration::from_secs(900);

#[test]
fn idle_counts_from_the_end_of_the_last_request() {
    let cell = AppCell::new(AppState::Awake, Millis(0));
    assert_eq!(cell.enter(), AppState::Awake);
    let day = Millis(86_400_000);
    assert_eq!(cell.begin_stop(day, IDLE), Err(NotIdle::InFlight(1)), "a day-long download is not idle");
    cell.leave(Some(day));
    assert_eq!(cell.begin_stop(day.after(IDLE / 2), IDLE), Err(NotIdle::Recent(IDLE / 2)));
    assert_eq!(cell.state(), AppState::Awake, "a refused stop leaves no trace");
    assert_eq!(cell.begin_stop(day.after(IDLE), IDLE), Ok(()));
    assert_eq!(cell.state(), AppState::Stopping);
}

#[test]
fn a_day_idle_is_a_day_idle() {
    for hours in [1_u64, 23, 24, 25, 24 * 365 * 100] {
        let cell = AppCell::new(AppState::Awake, Millis(5));
        let now = Millis(5 + hours * 3_600_000);
        assert_eq!(cell.idle_for(now, Duration::from_secs(hours * 3600)), Ok(()));
        assert!(cell.idle_for(now, Duration::from_secs(hours * 3600 + 1)).is_err());
    }
}

#[test]
fn a_request_that_does_not_count_leaves_the_idle_time_alone() {
    let cell = AppCell::new(AppState::Awake, Millis(0));
    cell.enter();
    cell.leave(None);
    assert_eq!(cell.begin_stop(Millis(900_000), IDLE), Ok(()));
}
