//! The answer to requests that have none.

use crate::wire::message;

message! {
    /// Stands for the answer to a one-way request. Never sent.
    pub struct NoResponse, versions 0..=0, flexible 0 {
    }
}
