//! Each file under `testdata` is a script with the trace that it must give.
//!
//! A block is a command, a line `----`, and what the coordinator did. With `UPDATE_TRACES=1` in the
//! environment the files are written anew: read the difference before you accept it.

use super::script::Script;

#[track_caller]
fn check(name: &str) {
    let path = format!("{}/src/groups/testdata/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let actual = Script::default().run(&text);
    if std::env::var_os("UPDATE_TRACES").is_some() {
        std::fs::write(&path, &actual).unwrap();
        return;
    }
    for (number, (is, expected)) in actual.lines().zip(text.lines()).enumerate() {
        assert_eq!(is, expected, "{name}.txt:{}", number + 1);
    }
    assert_eq!(actual, text, "{name}.txt");
}

macro_rules! traces {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )*};
}

traces! {
    admin
    commit
    cooperative
    crash
    expiry
    failed_append
    initial_delay
    join
    join_versions
    leave
    limits
    protocols
    rebalance
    regressions
    static_members
    sync
}
