//! What has to be so before a request leaves: a claim that outlasts it, its permit, its note where repeating it is not
//! harmless, and that nobody has paused or cancelled its row meanwhile.

use std::time::Duration;

use super::{
    ending::{End, Stop},
    noter::Notes,
    noting::Leaving,
    standstill::Remembered,
    worker::{self, LONGEST_WAIT_BETWEEN_RENEWALS, Patience, Worker},
};
use crate::{
    downstream::{Ask, Permit, Request, Reservation, Wait},
    model::{Step, workflow::Repeat},
    store::StoreError,
};

/// How long a row that was given back without an attempt waits at least: it should not come straight back.
const SHORTEST_RELEASE: Duration = Duration::from_millis(250);
/// And at most, however far its slot is: an operator may raise the rate. It is claimed only when there is room for it.
const LONGEST_RELEASE: Duration = Duration::from_secs(5);

impl Worker {
    /// Waits until the request may leave, now.
    ///
    /// One that a person has to decide about is noted with its permit in hand, so that a death leaves no doubt about rows that
    /// were only waiting. One with a key is noted before, by the first that asks: a doubt about it is settled by repeating it.
    pub(super) async fn may_leave(
        &mut self,
        step: &Step,
        leaving: &Leaving,
        reservation: &mut Reservation,
        notes: &Notes,
    ) -> Result<Permit, Stop> {
        if !reservation.arrive() {
            return Err(Stop::End(End::Again { at: self.appliance.clock.now(), failure: None }));
        }
        let permit = match step.repeat {
            Repeat::Never => self.noted_permit(step, leaving, notes).await?,
            Repeat::IdempotencyKey if !self.is_noted => {
                self.note(leaving, notes).await?;
                self.permit(step, &leaving.request, Duration::ZERO, notes).await?
            }
            Repeat::IdempotencyKey | Repeat::Safe => self.permit(step, &leaving.request, Duration::ZERO, notes).await?,
        };
        reservation.spend();
        self.check_goes_on().await?;
        Ok(permit)
    }

    /// The same for a request whose connection was given up, and that is noted.
    pub(super) async fn may_leave_again(
        &mut self,
        step: &Step,
        leaving: &Leaving,
        notes: &Notes,
    ) -> Result<Permit, Stop> {
        let permit = self.permit(step, &leaving.request, Duration::ZERO, notes).await?;
        self.check_goes_on().await?;
        Ok(permit)
    }

    /// A permit, and then the note, before its slot comes.
    async fn noted_permit(&mut self, step: &Step, leaving: &Leaving, notes: &Notes) -> Result<Permit, Stop> {
        let mut permit = self.permit(step, &leaving.request, notes.expected(), notes).await?;
        self.check_goes_on().await?;
        self.note(leaving, notes).await?;
        if permit.its_time().await {
            return Ok(permit);
        }
        // Its slot has passed while the disk was slow: it takes another one, as it is noted now.
        drop(permit);
        self.permit(step, &leaving.request, Duration::ZERO, notes).await
    }

    /// A permit, and a claim that outlasts the request.
    async fn permit(&mut self, step: &Step, request: &Request, ahead: Duration, notes: &Notes) -> Result<Permit, Stop> {
        let (longest, by_hand) = match self.patience {
            Patience::Brief(longest) => (longest, false),
            Patience::Unlimited => (LONGEST_WAIT_BETWEEN_RENEWALS, true),
        };
        let ask = Ask { patience: longest, may_be_lost: by_hand, ahead };
        loop {
            self.keep_claim(step, longest, notes).await?;
            let wait = match request.permit(ask).await {
                Ok(permit) => return Ok(permit),
                Err(wait) => wait,
            };
            if !by_hand || self.appliance.closing.is_closed() {
                return Err(self.put_back(wait));
            }
            let now = self.appliance.clock.now();
            tokio::time::sleep(wait.until.since(now).clamp(SHORTEST_RELEASE, longest)).await;
        }
    }

    pub(super) fn put_back(&self, wait: Wait) -> Stop {
        let now = self.appliance.clock.now();
        let at = now.after(wait.until.since(now).clamp(SHORTEST_RELEASE, LONGEST_RELEASE));
        Stop::End(End::Again { at, failure: None })
    }

    /// A row that stands still is given back between its steps; one that somebody asked for goes on, whatever is paused.
    pub(super) async fn check_goes_on(&self) -> Result<(), Stop> {
        let Patience::Brief(_) = self.patience else { return Ok(()) };
        let now = self.appliance.clock.now();
        // Asked before the database is: once that knows of the pause, what led to it is forgotten here.
        if self.is_about_to_pause() {
            return Err(Stop::End(End::Again { at: now.after(SHORTEST_RELEASE), failure: None }));
        }
        match self.stands_still().await? {
            true => Err(Stop::End(End::Again { at: now, failure: None })),
            false => Ok(()),
        }
    }

    async fn stands_still(&self) -> Result<bool, StoreError> {
        let batch = self.claimed.row.batch();
        let look = || {
            let appliance = self.appliance.clone();
            tokio::task::spawn_blocking(move || appliance.standstill.of_batch(&appliance.store, batch))
        };
        match self.appliance.standstill.known(batch) {
            Some(Remembered { stands_still, is_to_look }) => {
                if is_to_look {
                    drop(look());
                }
                Ok(stands_still)
            }
            // It is cut off only by the end of the process.
            None => look().await.unwrap_or(Err(StoreError::Closed)),
        }
    }

    /// Renews the claim where it would not outlast the wait and the request.
    async fn keep_claim(&mut self, step: &Step, wait: Duration, notes: &Notes) -> Result<(), Stop> {
        let config = &self.appliance.config;
        let timeout = config.dependencies.get(&step.dependency).map_or(Duration::ZERO, |it| it.timeout);
        let now = self.appliance.clock.now();
        let needed_until = now.after(timeout + wait);
        // One that lasts longer than any can was made before the clock was set back: it has been cut since.
        let is_true = self.claim_expires_at <= now.after(worker::longest_claim(config));
        if is_true && self.claim_expires_at > needed_until {
            return Ok(());
        }
        let expires_at = needed_until.after(config.workers.claim_ttl);
        self.renew(expires_at, notes).await
    }
}
