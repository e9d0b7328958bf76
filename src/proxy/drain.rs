//! The end of a gateway, as its requests see it.

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Over,
}

/// Tells every request that the gateway is about to end.
pub struct Draining(watch::Sender<Phase>);

/// What a request listens to.
#[derive(Clone)]
pub struct Drain(watch::Receiver<Phase>);

impl Default for Draining {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }
}

impl Draining {
    /// No new connection is accepted from now on. What only listens should end; what is being answered or held goes on.
    pub fn begin(&self) {
        self.0.send_replace(Phase::Draining);
    }

    /// The time is over: whoever still waits must be answered now.
    pub fn over(&self) {
        self.0.send_replace(Phase::Over);
    }

    /// For a request.
    pub fn listen(&self) -> Drain {
        Drain(self.0.subscribe())
    }
}

impl Drain {
    /// Returns once the drain has begun.
    pub async fn began(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns once its time is over.
    pub async fn over(&mut self) {
        self.reached(Phase::Over).await;
    }

    async fn reached(&mut self, phase: Phase) {
        if self.0.wait_for(|&now| now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
