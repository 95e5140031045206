//! The reference: every key with its default and what it means, as a file to begin with.

use super::schema::BrokerConfig;

const HEAD: &str = "\
# Every key of a broker's configuration, with its default and what it means. What stands here without
# `#` in front is what `varve broker` takes anyway; copy the lines that you want otherwise.
#
# Sizes take \"64MiB\" or a number of bytes, durations \"7d\" or a number of milliseconds. A key can also
# be set by the environment (VARVE_LISTENERS__KAFKA__BIND) or by an argument (--set a.b=c); later ones
# win: defaults, /etc/varve/varve.toml, -c FILE, conf.d/*.toml beside it, environment, --set.
# `varve broker -c FILE --check` finds mistakes, `--dump-config --origin` shows where each value is from.
";

/// The columns of a comment line.
const WIDTH: usize = 100;

impl BrokerConfig {
    /// The reference file.
    #[must_use]
    pub fn reference() -> String {
        let mut out = HEAD.to_owned();
        let mut section = String::new();
        for key in Self::keys() {
            let (prefix, name) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
            if prefix != section {
                section = prefix.to_owned();
                out.push_str(&format!("\n[{section}]\n"));
            }
            out.push('\n');
            wrap(&key.doc, &mut out);
            out.push_str(&format!("{name} = {}\n", key.default));
        }
        out
    }
}

fn wrap(doc: &str, out: &mut String) {
    let mut line = String::from("#");
    for word in doc.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
