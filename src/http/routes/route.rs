//! A route: what is declared of a call, and the handler that answers it. The handler's own parameters say what it reads of
//! path and body, so that neither can be declared otherwise.

use std::{pin::Pin, str::FromStr};

use super::super::{
    answer::Answer,
    openapi::Operation,
    request::Request,
    small_json::{JsonBody, Pieces, Sent},
};

/// An answer that is being made.
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers, where the values are what the handler takes.
type Answers = dyn Fn(&[&str], Request, Pieces) -> Option<Answering> + Send + Sync;

/// A call of the API.
pub struct Route {
    /// What is declared of it.
    pub operation: Operation,
    reads: fn(&[&str]) -> bool,
    answers: Box<Answers>,
}

impl Operation {
    /// Is answered by this handler: an async function of the path's values, in their order, the request, and the body
    /// where it takes one.
    pub fn to<P, H: Handle<P>>(self, handler: H) -> Route {
        Route {
            operation: H::declare(self),
            reads: |values| H::read(values).is_some(),
            answers: Box::new(move |values, request, body| Some(handler.handle(H::read(values)?, request, body))),
        }
    }
}

impl Route {
    /// The values that this path has in the places of the route's, where it is one of the route's.
    pub fn values<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        self.operation.path.values(path).filter(|values| (self.reads)(values))
    }

    /// Has the request answered; `None` where the values are none that the handler takes.
    pub fn answer(&self, values: &[&str], request: Request, body: Pieces) -> Option<Answering> {
        (self.answers)(values, request, body)
    }
}

/// A body as a handler takes it.
pub trait FromBody: Send + 'static {
    /// Nothing of it has been read.
    fn of(body: Pieces) -> Self;

    /// Says in the declaration what it is.
    fn declare(operation: Operation) -> Operation {
        operation
    }
}

/// As it comes. What it is, the declaration says by itself.
impl FromBody for Pieces {
    fn of(body: Pieces) -> Self {
        body
    }
}

impl<T: JsonBody> FromBody for Sent<T> {
    fn of(body: Pieces) -> Self {
        Self::new(body)
    }

    fn declare(operation: Operation) -> Operation {
        operation.takes::<T>()
    }
}

/// What a route can be answered by; `P` stands for the parameters.
pub trait Handle<P>: Send + Sync + 'static {
    /// What it reads out of the path.
    type Values;

    /// The values, where they are what it takes.
    fn read(values: &[&str]) -> Option<Self::Values>;

    /// Says in the declaration what it takes.
    fn declare(operation: Operation) -> Operation;

    /// Answers.
    fn handle(&self, values: Self::Values, request: Request, body: Pieces) -> Answering;
}

/// For functions of so many values, and the same with a body.
macro_rules! handlers {
    (read $($value:ident),*) => {
        type Values = ($($value,)*);

        fn read(values: &[&str]) -> Option<Self::Values> {
            let mut values = values.iter();
            let read = ($(values.next()?.parse::<$value>().ok()?,)*);
            values.next().is_none().then_some(read)
        }
    };
    ($($value:ident),*) => {
        impl<F, A, $($value),*> Handle<($($value,)* Request,)> for F
        where
            F: Fn($($value,)* Request) -> A + Send + Sync + 'static,
            A: Future<Output = Answer> + Send + 'static,
            $($value: FromStr,)*
        {
            handlers!(read $($value),*);

            fn declare(operation: Operation) -> Operation {
                operation
            }

            #[allow(non_snake_case, reason = "a value is named as its type is")]
            fn handle(&self, ($($value,)*): Self::Values, request: Request, _: Pieces) -> Answering {
                Box::pin(self($($value,)* request))
            }
        }

        impl<F, A, $($value,)* B> Handle<($($value,)* Request, B)> for F
        where
            F: Fn($($value,)* Request, B) -> A + Send + Sync + 'static,
            A: Future<Output = Answer> + Send + 'static,
            B: FromBody,
            $($value: FromStr,)*
        {
            handlers!(read $($value),*);

            fn declare(operation: Operation) -> Operation {
                B::declare(operation)
            }

            #[allow(non_snake_case, reason = "a value is named as its type is")]
            fn handle(&self, ($($value,)*): Self::Values, request: Request, body: Pieces) -> Answering {
                Box::pin(self($($value,)* request, B::of(body)))
            }
        }
    };
}
handlers!();
handlers!(V);
handlers!(V, W);
