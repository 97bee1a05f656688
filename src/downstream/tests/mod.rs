//! What holds whatever a row has in its cells, and whatever a dependency answers.

mod answers;
mod requests;
