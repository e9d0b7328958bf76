//! Places at which a test may let the gateway die. In release builds there are none.

/// Ends the process at once, as a crash would, if the environment's `LOIR_DIE_AT` names this place.
pub(super) fn fail_point(_place: &str) {
    #[cfg(debug_assertions)]
    if std::env::var("LOIR_DIE_AT").is_ok_and(|place| place == _place) {
        std::process::abort();
    }
}
