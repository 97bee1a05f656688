//! Who may be worked, and when: dispatch runs grant, the feeder claims just in time, rescue frees lost claims.

mod brakes;
pub mod clock;
mod crowd;
pub mod estimate;
pub mod feeder;
pub mod hearing;
pub mod observed;
pub mod outlook;
mod pace;
pub mod ready;
pub mod rescue;
pub mod run;
pub mod waiting;
