//! `/ops/v1/sessions`: who is signed in on the page, and the end of that.

use super::{
    answer::{Answer, blocking, no_content},
    list::listed,
    problem::Problem,
    request::Request,
};
use crate::operations::{
    sessions,
    views::{paging::Paging, session::SessionList},
};

pub(super) async fn list(request: Request) -> Answer {
    let ask = |request: &Request| {
        request.admin()?;
        let paging = request.query::<Paging>()?;
        Ok((paging.after()?.unwrap_or(i64::MAX), paging.most()?))
    };
    listed(request, "sessions", ask, |request, &(after, most), page| {
        let appliance = request.appliance();
        let (access, now) = (&appliance.config.access, appliance.clock.now());
        let found = SessionList::read(&appliance.store, access, now, after, most)?;
        page.fill(found.sessions, found.next, |session| session.id.clone(), Ok)
    })
    .await
}

pub(super) async fn end(session: i64, request: Request) -> Answer {
    blocking(move || {
        let admin = request.admin()?;
        let whose = sessions::end(request.env(), &admin, session)?;
        whose.map(drop).ok_or_else(|| Problem::not_found("session"))
    })
    .await?;
    no_content()
}
