//! Errors: one enum for each operation. Each says what happened, to what, and ends with what to do; each answers
//! `code()`, `is_retriable()`, `is_fatal()` and `possibly_written()`.

mod admin;
mod commit;
mod connect;
mod consume;
mod context;
mod produce;
mod request;

pub use admin::AdminError;
pub use commit::CommitError;
pub use connect::ConnectError;
pub use consume::{ConsumeError, FenceReason};
pub use context::ErrorContext;
pub use produce::{ProduceError, TryEnqueueError};
pub use request::RequestError;
