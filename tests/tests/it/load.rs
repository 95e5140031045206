//! Many connections, slow ones, a full disk, and a restart with much stored.
