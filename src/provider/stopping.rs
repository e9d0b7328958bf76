//! Looking until a stop that was accepted is over.

use std::time::Duration;

use tokio::time::Instant;

use super::ProviderError;

/// Few stops are over before.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Between two looks.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What a look at an app shows that was told to stop.
pub enum Look {
    /// It is stopped.
    Stopped,
    /// It is on its way down, or what the provider says is a little behind.
    NotYet,
    /// It is something else, in the provider's words.
    Odd(String),
}

/// Looks at `app` until it is stopped, for at most `limit`; whether it is. A provider that is away for a moment is asked
/// again.
pub async fn until_stopped<F: Future<Output = Result<Look, ProviderError>>>(
    app: &str,
    limit: Duration,
    look: impl Fn() -> F,
) -> Result<bool, ProviderError> {
    let began = Instant::now();
    let mut pause = FIRST_LOOK;
    while began.elapsed() < limit {
        tokio::time::sleep(pause).await;
        pause = LOOK_EVERY;
        match look().await {
            Ok(Look::Stopped) => return Ok(true),
            Ok(Look::NotYet) => {}
            Ok(Look::Odd(state)) => {
                return Err(ProviderError::Failed(format!("it was told to stop and is {state}")));
            }
            Err(error @ ProviderError::Unavailable(_)) => log::warn!("{app}: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// It did not stop within `limit`.
pub fn late(limit: Duration) -> ProviderError {
    ProviderError::Failed(format!("it was told to stop and has not within {limit:?}"))
}
