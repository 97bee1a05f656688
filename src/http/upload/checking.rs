//! The side of an upload that blocks: it checks, stores and commits, or checks only, or answers again.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    answers::{Accepted, Outcome, Refusal, Valid, refusal},
    incoming::Said,
};
use crate::{
    appliance::Appliance,
    dispatch::outlook::Outlook,
    http::{access::Badge, body::BodyReader, problem::Problem},
    model::Workflow,
    operations::views::batch::{BatchView, PrivateFile},
    store::{Tx, clients::Client},
    upload::{
        self, Meta, Taking,
        error_file::ErrorFile,
        once::{First, HeldKey},
    },
};

/// What is known only when the body has come to its end.
pub(super) struct Told {
    pub said: Said,
    pub request: Value,
}

/// What is to be done with a body, from what was said in front of it.
pub(super) struct Checking {
    pub appliance: Arc<Appliance>,
    pub workflow: String,
    pub client: Client,
    pub gzip: bool,
    pub announced: u64,
    pub validate_only: bool,
    pub allow_duplicate: bool,
    pub key: Option<HeldKey>,
    pub errors_as_csv: bool,
    /// What the upload came with: it has to be good yet when the file becomes a batch.
    pub badge: Badge,
}

impl Checking {
    /// Blocks until the body has ended, and everything is done that comes of it.
    pub(super) fn run(mut self, body: BodyReader, told: oneshot::Receiver<Told>) -> Result<Outcome, Refusal> {
        let appliance = self.appliance.clone();
        let workflow = appliance.config.workflows.get(&self.workflow).ok_or_else(|| Problem::not_found("workflow"))?;
        let room = appliance.clone();
        let has_room = move || room.room.for_a_piece();
        let mut errors = self.errors_as_csv.then(|| ErrorFile::new(appliance.spool_dir(), has_room));
        if self.validate_only {
            return self.validate(workflow, body, errors);
        }
        let key = self.key.take();
        let first = key.as_ref().map(|key| key.first(&appliance)).transpose().map_err(|error| refusal(error, None))?;
        if let Some(first) = first.flatten() {
            return self.again(workflow, first, body, told);
        }
        let taking =
            Taking { client: self.client.client, gzip: self.gzip, announced: self.announced, errors: errors.as_mut() };
        let received = match upload::receive(&appliance, workflow, body, taking) {
            Ok(received) => received,
            Err(error) => return Err(refusal(error, errors)),
        };
        let Told { said, request } = told.blocking_recv().map_err(|_| Refusal::Untold)?;
        let outlook = Outlook::of_new(&appliance, &self.client, workflow, received.rows()).map_err(Problem::from)?;
        let file = PrivateFile { name: said.file_name.clone(), sha256: Some(received.sha256()) };
        let answer = move |batch| {
            let view = BatchView::new(batch, file, outlook, false);
            serde_json::to_vec(&view).unwrap_or_default()
        };
        let meta = Meta {
            client: self.client.client,
            file_name: said.file_name,
            context: said.context.unwrap_or_default(),
            request,
            allow_duplicate: self.allow_duplicate,
            key,
        };
        let (badge, access) = (self.badge, appliance.config.access.clone());
        let may = move |tx: &Tx<'_>| Ok(badge.holder(&access, tx.connection, tx.now)?.is_some());
        let (id, body) = received.commit(meta, may, answer).map_err(|error| refusal(error, None))?;
        Ok(Outcome::Batch(Accepted { id, body, replayed: false }))
    }

    /// The verdict that the upload would get. What would be refused besides for its content is warned of.
    fn validate(
        &self,
        workflow: &Workflow,
        body: BodyReader,
        mut errors: Option<ErrorFile>,
    ) -> Result<Outcome, Refusal> {
        let taking =
            Taking { client: self.client.client, gzip: self.gzip, announced: self.announced, errors: errors.as_mut() };
        let accepted = match upload::validate(&self.appliance, workflow, body, taking) {
            Ok(accepted) => accepted,
            Err(error) => return Err(refusal(error, errors)),
        };
        let client = self.client.client;
        let earlier = upload::earlier(&self.appliance, workflow, client, &accepted.sha256).map_err(Problem::from)?;
        Ok(Outcome::Valid(Valid::of(accepted, earlier.filter(|_| !self.allow_duplicate))))
    }

    /// An upload under a key that is remembered: nothing of it is stored, and the first answer is given again.
    fn again(
        &self,
        workflow: &Workflow,
        first: First,
        body: BodyReader,
        told: oneshot::Receiver<Told>,
    ) -> Result<Outcome, Refusal> {
        let appliance = &self.appliance;
        let sha256 = first.hash(appliance, workflow, body, self.gzip).map_err(|error| refusal(error, None))?;
        let Told { said, .. } = told.blocking_recv().map_err(|_| Refusal::Untold)?;
        let first = first.again(appliance, &sha256, &said.context.unwrap_or_default());
        let First { id, answer, .. } = first.map_err(|error| refusal(error, None))?;
        Ok(Outcome::Batch(Accepted { id, body: answer, replayed: true }))
    }
}
