// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the service manager is told, where there is one (`NOTIFY_SOCKET`, `sd_notify(3)`): that the
//! volume is ready, how it is in one sentence, that it is stopping, and that it is alive.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use dmremap_engine::Volume;
use sd_notify::NotifyState;

use crate::report::text;

/// The way to the service manager.
#[derive(Clone, Default)]
pub struct Manager {
    /// What its sentence is about, from the time it is ready until it stops.
    volume: Arc<Mutex<Option<Weak<Volume>>>>,
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager was not told: {error}");
    }
}

impl Manager {
    /// Whether there is somebody to be told.
    pub fn is_there() -> bool {
        std::env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// Clients can come.
    pub fn ready(&self, volume: &Arc<Volume>) {
        self.about(Some(Arc::downgrade(volume)));
        if Manager::is_there() {
            tell(&[NotifyState::Ready, NotifyState::Status(&sentence(volume))]);
            watch(Arc::downgrade(volume));
        }
    }

    /// Something has happened: the sentence may be another one.
    pub fn changed(&self) {
        let volume = self.volume.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let volume = volume.and_then(|volume| volume.upgrade());
        if let Some(volume) = volume.filter(|_| Manager::is_there()) {
            tell(&[NotifyState::Status(&sentence(&volume))]);
        }
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.about(None);
        if Manager::is_there() {
            tell(&[NotifyState::Stopping, NotifyState::Status("closing")]);
        }
    }

    fn about(&self, volume: Option<Weak<Volume>>) {
        *self.volume.lock().unwrap_or_else(PoisonError::into_inner) = volume;
    }
}

fn sentence(volume: &Volume) -> String {
    match volume.status() {
        Some(status) => text(|out| status.write_sentence(out)),
        None => "the volume has stopped".to_owned(),
    }
}

/// Where the manager asks for it (`WatchdogSec=`), it hears twice in each interval that the thread
/// which decides everything still answers.
fn watch(volume: Weak<Volume>) {
    let Some(interval) = sd_notify::watchdog_enabled().map(|usec| usec / 2) else { return };
    let interval = interval.max(Duration::from_millis(1));
    let alive = move || {
        while volume.upgrade().is_some_and(|volume| volume.status().is_some()) {
            tell(&[NotifyState::Watchdog]);
            std::thread::sleep(interval);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("watchdog".into()).spawn(alive) {
        tracing::warn!("no thread for the watchdog: {error}");
    }
}
